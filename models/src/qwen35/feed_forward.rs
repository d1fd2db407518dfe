//! The layer after the token mixer.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Tensor};

use crate::config::{FeedForwardConfig, TextConfig};

use super::experts::MixtureOfExperts;
use super::mlp::Mlp;

/// The part of a decoder layer that transforms each token by itself.
#[derive(Parameters)]
pub enum FeedForward<M: Mode> {
    /// One layer for all tokens.
    Dense(Box<Mlp<M>>),
    /// A few of many layers, and one for all tokens.
    Experts(Box<MixtureOfExperts<M>>),
}

impl FeedForward<Planned> {
    /// The layer that `config` describes, its matrices held in `dtype`.
    pub fn planned(config: &TextConfig, dtype: Dtype) -> Self {
        let hidden = config.hidden_size;
        match &config.feed_forward {
            FeedForwardConfig::Dense { intermediate_size } => {
                FeedForward::Dense(Box::new(Mlp::planned(hidden, *intermediate_size, dtype)))
            }
            FeedForwardConfig::Experts(experts) => {
                FeedForward::Experts(Box::new(MixtureOfExperts::planned(hidden, experts, dtype)))
            }
        }
    }
}

impl<M: Graph> FeedForward<M> {
    /// `[.., hidden]` to `[.., hidden]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        match self {
            FeedForward::Dense(layer) => layer.forward(x),
            FeedForward::Experts(layer) => layer.forward(x),
        }
    }
}
