//! The errors of data sets, chat templates and tokenizers.

use std::fmt;
use std::path::{Path, PathBuf};

use cotangent_models::quoting::quoted_path;

/// The reason why a data set, chat template or tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file as a whole.
    #[error("`{file}`: {reason}", file = quoted_path(file))]
    File {
        /// The file or folder.
        file: PathBuf,
        /// The message: what was found and what was expected.
        reason: String,
    },
    /// Lines of a JSON-lines file.
    #[error("{}", Listing { file, faults, bad: *bad })]
    Lines {
        /// The file.
        file: PathBuf,
        /// The first bad lines, at least one and at most [`DataError::MOST_FAULTS`].
        faults: Vec<LineFault>,
        /// The number of bad lines in all.
        bad: usize,
    },
    /// A picture of a conversation cannot be used.
    #[error("{0}")]
    Picture(String),
    /// The template leaves something out, or the cut does, where that is not allowed.
    #[error("{}\nhelp: without `--strict-template` these are warnings", losses.join("\n"))]
    Strict {
        /// The losses, a sentence each.
        losses: Vec<String>,
    },
}

/// The fault of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in bytes, counted from 1, where it is known.
    pub column: Option<usize>,
    /// The message: what was found and what was expected, and after a line break the remedy.
    pub reason: String,
}

impl DataError {
    /// The most bad lines of a file that are described; the others are counted.
    pub const MOST_FAULTS: usize = 10;

    pub(super) fn file(file: &Path, reason: impl Into<String>) -> Self {
        Self::File { file: file.to_owned(), reason: reason.into() }
    }

    pub(super) fn lines(file: &Path, faults: Vec<LineFault>, bad: usize) -> Self {
        Self::Lines { file: file.to_owned(), faults, bad }
    }
}

impl LineFault {
    pub(super) fn new(line: usize, reason: impl Into<String>) -> Self {
        Self { line, column: None, reason: reason.into() }
    }
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", column {column}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

struct Listing<'a> {
    file: &'a Path,
    faults: &'a [LineFault],
    bad: usize,
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = quoted_path(self.file);
        if let ([fault], 1) = (self.faults, self.bad) {
            return write!(f, "`{file}`, {fault}");
        }
        write!(f, "`{file}`: {} bad lines", self.bad)?;
        // Lines with the same fault share one advice.
        let mut advice: Vec<&str> = Vec::new();
        for fault in self.faults {
            let fault_with_advice = fault.to_string();
            let what = fault_with_advice.lines().next().unwrap_or_default();
            write!(f, "\n{what}")?;
            for line in fault.reason.lines().skip(1) {
                if !advice.contains(&line) {
                    advice.push(line);
                }
            }
        }
        if self.bad > self.faults.len() {
            write!(f, "\nand {} more", self.bad - self.faults.len())?;
        }
        advice.iter().try_for_each(|line| write!(f, "\n{line}"))
    }
}
