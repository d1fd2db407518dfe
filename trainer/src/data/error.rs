use std::path::{Path, PathBuf};

use cotangent_models::quoting::quoted_path;

/// Why a data set, chat template or tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file as a whole.
    #[error("`{file}`: {reason}", file = quoted_path(file))]
    File {
        /// The file or folder.
        file: PathBuf,
        /// What was found and what was expected.
        reason: String,
    },
    /// One line of a JSON-lines file.
    #[error(
        "`{file}`, line {line}{column}: {reason}",
        file = quoted_path(file),
        column = column.map(|column| format!(", column {column}")).unwrap_or_default()
    )]
    Line {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column in bytes, counted from 1, where it is known.
        column: Option<usize>,
        /// What was found and what was expected.
        reason: String,
    },
}

impl DataError {
    pub(super) fn file(file: &Path, reason: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), reason: reason.into() }
    }

    pub(super) fn line(file: &Path, line: usize, column: Option<usize>, reason: impl Into<String>) -> Self {
        Self::Line { file: file.to_owned(), line, column, reason: reason.into() }
    }
}
