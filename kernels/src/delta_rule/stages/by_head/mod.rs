//! The stages of a gate for each head.

mod cotangents_of_scores;
mod gradients;
mod local;
mod output;
mod solve;

pub(crate) use cotangents_of_scores::{ScoreCotangentsInputs, score_cotangents};
pub(crate) use gradients::{ChunkGradientsInputs, chunk_gradients};
pub(crate) use local::{LocalCotangentsInputs, local_cotangents};
pub(crate) use output::{ChunkOutputsInputs, chunk_outputs};
pub(crate) use solve::{SolveChunksInputs, SolveChunksOutputs, solve_chunks};
