//! Writes the scores that a model computes, so that another program can compare them with its own
//! (`tests/foreign/check_ours.py`).
//!
//!     cargo run -p cotangent-trainer --example scores -- INPUT OUTPUT CHECKPOINT [ADAPTER]
//!
//! `INPUT` is a safetensors file with `input_ids`, `[tokens]` in int32. For a model with a vision tower it may also have `pixel_values`,
//! `[patches, patch length]` in float32, and `image_grid_thw`, `[pictures, 3]` in int32. `OUTPUT` gets `logits`, `[tokens, vocabulary]`
//! in float32. The two folders were written by this program or by another. On a CPU everything is computed in float32.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cotangent::{Dtype, Indices, Infer, Session, Tensor};
use cotangent_models::checkpoint::{HostTensor, SafetensorsFile, write_safetensors};
use cotangent_models::config::VisionConfig;
use cotangent_models::images::{Grid, Patches};
use cotangent_models::qwen35::Model;
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::vision::{Pictures, row_positions};
use cotangent_trainer::adapter::{Adapter, Parts};
use cotangent_trainer::base_model::{attach, load_parts};

/// The tokens, their positions, and the pictures among them.
struct Input {
    tokens: Indices,
    rotary: Rotary,
    pictures: Option<Pictures>,
}

fn integers(file: &SafetensorsFile, name: &str) -> Result<Vec<i32>> {
    let bytes = file.read(name)?.bytes;
    Ok(bytes.as_chunks::<4>().0.iter().copied().map(i32::from_le_bytes).collect())
}

/// Returns the pictures and positions of the row `ids`.
fn seen(file: &SafetensorsFile, vision: &VisionConfig, ids: &[i32]) -> Result<(Pictures, Positions)> {
    let sides: Vec<usize> = integers(file, "image_grid_thw")?.iter().map(|side| side.unsigned_abs() as usize).collect();
    let grid = |sides: &[usize; 3]| Grid { frames: sides[0], height: sides[1], width: sides[2] };
    let grids: Vec<Grid> = sides.as_chunks::<3>().0.iter().map(grid).collect();
    let values = file.read("pixel_values")?.to_f32().context("`pixel_values`: expected floats")?;
    let mut patches = values.chunks(vision.patch_length());
    let picture = |grid: &Grid| Patches {
        values: patches.by_ref().take(grid.patches()).flatten().copied().collect(),
        grid: *grid,
    };
    let pictures: Vec<Patches> = grids.iter().map(picture).collect();

    let tokens: Vec<u32> = ids.iter().map(|id| id.unsigned_abs()).collect();
    let is_slot: Vec<bool> = tokens.iter().map(|token| *token == vision.image_token).collect();
    let positions = row_positions(vision, &tokens, &grids).map_err(anyhow::Error::msg)?.tokens;
    let pictures = Pictures::new(vision, &is_slot, [1, ids.len()], &pictures)?;
    Ok((pictures, Positions::from_rows(&[&positions], ids.len())))
}

fn logits(model: &Model<Infer>, _: &Tensor<Infer>, input: &Input) -> cotangent::Result<Tensor<Infer>> {
    let states = model.hidden_states(&input.tokens, &input.rotary, input.pictures.as_ref(), None)?;
    model.logits(&states[states.len() - 1])
}

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let (input, output, checkpoint, adapter): (&Path, &Path, &Path, Option<&Path>) = match &arguments[..] {
        [input, output, checkpoint] => (input, output, checkpoint, None),
        [input, output, checkpoint, adapter] => (input, output, checkpoint, Some(adapter)),
        _ => bail!("usage: scores INPUT OUTPUT CHECKPOINT [ADAPTER]"),
    };
    let mut session = Session::new()?;
    let input = SafetensorsFile::open(input)?;
    let sees = input.get("pixel_values").is_some();
    let adapter = adapter.map(Adapter::load).transpose()?;
    let (mut model, mut config, mut findings) = Model::load(checkpoint, Dtype::F32)?;
    let of_adapter = adapter.as_ref().map(Adapter::parts).unwrap_or_default();
    let wanted = Parts { tower: sees || of_adapter.tower, ..of_adapter };
    load_parts(&mut model, &mut config, &mut findings, Dtype::F32, checkpoint, wanted)?;
    if let Some(adapter) = &adapter {
        attach(&mut model, &config, adapter)?;
    }

    let ids = integers(&input, "input_ids")?;
    let (pictures, positions) = match &config.vision {
        Some(vision) if sees => seen(&input, vision, &ids).map(|(pictures, positions)| (Some(pictures), positions))?,
        _ => (None, Positions::text(1, 0, ids.len())),
    };
    let tokens = Indices::from_slice(&ids, &[1, ids.len() as i32])?;
    let input = Input { tokens, rotary: Rotary::new(&config.rope, &positions)?, pictures };
    let nothing = Tensor::zeros(&[1], Dtype::F32)?;
    let found: Vec<f32> = session.infer(&model, &nothing, &input, logits)?.to_vec()?;
    let found = HostTensor::from_f32(&[ids.len(), config.vocab_size], &found);
    Ok(write_safetensors(output, &BTreeMap::from([("logits".to_owned(), found)]), &BTreeMap::new())?)
}
