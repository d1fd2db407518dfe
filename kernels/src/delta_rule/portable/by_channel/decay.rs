//! The decays of channels, and the scores that have them in their terms.

use cotangent::{Infer, Result, Tensor};

use super::halves::{BlockCotangents, Blocks, Halves};
use crate::delta_rule::geometry::Gates;
use crate::delta_rule::portable::chunks::Chunks;
use crate::delta_rule::portable::constants::where_holds;
use crate::delta_rule::portable::decay::{Cotangents, Decay, DecayGradients, Factors, ReadCotangents, sum_group};

/// The decays of channels: `[N, B, Hk, group, C, Dk]`.
pub(in crate::delta_rule::portable) struct ChannelDecay {
    factors: Factors,
    /// The pairs of halves, from halves of one token to halves of a chunk.
    halves: Vec<Halves>,
    /// One on the diagonal: `[C, C]`.
    diagonal: Tensor<Infer>,
}

impl Decay for ChannelDecay {
    const GATES: Gates = Gates::OfChannels;

    fn new(chunks: &Chunks, queries: &Tensor<Infer>, keys: &Tensor<Infer>, log_decay: &Tensor<Infer>) -> Result<Self> {
        let length = chunks.length;
        let rows = Tensor::concatenate(&[queries, keys], 3)?;
        let mut blocks = Blocks::from_tokens(log_decay.exp()?)?;
        let mut levels = Vec::new();
        let mut scores = None;
        while blocks.length < length {
            let (halves, joined) = Halves::new(&blocks, &rows)?;
            scores = Some(halves.scores(scores.as_ref())?);
            levels.push(halves);
            blocks = joined;
        }
        let Some(scores) = scores else { unreachable!("a chunk has eight tokens at least") };
        let of_kind = |kind: i32| scores.slice(5, kind, kind + 1)?.squeeze(5)?.squeeze(4);
        let diagonal = where_holds(length, length, |row, column| row == column)?;
        let own = queries.multiply(keys)?.sum_keep(&[5])?.multiply(&diagonal)?;
        let factors = Factors {
            throughout: blocks.since.slice(4, length - 1, length)?,
            since_start: blocks.since,
            until_end: blocks.until,
            query_scores: of_kind(0)?.add(&own)?,
            key_scores: of_kind(1)?,
        };
        Ok(ChannelDecay { factors, halves: levels, diagonal })
    }

    fn factors(&self) -> &Factors {
        &self.factors
    }

    fn read(&self, rows: &Tensor<Infer>, states: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        rows.multiply(&self.factors.since_start)?.matmul(&states.swap_axes(4, 5)?)
    }

    fn read_backward(
        &self,
        d_read: &Tensor<Infer>,
        rows: &Tensor<Infer>,
        states: &Tensor<Infer>,
    ) -> Result<ReadCotangents> {
        Ok(ReadCotangents {
            rows: d_read.matmul(states)?.multiply(&self.factors.since_start)?,
            states: d_read.swap_axes(4, 5)?.matmul(&rows.multiply(&self.factors.since_start)?)?,
        })
    }

    fn backward(&self, cotangents: &Cotangents) -> Result<DecayGradients> {
        let &Cotangents { queries, keys, beta, states, d_query_scores, d_factor, .. } = cotangents;
        let &Cotangents { by_queries, by_reading, d_exits, .. } = cotangents;
        let by_writing = cotangents.by_writing.multiply(&self.factors.until_end)?;
        let own = sum_group(&d_query_scores.multiply(&self.diagonal)?)?.sum_keep(&[5])?;
        let mut d_queries = sum_group(by_queries)?.add(&own.multiply(keys)?)?;
        let mut d_keys = sum_group(&by_writing.subtract(by_reading)?)?.add(&own.multiply(queries)?)?;

        let d_key_scores = d_factor.multiply(&beta.negative()?)?;
        let mut d_scores = Tensor::stack(&[d_query_scores, &d_key_scores], 4)?.expand_dims(4)?;
        let mut d_blocks = BlockCotangents {
            since: by_queries.multiply(queries)?.subtract(&by_reading.multiply(keys)?)?,
            until: by_writing.multiply(keys)?,
            throughout: d_exits.multiply(states)?.sum_keep(&[4])?.multiply(&self.factors.throughout)?,
        };
        for halves in self.halves.iter().rev() {
            let gradients = halves.backward(&d_scores, &d_blocks)?;
            d_queries = d_queries.add(&gradients.queries)?;
            d_keys = d_keys.add(&gradients.keys)?;
            d_scores = gradients.within;
            d_blocks = gradients.d_blocks;
        }
        Ok(DecayGradients {
            queries: d_queries,
            keys: d_keys,
            // Nothing lies between a single token and the end of its block.
            log_decay: d_blocks.since.add(&d_blocks.throughout)?,
            beta: d_factor.multiply(&self.factors.key_scores)?.sum_keep(&[5])?,
        })
    }
}
