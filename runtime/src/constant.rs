//! Values without a gradient: host data, indices, masks.

use std::fmt;
use std::panic::Location;

use mlx_rs::Array;

use crate::cut::{self, CutKind};
use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::identity::Identity;
use crate::mode::{Graph, Stored};
use crate::packed::CodeFormat;
use crate::running;
use crate::session::Session;
use crate::tensor::{Origin, Tensor, check_length};

/// Float data that no gradient flows through: tables, initial states, detached tensors.
#[derive(Clone)]
pub struct Constant {
    array: Array,
    /// The evaluated tensor that it was, and where that was made a constant.
    source: Option<(Identity, &'static Location<'static>)>,
}

/// Integers that index. Known ranges are checked where they index; MLX would read out of bounds silently.
#[derive(Clone)]
pub struct Indices {
    array: Array,
    /// Smallest and largest value.
    range: (i64, i64),
}

/// A bool for each element of an array: true if the element counts.
#[derive(Clone)]
pub struct Mask {
    array: Array,
}

macro_rules! common {
    ($type:ident) => {
        impl $type {
            /// The lengths of the axes.
            pub fn shape(&self) -> &[i32] {
                self.array.shape()
            }

            /// The element type.
            pub fn dtype(&self) -> Dtype {
                Dtype::from_mlx(self.array.dtype())
            }

            pub(crate) fn array(&self) -> &Array {
                &self.array
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({} {:?})"), self.dtype(), self.shape())
            }
        }
    };
}
common!(Constant);
common!(Indices);
common!(Mask);

impl Constant {
    /// Float values in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] if `values` does not have as many elements as `shape`.
    pub fn from_slice(values: &[f32], shape: &[i32]) -> Result<Self> {
        check_length("Constant::from_slice", values.len(), shape)?;
        crate::ffi::initialise();
        Ok(Constant::from_array(crate::ffi::array_from_slice(values, shape)))
    }

    /// A constant filled with one value.
    ///
    /// # Errors
    /// [`Error::Dtype`] unless `dtype` is a float, [`Error::Mlx`] if the shape is refused.
    pub fn full(shape: &[i32], value: f32, dtype: Dtype) -> Result<Self> {
        crate::ffi::initialise();
        require_float("Constant::full", dtype)?;
        let value = crate::resident::float(value, dtype)?;
        Ok(Constant::from_array(mlx_rs::ops::broadcast_to(value, shape).during("Constant::full")?))
    }

    /// An evaluated tensor as a constant: what a batch brings along.
    ///
    /// Inside a training graph this is a cut, which an audit lists: what the tensor was computed from gets no gradient
    /// there. So is the use of one that was made before, of a tensor that trains in the graph.
    ///
    /// # Errors
    /// [`Error::Dtype`] unless it holds floats.
    #[track_caller]
    pub fn from_stored(tensor: &Tensor<Stored>) -> Result<Self> {
        require_float("Constant::from_stored", tensor.dtype())?;
        let constant =
            Constant { array: tensor.array().clone(), source: Some((tensor.identity(), Location::caller())) };
        if running::is_training() {
            constant.note_cut();
        }
        Ok(constant)
    }

    /// Notes that it enters a graph, if the tensor that it was trains there.
    pub(crate) fn enter(&self) {
        if self.source.is_some_and(|(identity, _)| running::trains(identity)) {
            self.note_cut();
        }
    }

    fn note_cut(&self) {
        let Some((identity, place)) = self.source else { return };
        let reason = "`Constant::from_stored`: an evaluated tensor is data, and has no gradient";
        let place = (place.file(), place.line());
        cut::note_at(place, CutKind::StoredAsData, reason, &self.array, running::trains(identity));
    }

    /// Returns the same values in another float type.
    ///
    /// # Errors
    /// [`Error::Dtype`] unless `dtype` is a float.
    pub fn cast(&self, dtype: Dtype) -> Result<Self> {
        require_float("Constant::cast", dtype)?;
        let array = self.array.as_dtype(dtype.to_mlx()).during("Constant::cast")?;
        Ok(Constant { array, source: self.source })
    }

    /// Returns the constant as a tensor of a graph, where it has no gradient.
    pub fn to_tensor<M: Graph>(&self) -> Tensor<M> {
        self.enter();
        Tensor::from_parts(self.array.clone(), Origin::HOST)
    }

    pub(crate) fn from_array(array: Array) -> Self {
        Constant { array, source: None }
    }
}

fn require_float(operation: &'static str, dtype: Dtype) -> Result<()> {
    if dtype.is_float() {
        return Ok(());
    }
    Err(Error::Dtype { operation, found: dtype.to_string(), expected: "a float type".into() })
}

