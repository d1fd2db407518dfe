//! The head of multi-token prediction, which predicts the token after the next.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Tensor};
use cotangent_kernels::Documents;

use crate::config::{LayerKind, TextConfig};
use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::rope::Rotary;

use super::block::Block;

/// `norm(layers(fc([pre_fc_norm_embedding(embedding of the next token), pre_fc_norm_hidden(hidden)])))`, where `hidden` comes
/// after the model's own final norm. The model's head scores the result.
#[derive(Parameters)]
pub struct MultiTokenHead<M: Mode> {
    /// `[hidden, 2 * hidden]`; the half of the embedding is the first.
    pub fc: Linear<M>,
    /// The head's one layer, of full attention.
    pub layers: Vec<Block<M>>,
    /// The norm before the model's head.
    pub norm: RmsNorm<M>,
    /// The norm of the embedding of the next token.
    pub pre_fc_norm_embedding: RmsNorm<M>,
    /// The norm of the hidden state.
    pub pre_fc_norm_hidden: RmsNorm<M>,
}

impl MultiTokenHead<Planned> {
    /// The head of the model that `config` describes, its matrices held in `dtype`.
    pub fn planned(config: &TextConfig, dtype: Dtype) -> Self {
        let width = config.hidden_size;
        let norm = || RmsNorm::planned(width, config);
        MultiTokenHead {
            fc: Linear::planned(width, 2 * width, dtype),
            layers: vec![Block::planned(config, LayerKind::FullAttention, dtype)],
            norm: norm(),
            pre_fc_norm_embedding: norm(),
            pre_fc_norm_hidden: norm(),
        }
    }
}

impl<M: Graph> MultiTokenHead<M> {
    /// Computes what the model's head scores from the hidden states after the final norm and the embedded tokens of the
    /// same places, both `[B, T, hidden]`. `rotary` holds the positions of the tokens that follow. The last place of a
    /// row, or of one of its `documents`, has no following token, and its result has no meaning.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(
        &self,
        hidden: &Tensor<M>,
        embedded: &Tensor<M>,
        rotary: &Rotary,
        documents: Option<&Documents>,
    ) -> Result<Tensor<M>> {
        let tokens = embedded.dimension(1);
        let next = embedded.slice(1, 1, tokens)?.pad(1, 0, 1)?;
        let both = [self.pre_fc_norm_embedding.forward(&next)?, self.pre_fc_norm_hidden.forward(hidden)?];
        let mut state = self.fc.forward(&Tensor::concatenate(&both.each_ref(), -1)?)?;
        for layer in &self.layers {
            state = layer.forward(&state, rotary, documents, None)?;
        }
        self.norm.forward(&state)
    }
}
