//! The operations of a graph: methods of [`Tensor`], all differentiable, all returning `Result`.
//!
//! Element types never mix silently: operands have one dtype, scalars take it on, and `cast` changes it.

mod arithmetic;
mod attention;
mod choose;
mod convolution;
mod elementwise;
mod groups;
mod indexing;
mod matrix;
mod normalise;
mod order;
mod reduce;
mod shape;

pub use attention::Visible;

use mlx_rs::Array;

use crate::constant::Constant;
use crate::cut::CutKind;
use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::mode::Graph;
use crate::tensor::{Origin, Tensor};

/// The right operand of a binary operation: `&Tensor`, `&Constant`, or an `f32`, which takes the dtype of the left one.
pub struct Operand<'a, M: Graph>(Value<'a, M>);

enum Value<'a, M: Graph> {
    Tensor(&'a Tensor<M>),
    Constant(&'a Constant),
    Scalar(f32),
}

/// A value that can be an [`Operand`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no operand of a tensor operation in mode `{M}` [C08] [C11]",
    label = "expected `&Tensor<{M}>`, `&Constant` or `f32`",
    note = "indices choose elements, as in `take_rows`; where they are data, convert them: `to_constant(\"reason\")`",
    note = "arrays and evaluated tensors enter a graph as arguments of its driver; see `cotangent::errors::C11`"
)]
pub trait IntoOperand<'a, M: Graph> {
    /// Returns this value as an operand.
    fn into_operand(self) -> Operand<'a, M>;
}

impl<'a, M: Graph> IntoOperand<'a, M> for &'a Tensor<M> {
    fn into_operand(self) -> Operand<'a, M> {
        Operand(Value::Tensor(self))
    }
}

impl<'a, M: Graph> IntoOperand<'a, M> for &'a Constant {
    fn into_operand(self) -> Operand<'a, M> {
        Operand(Value::Constant(self))
    }
}

impl<'a, M: Graph> IntoOperand<'a, M> for f32 {
    fn into_operand(self) -> Operand<'a, M> {
        Operand(Value::Scalar(self))
    }
}

impl<M: Graph> Operand<'_, M> {
    /// The operand as an array of `dtype`, and its origin.
    fn resolve(&self, operation: &'static str, dtype: Dtype) -> Result<(Array, Origin)> {
        let (array, origin) = match &self.0 {
            Value::Tensor(tensor) => (tensor.array().clone(), tensor.origin()),
            Value::Constant(constant) => {
                constant.enter();
                (constant.array().clone(), Origin::HOST)
            }
            Value::Scalar(scalar) => (crate::resident::float(*scalar, dtype)?, Origin::HOST),
        };
        require_dtype(operation, Dtype::from_mlx(array.dtype()), dtype)?;
        Ok((array, origin))
    }
}

fn require_dtype(operation: &'static str, found: Dtype, expected: Dtype) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Dtype {
        operation,
        found: format!("{found} beside {expected}"),
        expected: "one dtype; `cast` one of them".into(),
    })
}

/// Checks that a number, such as a scale or an epsilon of an operation, is finite, and not negative unless it may be.
fn require_number(operation: &'static str, name: &str, value: f32, may_be_negative: bool) -> Result<()> {
    if value.is_finite() && (may_be_negative || value >= 0.0) {
        return Ok(());
    }
    let from = if may_be_negative { "" } else { " from 0 on" };
    Err(Error::Other(format!("`{operation}`: found {name} of {value}, expected a finite number{from}")))
}

fn shape_error(operation: &'static str, found: impl std::fmt::Debug, expected: impl Into<String>) -> Error {
    Error::Shape { operation, found: format!("{found:?}"), expected: expected.into() }
}

impl<M: Graph> Tensor<M> {
    /// A result of this tensor alone.
    fn derived(&self, array: Array) -> Tensor<M> {
        Tensor::from_parts(array, self.origin())
    }

    fn unary(
        &self,
        operation: &'static str,
        function: impl FnOnce(&Array) -> mlx_rs::error::Result<Array>,
    ) -> Result<Tensor<M>> {
        Ok(self.derived(function(self.array()).during(operation)?))
    }

    fn binary<'a>(
        &self,
        operation: &'static str,
        other: impl IntoOperand<'a, M>,
        function: impl FnOnce(&Array, &Array) -> mlx_rs::error::Result<Array>,
    ) -> Result<Tensor<M>> {
        let (other, other_origin) = other.into_operand().resolve(operation, self.dtype())?;
        let origin = Origin::join(operation, [self.origin(), other_origin])?;
        if !broadcasts(self.shape(), other.shape()) {
            return Err(shape_error(operation, (self.shape(), other.shape()), "shapes that broadcast"));
        }
        Ok(Tensor::from_parts(function(self.array(), &other).during(operation)?, origin))
    }

    /// The axis as MLX's non-negative index.
    fn axis(&self, operation: &'static str, axis: i32) -> Result<usize> {
        let rank = self.rank() as i32;
        let index = if axis < 0 { axis + rank } else { axis };
        if (0..rank).contains(&index) {
            return Ok(index as usize);
        }
        Err(shape_error(operation, format_args!("axis {axis} of {:?}", self.shape()), "an axis that is there"))
    }

    /// A tensor without gradient: what comes out of `detach` and of host data.
    ///
    /// `reason` says why the cut is right; [`Session::record_cuts`](crate::Session::record_cuts) and an audit list it.
    /// Without one the driver that runs this graph fails.
    #[track_caller]
    pub fn detach(&self, reason: &'static str) -> Constant {
        if let Err(error) = crate::cut::require_reason("detach", reason) {
            crate::running::refuse(error);
        }
        crate::cut::note(CutKind::Detach, reason, self);
        // This is a view of the same data, so it cannot fail.
        let array = mlx_rs::stop_gradient(self.array()).unwrap_or_else(|_| self.array().clone());
        Constant::from_array(array)
    }
}

fn broadcasts(left: &[i32], right: &[i32]) -> bool {
    left.iter().rev().zip(right.iter().rev()).all(|(&left, &right)| left == right || left == 1 || right == 1)
}
