//! A session: the device, and the way from stored weights into a graph and back.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::backend::{Backend, backend};
use crate::error::{Error, Result};
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

thread_local! {
    /// How many graphs of this thread run, one inside another.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

/// A graph runs on this thread until this is dropped.
pub(crate) struct Running(());

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(RUNNING.get().saturating_sub(1));
    }
}

impl Session {
    /// Opens a session on the [backend](backend()) of this process.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) if the one that `COTANGENT_BACKEND` names is not to be had;
    /// [`Error::Other`](crate::Error::Other) inside a graph, which has borrowed its own session so that it reads no values.
    pub fn new() -> Result<Self> {
        if RUNNING.get() > 0 {
            return Err(Error::Other(
                "a session was opened while a graph runs, in which there are no values yet; open it before, and read what \
                 the driver returns [C07]"
                    .into(),
            ));
        }
        let backend = backend()?;
        backend.make_default()?;
        Ok(Session { backend, not_send: PhantomData })
    }

    /// Drivers hold what this returns as long as they run functions of models.
    pub(crate) fn run(&mut self) -> Running {
        RUNNING.set(RUNNING.get() + 1);
        Running(())
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
        let _running = self.run();
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
