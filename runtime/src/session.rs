//! A session: the device, and the way from stored weights into a graph and back.

use std::marker::PhantomData;

use crate::backend::{Backend, backend};
use crate::error::Result;
use crate::ffi;
use crate::mode::{Infer, Stored};
use crate::parameters::{Parameters, Path};
use crate::tensor::Origin;

/// The right to compute on this thread. Drivers borrow it mutably, so a graph that runs has no values to read:
/// those are in [`Stored`] tensors, which come out of drivers only.
#[derive(Debug)]
pub struct Session {
    backend: Backend,
    /// MLX's streams belong to threads.
    not_send: PhantomData<*const ()>,
}

impl Session {
    /// Opens a session on the [backend](backend()) of this process.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) if the one that `COTANGENT_BACKEND` names is not to be had.
    pub fn new() -> Result<Self> {
        let backend = backend()?;
        backend.make_default()?;
        Ok(Session { backend, not_send: PhantomData })
    }

    /// Where this session computes.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The device's name, the backend and MLX's version: what a measurement says it was made on.
    pub fn description(&self) -> String {
        let unknown = || "unknown".to_owned();
        let name = ffi::device_name().unwrap_or_else(unknown);
        format!("{name}, {} backend, MLX {}", self.backend, ffi::mlx_version().unwrap_or_else(unknown))
    }

    /// Runs `function` without gradients and evaluates what it returns.
    ///
    /// `parameters` and `state` enter as [`Infer`] trees; `host` is data of the caller: indices, masks, lengths.
    ///
    /// # Errors
    /// What `function` returns, and MLX's errors at evaluation.
    pub fn infer<P, S, H, O>(
        &mut self,
        parameters: &P,
        state: &S,
        host: &H,
        function: fn(&P::In<Infer>, &S::In<Infer>, &H) -> Result<O>,
    ) -> Result<O::In<Stored>>
    where
        P: Parameters<Mode = Stored>,
        S: Parameters<Mode = Stored>,
        O: Parameters<Mode = Infer>,
    {
        let output = function(&enter(parameters)?, &enter(state)?, host)?;
        let mut arrays = Vec::new();
        output.visit(&mut Path::root(), &mut |_, tensor| arrays.push(tensor.array()));
        ffi::evaluate("infer", arrays)?;
        output.convert(&mut Path::root(), &mut |_, tensor| Ok(tensor.in_mode(Origin::HOST)))
    }
}

fn enter<P: Parameters<Mode = Stored>>(tree: &P) -> Result<P::In<Infer>> {
    tree.convert(&mut Path::root(), &mut |_, tensor| Ok(tensor.in_mode(Origin::HOST)))
}
