//! Where the tokens of a row stand in time, height and width, if some of them are pictures.

use crate::config::VisionConfig;
use crate::images::Grid;

/// The positions of the tokens of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPositions {
    /// Of each token, in time, height and width.
    pub tokens: Vec<[i32; 3]>,
    /// Of the token after the last, on every axis.
    pub next: i32,
}

/// The positions of `tokens`, whose pictures and videos have these grids, in order. Text advances all three axes at once.
/// The tokens of a picture stand at one time, and in rows and columns from there on; what comes after stands behind the longer
/// of its sides. Each frame of a video is a picture of its own.
///
/// # Errors
/// If the tokens of pictures are not as many as the grids say.
pub fn row_positions(config: &VisionConfig, tokens: &[u32], grids: &[Grid]) -> Result<RowPositions, String> {
    let merge = config.spatial_merge_size;
    let mut frames =
        grids.iter().flat_map(|grid| std::iter::repeat_n([grid.height / merge, grid.width / merge], grid.frames));
    let is_slot = |token: u32| token == config.image_token || token == config.video_token;
    let mut positions = Vec::with_capacity(tokens.len());
    let mut next = 0;
    let mut rest = tokens;
    while let [token, after @ ..] = rest {
        if !is_slot(*token) {
            positions.push([next; 3]);
            next += 1;
            rest = after;
            continue;
        }
        let Some([rows, columns]) = frames.next() else {
            return Err(format!("found more tokens for pictures than the {} pictures have", grids.len()));
        };
        let count = rows * columns;
        if rest.len() < count || !rest[..count].iter().all(|token| is_slot(*token)) {
            return Err(format!("found fewer tokens in a row for a picture than its {rows} by {columns}"));
        }
        let place = |index: usize| [next, next + (index / columns) as i32, next + (index % columns) as i32];
        positions.extend((0..count).map(place));
        next += rows.max(columns) as i32;
        rest = &rest[count..];
    }
    match frames.next() {
        Some(_) => Err(format!("found fewer tokens for pictures than the {} pictures have", grids.len())),
        None => Ok(RowPositions { tokens: positions, next }),
    }
}
