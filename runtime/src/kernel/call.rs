//! One call of a kernel, as bodies and fallbacks see it.

use std::marker::PhantomData;

use mlx_rs::Array;

use super::binding::Symbols;
use super::declaration::Declaration;
use super::signature::{Expression, PortRole, Sample};
use super::value::{Content, PortValue, ScalarValue};
use crate::cut::{self, CutKind};
use crate::error::Context as _;
use crate::tensor::Origin;
use crate::{Constant, Dtype, Error, Graph, Indices, Mask, Result, Tensor};

/// The arguments of one call. Generated code takes them apart.
pub struct Call<'a, M: Graph> {
    pub(super) declaration: &'static Declaration,
    pub(super) inputs: &'a [PortValue],
    pub(super) symbols: &'a Symbols,
    pub(super) scalars: &'a [ScalarValue],
    pub(super) wants: &'a [bool],
    pub(super) mode: PhantomData<M>,
}

/// The right to launch stages: only Rust bodies that list them get one, and only for those.
#[derive(Debug)]
pub struct Stages(pub(super) &'static Declaration);

macro_rules! scalar {
    ($($name:ident => $variant:ident $type:ty),*) => {$(
        /// The scalar at `index`.
        ///
        /// # Errors
        /// [`Error::Kernel`] if it has another type.
        pub fn $name(&self, index: usize) -> Result<$type> {
            match self.scalars.get(index) {
                Some(ScalarValue::$variant(value)) => Ok(*value),
                _ => Err(self.mismatch(concat!("a scalar is not ", stringify!($type)))),
            }
        }
    )*};
}

impl<M: Graph> Call<'_, M> {
    /// The differentiable input at `index`.
    ///
    /// # Errors
    /// [`Error::Kernel`] if it is of another kind.
    pub fn tensor(&self, index: usize) -> Result<Tensor<M>> {
        match self.inputs.get(index).map(|input| &input.0) {
            Some(Content::Tensor(array, origin)) => Ok(Tensor::from_parts(array.clone(), *origin)),
            Some(Content::Constant(constant)) => Ok(constant.to_tensor()),
            _ => Err(self.mismatch("an input is not a tensor")),
        }
    }

    /// The `#[nodiff]` input at `index`.
    ///
    /// # Errors
    /// [`Error::Kernel`] if it is of another kind.
    pub fn constant(&self, index: usize) -> Result<Constant> {
        match self.inputs.get(index).map(|input| &input.0) {
            Some(Content::Constant(constant)) => Ok(constant.clone()),
            Some(Content::Tensor(array, _)) => Ok(Constant::from_array(array.clone())),
            _ => Err(self.mismatch("an input is not a constant")),
        }
    }

    /// The integer input at `index`.
    ///
    /// # Errors
    /// [`Error::Kernel`] if it is of another kind.
    pub fn indices(&self, index: usize) -> Result<Indices> {
        match self.inputs.get(index).map(|input| &input.0) {
            Some(Content::Indices(indices)) => Ok(indices.clone()),
            _ => Err(self.mismatch("an input is not of integers")),
        }
    }

    /// The bool input at `index`.
    ///
    /// # Errors
    /// [`Error::Kernel`] if it is of another kind.
    pub fn mask(&self, index: usize) -> Result<Mask> {
        match self.inputs.get(index).map(|input| &input.0) {
            Some(Content::Mask(mask)) => Ok(mask.clone()),
            _ => Err(self.mismatch("an input is not a mask")),
        }
    }

    /// The input at `index`, read with `get`, if the call has it.
    ///
    /// # Errors
    /// What `get` returns.
    pub fn optional<T>(&self, index: usize, get: fn(&Self, usize) -> Result<T>) -> Result<Option<T>> {
        match self.inputs.get(index) {
            Some(input) if input.is_absent() => Ok(None),
            _ => get(self, index).map(Some),
        }
    }

    scalar!(scalar_f32 => F32 f32, scalar_i32 => I32 i32, scalar_u32 => U32 u32, scalar_bool => Bool bool);

    /// The value of a dimension.
    ///
    /// # Errors
    /// [`Error::Kernel`] if the signature has none of that name.
    pub fn dimension(&self, name: &str) -> Result<i32> {
        self.constant_i32(name)
    }

    /// The value of a size of `dims`.
    ///
    /// # Errors
    /// [`Error::Kernel`] if it has none, or one beyond 32 bits.
    pub fn size(&self, value: &Expression) -> Result<i32> {
        let value = value.evaluate(&|name| self.symbols.value(name)).and_then(|value| i32::try_from(value).ok());
        value.ok_or_else(|| self.mismatch("a size of `dims` has no value here"))
    }

    /// The value of a template constant.
    ///
    /// # Errors
    /// [`Error::Kernel`] if the signature has none of that name and type.
    pub fn constant_i32(&self, name: &str) -> Result<i32> {
        let value = self.symbols.value(name).and_then(|value| i32::try_from(value).ok());
        value.ok_or_else(|| self.mismatch(&format!("`{name}` is no integer")))
    }

    /// The value of a template constant.
    ///
    /// # Errors
    /// [`Error::Kernel`] if the signature has none of that name and type.
    pub fn constant_usize(&self, name: &str) -> Result<usize> {
        let value = self.symbols.value(name).and_then(|value| usize::try_from(value).ok());
        value.ok_or_else(|| self.mismatch(&format!("`{name}` is no length")))
    }

    /// The value of a template constant.
    ///
    /// # Errors
    /// [`Error::Kernel`] if the signature has none of that name.
    pub fn constant_bool(&self, name: &str) -> Result<bool> {
        self.constant_i32(name).map(|value| value != 0)
    }

    /// Returns the dtype that a dtype parameter stands for.
    ///
    /// # Errors
    /// [`Error::Kernel`] if the signature has none of that name.
    pub fn dtype(&self, name: &str) -> Result<Dtype> {
        self.symbols.dtype(name).ok_or_else(|| self.mismatch(&format!("`{name}` is no dtype")))
    }

    /// Returns whether the output is wanted at `index`; always so outside backwards.
    pub fn wants(&self, index: usize) -> bool {
        self.wants.get(index).copied().unwrap_or(true)
    }

    /// The right to launch stages.
    pub fn stages(&self) -> Stages {
        Stages(self.declaration)
    }

    /// Generated code and signature come from one declaration; where they differ, that is a defect of the macro.
    fn mismatch(&self, message: &str) -> Error {
        Error::Kernel { kernel: self.declaration.signature.name, port: None, message: message.to_owned() }
    }
}

