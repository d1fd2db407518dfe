//! Reads JPEG files, with Pillow's colours.

use std::io::Cursor;

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::orientation::Orientation;
use super::signature::Format;
use super::{Decoded, PictureError, area};

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, PictureError> {
    let fault = |error: DecodeErrors| PictureError::damaged(Format::Jpeg, error);
    let side = usize::from(u16::MAX);
    // The mode is strict, because otherwise the missing part of a torn file would be grey.
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(side).set_max_height(side);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers().map_err(fault)?;
    let sizes = decoder.dimensions().zip(decoder.input_colorspace());
    let ((width, height), color) = sizes.ok_or_else(|| PictureError::damaged(Format::Jpeg, "it has no size"))?;
    area(height, width)?;
    let orientation = Orientation::from_exif(decoder.exif().map(Vec::as_slice));
    let output = if color == ColorSpace::CMYK { ColorSpace::CMYK } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let mut values = decoder.decode().map_err(fault)?;
    if output == ColorSpace::CMYK {
        values =
            values.chunks_exact(4).flat_map(|ink| [ink[0], ink[1], ink[2]].map(|c| without_ink(c, ink[3]))).collect();
    }
    Ok(Decoded { height, width, values, orientation })
}

/// Returns what is left of white light, where the file holds the complements of a colour's ink and of black, as Adobe's
/// do. Pillow takes all files to be such, and rounds so.
fn without_ink(color: u8, black: u8) -> u8 {
    let product = u32::from(255 - color) * u32::from(black) + 128;
    black - ((product + (product >> 8)) >> 8) as u8
}
