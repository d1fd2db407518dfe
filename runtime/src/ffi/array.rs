//! Host data in and out, evaluation, and the two operations that mlx-rs does not wrap.

use std::marker::PhantomData;
use std::sync::OnceLock;

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Context as _, Result};
use crate::tensor::Element;

use super::closure::drop_payload;
use super::failure::{initialise, last_message, settle};
use super::vector::ArrayVector;

/// The caller has checked that `values` fills `shape`.
pub(crate) fn array_from_slice<T: Element>(values: &[T], shape: &[i32]) -> Array {
    // SAFETY: `values` holds all elements, of the dtype that its type says; MLX copies them.
    unsafe { Array::from_raw_data(values.as_ptr().cast(), shape, <T as Element>::DTYPE.of_host()) }
}

/// The caller has checked that `bytes`, of elements of `dtype`, fills `shape`.
pub(crate) fn array_from_bytes(bytes: &[u8], dtype: mlx_rs::Dtype, shape: &[i32]) -> Array {
    // SAFETY: `bytes` holds all elements, MLX copies them and asks for no alignment; little-endian on all platforms
    // that MLX runs on.
    unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) }
}

/// Evaluates, and copies the elements in row-major order.
pub(crate) fn array_to_bytes(array: &Array) -> Result<Vec<u8>> {
    let operation = "to_bytes";
    let array = array.contiguous().during(operation)?;
    evaluate(operation, [&array])?;
    let length = array.nbytes();
    if length == 0 {
        return Ok(Vec::new());
    }
    let data = data_of(&array);
    if data.is_null() {
        return Err(last_message(operation));
    }
    // SAFETY: a contiguous, evaluated array holds `length` bytes at `data`, alive as long as `array`.
    Ok(unsafe { std::slice::from_raw_parts(data, length) }.to_vec())
}

/// An array as it lies in memory.
#[cfg(feature = "emulator")]
pub(crate) struct Strided {
    /// The bytes from the lowest element to the highest, with what lies between them.
    pub bytes: Vec<u8>,
    /// The element of `bytes` that the index 0 leads to.
    pub first: usize,
    /// The strides in elements, one for each dimension.
    pub strides: Vec<i64>,
}

/// Evaluates, and copies the memory that the array's elements span, strides and all.
#[cfg(feature = "emulator")]
pub(crate) fn array_to_strided_bytes(array: &Array) -> Result<Strided> {
    let operation = "to_bytes";
    evaluate(operation, [array])?;
    // mlx-rs returns strides without their sign.
    let strides: Vec<i64> = array.strides().iter().map(|stride| *stride as i64).collect();
    if array.size() == 0 {
        return Ok(Strided { bytes: Vec::new(), first: 0, strides });
    }
    let steps = || array.shape().iter().zip(&strides).map(|(extent, stride)| i64::from(extent - 1) * stride);
    let lowest: i64 = steps().filter(|step| *step < 0).sum();
    let highest: i64 = steps().filter(|step| *step > 0).sum();
    let data = data_of(array);
    if data.is_null() {
        return Err(last_message(operation));
    }
    let size = array.item_size();
    let length = (highest - lowest + 1) as usize * size;
    // SAFETY: `data` is where index 0 leads to; all places between the lowest and the highest element of an evaluated array
    // belong to its one allocation, alive as long as `array`.
    let bytes = unsafe {
        let start = data.offset(lowest as isize * size as isize);
        std::slice::from_raw_parts(start, length)
    };
    Ok(Strided { bytes: bytes.to_vec(), first: lowest.unsigned_abs() as usize, strides })
}

