//! Root-mean-square norms, as Qwen3 and Qwen3.5 store them, and the layer norm of their vision towers.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Storage, Stored, Tensor};

use crate::config::TextConfig;

/// `x / sqrt(mean(x^2) + epsilon)`, scaled by `1 + weight` where the norm is zero-centred (Qwen3.5), else by `weight`
/// (Qwen3). The weight keeps its meaning and stays float32; the one is added late, so that gradients and exports are those of
/// the file.
#[derive(Parameters)]
pub struct RmsNorm<M: Mode> {
    /// `[n]`, float32.
    pub weight: Tensor<M>,
    /// Added to the mean of squares.
    #[config]
    pub epsilon: f32,
    /// Whether one is added to the weight.
    #[config]
    pub zero_centred: bool,
}

impl RmsNorm<Planned> {
    /// A norm over `size` elements, of the kind that `config` describes.
    pub fn planned(size: usize, config: &TextConfig) -> Self {
        let weight = Tensor::planned(&[size], Dtype::F32);
        let zero_centred = config.zero_centred_norms;
        let weight = if zero_centred { weight.stored_as(Storage::ZeroCentred) } else { weight };
        RmsNorm { weight, epsilon: config.rms_norm_eps as f32, zero_centred }
    }
}

impl RmsNorm<Stored> {
    /// A second handle on the same parameters: nothing is copied.
    pub fn share(&self) -> Self {
        RmsNorm { weight: self.weight.clone(), epsilon: self.epsilon, zero_centred: self.zero_centred }
    }
}

impl<M: Graph> RmsNorm<M> {
    /// Normalises the last axis; the result has the dtype of `x`.
    ///
    /// # Errors
    /// If the last axis of `x` is not as long as the weight.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        match self.zero_centred {
            true => cotangent_kernels::rms_norm_zero_centred(x, &self.weight, self.epsilon),
            false => cotangent_kernels::rms_norm(x, &self.weight, self.epsilon),
        }
    }
}

/// `weight * x / sqrt(mean(x^2) + epsilon) * silu(gate)`: the norm after the gated delta rule.
#[derive(Parameters)]
pub struct GatedNorm<M: Mode> {
    /// `[n]`, float32, used as it is.
    pub weight: Tensor<M>,
    /// Added to the mean of squares.
    #[config]
    pub epsilon: f32,
}

impl GatedNorm<Planned> {
    /// A norm over `size` elements.
    pub fn planned(size: usize, epsilon: f64) -> Self {
        GatedNorm { weight: Tensor::planned(&[size], Dtype::F32), epsilon: epsilon as f32 }
    }
}

impl<M: Graph> GatedNorm<M> {
    /// Normalises the last axis of `x` and gates it; both are `[.., n]`.
    ///
    /// # Errors
    /// If the shapes differ, or the last axis is not as long as the weight.
    pub fn forward(&self, x: &Tensor<M>, gate: &Tensor<M>) -> Result<Tensor<M>> {
        cotangent_kernels::rms_norm_gated(x, gate, &self.weight, self.epsilon)
    }
}

/// `(x - mean(x)) / sqrt(variance(x) + 1e-6) * weight + bias`: the norm of the vision tower.
#[derive(Parameters)]
pub struct LayerNorm<M: Mode> {
    /// `[n]`, float32.
    pub weight: Tensor<M>,
    /// `[n]`, float32.
    pub bias: Tensor<M>,
}

impl LayerNorm<Planned> {
    /// A norm over `size` elements.
    pub fn planned(size: usize) -> Self {
        let vector = || Tensor::planned(&[size], Dtype::F32);
        LayerNorm { weight: vector(), bias: vector() }
    }
}

impl<M: Graph> LayerNorm<M> {
    /// The epsilon that transformers uses in the tower for every configuration.
    const EPSILON: f32 = 1e-6;

    /// Normalises the last axis; the result has the dtype of `x`.
    ///
    /// # Errors
    /// If the last axis of `x` is not as long as the weight.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        cotangent_kernels::layer_norm(x, &self.weight, &self.bias, Self::EPSILON)
    }
}
