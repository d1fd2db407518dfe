//! The source of a picture of a data set: a file, or the data themselves.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cotangent_models::images::Picture;
use cotangent_models::quoting::quoted_path;
use cotangent_models::reading;

use super::decode;

/// The largest file that is read.
const MOST_BYTES: u64 = 256 << 20;

/// A picture that is not decoded yet.
#[derive(Clone, PartialEq, Eq)]
pub enum PictureSource {
    /// A file.
    File(PathBuf),
    /// The bytes of one, which the data hold.
    Bytes(Arc<[u8]>),
}

impl PictureSource {
    /// Reads the source that data name: a path, perhaps behind `file://`, or a `data:` address with base64 text.
    ///
    /// # Errors
    /// If it is another address, or the text is not base64.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(
                "found an address on the web, expected a file\nhelp: fetch the picture, and write its path".into()
            );
        }
        if let Some(data) = text.strip_prefix("data:") {
            let Some((_, encoded)) = data.split_once("base64,") else {
                return Err("found a `data:` address without `base64,`".into());
            };
            return Self::from_base64(encoded);
        }
        match text.strip_prefix("file://").unwrap_or(text) {
            "" => Err("found an empty path, expected a file".into()),
            path => Ok(PictureSource::File(path.into())),
        }
    }

    /// Decodes base64 text, in which blanks and padding do not matter.
    ///
    /// # Errors
    /// If it is none.
    pub fn from_base64(text: &str) -> Result<Self, String> {
        let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let written: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        match GeneralPurpose::new(&STANDARD, config).decode(written) {
            Ok(bytes) => Ok(PictureSource::Bytes(bytes.into())),
            Err(error) => Err(format!("found text that is not base64 ({error}), expected an encoded picture")),
        }
    }

    /// Returns the same source, with a relative path resolved against `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            PictureSource::File(path) => PictureSource::File(folder.join(path)),
            bytes @ PictureSource::Bytes(_) => bytes,
        }
    }

    /// The pixels.
    ///
    /// # Errors
    /// If the file cannot be read, or is no picture; naming it.
    pub fn load(&self) -> Result<Picture, String> {
        let picture = match self {
            PictureSource::File(path) => reading::read(path, MOST_BYTES)
                .map_err(|error| error.to_string())
                .and_then(|bytes| decode(&bytes).map_err(|error| error.to_string())),
            PictureSource::Bytes(bytes) => decode(bytes).map_err(|error| error.to_string()),
        };
        picture.map_err(|reason| format!("{self}: {reason}"))
    }
}

impl fmt::Display for PictureSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PictureSource::File(path) => write!(f, "`{}`", quoted_path(path)),
            PictureSource::Bytes(bytes) => write!(f, "a picture of {} bytes in the data", bytes.len()),
        }
    }
}

impl fmt::Debug for PictureSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
