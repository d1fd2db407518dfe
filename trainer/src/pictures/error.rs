//! The errors of picture files.

use std::fmt::Display;

use cotangent_models::quoting::quoted;

use super::MOST_PIXELS;
use super::signature::Format;

/// The reason why a file gives no picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file is of another kind.
    #[error("{0}")]
    NotAPicture(String),
    /// The file is of a kind that is read, and broken.
    #[error("found a damaged {format} file: {reason}\nhelp: fetch the file again, or leave the row out")]
    Damaged {
        /// The kind of file.
        format: &'static str,
        /// The message of its decoder.
        reason: String,
    },
    /// The file claims to have more pixels than a picture has.
    #[error(
        "found {width} by {height} pixels, expected at most {MOST_PIXELS} in all\n\
         help: shrink the picture: a model sees far fewer"
    )]
    TooLarge {
        /// Rows of pixels.
        height: usize,
        /// Pixels of a row.
        width: usize,
    },
}

impl PictureError {
    pub(super) fn damaged(format: Format, reason: impl Display) -> Self {
        PictureError::Damaged { format: format.name(), reason: quoted(reason.to_string()) }
    }
}