/// Returns the place of the elements of an evaluated array; null if it has none.
fn data_of(array: &Array) -> *const u8 {
    let handle = array.as_ptr();
    // SAFETY: evaluated, and asked for in its own dtype.
    unsafe {
        if array.dtype() == mlx_rs::Dtype::Float64 {
            return mlx_sys::mlx_array_data_float64(handle).cast();
        }
        match Dtype::from_mlx(array.dtype()) {
            Dtype::Bool => mlx_sys::mlx_array_data_bool(handle).cast::<u8>(),
            Dtype::I8 => mlx_sys::mlx_array_data_int8(handle).cast(),
            Dtype::U8 => mlx_sys::mlx_array_data_uint8(handle),
            Dtype::I16 => mlx_sys::mlx_array_data_int16(handle).cast(),
            Dtype::U16 => mlx_sys::mlx_array_data_uint16(handle).cast(),
            Dtype::I32 => mlx_sys::mlx_array_data_int32(handle).cast(),
            Dtype::U32 => mlx_sys::mlx_array_data_uint32(handle).cast(),
            Dtype::I64 => mlx_sys::mlx_array_data_int64(handle).cast(),
            Dtype::U64 => mlx_sys::mlx_array_data_uint64(handle).cast(),
            Dtype::F16 => mlx_sys::mlx_array_data_float16(handle).cast(),
            Dtype::BF16 => mlx_sys::mlx_array_data_bfloat16(handle).cast(),
            Dtype::F32 => mlx_sys::mlx_array_data_float32(handle).cast(),
        }
    }
}

/// The elements of arrays of `T`, evaluated and in row-major order, to read where they lie.
pub(crate) struct HostSlices<T, const N: usize>([Array; N], PhantomData<T>);

impl<T: Element, const N: usize> HostSlices<T, N> {
    /// Evaluates the arrays. The caller has checked that they hold elements of `T`.
    pub(crate) fn new(operation: &'static str, arrays: [&Array; N]) -> Result<Self> {
        let mut rows = arrays.map(Array::clone);
        for array in &mut rows {
            assert_eq!(
                Dtype::from_mlx(array.dtype()),
                <T as Element>::DTYPE,
                "host slices are of the dtype that is stored"
            );
            *array = array.contiguous().during(operation)?;
        }
        evaluate(operation, &rows)?;
        Ok(HostSlices(rows, PhantomData))
    }

    /// One slice for each array.
    pub(crate) fn slices(&self) -> [&[T]; N] {
        self.0.each_ref().map(|array| {
            let data = data_of(array).cast::<T>();
            if data.is_null() {
                return &[][..];
            }
            // SAFETY: a contiguous, evaluated array holds its elements, which are of its dtype's type `T`, at `data`, alive as
            // long as `array`, and nothing writes to an evaluated array.
            unsafe { std::slice::from_raw_parts(data, array.size()) }
        })
    }
}

/// The same array, evaluated, without the graph it came from.
pub(crate) fn leaf(operation: &'static str, array: &Array) -> Result<Array> {
    evaluate(operation, [array])?;
    let (shape, strides) = (array.shape().to_vec(), array.strides().to_vec());
    // The span reaches from the first element to the last, whatever lies between them.
    let distances = shape.iter().zip(&strides).map(|(extent, stride)| (*extent as usize).saturating_sub(1) * stride);
    let span = 1 + distances.sum::<usize>();
    let data = data_of(array);
    let (false, Ok(span)) = (data.is_null() || array.size() == 0, i32::try_from(span)) else {
        return Ok(array.clone());
    };
    // SAFETY: `span` elements of this dtype lie at `data` as long as the array lives; nothing writes to an evaluated array.
    let memory = unsafe { array_in_memory_of(Box::new(array.clone()), data, &[span], array.dtype()) };
    let strides: Vec<i64> = strides.iter().map(|stride| *stride as i64).collect();
    mlx_rs::ops::as_strided(&memory, &shape[..], &strides[..], 0).during(operation)
}

