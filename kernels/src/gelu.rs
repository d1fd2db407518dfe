//! The Gaussian error linear unit, exactly and as its usual approximation (Hendrycks and Gimpel, "Gaussian Error Linear
//! Units", 2016). Composed of operations; computed in float32.

use cotangent::{Dtype, Graph, Result, Tensor};

/// `x Phi(x)` with the distribution function Phi of the normal distribution.
///
/// # Errors
/// If MLX refuses.
pub fn gelu<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    let wide = x.cast(Dtype::F32)?;
    let twice = wide.multiply(std::f32::consts::FRAC_1_SQRT_2)?.erf()?.add(1.0)?;
    wide.multiply(&twice)?.multiply(0.5)?.cast(x.dtype())
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
///
/// # Errors
/// If MLX refuses.
pub fn gelu_tanh<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    let wide = x.cast(Dtype::F32)?;
    let cubic = wide.square()?.multiply(0.044_715)?.add(1.0)?.multiply(&wide)?;
    let slope = (2.0 / std::f32::consts::PI).sqrt();
    wide.multiply(&cubic.multiply(slope)?.tanh()?.add(1.0)?)?.multiply(0.5)?.cast(x.dtype())
}
