//! The stages of a gate for each channel of the keys.
//!
//! A decay is a vector here, a factor of each term of a score: `X_ij = sum_d k_i[d] k_j[d] g_d(j, i)`. Computing `g(j,
//! i)` as a quotient of decays since the chunk's start overflows where gates are shut. But for a boundary between two
//! tokens, `g(j, i) = g(j, boundary) g(boundary, i)`, and neither factor is more than 1. So a chunk is cut into blocks
//! of sixteen tokens, the rows of a tile. Between two blocks, scores are products of tiles of decayed keys and queries;
//! within a block, each channel goes from token to token.
//!
//! With `s_i` the decay since the beginning of token i's block, `e_j` that until the end of token j's block and `t_I` that over
//! block I, for tokens i of block I and j of an earlier block J
//!
//! ```text
//! g(j, i) = e_j t_{J+1} .. t_{I-1} s_i
//! ```
//!
//! All factors are products, which lose no digits however far the gates are shut. Backwards, the blocks are passed one
//! after the other, and each multiplies the cotangents from beyond it by its `t`. A cotangent that passes a block, from
//! anything before it to anything behind it, is added to the gates of all its tokens.
//!
//! All else is as with a gate for each head: `G` and `E` scale the channels of `Q` and `K`, and the scans take them so.

mod across_blocks;
mod cotangents_of_scores;
mod decays;
mod local;
mod output;
mod scores;
mod solve;
mod within_blocks;

pub(crate) use across_blocks::{CotangentsAcrossBlocksInputs, CotangentsAcrossBlocksOutputs, cotangents_across_blocks};
pub(crate) use cotangents_of_scores::{
    ScoreCotangentsByChannelInputs, ScoreCotangentsByChannelOutputs, score_cotangents_by_channel,
};
pub(crate) use decays::{DecayChannelsOutputs, decay_channels};
pub(crate) use local::local_cotangents_by_channel;
pub(crate) use output::{ChunkOutputsByChannelInputs, chunk_outputs_by_channel};
pub(crate) use scores::{ChannelScoresInputs, ChannelScoresOutputs, channel_scores};
pub(crate) use solve::{SolveChunksByChannelInputs, SolveChunksByChannelOutputs, solve_chunks_by_channel};
pub(crate) use within_blocks::{GradientsByChannelInputs, gradients_by_channel};
