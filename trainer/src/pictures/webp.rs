//! Reads WebP files.

use std::io::Cursor;

use image_webp::{DecodingError, WebPDecoder};

use super::orientation::Orientation;
use super::signature::Format;
use super::{Decoded, MOST_PIXELS, PictureError, area};

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, PictureError> {
    let fault = |error: DecodingError| PictureError::damaged(Format::WebP, error);
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    let (height, width) = (height as usize, width as usize);
    area(height, width)?;
    decoder.set_memory_limit(4 * MOST_PIXELS);
    let orientation = Orientation::from_exif(decoder.exif_metadata().map_err(fault)?.as_deref());
    let length = decoder.output_buffer_size();
    let mut values = vec![0; length.ok_or_else(|| PictureError::damaged(Format::WebP, "it has no size"))?];
    decoder.read_image(&mut values).map_err(fault)?;
    if decoder.has_alpha() {
        values = values.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    }
    Ok(Decoded { height, width, values, orientation })
}
