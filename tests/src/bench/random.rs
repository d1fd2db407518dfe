//! Random models and batches. What the numbers are does not matter, only that they are spread and the same in every run.

use anyhow::{Context, Result, bail};
use cotangent::parameters::Path;
use cotangent::random::Key;
use cotangent::{CodeMode, Dtype, Error, Indices, Parameters as _, Plan, Planned, Stored, Tensor};
use cotangent_kernels::{IGNORED, Labels, labels_after};
use cotangent_models::config::{Quantization, TextConfig, VisionConfig};
use cotangent_models::images::{Grid, Patches};
use cotangent_models::qwen35::{Batch, Model};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::vision::{Pictures, row_positions};
use cotangent_models::weight::Weight;

use super::description::Description;

/// A small generator.
pub(crate) struct Spread(pub(crate) u64);

impl Spread {
    /// Evenly in 0..1. SplitMix64 (Steele, Lea and Flood, 2014).
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// A model that is drawn on the device, parameter by parameter. Matrices that `quantization` does not call dense are drawn as
/// codes; the vision tower has none, as converters write it.
pub(super) fn model(
    config: &TextConfig,
    quantization: Option<&Quantization>,
    dtype: Dtype,
    seed: u64,
) -> Result<Model<Stored>> {
    let mut planned = Model::planned(config, dtype);
    planned.nodes(&mut Path::root(), &mut |path, node| {
        let is_of_tower = path.as_str().starts_with("visual.");
        let format = quantization.filter(|_| !is_of_tower).and_then(|scheme| scheme.format_of(path.as_str()));
        if let (Some(format), Some(weight)) = (format, node.downcast_mut::<Weight<Planned>>())
            && let Weight::Dense(dense) = weight
            && dense.weight.plan().shape.last().is_some_and(|columns| columns.is_multiple_of(format.group_size()))
        {
            *weight = weight.quantized(format);
        }
    });
    let key = Key::new(seed)?;
    let mut number = 0;
    Ok(planned.map(&mut Path::root(), &mut |path, leaf| {
        number += 1;
        draw(path.as_str(), leaf.tensor.plan(), quantization, &key.fold(number)?)
    })?)
}

/// A random parameter, whose width keeps the outputs of a layer as large as its inputs.
fn draw(name: &str, plan: &Plan, quantization: Option<&Quantization>, key: &Key) -> cotangent::Result<Tensor<Stored>> {
    let shape: Vec<i32> = plan.shape.iter().map(|extent| *extent as i32).collect();
    if plan.dtype == Dtype::U32 {
        return key.words(&shape);
    }
    let width = |fan_in: usize| if shape.len() > 1 { (fan_in.max(1) as f32).powf(-0.5) } else { 0.1 };
    let last = plan.shape.last().copied().unwrap_or(1);
    let of_codes = |module: &str| quantization.and_then(|scheme| scheme.format_of(module));
    let (low, high) = match name.rsplit_once('.') {
        Some((module, part @ ("scales" | "biases"))) => {
            let Some(format) = of_codes(module).filter(|format| format.mode() == CodeMode::Affine) else {
                return Err(Error::Other(format!("`{name}`: random codes are drawn in the mode `affine` alone")));
            };
            let width = width(last * format.group_size());
            // Codes go from zero to the largest, and the values that they stand for from -width to width.
            let middle = if part == "biases" { -width } else { 2.0 * width / ((1_u32 << format.bits()) - 1) as f32 };
            (middle - 0.01 * middle.abs(), middle + 0.01 * middle.abs())
        }
        _ => (-width(last), width(last)),
    };
    key.uniform(low, high, &shape)?.cast(plan.dtype)
}

/// Rows of `tokens` random tokens each, with a picture in front if the description has pictures.
pub(super) fn batch(description: &Description, tokens: usize, config: &TextConfig) -> Result<Batch> {
    let rows = description.batch;
    let mut spread = Spread(description.seed ^ 0x5eed);
    let pictures = match (description.patches_per_side, &config.vision) {
        (Some(side), Some(vision)) => Some((vision, Grid { frames: 1, height: side, width: side })),
        _ => None,
    };
    let slots = pictures.map_or(0, |(vision, grid)| grid.tokens(vision.spatial_merge_size));
    if slots >= tokens {
        bail!("a picture of {slots} tokens leaves no text in a row of {tokens}");
    }
    let slot = pictures.map(|(vision, _)| vision.image_token);
    let highest = config.vocab_size - 1;
    let mut token = || loop {
        let drawn = 1 + ((spread.next() * highest as f32) as u32).min(highest as u32 - 1);
        if !pictures.is_some_and(|(vision, _)| [vision.image_token, vision.video_token].contains(&drawn)) {
            return drawn;
        }
    };
    let (mut inputs, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        let row: Vec<u32> =
            (0..=tokens).map(|place| slot.filter(|_| place < slots).unwrap_or_else(&mut token)).collect();
        // Tokens of pictures are not targets.
        let targets: Vec<i32> =
            row.iter().map(|token| if Some(*token) == slot { IGNORED } else { *token as i32 }).collect();
        labels.extend_from_slice(&labels_after(&targets, tokens + 1, 1)[..tokens]);
        inputs.extend_from_slice(&row[..tokens]);
    }
    let (positions, pictures) = match pictures {
        None => (Positions::text(rows, 0, tokens), None),
        Some((vision, grid)) => {
            let of_row = row_positions(vision, &inputs[..tokens], &[grid]).map_err(anyhow::Error::msg)?.tokens;
            let made = pictures_of(vision, grid, rows, &inputs, &mut spread).context("pictures")?;
            (Positions::from_rows(&vec![of_row.as_slice(); rows], tokens), Some(made))
        }
    };
    let inputs: Vec<i32> = inputs.into_iter().map(|token| token as i32).collect();
    let labels = Labels::from_slice(&labels)?;
    Ok(Batch {
        tokens: Indices::from_slice(&inputs, &[rows as i32, tokens as i32])?,
        pictures,
        rotary: Rotary::new(&config.rope, &positions)?,
        scale: 1.0 / labels.count() as f32,
        labels,
        ahead: None,
        documents: None,
        balance: None,
    })
}

/// A picture of `grid` for each of the rows of `tokens`.
fn pictures_of(
    vision: &VisionConfig,
    grid: Grid,
    rows: usize,
    tokens: &[u32],
    spread: &mut Spread,
) -> Result<Pictures> {
    let is_slot: Vec<bool> = tokens.iter().map(|token| *token == vision.image_token).collect();
    let mut picture = || {
        let values = (0..grid.patches() * vision.patch_length()).map(|_| 2.0 * spread.next() - 1.0).collect();
        Patches { values, grid }
    };
    let pictures: Vec<Patches> = (0..rows).map(|_| picture()).collect();
    Ok(Pictures::new(vision, &is_slot, [rows, tokens.len() / rows], &pictures)?)
}
