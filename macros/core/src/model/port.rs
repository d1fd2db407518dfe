//! Ports: the arrays a kernel reads and writes.

use std::fmt;

use proc_macro2::{Ident, Span};

use super::expression::Polynomial;

pub use cotangent_metal::Dtype;

/// The dtypes that a signature may name: all but `f64`, which Metal does not have.
pub const DTYPES: [Dtype; 12] = [
    Dtype::Bool,
    Dtype::I8,
    Dtype::U8,
    Dtype::I16,
    Dtype::U16,
    Dtype::I32,
    Dtype::U32,
    Dtype::I64,
    Dtype::U64,
    Dtype::F16,
    Dtype::BF16,
    Dtype::F32,
];

/// The dtype written `name`: `f32`, `bf16`, `u8`.
pub fn dtype_named(name: &str) -> Option<Dtype> {
    DTYPES.into_iter().find(|dtype| dtype.name() == name)
}

/// The dtype whose class of one is written `name`: `F32`, `BF16`, `U8`.
pub fn dtype_of_class(name: &str) -> Option<Dtype> {
    DTYPES.into_iter().find(|dtype| format!("{dtype:?}") == name)
}

/// A dtype parameter of a kernel, such as `T: Float`.
#[derive(Debug, Clone)]
pub struct DtypeParameter {
    /// The name of the parameter, upper case.
    pub name: Ident,
    /// The dtypes that the parameter may stand for.
    pub class: Vec<Dtype>,
}

impl DtypeParameter {
    /// The class as text: `f32, f16, bf16`.
    pub fn class_text(&self) -> String {
        let names: Vec<&str> = self.class.iter().map(|dtype| dtype.name()).collect();
        names.join(", ")
    }

    /// Returns whether it stands for floats.
    pub fn is_float(&self) -> bool {
        self.class.iter().all(|dtype| dtype.is_float())
    }
}

/// The dtype of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortDtype {
    /// Always this dtype.
    Fixed(Dtype),
    /// The dtype of a parameter of the declaration.
    Parameter {
        /// The parameter's name.
        name: String,
        /// The dtypes that the parameter may stand for.
        class: Vec<Dtype>,
    },
}

impl PortDtype {
    /// Returns whether every dtype it may be is a float.
    pub fn is_float(&self) -> bool {
        match self {
            Self::Fixed(dtype) => dtype.is_float(),
            Self::Parameter { class, .. } => class.iter().all(|dtype| dtype.is_float()),
        }
    }

    /// Returns whether the dtype is that of the dtype parameter `name`.
    pub fn is_parameter(&self, name: &Ident) -> bool {
        matches!(self, Self::Parameter { name: known, .. } if name == known)
    }

    /// Returns whether the dtype is `bool`.
    pub fn is_bool(&self) -> bool {
        *self == Self::Fixed(Dtype::Bool)
    }
}

impl fmt::Display for PortDtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(dtype) => formatter.write_str(dtype.name()),
            Self::Parameter { name, .. } => formatter.write_str(name),
        }
    }
}

/// The role of a port in gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortRole {
    /// A float input that has a gradient.
    Differentiable,
    /// A `#[nodiff]` float input.
    Constant,
    /// An integer input.
    Index,
    /// A bool input.
    Mask,
    /// An output the caller sees.
    Output,
    /// An output kept for the backward.
    Saved,
}

impl PortRole {
    /// Returns the role of an input of this dtype.
    pub fn from_input(dtype: &PortDtype, is_nodiff: bool) -> Self {
        match dtype.is_float() {
            true if is_nodiff => Self::Constant,
            true => Self::Differentiable,
            false if dtype.is_bool() => Self::Mask,
            false => Self::Index,
        }
    }

    /// Returns whether the kernel writes the port.
    pub fn is_output(self) -> bool {
        matches!(self, Self::Output | Self::Saved)
    }
}

/// The values that generated tests give an input: uniform between the two, the upper end excluded for integers.
#[derive(Debug, Clone)]
pub enum Sample {
    /// Values that fit the dtype: floats around zero, small indices, both bools.
    Default,
    /// Floats between two literals.
    Floats(f64, f64),
    /// Floats between two literals only, for this reason.
    Domain(f64, f64, String),
    /// A gradient that is not the derivative, for this reason.
    Differs(String),
    /// Integers between two expressions, such as `0..V`.
    Integers(Polynomial, Polynomial),
}

/// One array that a signature names.
#[derive(Debug, Clone)]
pub struct Port {
    /// The name of the port, at which messages about it point.
    pub name: Ident,
    /// The element type of the port.
    pub dtype: PortDtype,
    /// The extents of the port, each with the place where it is written.
    pub shape: Vec<(Polynomial, Span)>,
    /// The role of the port in gradients.
    pub role: PortRole,
    /// Whether a call may leave it out.
    pub optional: bool,
    /// The values that tests fill the port with.
    pub sample: Sample,
}

impl Port {
    /// The shape as text: `[B, H, S]`.
    pub fn shape_text(&self) -> String {
        let extents: Vec<String> = self.shape.iter().map(|(extent, _)| extent.to_string()).collect();
        format!("[{}]", extents.join(", "))
    }
}
