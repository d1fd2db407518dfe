//! Operations of two operands, element by element, broadcasting as NumPy does.

use crate::constant::Mask;
use crate::cut::{self, CutKind};
use crate::error::{Context as _, Result};
use crate::mode::Graph;
use crate::tensor::{Origin, Tensor};

use super::IntoOperand;

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident => $function:path;)*) => {
        impl<M: Graph> Tensor<M> {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// Shapes that do not broadcast, dtypes that differ, or tensors of different training graphs.
            pub fn $name<'a>(&self, other: impl IntoOperand<'a, M>) -> Result<Tensor<M>> {
                self.binary(stringify!($name), other, |left, right| $function(left, right))
            }
        )*}
    };
}

binary! {
    /// `self + other`.
    add => mlx_rs::ops::add;
    /// `self - other`.
    subtract => mlx_rs::ops::subtract;
    /// `self * other`.
    multiply => mlx_rs::ops::multiply;
    /// `self / other`.
    divide => mlx_rs::ops::divide;
    /// The larger of the two; at a tie the gradient goes to one of them.
    maximum => mlx_rs::ops::maximum;
    /// The smaller of the two; at a tie the gradient goes to one of them.
    minimum => mlx_rs::ops::minimum;
}

impl<M: Graph> Tensor<M> {
    /// `self` where `mask` is true, `other` elsewhere.
    ///
    /// The gradient of what is not chosen is zero, but 0 times infinity is not: keep both sides finite.
    ///
    /// # Errors
    /// As the other operations of two operands.
    pub fn select<'a>(&self, mask: &Mask, other: impl IntoOperand<'a, M>) -> Result<Tensor<M>> {
        self.binary("select", other, |chosen, other| mlx_rs::ops::select(mask.array(), chosen, other))
    }

    /// True where `self > other`, without a gradient.
    ///
    /// # Errors
    /// As the other operations of two operands.
    #[track_caller]
    pub fn greater<'a>(&self, other: impl IntoOperand<'a, M>) -> Result<Mask> {
        let (other, other_origin) = other.into_operand().resolve("greater", self.dtype())?;
        let origin = Origin::join("greater", [self.origin(), other_origin])?;
        cut::note_of::<M>(CutKind::Discrete, "`greater`: a comparison has no gradient", self.array(), origin);
        let array = mlx_rs::ops::gt(self.array(), other).during("greater")?;
        Ok(Mask::from_array(mlx_rs::stop_gradient(array).during("greater")?))
    }

    /// True where the value is neither infinite nor NaN, without a gradient.
    ///
    /// # Errors
    /// [`Error::Mlx`](crate::Error::Mlx) if MLX refuses.
    #[track_caller]
    pub fn is_finite(&self) -> Result<Mask> {
        cut::note(CutKind::Discrete, "`is_finite`: a comparison has no gradient", self);
        Ok(Mask::from_array(self.array().is_finite().during("is_finite")?))
    }
}