impl Indices {
    /// Non-negative indices in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] if `values` does not have as many elements as `shape`, [`Error::IndexOutOfRange`] for a
    /// negative one.
    pub fn from_slice(values: &[i32], shape: &[i32]) -> Result<Self> {
        check_length("Indices::from_slice", values.len(), shape)?;
        if let Some(&negative) = values.iter().find(|value| **value < 0) {
            return Err(Error::IndexOutOfRange {
                operation: "Indices::from_slice",
                index: i64::from(negative),
                length: i64::from(i32::MAX),
            });
        }
        crate::ffi::initialise();
        let largest = values.iter().copied().max().unwrap_or(0);
        let smallest = values.iter().copied().min().unwrap_or(0);
        Ok(Indices {
            array: crate::ffi::array_from_slice(values, shape),
            range: (i64::from(smallest), i64::from(largest)),
        })
    }

    /// Indices that are all 0, made where computations run: nothing is copied from the host.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shape is refused.
    pub fn zeros(shape: &[i32]) -> Result<Self> {
        crate::ffi::initialise();
        let zero = Array::from_int(0);
        let array = mlx_rs::ops::broadcast_to(zero, shape).during("Indices::zeros")?;
        Ok(Indices { array, range: (0, 0) })
    }

    /// Words of 32 bits in row-major order: packed codes, say, which index nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] if `words` does not have as many elements as `shape`.
    pub fn from_words(words: &[u32], shape: &[i32]) -> Result<Self> {
        check_length("Indices::from_words", words.len(), shape)?;
        crate::ffi::initialise();
        let (smallest, largest) = (words.iter().min().copied(), words.iter().max().copied());
        let range = (i64::from(smallest.unwrap_or(0)), i64::from(largest.unwrap_or(0)));
        Ok(Indices { array: crate::ffi::array_from_slice(words, shape), range })
    }

    /// Words of 32 bits on the device, of any value.
    pub(crate) fn from_device_words(array: Array) -> Self {
        Indices { array, range: (0, i64::from(u32::MAX)) }
    }

    /// Integers of any width in row-major order: packed codes, routing tables, what another program stored.
    ///
    /// # Errors
    /// [`Error::Shape`] if `values` does not have as many elements as `shape`, [`Error::Dtype`] unless `dtype` is an
    /// integer type, [`Error::IndexOutOfRange`] for a value that it cannot hold.
    pub fn from_integers(values: &[i64], dtype: Dtype, shape: &[i32]) -> Result<Self> {
        const OPERATION: &str = "Indices::from_integers";
        check_length(OPERATION, values.len(), shape)?;
        let Some((low, high)) = dtype.integers() else {
            return Err(Error::Dtype {
                operation: OPERATION,
                found: dtype.to_string(),
                expected: "an integer type".into(),
            });
        };
        if let Some(&outside) = values.iter().find(|value| !(low..=high).contains(value)) {
            return Err(Error::IndexOutOfRange { operation: OPERATION, index: outside, length: high });
        }
        crate::ffi::initialise();
        let bytes: Vec<u8> =
            values.iter().flat_map(|value| value.to_le_bytes().into_iter().take(dtype.size())).collect();
        let (smallest, largest) = (values.iter().min().copied(), values.iter().max().copied());
        let range = (smallest.unwrap_or(0), largest.unwrap_or(0));
        Ok(Indices { array: crate::ffi::array_from_bytes(&bytes, dtype.of_host(), shape), range })
    }

    /// The same indices, elsewhere in memory.
    pub(crate) fn stored_as(&self, array: Array) -> Self {
        Indices { array, range: self.range }
    }

    /// Returns the same indices divided by a positive number and rounded down, which `array` holds.
    pub(crate) fn divided(&self, array: Array, divisor: i32) -> Self {
        let divide = |bound: i64| bound.div_euclid(i64::from(divisor));
        Indices { array, range: (divide(self.range.0), divide(self.range.1)) }
    }

    /// Returns the same indices in another shape.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the number of elements differs.
    pub fn reshape(&self, shape: &[i32]) -> Result<Self> {
        Ok(Indices { array: self.array.reshape(shape).during("Indices::reshape")?, range: self.range })
    }

    /// Checks the known range of the indices against an axis of `length`, on behalf of `operation`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] if one of the indices cannot index it.
    pub fn check(&self, operation: &'static str, length: i32) -> Result<()> {
        let length = i64::from(length);
        let outside = if self.range.0 < 0 { self.range.0 } else { self.range.1 };
        if self.range.0 >= 0 && self.range.1 < length || self.array.size() == 0 {
            return Ok(());
        }
        Err(Error::IndexOutOfRange { operation, index: outside, length })
    }

