//! A block of the tower.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Tensor};

use crate::config::VisionConfig;
use crate::linear::BiasedLinear;
use crate::norm::LayerNorm;

use super::attention::VisionAttention;
use super::input::VisionInput;

/// `h = x + attn(norm1(x))`, then `h + mlp(norm2(h))`.
#[derive(Parameters)]
pub struct VisionBlock<M: Mode> {
    /// The norm before attention.
    pub norm1: LayerNorm<M>,
    /// Attention between the patches of a frame.
    pub attn: VisionAttention<M>,
    /// The norm before the feed-forward layer.
    pub norm2: LayerNorm<M>,
    /// The feed-forward layer.
    pub mlp: VisionMlp<M>,
}

/// `fc2(gelu(fc1(x)))`, with the approximation of the unit by a hyperbolic tangent.
#[derive(Parameters)]
pub struct VisionMlp<M: Mode> {
    /// `[intermediate, hidden]`.
    pub linear_fc1: BiasedLinear<M>,
    /// `[hidden, intermediate]`.
    pub linear_fc2: BiasedLinear<M>,
}

impl VisionBlock<Planned> {
    /// The block that `config` describes, its matrices held in `dtype`.
    pub fn planned(config: &VisionConfig, dtype: Dtype) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        VisionBlock {
            norm1: LayerNorm::planned(width),
            attn: VisionAttention::planned(config, dtype),
            norm2: LayerNorm::planned(width),
            mlp: VisionMlp {
                linear_fc1: BiasedLinear::planned(inner, width, dtype),
                linear_fc2: BiasedLinear::planned(width, inner, dtype),
            },
        }
    }
}

impl<M: Graph> VisionBlock<M> {
    /// `[N, hidden]` to `[N, hidden]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, x: &Tensor<M>, input: &VisionInput) -> Result<Tensor<M>> {
        let hidden = x.add(&self.attn.forward(&self.norm1.forward(x)?, input)?)?;
        let inner = cotangent_kernels::gelu_tanh(&self.mlp.linear_fc1.forward(&self.norm2.forward(&hidden)?)?)?;
        hidden.add(&self.mlp.linear_fc2.forward(&inner)?)
    }
}
