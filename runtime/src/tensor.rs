//! The tensor, and the origin of its value.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::flat::Place;
use crate::identity::Identity;
use crate::kernel::mutation;
use crate::mode::{Held, Mode, Planned, Readable, Stored};
use crate::planned::Plan;
use crate::running;
use crate::source::Source;

/// An array in a [`Mode`], with only the methods that the mode allows.
///
/// Cloning shares the memory.
pub struct Tensor<M: Mode> {
    value: M::Value,
    origin: Origin,
    /// The identity of an evaluated tensor: which value of which parameter it is.
    identity: Identity,
    /// The place in a flat array, if the tensor is part of one.
    place: Option<Box<Place>>,
    thread: M::Thread,
}

/// The content of a tensor of some mode.
#[doc(hidden)]
pub trait Value: sealed::Value + Clone + 'static {}

impl Value for Array {}
impl Value for Plan {}

/// The training graph a tensor was recorded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceId(NonZeroU64);

impl TraceId {
    pub(crate) fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        TraceId(NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed)).expect("fewer graphs than 64 bits count"))
    }
}

/// The origin of a value: its graph, and whether a parameter that trains had a part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    pub(crate) trace: Option<TraceId>,
    /// Whether this graph is asked for the gradient.
    pub(crate) needs_gradient: bool,
    /// Whether a parameter that trains had a part in it, also where a graph is run without gradients first.
    pub(crate) trains: bool,
    /// One of the parameters that it was computed from: one that trains, if there is one.
    pub(crate) source: Option<Source>,
}

impl Origin {
    /// A value that no graph knows: host data.
    pub(crate) const HOST: Origin = Origin { trace: None, needs_gradient: false, trains: false, source: None };

    pub(crate) fn new(trace: TraceId, needs_gradient: bool) -> Self {
        Origin { trace: Some(trace), needs_gradient, trains: needs_gradient, source: None }
    }

    /// Returns this origin with the parameter of this full name as its source.
    pub(crate) fn named(self, name: &str) -> Self {
        Origin { source: Source::named(name), ..self }
    }

    /// Returns the origin of the arguments of a function that nothing differentiates through: whatever else it reads
    /// belongs to another graph.
    pub(crate) fn alone() -> Self {
        Origin::new(TraceId::fresh(), false)
    }

    /// Returns the origin of a result whose gradient is zero everywhere.
    pub(crate) fn flat(self) -> Self {
        Origin { needs_gradient: false, trains: false, ..self }
    }

    /// Returns this origin in a graph that is run without gradients.
    pub(crate) fn without_gradient(self) -> Self {
        Origin { needs_gradient: false, ..self }
    }

    /// The origin of a result of operands with these origins.
    ///
    /// # Errors
    /// [`Error::MixedTraces`] where two graphs meet.
    pub(crate) fn join(operation: &'static str, operands: impl IntoIterator<Item = Origin>) -> Result<Origin> {
        let mut joined = Origin::HOST;
        for operand in operands {
            joined.trace = match (joined.trace, operand.trace) {
                (Some(left), Some(right)) if left != right => {
                    let sources = [joined.source, operand.source].map(|source| source.map(|source| source.to_string()));
                    return Err(Error::MixedTraces { operation, sources: Box::new(sources) });
                }
                (left, right) => left.or(right),
            };
            let first = if operand.trains && !joined.trains { operand.source } else { joined.source };
            joined.source = first.or(joined.source).or(operand.source);
            joined.needs_gradient |= operand.needs_gradient;
            joined.trains |= operand.trains;
        }
        Ok(joined)
    }
}

/// Returns the error that `result` of a function comes from another graph than its arguments.
pub(crate) fn foreign(operation: &'static str, result: &str, origin: Origin) -> Error {
    let source = origin.source.map(|source| format!(" from {source}")).unwrap_or_default();
    Error::Refused {
        operation,
        message: format!(
            "{result} was computed{source} in another graph than that of the function's arguments, so what it was computed from \
             would get no gradient: pass it as an argument, and compute the result from the arguments"
        ),
        code: "C06",
    }
}

impl<M: Held> Tensor<M> {
    /// The lengths of the axes.
    pub fn shape(&self) -> &[i32] {
        self.value.shape()
    }

    /// The length of axis `axis`; negative axes count from the last.
    ///
    /// # Panics
    /// When there is no such axis.
    pub fn dimension(&self, axis: i32) -> i32 {
        let shape = self.shape();
        let index = if axis < 0 { axis + shape.len() as i32 } else { axis };
        shape[usize::try_from(index).expect("the axis exists")]
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape().len()
    }