/// An array that takes over the memory of `values`. The caller has checked that they fill `shape`.
pub(crate) fn array_of_vec(values: Vec<f32>, shape: &[i32]) -> Array {
    initialise();
    let data = values.as_ptr().cast();
    // SAFETY: the elements, which fill `shape`, lie there as long as the vector lives, wherever that itself is moved.
    unsafe { array_in_memory_of(Box::new(values), data, shape, mlx_rs::Dtype::Float32) }
}

/// An array whose elements lie at `data`, and which drops `owner` when MLX needs them no more.
///
/// # Safety
/// As long as `owner` lives, elements of `dtype` that fill `shape` lie at `data`, and nothing writes to them.
unsafe fn array_in_memory_of<T>(owner: Box<T>, data: *const u8, shape: &[i32], dtype: mlx_rs::Dtype) -> Array {
    // SAFETY: by this function's contract; payload and destructor belong together, and only this function owns the handle.
    unsafe {
        Array::from_ptr(mlx_sys::mlx_array_new_data_managed_payload(
            data.cast_mut().cast(),
            shape.as_ptr(),
            shape.len() as i32,
            dtype as mlx_sys::mlx_dtype,
            Box::into_raw(owner).cast(),
            Some(drop_payload::<T>),
        ))
    }
}

/// Prepares the process before MLX computes anything.
static BEFORE_EVALUATION: OnceLock<fn()> = OnceLock::new();

/// Has `action` called before each evaluation from now on; only the first one counts.
pub(crate) fn before_evaluation(action: fn()) {
    BEFORE_EVALUATION.get_or_init(|| action);
}

fn prepare_evaluation() {
    if let Some(action) = BEFORE_EVALUATION.get() {
        action();
    }
}

/// Computes the arrays and waits for them.
pub(crate) fn evaluate<'a>(operation: &'static str, arrays: impl IntoIterator<Item = &'a Array>) -> Result<()> {
    prepare_evaluation();
    let arrays = ArrayVector::new(arrays);
    // SAFETY: a live vector.
    settle(operation, unsafe { mlx_sys::mlx_eval(arrays.raw()) })
}

/// Starts to compute the arrays.
pub(crate) fn evaluate_async<'a>(operation: &'static str, arrays: impl IntoIterator<Item = &'a Array>) -> Result<()> {
    prepare_evaluation();
    let arrays = ArrayVector::new(arrays);
    // SAFETY: a live vector.
    settle(operation, unsafe { mlx_sys::mlx_async_eval(arrays.raw()) })
}

/// `array[start..stop]` on every axis, with step 1.
pub(crate) fn slice(operation: &'static str, array: &Array, start: &[i32], stop: &[i32]) -> Result<Array> {
    initialise();
    let strides = vec![1; start.len()];
    let stream = mlx_rs::Stream::thread_local_or_default();
    // SAFETY: a fresh handle, owned by the `Array` below.
    let mut handle = unsafe { mlx_sys::mlx_array_new() };
    // SAFETY: three slices with their lengths, a live array and stream.
    let status = unsafe {
        mlx_sys::mlx_slice(
            &mut handle,
            array.as_ptr(),
            start.as_ptr(),
            start.len(),
            stop.as_ptr(),
            stop.len(),
            strides.as_ptr(),
            strides.len(),
            stream.as_ptr(),
        )
    };
    // SAFETY: only this function owns the handle, filled or empty.
    let result = unsafe { Array::from_ptr(handle) };
    settle(operation, status)?;
    Ok(result)
}

/// The `arrays`, computed only after `dependencies` are.
pub(crate) fn depends(operation: &'static str, arrays: &[&Array], dependencies: &[&Array]) -> Result<Vec<Array>> {
    let arrays = ArrayVector::new(arrays.iter().copied());
    let dependencies = ArrayVector::new(dependencies.iter().copied());
    let mut result = ArrayVector::empty();
    // SAFETY: three live vectors.
    settle(operation, unsafe { mlx_sys::mlx_depends(result.raw_mut(), arrays.raw(), dependencies.raw()) })?;
    result.to_arrays(operation)
}
