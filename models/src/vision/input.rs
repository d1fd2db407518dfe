//! The input of the tower, built on the host before the graph.

use cotangent::{Constant, Error, Graph, Indices, Result, Tensor};
use cotangent_kernels::{Pairing, RotaryLayout, TableLayout, rotary};

use crate::config::VisionConfig;
use crate::images::{Grid, Patches};

/// The pictures and videos of a batch, one after the other.
#[derive(Debug, Clone)]
pub struct VisionInput {
    /// `[N, patch length]`, float32.
    patches: Constant,
    /// The four places in the table of positions next to each patch, `[N, 4]`.
    corners: Indices,
    /// The weights of these four places, `[N, 4, 1]`.
    weights: Constant,
    /// `[1, N, head lanes / 2]`.
    cosine: Constant,
    sine: Constant,
    runs: Vec<Run>,
}

/// The pictures of a batch, and their places in its text.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// The patches that the tower reads.
    pub input: VisionInput,
    /// The places that the tower's features take.
    pub slots: Slots,
}

/// Frames of one size, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The number of frames.
    pub frames: i32,
    /// The number of patches of each frame.
    pub patches: i32,
}

/// The places of the tokens of pictures in a batch of text.
#[derive(Debug, Clone)]
pub struct Slots {
    /// The row of each place of the batch, `[B, T]`: its own row of the text, or, behind all of these, the row of a
    /// feature.
    rows: Indices,
    /// The row of each place's feature plus one, `[B, T]`; 0 where there is none.
    features: Indices,
}

impl VisionInput {
    /// Creates the input from the patches of pictures and videos, in the order of their tokens in the text.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are none, or a grid does not match its patches.
    pub fn new(config: &VisionConfig, pictures: &[Patches]) -> Result<Self> {
        let merge = config.spatial_merge_size;
        let length = config.patch_length();
        for Patches { values, grid } in pictures {
            let fits = grid.height.is_multiple_of(merge) && grid.width.is_multiple_of(merge);
            if !fits || values.len() != grid.patches() * length || values.is_empty() {
                return Err(Error::Shape {
                    operation: "VisionInput::new",
                    found: format!("{} numbers for a grid of {grid:?}", values.len()),
                    expected: format!("{length} for each patch, and sides that are multiples of {merge}"),
                });
            }
        }
        let values: Vec<f32> = pictures.iter().flat_map(|picture| picture.values.iter().copied()).collect();
        let count = (values.len() / length) as i32;
        let places: Vec<Place> = pictures.iter().flat_map(|picture| places(picture.grid, merge)).collect();

        let (mut corners, mut weights) = (Vec::new(), Vec::new());
        for place in &places {
            for (corner, weight) in place.corners(config.positions_per_side) {
                corners.push(corner as i32);
                weights.push(weight);
            }
        }
        let head_dim = config.hidden_size / config.num_heads;
        let frequencies: Vec<f64> =
            (0..head_dim / 4).map(|f| config.rope_theta.powf(-4.0 * f as f64 / head_dim as f64)).collect();
        let angles: Vec<f64> = places
            .iter()
            .flat_map(|place| [place.row, place.column])
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f64 * frequency))
            .collect();
        let table = |function: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| function(*angle) as f32).collect();
            Constant::from_slice(&values, &[1, count, (head_dim / 2) as i32])
        };
        Ok(VisionInput {
            patches: Constant::from_slice(&values, &[count, length as i32])?,
            corners: Indices::from_slice(&corners, &[count, 4])?,
            weights: Constant::from_slice(&weights, &[count, 4, 1])?,
            cosine: table(f64::cos)?,
            sine: table(f64::sin)?,
            runs: runs(pictures.iter().map(|picture| picture.grid)),
        })
    }

    /// `[N, patch length]`.
    pub(super) fn patches(&self) -> &Constant {
        &self.patches
    }

    /// Rows of the table of positions, and the share of each.
    pub(super) fn corners(&self) -> (&Indices, &Constant) {
        (&self.corners, &self.weights)
    }

    /// Frames of one size together.
    pub(super) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Rotates heads `[1, H, N, D]` by the patches' rows and columns.
    pub(super) fn rotate<M: Graph>(&self, heads: &Tensor<M>) -> Result<Tensor<M>> {
        let layout = RotaryLayout { pairing: Pairing::HalfSplit, table: TableLayout::Half, choice: None };
        rotary(heads, &self.cosine.to_tensor(), &self.sine.to_tensor(), layout)
    }
}

/// The place of a patch in its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    row: usize,
    column: usize,
    rows: usize,
    columns: usize,
}

/// The places of the patches of a grid, group by group in every frame.
fn places(Grid { frames, height, width }: Grid, merge: usize) -> impl Iterator<Item = Place> {
    let groups = (0..height / merge).flat_map(move |row| (0..width / merge).map(move |column| (row, column)));
    let frame = groups.flat_map(move |(row, column)| {
        (0..merge * merge).map(move |inner| Place {
            row: row * merge + inner / merge,
            column: column * merge + inner % merge,
            rows: height,
            columns: width,
        })
    });
    (0..frames).flat_map(move |_| frame.clone())
}