    /// Indices computed on the device, each in `0..length`.
    pub(crate) fn from_array(array: Array, length: i32) -> Self {
        Indices { array, range: (0, i64::from(length) - 1) }
    }

    /// The numbers themselves as float32 data, exact below 2^24: positions that become angles, say.
    ///
    /// `reason` says why an index is data here.
    ///
    /// # Errors
    /// [`Error::Refused`] for an empty reason, [`Error::Mlx`] if the conversion fails.
    #[track_caller]
    pub fn to_constant(&self, reason: &'static str) -> Result<Constant> {
        cut::require_reason("to_constant", reason)?;
        let place = Location::caller();
        cut::note_at((place.file(), place.line()), CutKind::IndicesAsData, reason, &self.array, false);
        let operation = "Indices::to_constant";
        Ok(Constant::from_array(self.array.as_dtype(mlx_rs::Dtype::Float32).during(operation)?))
    }

    /// The codes in packed words `[outputs, inputs * bits / 32]`, as float32 data `[outputs, inputs]`: `bits` bits a code,
    /// lowest first, in groups of `group_size` inputs as MLX quantizes.
    ///
    /// # Errors
    /// [`Error::Other`] if MLX has no such groups or codes.
    pub fn unpack(&self, group_size: i32, bits: i32) -> Result<Constant> {
        CodeFormat::require_affine(group_size, bits)?;
        let words = self.shape().last().copied().unwrap_or_default();
        let mut groups = self.shape().to_vec();
        if let Some(last) = groups.last_mut() {
            *last = (i64::from(words) * 32 / i64::from(bits) / i64::from(group_size)) as i32;
        }
        // With scales of one and biases of zero, decoding gives the codes themselves.
        let scales = Constant::full(&groups, 1.0, Dtype::F32)?;
        let biases = Constant::full(&groups, 0.0, Dtype::F32)?;
        let codes = mlx_rs::ops::dequantize(&self.array, &scales.array, &biases.array, group_size, bits);
        Ok(Constant::from_array(codes.during("Indices::unpack")?))
    }

    /// Evaluated, as a tensor that can be read. Takes the session, which a running graph has borrowed: in it, there is no
    /// value yet.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the value cannot be computed; [`Error::Refused`] while a graph runs, whatever session that has
    /// borrowed.
    pub fn to_stored(&self, _session: &mut Session) -> Result<Tensor<Stored>> {
        running::outside("Indices::to_stored", "used")?;
        crate::ffi::evaluate("Indices::to_stored", [&self.array])?;
        Ok(Tensor::from_parts(self.array.clone(), Origin::HOST))
    }
}

impl Mask {
    /// Truth values in row-major order.
    ///
    /// # Errors
    /// [`Error::Shape`] if `values` does not have as many elements as `shape`.
    pub fn from_slice(values: &[bool], shape: &[i32]) -> Result<Self> {
        check_length("Mask::from_slice", values.len(), shape)?;
        crate::ffi::initialise();
        Ok(Mask { array: crate::ffi::array_from_slice(values, shape) })
    }

    /// `[rows, columns]`, true where `column <= row + offset`.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shape is refused.
    pub fn lower_triangular(rows: i32, columns: i32, offset: i32) -> Result<Self> {
        crate::ffi::initialise();
        let array = mlx_rs::ops::tri::<bool>(rows, Some(columns), Some(offset)).during("Mask::lower_triangular")?;
        Ok(Mask { array })
    }

    /// Returns the same mask in another shape.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the number of elements differs.
    pub fn reshape(&self, shape: &[i32]) -> Result<Self> {
        Ok(Mask { array: self.array.reshape(shape).during("Mask::reshape")? })
    }

    pub(crate) fn from_array(array: Array) -> Self {
        Mask { array }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_know_the_axis_they_fit() {
        let indices = Indices::from_slice(&[0, 4, 2], &[3]).unwrap();
        assert!(indices.check("take_rows", 5).is_ok());
        assert_eq!(
            indices.check("take_rows", 4),
            Err(Error::IndexOutOfRange { operation: "take_rows", index: 4, length: 4 })
        );
        assert!(Indices::from_slice(&[-1], &[1]).is_err());
    }

    #[test]
    fn host_data_must_fill_its_shape() {
        assert!(Constant::from_slice(&[1.0; 5], &[2, 3]).is_err());
        assert!(Mask::from_slice(&[true; 6], &[2, 3]).is_ok());
        assert!(Tensor::<Stored>::from_slice::<f32>(&[], &[-1, 0]).is_err());
    }
}
