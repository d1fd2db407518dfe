//! Reads the first frame of a GIF file.

use std::io::Cursor;

use ::gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::orientation::Orientation;
use super::signature::Format;
use super::{Decoded, MOST_PIXELS, PictureError, area};

/// The first frame on its canvas. A pixel that no frame paints, and a transparent one, has the colour that the palette
/// has for transparency; without transparency, the palette's first.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, PictureError> {
    let fault = |error: DecodingError| PictureError::damaged(Format::Gif, error);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    if let Some(limit) = std::num::NonZeroU64::new(MOST_PIXELS as u64) {
        options.set_memory_limit(MemoryLimit::Bytes(limit));
    }
    let mut decoder = options.read_info(Cursor::new(bytes)).map_err(fault)?;
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let (mut height, mut width) = (usize::from(decoder.height()), usize::from(decoder.width()));
    let frame = decoder.read_next_frame().map_err(fault)?;
    let frame = frame.ok_or_else(|| PictureError::damaged(Format::Gif, "it has no frame"))?;
    let (top, left) = (usize::from(frame.top), usize::from(frame.left));
    let (rows, columns) = (usize::from(frame.height), usize::from(frame.width));
    // If the first frame exceeds the canvas, Pillow enlarges the canvas.
    (height, width) = (height.max(top + rows), width.max(left + columns));
    let pixels = area(height, width)?;

    let mut canvas = vec![frame.transparent.unwrap_or(0); pixels];
    for (row, colors) in frame.buffer.chunks_exact(columns.max(1)).enumerate() {
        let start = (top + row) * width + left;
        canvas[start..start + columns].copy_from_slice(colors);
    }
    let palette = frame.palette.as_ref().or(global.as_ref());
    let color = |index: u8| match palette {
        None => [index; 3],
        Some(palette) => {
            let at = usize::from(index) * 3;
            palette.get(at..at + 3).map_or([0; 3], |color| [color[0], color[1], color[2]])
        }
    };
    let values = canvas.into_iter().flat_map(color).collect();
    Ok(Decoded { height, width, values, orientation: Orientation::UPRIGHT })
}