/// The outputs of a kernel that its caller sees.
pub struct Outputs<M: Graph> {
    pub(super) declaration: &'static Declaration,
    pub(super) values: Vec<Option<PortValue>>,
    pub(super) symbols: Symbols,
    /// The origin of results that do not carry their own.
    pub(super) origin: Origin,
    pub(super) mode: PhantomData<M>,
}

impl<M: Graph> Outputs<M> {
    /// The float output at `index`.
    ///
    /// # Errors
    /// [`Error::Kernel`] if there is none.
    pub fn tensor(&self, index: usize) -> Result<Tensor<M>> {
        let value = self.value(index)?;
        let own = value.origin();
        let origin = if own == Origin::HOST { self.origin } else { own };
        Ok(Tensor::from_parts(value.array().clone(), origin))
    }

    /// The bool output at `index`.
    ///
    /// # Errors
    /// [`Error::Kernel`] if there is none.
    pub fn mask(&self, index: usize) -> Result<Mask> {
        let value = self.value(index)?;
        Ok(Mask::from_array(self.discrete(value)?))
    }

    /// The integer output at `index`. Its range is that of the port's `#[values(..)]`.
    ///
    /// # Errors
    /// [`Error::Kernel`] if there is none.
    pub fn indices(&self, index: usize) -> Result<Indices> {
        let value = self.value(index)?;
        let array = self.discrete(value)?;
        if let Content::Indices(indices) = &value.0 {
            return Ok(indices.clone());
        }
        let port = self.declaration.signature.visible_outputs().nth(index);
        let end = match port.map(|port| port.sample) {
            Some(Sample::Integers(_, end)) => end.evaluate(&|name| self.symbols.value(name)),
            _ => None,
        };
        let end = end.and_then(|end| i32::try_from(end).ok()).unwrap_or(i32::MAX);
        Ok(Indices::from_array(array, end))
    }

    /// Integers or bools behind a stop-gradient: MLX would ask them for a gradient in the backward pass, and fail.
    fn discrete(&self, value: &PortValue) -> Result<Array> {
        let name = self.declaration.signature.name;
        if M::TRAINING && self.origin.needs_gradient {
            let reason = format!("kernel `{name}`: integers and bools have no gradient");
            let place = (self.declaration.file, self.declaration.line);
            cut::note_at(place, CutKind::Discrete, &reason, value.array(), true);
        }
        mlx_rs::stop_gradient(value.array()).during(name)
    }

    fn value(&self, index: usize) -> Result<&PortValue> {
        self.values.get(index).and_then(Option::as_ref).ok_or_else(|| {
            let signature = self.declaration.signature;
            let port = signature.outputs.iter().filter(|port| port.role == PortRole::Output).nth(index);
            let message = "the body returned nothing for it".to_owned();
            Error::Kernel { kernel: signature.name, port: port.map(|port| port.name), message }
        })
    }
}
