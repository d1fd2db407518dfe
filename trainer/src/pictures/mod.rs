//! Picture files as pixels, as transformers' `load_image` gives them: turned as EXIF says, alpha dropped, and grey,
//! palettes, 16 bits and CMYK turned to RGB as Pillow's `convert("RGB")` does it. Of an animation the first frame is read.
//!
//! PNG, GIF and lossless WebP give Pillow's pixels exactly. JPEG differs from libjpeg by up to 4 of 255 levels, because
//! the decoders round in other places.

mod error;
mod gif;
mod jpeg;
mod orientation;
mod png;
mod signature;
mod source;
mod visual;
mod webp;

use cotangent_models::images::Picture;

pub use error::PictureError;
pub use source::PictureSource;
pub use visual::{VideoSource, VisualSource};

use orientation::Orientation;
use signature::Format;

/// The most pixels that a file may claim to have; Pillow refuses more as well.
pub const MOST_PIXELS: usize = 178_956_970;

/// A picture as it lies in a file, and how to turn it.
struct Decoded {
    height: usize,
    width: usize,
    /// `[height, width, 3]`, row-major.
    values: Vec<u8>,
    orientation: Orientation,
}

/// The pixels of a PNG, JPEG, GIF or WebP file.
///
/// # Errors
/// If `bytes` are something else, or damaged, or claim more than [`MOST_PIXELS`].
pub fn decode(bytes: &[u8]) -> Result<Picture, PictureError> {
    let format = signature::format_of(bytes).map_err(PictureError::NotAPicture)?;
    let decoded = match format {
        Format::Png => png::decode(bytes),
        Format::Jpeg => jpeg::decode(bytes),
        Format::Gif => gif::decode(bytes),
        Format::WebP => webp::decode(bytes),
    }?;
    let Decoded { height, width, values, orientation } = decoded;
    let (height, width, values) = orientation.apply(height, width, values);
    Picture::new(height, width, values)
        .ok_or_else(|| PictureError::damaged(format, "its pixels are not as many as it says"))
}

/// The number of pixels of `height` by `width`.
fn area(height: usize, width: usize) -> Result<usize, PictureError> {
    match height.checked_mul(width) {
        Some(pixels) if pixels <= MOST_PIXELS => Ok(pixels),
        _ => Err(PictureError::TooLarge { height, width }),
    }
}

#[cfg(test)]
mod tests;
