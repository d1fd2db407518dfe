//! Matrix products.

use crate::constant::Indices;
use crate::error::Result;
use crate::mode::Graph;
use crate::packed::CodeFormat;
use crate::tensor::Tensor;

use super::{IntoOperand, shape_error};

impl<M: Graph> Tensor<M> {
    /// `[.., n, k] x [.., k, m] -> [.., n, m]`; leading axes broadcast.
    ///
    /// # Errors
    /// Inner lengths that differ, leading axes that do not broadcast, dtypes that differ.
    pub fn matmul<'a>(&self, other: impl IntoOperand<'a, M>) -> Result<Tensor<M>> {
        let operation = "matmul";
        let other = other.into_operand();
        let (array, origin) = other.resolve(operation, self.dtype())?;
        let (left, right) = (self.shape(), array.shape().to_vec());
        let fits = left.len() >= 2
            && right.len() >= 2
            && left[left.len() - 1] == right[right.len() - 2]
            && super::broadcasts(&left[..left.len() - 2], &right[..right.len() - 2]);
        if !fits {
            return Err(shape_error(operation, (left, &right[..]), "[.., n, k] and [.., k, m]"));
        }
        let origin = crate::tensor::Origin::join(operation, [self.origin(), origin])?;
        let product = crate::error::Context::during(mlx_rs::ops::matmul(self.array(), &array), operation)?;
        Ok(Tensor::from_parts(product, origin))
    }

    /// `self + scale * left right`: `[n, m]` with `[n, k]` and `[k, m]`, as one product that adds to what is there.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit.
    pub fn add_product(&self, left: &Tensor<M>, right: &Tensor<M>, scale: f32) -> Result<Tensor<M>> {
        self.weighted_product("add_product", (left, right), (scale, 1.0))
    }

    /// `scale * (left right) + own * self`.
    fn weighted_product(
        &self,
        operation: &'static str,
        (left, right): (&Tensor<M>, &Tensor<M>),
        (scale, own): (f32, f32),
    ) -> Result<Tensor<M>> {
        let (sum, l, r) = (self.shape(), left.shape(), right.shape());
        let fits = sum.len() == 2 && l.len() == 2 && r.len() == 2 && l[1] == r[0] && sum == [l[0], r[1]];
        if !fits {
            return Err(shape_error(operation, (sum, l, r), "[n, m], [n, k] and [k, m]"));
        }
        for factor in [left, right] {
            super::require_dtype(operation, factor.dtype(), self.dtype())?;
        }
        let origin = crate::tensor::Origin::join(operation, [self.origin(), left.origin(), right.origin()])?;
        let array = mlx_rs::ops::addmm(self.array(), left.array(), right.array(), scale, own);
        Ok(Tensor::from_parts(crate::error::Context::during(array, operation)?, origin))
    }

    /// Returns `scale * (self right)`: `[n, k]` and `[k, m]` give a tensor with the shape and dtype of `like`, `[n,
    /// m]`. The product is scaled while it is written, which needs no separate pass. Nothing else of `like` is used, if
    /// its values are finite.
    ///
    /// # Errors
    /// Lengths or dtypes that do not fit.
    pub fn scaled_product(&self, right: &Tensor<M>, scale: f32, like: &Tensor<M>) -> Result<Tensor<M>> {
        like.weighted_product("scaled_product", (self, right), (scale, 0.0))
    }

    /// `x W^T`: `[.., inputs] x [outputs, inputs] -> [.., outputs]`, as a linear layer stores its weight.
    ///
    /// # Errors
    /// Lengths or dtypes that do not fit.
    pub fn linear(&self, weight: &Tensor<M>) -> Result<Tensor<M>> {
        if weight.rank() != 2 || self.rank() == 0 || self.dimension(-1) != weight.dimension(-1) {
            return Err(shape_error("linear", (self.shape(), weight.shape()), "[.., inputs] and [outputs, inputs]"));
        }
        self.matmul_rows(&weight.swap_axes(0, 1)?)
    }

    /// `x W^T` with a weight that MLX quantized (`affine`): `codes` are its packed words `[outputs, inputs * bits / 32]`, scales
    /// and biases `[outputs, inputs / group_size]`. Codes have no gradient; inputs, scales and biases do.
    ///
    /// # Errors
    /// Lengths or dtypes that do not fit; groups other than of 32, 64 or 128 inputs; bits that MLX does not know.
    pub fn quantised_linear(
        &self,
        codes: &Indices,
        scales: &Tensor<M>,
        biases: &Tensor<M>,
        group_size: i32,
        bits: i32,
    ) -> Result<Tensor<M>> {
        let operation = "quantised_linear";
        CodeFormat::require_affine(group_size, bits)?;
        for other in [scales, biases] {
            super::require_dtype(operation, other.dtype(), self.dtype())?;
        }
        let origin = crate::tensor::Origin::join(operation, [self.origin(), scales.origin(), biases.origin()])?;
        let array = mlx_rs::ops::quantized_matmul(
            self.array(),
            codes.array(),
            scales.array(),
            biases.array(),
            true,
            group_size,
            bits,
        );
        Ok(Tensor::from_parts(crate::error::Context::during(array, operation)?, origin))
    }

    /// `[.., k] x [k, m] -> [.., m]`, as one product of all rows.
    ///
    /// # Errors
    /// Lengths or dtypes that do not fit.
    pub fn matmul_rows(&self, other: &Tensor<M>) -> Result<Tensor<M>> {
        if other.rank() != 2 || self.rank() == 0 || self.dimension(-1) != other.dimension(0) {
            return Err(shape_error("matmul_rows", (self.shape(), other.shape()), "[.., k] and [k, m]"));
        }
        if self.rank() == 2 {
            return self.matmul(other);
        }
        let mut shape = self.shape().to_vec();
        let inputs = self.dimension(-1);
        if let Some(last) = shape.last_mut() {
            *last = other.dimension(1);
        }
        let rows = if inputs == 0 { 0 } else { (self.size() as i64 / i64::from(inputs)) as i32 };
        self.reshape(&[rows, inputs])?.matmul(other)?.reshape(&shape)
    }
}
