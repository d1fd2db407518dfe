//! The gated feed-forward layer.

use cotangent::{Graph, Mode, Parameters, Result, Tensor};

use crate::linear::Linear;

/// `down(silu(gate x) * up x)`.
#[derive(Parameters)]
pub struct Mlp<M: Mode> {
    /// `[intermediate, hidden]`.
    pub gate_proj: Linear<M>,
    /// `[intermediate, hidden]`.
    pub up_proj: Linear<M>,
    /// `[hidden, intermediate]`.
    pub down_proj: Linear<M>,
}

impl<M: Graph> Mlp<M> {
    /// `[.., hidden]` to `[.., hidden]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn forward(&self, x: &Tensor<M>) -> Result<Tensor<M>> {
        let gated = cotangent_kernels::swiglu(&self.gate_proj.forward(x)?, &self.up_proj.forward(x)?)?;
        self.down_proj.forward(&gated)
    }
}
