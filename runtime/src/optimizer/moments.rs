//! What AdamW remembers of the gradients.

use std::collections::{BTreeMap, BTreeSet};

use mlx_rs::{Array, Dtype as MlxDtype};

use crate::error::{Context as _, Error, Result};
use crate::flat::{Layout, Piece};

/// Means of gradients and of their squares, of one parameter or flat: float32.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub(super) first: Array,
    pub(super) second: Array,
}

impl Moments {
    fn zeros(shape: &[i32]) -> Result<Self> {
        let zeros = || mlx_rs::ops::zeros_dtype(shape, MlxDtype::Float32).during("Moments::zeros");
        Ok(Moments { first: zeros()?, second: zeros()? })
    }

    pub(super) fn arrays(&self) -> [&Array; 2] {
        [&self.first, &self.second]
    }
}

/// The moments of all parameters that have had a gradient, flat as the last step had them.
#[derive(Debug, Clone, Default)]
pub(super) struct MomentsByLayout {
    groups: Vec<(Layout, Moments)>,
}

impl MomentsByLayout {
    pub(super) fn push(&mut self, layout: Layout, moments: Moments) {
        self.groups.push((layout, moments));
    }

    /// Moments in the shape of their parameter.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the two shapes differ.
    pub(super) fn push_one(&mut self, name: &str, moments: &Moments) -> Result<()> {
        let layout = Layout::of_one(name, moments.first.shape());
        layout.pieces().iter().try_for_each(|piece| check_shape(piece, moments))?;
        let flat = |array: &Array| layout.join(|_| Ok(array.clone()));
        let moments = Moments { first: flat(&moments.first)?, second: flat(&moments.second)? };
        self.push(layout, moments);
        Ok(())
    }

    /// The flat arrays.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.groups.iter().flat_map(|(_, moments)| moments.arrays())
    }

    /// By name; they share memory with the flat arrays.
    pub(super) fn by_name(&self) -> Result<BTreeMap<&str, Moments>> {
        let mut by_name = BTreeMap::new();
        for (layout, moments) in &self.groups {
            let (first, second) = (layout.part(&moments.first)?, layout.part(&moments.second)?);
            for ((piece, first), second) in layout.pieces().iter().zip(first).zip(second) {
                by_name.insert(piece.name.as_str(), Moments { first, second });
            }
        }
        Ok(by_name)
    }

    /// Those of other layouts: copied, unless the layout is one of ours; zeros for parameters that have none.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a parameter's moments have another shape than the parameter.
    pub(super) fn of(&self, layouts: &[Layout]) -> Result<Vec<Moments>> {
        let same = |layout: &Layout| self.groups.iter().find(|(ours, _)| ours == layout);
        let by_name =
            if layouts.iter().all(|layout| same(layout).is_some()) { BTreeMap::new() } else { self.by_name()? };
        let one = |layout: &Layout| {
            if let Some((_, moments)) = same(layout) {
                return Ok(moments.clone());
            }
            if layout.pieces().iter().all(|piece| !by_name.contains_key(piece.name.as_str())) {
                return Moments::zeros(&[layout.size() as i32]);
            }
            let of_piece = |piece: &Piece| match by_name.get(piece.name.as_str()) {
                Some(moments) => check_shape(piece, moments).map(|()| moments.clone()),
                None => Moments::zeros(&piece.shape),
            };
            Ok(Moments {
                first: layout.join(|piece| Ok(of_piece(piece)?.first))?,
                second: layout.join(|piece| Ok(of_piece(piece)?.second))?,
            })
        };
        layouts.iter().map(one).collect()
    }

    /// Those of all parameters that are in none of `layouts`.
    pub(super) fn without(&self, layouts: &[Layout]) -> Result<MomentsByLayout> {
        let names: BTreeSet<&str> = layouts.iter().flat_map(Layout::pieces).map(|piece| piece.name.as_str()).collect();
        let mut others = MomentsByLayout::default();
        let mut broken = Vec::new();
        for (layout, moments) in &self.groups {
            let stays = layout.pieces().iter().filter(|piece| !names.contains(piece.name.as_str())).count();
            if stays == layout.pieces().len() {
                others.push(layout.clone(), moments.clone());
            } else if stays > 0 {
                let mut rest = Layout::default();
                for piece in layout.pieces().iter().filter(|piece| !names.contains(piece.name.as_str())) {
                    rest.push(&piece.name, &piece.shape);
                }
                broken.push(rest);
            }
        }
        for (layout, moments) in broken.iter().zip(self.of(&broken)?) {
            others.push(layout.clone(), moments);
        }
        Ok(others)
    }
}

fn check_shape(piece: &Piece, moments: &Moments) -> Result<()> {
    match moments.arrays().into_iter().find(|moment| moment.shape() != piece.shape) {
        None => Ok(()),
        Some(moment) => Err(Error::Parameter {
            name: piece.name.clone(),
            message: format!("found moments of shape {:?}, expected {:?}", moment.shape(), piece.shape),
        }),
    }
}
