//! A batch that every parameter of a model has a part in.

use std::f64::consts::GOLDEN_RATIO;

use cotangent::{Error, Indices, Result};
use cotangent_kernels::{IGNORED, Labels, labels_after};
use cotangent_models::config::{TextConfig, VisionConfig};
use cotangent_models::images::{Grid, Patches};
use cotangent_models::qwen35::{Ahead, AheadLoss, Batch};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::vision::{Pictures, row_positions};

/// Rows of tokens from all over the vocabulary, the same every time. Where `config` describes a vision tower, each row begins
/// with a picture; where it has a head of multi-token prediction, that learns too.
///
/// # Errors
/// If MLX refuses the sizes.
pub fn spread_batch(config: &TextConfig, rows: usize, width: usize) -> Result<Batch> {
    let mut tokens = vec![0_u32; rows * width];
    for (token, share) in tokens.iter_mut().zip(spread()) {
        *token = (share * config.vocab_size as f64) as u32;
    }
    let shape = [rows as i32, width as i32];
    let mut is_slot = vec![false; rows * width];
    let (positions, pictures) = match &config.vision {
        None => ([0, 1].map(|start| Positions::text(rows, start, width)), None),
        Some(vision) => {
            let picture = picture(vision, width);
            let slots = picture.grid.tokens(vision.spatial_merge_size);
            for (row, is_slot) in tokens.chunks_mut(width).zip(is_slot.chunks_mut(width)) {
                // A random token may be that of a picture.
                row.iter_mut().filter(|token| is_mark(vision, **token)).for_each(|token| *token = 0);
                row[..slots].fill(vision.image_token);
                is_slot[..slots].fill(true);
            }
            let of_row = row_positions(vision, &tokens[..width], &[picture.grid]).map_err(Error::Other)?.tokens;
            let positions = [&of_row[..], &of_row[1..]].map(|row| Positions::from_rows(&vec![row; rows], width));
            (positions, Some(Pictures::new(vision, &is_slot, [rows, width], &vec![picture; rows])?))
        }
    };
    let [rotary, next] = positions.map(|positions| Rotary::new(&config.rope, &positions));
    let tokens: Vec<i32> = tokens.into_iter().map(u32::cast_signed).collect();
    // The tokens of a picture are never learned.
    let labels: Vec<i32> =
        tokens.iter().zip(is_slot).map(|(token, is_slot)| if is_slot { IGNORED } else { *token }).collect();
    let ahead = match config.has_multi_token_head {
        true => {
            let (labels, scale) = shifted(&labels, width, 2)?;
            let loss = AheadLoss::Beside { weight: 1.0, detached: false };
            Some(Ahead { rotary: next?, labels, scale, loss })
        }
        false => None,
    };
    let (labels, scale) = shifted(&labels, width, 1)?;
    Ok(Batch {
        tokens: Indices::from_slice(&tokens, &shape)?,
        rotary: rotary?,
        pictures,
        labels,
        scale,
        ahead,
        documents: None,
        balance: None,
    })
}

/// Numbers from 0 to 1: the multiples of the golden ratio are spread evenly over whatever they are taken modulo.
fn spread() -> impl Iterator<Item = f64> {
    (1..).map(|index| (f64::from(index) * GOLDEN_RATIO).fract())
}

fn is_mark(vision: &VisionConfig, token: u32) -> bool {
    [vision.image_token, vision.video_token].contains(&token)
}

/// A picture of two by two groups of patches, or of one where the row has no more room.
fn picture(vision: &VisionConfig, width: usize) -> Patches {
    let groups = if width > 4 { 2 } else { 1 };
    let side = groups * vision.spatial_merge_size;
    let grid = Grid { frames: 1, height: side, width: side };
    let values =
        spread().take(grid.patches() * vision.patch_length()).map(|share| (2.0 * share - 1.0) as f32).collect();
    Patches { values, grid }
}

/// `labels` of what lies `places` further on, and one divided by how many of them count.
fn shifted(labels: &[i32], width: usize, places: usize) -> Result<(Labels, f32)> {
    let labels = Labels::from_slice(&labels_after(labels, width, places))?;
    let scale = 1.0 / labels.count().max(1) as f32;
    Ok((labels, scale))
}