impl Place {
    /// The four places of a square table of `side` rows next to this one, if its corners lie on the frame's; and the share
    /// of each.
    fn corners(self, side: usize) -> [(usize, f32); 4] {
        let stretch = |place: usize, places: usize| {
            // `torch.linspace` in single precision computes the places in this way.
            let at = if places < 2 { 0.0 } else { place as f32 * ((side - 1) as f32 / (places - 1) as f32) };
            let before = at as usize;
            (before.min(side - 1), (before + 1).min(side - 1), at - before as f32)
        };
        let (top, bottom, down) = stretch(self.row, self.rows);
        let (left, right, across) = stretch(self.column, self.columns);
        [
            (top * side + left, (1.0 - down) * (1.0 - across)),
            (top * side + right, (1.0 - down) * across),
            (bottom * side + left, down * (1.0 - across)),
            (bottom * side + right, down * across),
        ]
    }
}

fn runs(grids: impl Iterator<Item = Grid>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for Grid { frames, height, width } in grids {
        let (frames, patches) = (frames as i32, (height * width) as i32);
        match runs.last_mut() {
            Some(run) if run.patches == patches => run.frames += frames,
            _ => runs.push(Run { frames, patches }),
        }
    }
    runs
}

impl Pictures {
    /// The pictures and videos of a batch of tokens `[rows, width]`, in the order of their places, row after row. Where there
    /// are none, one of zeros is there that no place shows: a tower that trains then has the gradient zero.
    ///
    /// # Errors
    /// [`Error::Shape`] if a grid does not match its patches, or the places are not as many as the features.
    pub fn new(config: &VisionConfig, is_slot: &[bool], shape: [usize; 2], pictures: &[Patches]) -> Result<Self> {
        let merge = config.spatial_merge_size;
        let places = is_slot.iter().filter(|is_slot| **is_slot).count();
        let features: usize = pictures.iter().map(|picture| picture.grid.tokens(merge)).sum();
        if places != features {
            return Err(Error::Shape {
                operation: "Pictures::new",
                found: format!("{places} places for {features} features of {} pictures", pictures.len()),
                expected: "one place for each feature".into(),
            });
        }
        let input = match pictures {
            [] => {
                let grid = Grid { frames: 1, height: merge, width: merge };
                let values = vec![0.0; grid.patches() * config.patch_length()];
                VisionInput::new(config, &[Patches { values, grid }])?
            }
            pictures => VisionInput::new(config, pictures)?,
        };
        Ok(Pictures { input, slots: Slots::new(is_slot, shape, features.max(1))? })
    }
}

impl Slots {
    /// Creates the slots of a batch of tokens `[rows, width]`: features take the places of `is_slot`, in order.
    ///
    /// # Errors
    /// [`Error::Shape`] if the features are fewer than the places.
    pub fn new(is_slot: &[bool], [rows, width]: [usize; 2], features: usize) -> Result<Self> {
        let text = (rows * width) as i32;
        let (mut own, mut added, mut next) = (Vec::new(), Vec::new(), 0);
        for (place, is_slot) in is_slot.iter().enumerate() {
            own.push(if *is_slot { text + next as i32 } else { place as i32 });
            next += usize::from(*is_slot);
            added.push(if *is_slot { next as i32 } else { 0 });
        }
        if next > features || is_slot.len() != rows * width {
            return Err(Error::Shape {
                operation: "Slots::new",
                found: format!("{next} places for pictures in {} tokens, and {features} features", is_slot.len()),
                expected: format!("at most as many places as features in {} tokens", rows * width),
            });
        }
        let shape = [rows as i32, width as i32];
        Ok(Slots { rows: Indices::from_slice(&own, &shape)?, features: Indices::from_slice(&added, &shape)? })
    }

    /// Returns the text `[B, T, D]` with `features` `[N, D]` in their places.
    ///
    /// # Errors
    /// If the widths differ.
    pub fn put<M: Graph>(&self, text: &Tensor<M>, features: &Tensor<M>) -> Result<Tensor<M>> {
        let rows = text.reshape(&[-1, text.dimension(-1)])?;
        Tensor::concatenate(&[&rows, &features.cast(text.dtype())?], 0)?.take_rows(&self.rows)
    }

    /// Returns the text `[B, T, D]` with `features` `[N, D]` added in their places.
    ///
    /// # Errors
    /// If the widths differ.
    pub fn add<M: Graph>(&self, text: &Tensor<M>, features: &Tensor<M>) -> Result<Tensor<M>> {
        text.add(&features.cast(text.dtype())?.pad(0, 1, 0)?.take_rows(&self.features)?)
    }
}
