//! Stored results of another implementation.

use std::path::Path;

use anyhow::{Context, Result, bail};
use cotangent::Indices;
use cotangent_kernels::{Labels, labels_after};
use cotangent_models::checkpoint::{Dtype, SafetensorsFile};
use cotangent_models::config::{TextConfig, VisionConfig};
use cotangent_models::images::{Grid, Patches};
use cotangent_models::qwen35::Batch;
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::vision::{Pictures, row_positions};

/// A file of reference tensors.
pub struct Reference {
    file: SafetensorsFile,
}

/// The inputs of a case.
pub struct Case {
    /// The input of the model; `scale` is one over the counted tokens.
    pub batch: Batch,
    /// Whether a place is no padding, row after row.
    pub real: Vec<bool>,
    /// Whether it is that of a picture.
    pub is_slot: Vec<bool>,
}

impl Reference {
    /// Opens the reference file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Reference { file: SafetensorsFile::open(path)? })
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.file.get(name).is_some()
    }

    /// The names that begin with `prefix`, without it.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.file.names().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// An entry of the file's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.file.metadata().get(key).map(String::as_str)
    }

    /// Float values, and their shape.
    pub fn floats(&self, name: &str) -> Result<(Vec<f32>, Vec<i32>)> {
        let tensor = self.file.read(name)?;
        let values = tensor.to_f32().with_context(|| format!("`{name}` is {:?}, expected floats", tensor.dtype))?;
        Ok((values, tensor.shape.iter().map(|extent| *extent as i32).collect()))
    }

    /// Integer values, and their shape.
    pub fn integers(&self, name: &str) -> Result<(Vec<i32>, Vec<usize>)> {
        let tensor = self.file.read(name)?;
        let values = match tensor.dtype {
            Dtype::I32 => tensor.bytes.as_chunks::<4>().0.iter().copied().map(i32::from_le_bytes).collect(),
            Dtype::I64 => {
                let wide = tensor.bytes.as_chunks::<8>().0.iter().copied().map(i64::from_le_bytes);
                wide.map(|value| i32::try_from(value).context("an integer beyond 32 bits")).collect::<Result<_>>()?
            }
            other => bail!("`{name}` is {other:?}, expected integers"),
        };
        Ok((values, tensor.shape))
    }

    /// The positions of rows with pictures, which must be those that are stored.
    fn positions(
        &self,
        case: &str,
        vision: &VisionConfig,
        (ids, mask): (&[i32], &[i32]),
        tokens: usize,
    ) -> Result<Positions> {
        let name = format!("{case}.position_ids");
        let (stored, _) = self.integers(&name)?;
        let mut grids = self.grids(case)?.into_iter();
        let mut all = Vec::new();
        for (row, (ids, mask)) in ids.chunks(tokens).zip(mask.chunks(tokens)).enumerate() {
            let real: Vec<u32> =
                ids.iter().zip(mask).filter(|(_, real)| **real != 0).map(|(id, _)| id.unsigned_abs()).collect();
            let mut places = real.iter().filter(|id| **id == vision.image_token).count();
            let mut own = Vec::new();
            while places > 0 {
                let grid = grids.next().context("fewer grids than places for pictures")?;
                places = places.checked_sub(grid.tokens(vision.spatial_merge_size)).context("a grid of two rows")?;
                own.push(grid);
            }
            let positions = row_positions(vision, &real, &own).map_err(anyhow::Error::msg)?.tokens;
            for (place, found) in positions.iter().enumerate() {
                let expected = [0, 1, 2].map(|axis| stored[axis * stored.len() / 3 + row * tokens + place]);
                if *found != expected {
                    bail!("`{name}`, row {row}, token {place}: found {found:?}, expected {expected:?}");
                }
            }
            all.push(positions);
        }
        Ok(Positions::from_rows(&all.iter().map(Vec::as_slice).collect::<Vec<_>>(), tokens))
    }

    /// The grids of the pictures of a case.
    pub fn grids(&self, case: &str) -> Result<Vec<Grid>> {
        let (grids, _) = self.integers(&format!("{case}.image_grid_thw"))?;
        let grid = |sides: &[i32]| {
            let [frames, height, width] = [0, 1, 2].map(|axis| sides[axis].unsigned_abs() as usize);
            Grid { frames, height, width }
        };
        Ok(grids.chunks_exact(3).map(grid).collect())
    }

    /// The pictures of a case.
    pub fn pictures(&self, case: &str, vision: &VisionConfig, ids: &[i32], shape: [usize; 2]) -> Result<Pictures> {
        let is_slot: Vec<bool> = ids.iter().map(|id| slot_tokens(vision).contains(&id.unsigned_abs())).collect();
        let (values, _) = self.floats(&format!("{case}.pixel_values"))?;
        let mut rest = values.as_slice();
        let mut pictures = Vec::new();
        for grid in self.grids(case)? {
            let (own, after) = rest.split_at(grid.patches() * vision.patch_length());
            pictures.push(Patches { values: own.to_vec(), grid });
            rest = after;
        }
        Ok(Pictures::new(vision, &is_slot, shape, &pictures)?)
    }

    /// The inputs of a case. Positions are those of text: rows begin at 0 and are padded on the right; with pictures, those
    /// that are stored.
    pub fn case(&self, case: &str, config: &TextConfig) -> Result<Case> {
        let (ids, shape) = self.integers(&format!("{case}.input_ids"))?;
        let (mask, _) = self.integers(&format!("{case}.attention_mask"))?;
        let (labels, _) = self.integers(&format!("{case}.labels"))?;
        let [rows, tokens] = shape[..] else { bail!("`{case}.input_ids` has the shape {shape:?}, expected two axes") };
        // A stored label is that of its own place, and the model predicts the next one.
        let labels = Labels::from_slice(&labels_after(&labels, tokens, 1))?;
        let positions = match &config.vision {
            Some(vision) => self.positions(case, vision, (&ids, &mask), tokens)?,
            None => Positions::text(rows, 0, tokens),
        };
        let pictures = match &config.vision {
            Some(vision) => Some(self.pictures(case, vision, &ids, [rows, tokens])?),
            None => None,
        };
        let batch = Batch {
            tokens: Indices::from_slice(&ids, &[rows as i32, tokens as i32])?,
            rotary: Rotary::new(&config.rope, &positions)?,
            pictures,
            scale: 1.0 / labels.count().max(1) as f32,
            labels,
            ahead: None,
            documents: None,
            balance: None,
        };
        let slot_tokens = config.vision.as_ref().map(slot_tokens);
        let is_slot =
            ids.iter().map(|id| slot_tokens.is_some_and(|tokens| tokens.contains(&id.unsigned_abs()))).collect();
        Ok(Case { batch, real: mask.iter().map(|real| *real != 0).collect(), is_slot })
    }
}

/// The tokens in whose places pictures stand.
fn slot_tokens(vision: &VisionConfig) -> [u32; 2] {
    [vision.image_token, vision.video_token]
}
