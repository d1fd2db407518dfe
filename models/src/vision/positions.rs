//! The positions of the tokens of a row in time, height and width, if some of them are pictures.

use crate::config::VisionConfig;
use crate::images::Grid;

/// The positions of the tokens of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowPositions {
    /// The positions of each token, in time, height and width.
    pub tokens: Vec<[i32; 3]>,
    /// The position of the token after the last, on every axis.
    pub next: i32,
}

/// Returns the positions of `tokens`, whose pictures and videos have these grids, in order. Text advances all three
/// axes at once. The tokens of a picture have one time, and rows and columns from there on. The token after a picture
/// continues behind the longer of its sides. Each frame of a video counts as a picture.
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

#[cfg(test)]
mod tests {
    use super::*;

    const PAD: u32 = 252;

    fn config() -> VisionConfig {
        VisionConfig {
            depth: 1,
            hidden_size: 8,
            intermediate_size: 8,
            num_heads: 1,
            patch_size: 4,
            temporal_patch_size: 2,
            spatial_merge_size: 2,
            out_hidden_size: 8,
            positions_per_side: 4,
            rope_theta: 1e4,
            deepstack: Vec::new(),
            image_token: PAD,
            video_token: 253,
            start_token: 250,
            end_token: 251,
        }
    }

    fn grid(frames: usize, height: usize, width: usize) -> Grid {
        Grid { frames, height, width }
    }

    #[test]
    fn what_follows_a_picture_stands_behind_its_longer_side() {
        // Two rows of three groups stand between two tokens of text.
        let tokens = [7, PAD, PAD, PAD, PAD, PAD, PAD, 8];
        let found = row_positions(&config(), &tokens, &[grid(1, 4, 6)]).unwrap();
        let picture = [[1, 1, 1], [1, 1, 2], [1, 1, 3], [1, 2, 1], [1, 2, 2], [1, 2, 3]];
        assert_eq!(found.tokens, [&[[0; 3]], &picture[..], &[[4; 3]]].concat());
        assert_eq!(found.next, 5);
    }

    #[test]
    fn each_frame_of_a_video_is_a_picture_of_its_own() {
        // Two frames of one group each have a time between them.
        let found = row_positions(&config(), &[253, 9, 253, 9], &[grid(2, 2, 2)]).unwrap();
        assert_eq!(found, RowPositions { tokens: (0..4).map(|place| [place; 3]).collect(), next: 4 });
    }

    #[test]
    fn tokens_and_grids_are_as_many() {
        for (tokens, grids, expected) in [
            (&[PAD, 1][..], vec![], "more tokens"),
            (&[1, 2], vec![grid(1, 2, 2)], "fewer tokens for pictures"),
            (&[PAD, 1], vec![grid(1, 2, 4)], "fewer tokens in a row"),
            (&[PAD], vec![grid(1, 2, 4)], "fewer tokens in a row"),
        ] {
            let message = row_positions(&config(), tokens, &grids).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
