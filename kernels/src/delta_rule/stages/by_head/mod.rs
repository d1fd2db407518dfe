//! The stages of a gate for each head.

mod cotangents_of_scores;
mod gradients;
mod local;
mod output;
mod solve;

pub(crate) use cotangents_of_scores::score_cotangents;
pub(crate) use gradients::{chunk_gradients, chunk_gradients_of_groups};
pub(crate) use local::local_cotangents;
pub(crate) use output::chunk_outputs;
pub(crate) use solve::{SolveChunksOutputs, solve_chunks};
