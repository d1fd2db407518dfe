//! The errors of a `config.json`.

use std::path::PathBuf;

use crate::quoting::{quoted, quoted_path};

/// The reason why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened or is not UTF-8.
    #[error(
        "`{file}`: cannot be read: {source}\nhelp: give the folder of a Hugging Face checkpoint",
        file = quoted_path(file)
    )]
    Read {
        /// The file that was to be read.
        file: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error("`{file}`: not valid JSON: {reason}\nhelp: fetch the file again", file = quoted_path(file), reason = quoted(source.to_string()))]
    Json {
        /// The file that was read.
        file: PathBuf,
        /// The place at which parsing stopped, and the reason.
        source: serde_json::Error,
    },
    /// A field is absent, has the wrong type, or contradicts another one.
    #[error("`{file}`: `{field}`: found {found}, expected {expected}", file = quoted_path(file))]
    Field {
        /// The file that was read.
        file: PathBuf,
        /// The field, with the object it is in (`text_config.head_dim`).
        field: String,
        /// The value of the field.
        found: String,
        /// The values that the field may have.
        expected: String,
    },
    /// A field is there that nothing reads, among fields of which each changes what a model computes.
    #[error(
        "`{file}`: `{field}`: found a key that is not known, expected only {known}\nhelp: correct its name, or use a newer \
         version of this program",
        file = quoted_path(file)
    )]
    UnknownKey {
        /// The file that was read.
        file: PathBuf,
        /// The field, with the object it is in.
        field: String,
        /// The keys that are read there.
        known: String,
    },
    /// The file describes a model that exists but that Cotangent cannot run.
    #[error(
        "`{file}`: `{field}`: {what} is not supported for now\nhelp: use a Qwen3.5 checkpoint in bf16 or f32, \
         or one that mlx-lm or mlx-vlm quantized",
        file = quoted_path(file)
    )]
    Unsupported {
        /// The file that was read.
        file: PathBuf,
        /// The field that says so.
        field: String,
        /// The feature that the field asks for.
        what: String,
    },
}
