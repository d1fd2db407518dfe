//! The errors of a training run.

use std::path::PathBuf;

use cotangent_models::checkpoint::CheckpointError;
use cotangent_models::quoting::quoted_path;

use crate::adapter::AdapterError;
use crate::numbers::counted;

/// The reason why a run stopped, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A computation failed.
    #[error(transparent)]
    Compute(#[from] cotangent::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// The adapters could not be written.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The data set has fewer examples than a batch has rows.
    #[error(
        "found {found} to train on, expected at least the {batch_size} of one batch\n\
         help: lower `--batch-size`, or add conversations",
        found = counted(*examples, "conversation")
    )]
    TooFewExamples {
        /// Examples in the data set.
        examples: usize,
        /// Rows of a batch.
        batch_size: usize,
    },
    /// Too many steps in a row were skipped.
    #[error(
        "the gradients of {steps} steps in a row were not finite (last loss {loss}, iteration {iteration})\n\
         help: lower `--learning-rate` or `--scale`, and look at the data of these steps"
    )]
    NotFinite {
        /// Steps in a row.
        steps: usize,
        /// The last of them.
        iteration: usize,
        /// The loss of the iteration.
        loss: f64,
    },
    /// The output folder is not free.
    #[error("`{dir}`: {reason}", dir = dir.display())]
    Output {
        /// The folder.
        dir: PathBuf,
        /// The message: what was found, and the remedy.
        reason: String,
    },
    /// A saved state is not one of this run.
    #[error("`{file}`: {reason}", file = quoted_path(file))]
    State {
        /// The file of the state.
        file: PathBuf,
        /// The message: what was found, what was expected, and the remedy.
        reason: String,
    },
}

impl TrainingError {
    /// Returns whether a file could not be read or written, which another time may succeed.
    pub fn is_about_a_file(&self) -> bool {
        matches!(
            self,
            Self::File(CheckpointError::Io { .. }) | Self::Adapter(AdapterError::Weights(CheckpointError::Io { .. }))
        )
    }
}
