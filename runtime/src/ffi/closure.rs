//! Rust closures as MLX closures, which cannot leak or unwind through C++; `failure` carries their errors out.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use mlx_rs::Array;

use crate::error::Result;

use super::failure::{contain, initialise, settle};
use super::vector::{ArrayVector, read_vector};

type Function<'a> = dyn Fn(&[Array]) -> Result<Vec<Array>> + 'a;
type Backward = dyn Fn(&[Array], &[Array], &[Array]) -> Result<Vec<Array>> + Send;

struct FunctionPayload<'a>(Box<Function<'a>>);
struct BackwardPayload(Box<Backward>);

const FAILED: i32 = 1;

/// # Safety
/// `result` is MLX's place for the result: null or an owned vector.
unsafe fn answer(result: *mut mlx_sys::mlx_vector_array, body: impl FnOnce() -> Result<Vec<Array>>) -> i32 {
    let Some(arrays) = contain(body) else { return FAILED };
    let vector = ArrayVector::new(&arrays);
    // SAFETY: by this function's contract; the call copies the handles.
    unsafe { mlx_sys::mlx_vector_array_set(result, vector.raw()) }
}

unsafe extern "C" fn call_function(
    result: *mut mlx_sys::mlx_vector_array,
    inputs: mlx_sys::mlx_vector_array,
    payload: *mut c_void,
) -> i32 {
    let body = || {
        // SAFETY: the payload is the `FunctionPayload` that this trampoline was registered with.
        let function = unsafe { &*payload.cast::<FunctionPayload<'_>>() };
        // SAFETY: MLX's argument vector, live during the call.
        let inputs = unsafe { read_vector("closure", inputs)? };
        (function.0)(&inputs)
    };
    // SAFETY: MLX's result slot.
    unsafe { answer(result, body) }
}

unsafe extern "C" fn call_backward(
    result: *mut mlx_sys::mlx_vector_array,
    primals: mlx_sys::mlx_vector_array,
    cotangents: mlx_sys::mlx_vector_array,
    outputs: mlx_sys::mlx_vector_array,
    payload: *mut c_void,
) -> i32 {
    let body = || {
        // SAFETY: the payload is the `BackwardPayload` that this trampoline was registered with.
        let backward = unsafe { &*payload.cast::<BackwardPayload>() };
        // SAFETY: MLX's argument vectors, live during the call.
        let [primals, cotangents, outputs] = [primals, cotangents, outputs].map(|v| unsafe { read_vector("vjp", v) });
        (backward.0)(&primals?, &cotangents?, &outputs?)
    };
    // SAFETY: MLX's result slot.
    unsafe { answer(result, body) }
}

/// Drops what was given to MLX as a `Box<T>`.
pub(super) unsafe extern "C" fn drop_payload<T>(payload: *mut c_void) {
    // SAFETY: made by `Box::into_raw` of a `T`; MLX calls the destructor once.
    let payload = unsafe { Box::from_raw(payload.cast::<T>()) };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // No driver waits for this panic, and its own destructor could panic again.
        std::mem::forget(panic);
    }
}

