//! The state that optimizers keep of parameters from step to step.

use std::collections::{BTreeMap, BTreeSet};

use mlx_rs::{Array, Dtype as MlxDtype};

use crate::error::{Context as _, Error, Result};
use crate::flat::{FlatLayout, Piece};

use super::rule::Rule;

/// The state of the parameters of one layout, float32, in the order of the rule's names.
#[derive(Debug, Clone)]
struct Kept {
    layout: FlatLayout,
    /// Flat if the rule goes by element; else the layout has one parameter, and each array the shape that the rule says.
    arrays: Vec<Array>,
    is_flat: bool,
}

/// The state of all parameters that have had a gradient, as the last step had them.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    kept: Vec<Kept>,
}

impl State {
    /// The new state of the parameters of a layout.
    pub(super) fn push(&mut self, rule: &impl Rule, layout: FlatLayout, arrays: Vec<Array>) {
        self.kept.push(Kept { layout, arrays, is_flat: rule.by_element() });
    }

    /// The state of one parameter, each array in its own shape.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the rule goes by element and the shapes differ.
    pub(super) fn push_one(&mut self, rule: &impl Rule, name: &str, arrays: Vec<Array>) -> Result<()> {
        if !rule.by_element() {
            self.push(rule, FlatLayout::from_one(name, &[]), arrays);
            return Ok(());
        }
        let layout = FlatLayout::from_one(name, arrays.first().map_or(&[], Array::shape));
        layout.pieces().iter().try_for_each(|piece| check_shapes(rule, piece, &arrays))?;
        let flat = arrays.iter().map(|array| layout.join(|_| Ok(array.clone()))).collect::<Result<_>>()?;
        self.push(rule, layout, flat);
        Ok(())
    }

    /// All arrays.
    pub(super) fn arrays(&self) -> impl Iterator<Item = &Array> {
        self.kept.iter().flat_map(|kept| &kept.arrays)
    }

    /// Returns the state by parameter name, each array in its own shape; the arrays share memory with the flat ones.
    pub(super) fn by_name(&self) -> Result<BTreeMap<&str, Vec<Array>>> {
        let mut by_name: BTreeMap<&str, Vec<Array>> = BTreeMap::new();
        for Kept { layout, arrays, is_flat } in &self.kept {
            // A rule may keep nothing of a parameter.
            by_name.extend(layout.pieces().iter().map(|piece| (piece.name.as_str(), Vec::new())));
            for array in arrays {
                let parts = if *is_flat { layout.part(array)? } else { vec![array.clone()] };
                for (piece, part) in layout.pieces().iter().zip(parts) {
                    by_name.entry(&piece.name).or_default().push(part);
                }
            }
        }
        Ok(by_name)
    }

    /// Returns the state that a step of `rule` needs for the parameters of each layout. State whose layout is unchanged
    /// is not copied; state of new parameters is zero.
    ///
    /// # Errors
    /// [`Error::Parameter`] if what is kept of a parameter has another shape than the rule says.
    pub(super) fn of<'a, R: Rule + 'a>(
        &self,
        layouts: impl IntoIterator<Item = (&'a R, &'a FlatLayout)> + Clone,
    ) -> Result<Vec<Vec<Array>>> {
        let same = |rule: &R, layout: &FlatLayout| {
            self.kept.iter().find(|kept| rule.by_element() && kept.is_flat && kept.layout == *layout)
        };
        let all_same = layouts.clone().into_iter().all(|(rule, layout)| same(rule, layout).is_some());
        let by_name = if all_same { BTreeMap::new() } else { self.by_name()? };
        let one = |(rule, layout): (&R, &FlatLayout)| -> Result<Vec<Array>> {
            let names = rule.state_names();
            if let Some(kept) = same(rule, layout) {
                return Ok(kept.arrays.clone());
            }
            let of_piece = |piece: &Piece| match by_name.get(piece.name.as_str()) {
                Some(arrays) => check_shapes(rule, piece, arrays).map(|()| arrays.clone()),
                None => names.iter().map(|name| zeros(&expected_shape(rule, name, piece))).collect(),
            };
            if !rule.by_element() {
                return layout.pieces().first().map_or_else(|| Ok(Vec::new()), of_piece);
            }
            if layout.pieces().iter().all(|piece| !by_name.contains_key(piece.name.as_str())) {
                return names.iter().map(|_| zeros(&[layout.size() as i32])).collect();
            }
            (0..names.len()).map(|index| layout.join(|piece| Ok(of_piece(piece)?.swap_remove(index)))).collect()
        };
        layouts.into_iter().map(one).collect()
    }

    /// The state of all parameters that are in none of `layouts`.
    pub(super) fn without<'a>(&self, layouts: impl IntoIterator<Item = &'a FlatLayout>) -> Result<State> {
        let names: BTreeSet<&str> =
            layouts.into_iter().flat_map(FlatLayout::pieces).map(|piece| piece.name.as_str()).collect();
        let mut others = State::default();
        for kept in &self.kept {
            let stays = |piece: &&Piece| !names.contains(piece.name.as_str());
            let count = kept.layout.pieces().iter().filter(stays).count();
            if count == kept.layout.pieces().len() {
                others.kept.push(kept.clone());
            } else if count > 0 {
                // Only flat arrays have more than one parameter.
                let mut layout = FlatLayout::default();
                kept.layout.pieces().iter().filter(stays).for_each(|piece| layout.push(&piece.name, &piece.shape));
                let rest = |array: &Array| {
                    let parts = kept.layout.part(array)?;
                    let mut parts =
                        kept.layout.pieces().iter().zip(parts).filter(|(piece, _)| stays(piece)).map(|(_, part)| part);
                    layout.join(|_| Ok(parts.next().expect("a part for each piece")))
                };
                let arrays = kept.arrays.iter().map(rest).collect::<Result<_>>()?;
                others.kept.push(Kept { layout, arrays, is_flat: true });
            }
        }
        Ok(others)
    }
}

fn zeros(shape: &[i32]) -> Result<Array> {
    mlx_rs::ops::zeros_dtype(shape, MlxDtype::Float32).during("zeros")
}

fn expected_shape(rule: &impl Rule, name: &str, piece: &Piece) -> Vec<i32> {
    if rule.by_element() { piece.shape.clone() } else { rule.state_shape(name, &piece.shape) }
}

fn check_shapes(rule: &impl Rule, piece: &Piece, arrays: &[Array]) -> Result<()> {
    let fail = |message| Err(Error::Parameter { name: piece.name.clone(), message });
    let names = rule.state_names();
    if arrays.len() != names.len() {
        let expected = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return fail(format!("found the state of another rule, expected {expected}"));
    }
    for (name, array) in names.iter().zip(arrays) {
        let expected = expected_shape(rule, name, piece);
        if array.shape() != expected {
            return fail(format!("found the state `{name}` of shape {:?}, expected {expected:?}", array.shape()));
        }
    }
    Ok(())
}
