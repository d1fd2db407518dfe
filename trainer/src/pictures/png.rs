//! Reads PNG files.

use std::io::Cursor;

use ::png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};

use super::orientation::Orientation;
use super::signature::Format;
use super::{Decoded, PictureError, area};

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, PictureError> {
    let fault = |error: DecodingError| PictureError::damaged(Format::Png, error);
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::EXPAND);
    // Neither of these chunks changes a pixel here, and both can be large.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(fault)?;
    let (height, width) = (header.height as usize, header.width as usize);
    area(height, width)?;
    // A grey of 16 bits is clipped, as in Pillow's mode for it; in other images the high byte is taken.
    let is_wide_grey = header.color_type == ColorType::Grayscale && header.bit_depth == BitDepth::Sixteen;

    let mut reader = decoder.read_info().map_err(fault)?;
    let orientation = Orientation::from_exif(reader.info().exif_metadata.as_deref());
    let (color, depth) = reader.output_color_type();
    let length = reader.output_buffer_size();
    let mut samples = vec![0; length.ok_or_else(|| PictureError::damaged(Format::Png, "it has no size"))?];
    reader.next_frame(&mut samples).map_err(fault)?;
    if depth == BitDepth::Sixteen {
        let narrow =
            |sample: &[u8]| if is_wide_grey && sample[0] > 0 { 255 } else { sample[usize::from(is_wide_grey)] };
        samples = samples.chunks_exact(2).map(narrow).collect();
    }
    let values = match color {
        ColorType::Rgb => samples,
        ColorType::Rgba => samples.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        ColorType::Grayscale => samples.iter().flat_map(|grey| [*grey; 3]).collect(),
        ColorType::GrayscaleAlpha => samples.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        ColorType::Indexed => return Err(PictureError::damaged(Format::Png, "it has no palette")),
    };
    Ok(Decoded { height, width, values, orientation })
}
