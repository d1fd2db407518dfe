//! Functions of one element.

use mlx_rs::Array;
use mlx_rs::ops;

use crate::cut::{self, CutKind};
use crate::dtype::Dtype;
use crate::error::Result;
use crate::mode::Graph;
use crate::tensor::Tensor;

use super::shape_error;

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident => $function:expr;)*) => {
        impl<M: Graph> Tensor<M> {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
            pub fn $name(&self) -> Result<Tensor<M>> {
                self.unary(stringify!($name), $function)
            }
        )*}
    };
}

unary! {
    /// `-x`.
    negative => |x: &Array| ops::negative(x);
    /// `e^x`.
    exp => |x: &Array| ops::exp(x);
    /// The natural logarithm.
    log => |x: &Array| ops::log(x);
    /// `1 / x`.
    reciprocal => |x: &Array| ops::reciprocal(x);
    /// The square root.
    sqrt => |x: &Array| ops::sqrt(x);
    /// `1 / sqrt(x)`.
    rsqrt => |x: &Array| ops::rsqrt(x);
    /// `x * x`.
    square => |x: &Array| ops::square(x);
    /// `|x|`.
    abs => |x: &Array| ops::abs(x);
    /// The sine of radians.
    sin => |x: &Array| ops::sin(x);
    /// The cosine of radians.
    cos => |x: &Array| ops::cos(x);
    /// The error function.
    erf => |x: &Array| ops::erf(x);
    /// The hyperbolic tangent.
    tanh => |x: &Array| ops::tanh(x);
    /// `1 / (1 + e^-x)`.
    sigmoid => |x: &Array| ops::sigmoid(x);
    /// `log(1 + e^x)`, without overflow.
    softplus => |x: &Array| ops::logaddexp(x, Array::from_f32(0.0).as_dtype(x.dtype())?);
    /// `x * sigmoid(x)`.
    silu => |x: &Array| x.multiply(ops::sigmoid(x)?);
}

impl<M: Graph> Tensor<M> {
    /// The largest integer that is not above `x`; its gradient is zero, so a loss reaches no parameter through it.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    #[track_caller]
    pub fn floor(&self) -> Result<Tensor<M>> {
        cut::note(CutKind::Discrete, "`floor`: a staircase has gradient zero", self);
        let floor = self.unary("floor", |x| ops::floor(x))?;
        let origin = floor.origin().flat();
        Ok(Tensor::from_parts(floor.array().clone(), origin))
    }

    /// Returns the same values in another float type; the gradient comes back in this one.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) unless `dtype` is a float: integers would cut the gradient.
    pub fn cast(&self, dtype: Dtype) -> Result<Tensor<M>> {
        if !dtype.is_float() {
            return Err(shape_error("cast", format_args!("{dtype}"), "a float type; `detach` first"));
        }
        if dtype == self.dtype() {
            return Ok(self.clone());
        }
        self.unary("cast", |x| x.as_dtype(dtype.to_mlx()))
    }
}