    /// The number of elements.
    pub fn size(&self) -> usize {
        self.value.size()
    }

    /// The bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.size() * self.dtype().size()
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        Dtype::from_mlx(self.value.dtype())
    }

    /// Returns whether a parameter that trains had a part in this value; always false outside training.
    pub fn needs_gradient(&self) -> bool {
        self.origin.needs_gradient
    }

    /// The values as little-endian bytes in row-major order.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the value cannot be computed or copied; [`Error::Refused`] inside a graph in which the tensor trains.
    pub fn to_bytes(&self) -> Result<Vec<u8>>
    where
        M: Readable,
    {
        running::refuse_reading("to_bytes", self.identity)?;
        crate::ffi::array_to_bytes(&self.value)
    }

    /// The values as `T`, converted where the tensor holds another type.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the value cannot be computed or copied; [`Error::Refused`] inside a graph in which the tensor
    /// trains: what is read is a constant there, and the tensor's gradient would be wrong.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>>
    where
        M: Readable,
    {
        let operation = "to_vec";
        running::refuse_reading(operation, self.identity)?;
        if self.size() == 0 {
            return Ok(Vec::new());
        }
        let array = self.value.as_dtype(<T as Element>::DTYPE.of_host()).during(operation)?;
        let array = array.contiguous().during(operation)?;
        crate::ffi::evaluate(operation, [&array])?;
        array.to_vec_exact::<T>().map_err(|error| crate::error::mlx_error(operation, &error.to_string()))
    }

    /// The only value of a tensor of one element.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more or fewer; as [`to_vec`](Self::to_vec).
    pub fn item<T: Element>(&self) -> Result<T>
    where
        M: Readable,
    {
        match self.to_vec::<T>()?.as_slice() {
            [value] => Ok(*value),
            values => Err(Error::Shape {
                operation: "item",
                found: format!("{} elements", values.len()),
                expected: "one".into(),
            }),
        }
    }

    pub(crate) fn array(&self) -> &Array {
        &self.value
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the identity of an evaluated tensor: the parameter, and the value of it.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The array of what a function returned whose arguments belong to `trace`.
    ///
    /// # Errors
    /// [`Error::Refused`] if it comes from another graph; `result` says what it is.
    pub(crate) fn leave(
        self,
        trace: TraceId,
        operation: &'static str,
        result: impl FnOnce() -> String,
    ) -> Result<Array> {
        match self.origin.trace {
            Some(other) if other != trace => Err(foreign(operation, &result(), self.origin)),
            _ => Ok(self.value),
        }
    }

    pub(crate) fn from_parts(array: Array, origin: Origin) -> Self {
        let (array, thread) = (mutation::met(array), M::Thread::default());
        Tensor { value: array, origin, identity: Identity::fresh(), place: None, thread }
    }

    /// Returns the same value in another mode. Only drivers may do this: it is what modes are there to forbid.
    pub(crate) fn in_mode<N: Held>(&self, origin: Origin) -> Tensor<N> {
        Tensor::from_parts(self.value.clone(), origin)
    }
}

impl Tensor<Planned> {
    pub(crate) fn from_plan(plan: Plan) -> Self {
        Tensor { value: plan, origin: Origin::HOST, identity: Identity::fresh(), place: None, thread: () }
    }

    /// Returns the plan of the parameter.
    pub fn plan(&self) -> &Plan {
        &self.value
    }
}

impl<M: Mode> Tensor<M> {
    /// Returns a description of the tensor's content, for a message.
    fn describe(&self) -> String {
        sealed::Value::describe(&self.value)
    }

    /// Returns the same value in another mode, if both hold arrays.
    pub(crate) fn shared<N: Mode>(&self) -> Option<Tensor<N>> {
        let value = sealed::Value::array(&self.value).and_then(<N::Value as sealed::Value>::from_array)?;
        Some(Tensor { value, origin: Origin::HOST, identity: self.identity, place: None, thread: N::Thread::default() })
    }
}

impl<M: Mode> Clone for Tensor<M> {
    fn clone(&self) -> Self {
        Tensor {
            value: self.value.clone(),
            origin: self.origin,
            identity: self.identity,
            place: self.place.clone(),
            thread: self.thread.clone(),
        }
    }
}

impl<M: Mode> fmt::Debug for Tensor<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor<{}>({})", M::NAME, self.describe())
    }
}