fn new_closure<'a>(function: Box<Function<'a>>) -> mlx_sys::mlx_closure {
    initialise();
    let payload = Box::into_raw(Box::new(FunctionPayload(function))).cast::<c_void>();
    // SAFETY: trampoline, payload and destructor belong together.
    unsafe {
        mlx_sys::mlx_closure_new_func_payload(Some(call_function), payload, Some(drop_payload::<FunctionPayload<'a>>))
    }
}

/// A closure that MLX may keep as long as any graph node that came out of it.
///
/// MLX calls it on the thread that asks for the gradient, and may drop it on one of its own, so it must be `Send`.
pub(crate) struct Closure(mlx_sys::mlx_closure);

impl Closure {
    pub(crate) fn new(function: impl Fn(&[Array]) -> Result<Vec<Array>> + Send + 'static) -> Self {
        Closure(new_closure(Box::new(function)))
    }

    fn derive(operation: &'static str, make: impl FnOnce(*mut mlx_sys::mlx_closure) -> i32) -> Result<Self> {
        // SAFETY: an empty closure, owned by the `Closure` and freed in `drop`.
        let mut closure = Closure(unsafe { mlx_sys::mlx_closure_new() });
        settle(operation, make(&mut closure.0))?;
        Ok(closure)
    }

    /// Returns this function with `backward` as its gradient.
    pub(crate) fn with_backward(&self, operation: &'static str, backward: &Custom) -> Result<Self> {
        // SAFETY: live closures; MLX shares their payloads by reference count.
        Self::derive(operation, |result| unsafe { mlx_sys::mlx_custom_vjp(result, self.0, backward.0) })
    }

    /// Returns this function, to be recomputed in the backward pass.
    pub(crate) fn checkpointed(&self, operation: &'static str) -> Result<Self> {
        // SAFETY: as above.
        Self::derive(operation, |result| unsafe { mlx_sys::mlx_checkpoint(result, self.0) })
    }

    pub(crate) fn call(&self, operation: &'static str, inputs: &[Array]) -> Result<Vec<Array>> {
        let inputs = ArrayVector::new(inputs);
        let mut outputs = ArrayVector::empty();
        // SAFETY: live closure and vectors.
        settle(operation, unsafe { mlx_sys::mlx_closure_apply(outputs.raw_mut(), self.0, inputs.raw()) })?;
        outputs.to_arrays(operation)
    }
}

impl Drop for Closure {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once.
        unsafe { mlx_sys::mlx_closure_free(self.0) };
    }
}

/// The backward of a [`Closure`]: primals, cotangents, outputs to gradients.
pub(crate) struct Custom(mlx_sys::mlx_closure_custom);

impl Custom {
    pub(crate) fn new(backward: impl Fn(&[Array], &[Array], &[Array]) -> Result<Vec<Array>> + Send + 'static) -> Self {
        initialise();
        let payload = Box::into_raw(Box::new(BackwardPayload(Box::new(backward)))).cast::<c_void>();
        // SAFETY: trampoline, payload and destructor belong together.
        Custom(unsafe {
            mlx_sys::mlx_closure_custom_new_func_payload(
                Some(call_backward),
                payload,
                Some(drop_payload::<BackwardPayload>),
            )
        })
    }
}

impl Drop for Custom {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once.
        unsafe { mlx_sys::mlx_closure_custom_free(self.0) };
    }
}

/// A closure that is gone when the call that takes it returns, and so may borrow.
pub(crate) struct ScopedClosure<'a> {
    handle: mlx_sys::mlx_closure,
    borrows: PhantomData<&'a ()>,
}

impl<'a> ScopedClosure<'a> {
    pub(crate) fn new(function: impl Fn(&[Array]) -> Result<Vec<Array>> + 'a) -> Self {
        ScopedClosure { handle: new_closure(Box::new(function)), borrows: PhantomData }
    }

    /// Outputs, and the gradients of their inner product with `cotangents` with respect to `primals`.
    pub(crate) fn vjp(
        self,
        operation: &'static str,
        primals: &[Array],
        cotangents: &[Array],
    ) -> Result<(Vec<Array>, Vec<Array>)> {
        let (primals, cotangents) = (ArrayVector::new(primals), ArrayVector::new(cotangents));
        let (mut outputs, mut gradients) = (ArrayVector::empty(), ArrayVector::empty());
        // SAFETY: live closure and vectors; MLX calls the closure before it returns and keeps nothing of it.
        let status = unsafe {
            mlx_sys::mlx_vjp(outputs.raw_mut(), gradients.raw_mut(), self.handle, primals.raw(), cotangents.raw())
        };
        settle(operation, status)?;
        Ok((outputs.to_arrays(operation)?, gradients.to_arrays(operation)?))
    }
}

impl Drop for ScopedClosure<'_> {
    fn drop(&mut self) {
        // SAFETY: owned, and freed once.
        unsafe { mlx_sys::mlx_closure_free(self.handle) };
    }
}
