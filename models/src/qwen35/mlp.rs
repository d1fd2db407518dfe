//! The gated feed-forward layer.

use cotangent::{Dtype, Graph, Mode, Parameters, Planned, Result, Tensor};

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

impl Mlp<Planned> {
    /// A layer of these widths whose matrices are held in `dtype`.
    pub fn planned(hidden: usize, intermediate: usize, dtype: Dtype) -> Self {
        Mlp {
            gate_proj: Linear::planned(intermediate, hidden, dtype),
            up_proj: Linear::planned(intermediate, hidden, dtype),
            down_proj: Linear::planned(hidden, intermediate, dtype),
        }
    }
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