/// An element type that host slices of tensors may have.
pub trait Element: Copy + sealed::Element {
    /// The tensor's element type.
    const DTYPE: Dtype;
}

pub(crate) mod sealed {
    use mlx_rs::Array;

    use crate::dtype::Dtype;
    use crate::planned::Plan;

    pub trait Element: mlx_rs::ArrayElement {}

    pub trait Value: Sized {
        fn describe(&self) -> String;
        fn array(&self) -> Option<&Array>;
        fn from_array(array: &Array) -> Option<Self>;
    }

    impl Value for Array {
        fn describe(&self) -> String {
            format!("{} {:?}", Dtype::from_mlx(self.dtype()), self.shape())
        }

        fn array(&self) -> Option<&Array> {
            Some(self)
        }

        fn from_array(array: &Array) -> Option<Self> {
            Some(array.clone())
        }
    }

    impl Value for Plan {
        fn describe(&self) -> String {
            format!("{} {:?}", self.dtype, self.shape)
        }

        fn array(&self) -> Option<&Array> {
            None
        }

        fn from_array(_: &Array) -> Option<Self> {
            None
        }
    }
}

macro_rules! element {
    ($($type:ty => $dtype:ident),*) => {$(
        impl sealed::Element for $type {}
        impl Element for $type { const DTYPE: Dtype = Dtype::$dtype; }
    )*};
}
element!(f32 => F32, i32 => I32, u32 => U32, i64 => I64, bool => Bool, u8 => U8, half::bf16 => BF16, half::f16 => F16);

pub(crate) fn check_length(operation: &'static str, length: usize, shape: &[i32]) -> Result<()> {
    let product =
        shape.iter().try_fold(
            1_i64,
            |product, &dimension| {
                if dimension < 0 { None } else { product.checked_mul(i64::from(dimension)) }
            },
        );
    if product == Some(length as i64) {
        return Ok(());
    }
    Err(Error::Shape {
        operation,
        found: format!("{length} values"),
        expected: format!("as many as the shape {shape:?} has elements"),
    })
}

impl Tensor<Stored> {
    /// The next value of the same parameter, as a part of a flat array.
    pub(crate) fn stepped(&self, array: Array, place: Place) -> Self {
        let identity = self.identity.stepped();
        Tensor { place: Some(Box::new(place)), identity, ..Tensor::from_parts(array, Origin::HOST) }
    }

    /// Returns the place of the tensor in a flat array, if it lies in one.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_deref()
    }

    /// A tensor of host values in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] if `values` does not have as many elements as `shape`.
    pub fn from_slice<T: Element>(values: &[T], shape: &[i32]) -> Result<Self> {
        check_length("from_slice", values.len(), shape)?;
        crate::ffi::initialise();
        Ok(Tensor::from_parts(crate::ffi::array_from_slice(values, shape), Origin::HOST))
    }

    /// A tensor from little-endian bytes in row-major order, as safetensors files hold them.
    ///
    /// # Errors
    /// [`Error::Shape`] if `bytes` is not as long as `shape` and `dtype` say.
    pub fn from_bytes(bytes: &[u8], dtype: Dtype, shape: &[i32]) -> Result<Self> {
        if !bytes.len().is_multiple_of(dtype.size()) {
            return Err(Error::Shape {
                operation: "from_bytes",
                found: format!("{} bytes", bytes.len()),
                expected: format!("a multiple of the {} bytes of a {dtype}", dtype.size()),
            });
        }
        check_length("from_bytes", bytes.len() / dtype.size(), shape)?;
        crate::ffi::initialise();
        Ok(Tensor::from_parts(crate::ffi::array_from_bytes(bytes, dtype.of_host(), shape), Origin::HOST))
    }

    /// Returns the same values in another element type.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the conversion fails.
    pub fn cast(&self, dtype: Dtype) -> Result<Self> {
        let array = self.value.as_dtype(dtype.to_mlx()).during("cast")?;
        crate::ffi::evaluate("cast", [&array])?;
        Ok(Tensor { identity: self.identity.stepped(), ..Tensor::from_parts(array, Origin::HOST) })
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shape is refused.
    pub fn zeros(shape: &[i32], dtype: Dtype) -> Result<Self> {
        crate::ffi::initialise();
        let array = mlx_rs::ops::zeros_dtype(shape, dtype.to_mlx()).during("zeros")?;
        crate::ffi::evaluate("zeros", [&array])?;
        Ok(Tensor::from_parts(array, Origin::HOST))
    }
}
