//! A gate for each channel of the keys, in chunks.
//!
//! With gates of channels a score is not a product of vectors times a decay: each of its terms has a decay of its own,
//!
//! ```text
//! X_ij = sum_d k_i[d] k_j[d] g_d(j, i)  (j < i)      P_ij = sum_d q_i[d] k_j[d] g_d(j, i)  (j <= i)
//! ```
//!
//! and computing `g(j, i)` as `g(start, i) / g(start, j)` overflows as soon as gates shut. But for a boundary between
//! two tokens, `g(j, i) = g(j, boundary) g(boundary, i)`, and neither factor is more than 1. So a chunk is halved, its
//! halves are halved, and so on to single tokens. The later half of each pair reads the earlier one over the boundary
//! between them, in one matrix product for all pairs of a size. If a factor underflows, the score would have
//! underflowed too.
//!
//! All else is as with a gate for each head.

mod decay;
mod halves;

pub(super) use decay::ChannelDecay;
