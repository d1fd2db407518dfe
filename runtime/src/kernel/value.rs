//! Values as they cross the boundary between generated code and dispatch.

use mlx_rs::Array;

use crate::tensor::Origin;
use crate::{Constant, Dtype, Held, Indices, Mask, Tensor};

/// The value that a port carries.
#[derive(Debug, Clone)]
pub struct PortValue(pub(super) Content);

/// The kinds of array, each with what it must not lose on the way.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// Floats with or without a gradient.
    Tensor(Array, Origin),
    /// Floats without a gradient.
    Constant(Constant),
    /// Integers with their range.
    Indices(Indices),
    /// Bools.
    Mask(Mask),
    /// The absent value of an optional port. A launch binds this array in its place, which has the port's dtype and
    /// rank.
    Absent(Array),
}

impl PortValue {
    /// Creates the value of a port from a tensor, a constant, indices, a mask, or an option of one.
    pub fn new(value: impl Into<Self>) -> Self {
        value.into()
    }

    /// A float of no graph.
    pub(super) fn float(array: Array) -> Self {
        Self(Content::Tensor(array, Origin::HOST))
    }

    pub(super) fn array(&self) -> &Array {
        match &self.0 {
            Content::Tensor(array, _) => array,
            Content::Constant(constant) => constant.array(),
            Content::Indices(indices) => indices.array(),
            Content::Mask(mask) => mask.array(),
            Content::Absent(placeholder) => placeholder,
        }
    }

    /// Creates the value of an optional port that a call leaves out.
    pub(super) fn absent() -> Self {
        Self(Content::Absent(Array::from_f32(0.0)))
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self.0, Content::Absent(_))
    }

    pub(super) fn origin(&self) -> Origin {
        match &self.0 {
            Content::Tensor(_, origin) => *origin,
            _ => Origin::HOST,
        }
    }

    pub(super) fn dtype(&self) -> Dtype {
        Dtype::from_mlx(self.array().dtype())
    }

    pub(super) fn shape(&self) -> &[i32] {
        self.array().shape()
    }
}

impl<M: Held> From<&Tensor<M>> for PortValue {
    fn from(tensor: &Tensor<M>) -> Self {
        Self(Content::Tensor(tensor.array().clone(), tensor.origin()))
    }
}

impl<M: Held> From<Tensor<M>> for PortValue {
    fn from(tensor: Tensor<M>) -> Self {
        Self::from(&tensor)
    }
}

impl<T: Into<PortValue>> From<Option<T>> for PortValue {
    fn from(value: Option<T>) -> Self {
        value.map_or_else(Self::absent, T::into)
    }
}

impl From<&Constant> for PortValue {
    fn from(constant: &Constant) -> Self {
        constant.enter();
        Self(Content::Constant(constant.clone()))
    }
}

impl From<Constant> for PortValue {
    fn from(constant: Constant) -> Self {
        Self::from(&constant)
    }
}

macro_rules! from_plain {
    ($($type:ident),*) => {$(
        impl From<&$type> for PortValue {
            fn from(value: &$type) -> Self {
                Self(Content::$type(value.clone()))
            }
        }

        impl From<$type> for PortValue {
            fn from(value: $type) -> Self {
                Self(Content::$type(value))
            }
        }
    )*};
}

from_plain!(Indices, Mask);

/// A scalar argument.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScalarValue {
    /// `f32`
    F32(f32),
    /// `i32`
    I32(i32),
    /// `u32`
    U32(u32),
    /// `bool`
    Bool(bool),
}

impl ScalarValue {
    /// A scalar argument, from the number itself.
    pub fn new(value: impl Into<Self>) -> Self {
        value.into()
    }

    /// Returns the scalar as MLX passes it to a kernel: an array without axes.
    pub(crate) fn to_array(self) -> Array {
        match self {
            ScalarValue::F32(value) => Array::from_f32(value),
            ScalarValue::I32(value) => Array::from_int(value),
            ScalarValue::U32(value) => Array::from_slice(&[value], &[]),
            ScalarValue::Bool(value) => Array::from_bool(value),
        }
    }
}

macro_rules! from_scalar {
    ($($type:ty => $variant:ident),*) => {$(
        impl From<$type> for ScalarValue {
            fn from(value: $type) -> Self {
                Self::$variant(value)
            }
        }
    )*};
}

from_scalar!(f32 => F32, i32 => I32, u32 => U32, bool => Bool);

/// A template constant given as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConstantValue(pub(super) i64);

impl ConstantValue {
    /// A template constant, from the number or bool itself.
    pub fn new(value: impl Into<Self>) -> Self {
        value.into()
    }
}

impl From<usize> for ConstantValue {
    fn from(value: usize) -> Self {
        // No axis is that long; a value this large fails where it is compared with an extent.
        Self(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<i32> for ConstantValue {
    fn from(value: i32) -> Self {
        Self(i64::from(value))
    }
}

impl From<bool> for ConstantValue {
    fn from(value: bool) -> Self {
        Self(i64::from(value))
    }
}
