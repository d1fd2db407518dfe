//! A session: the device, and the way from stored weights into a graph and back.

use std::marker::PhantomData;

use crate::backend::{Backend, backend};
use crate::error::Result;
use crate::ffi;
use crate::mode::{Infer, Stored};
use crate::parameters::{Parameters, Path};
use crate::repeat::Repeats;
use crate::running::{self, Running};
use crate::tensor::{Origin, TraceId};

/// The right to compute on this thread. Drivers borrow it mutably while a graph runs. Values are in [`Stored`] tensors,
/// which only drivers return, so a running graph has none to read. While it runs, no other session of the thread runs a
/// graph.
#[derive(Debug)]
pub struct Session {
    backend: Backend,
    /// The schedule of the steps that are compared.
    repeats: Repeats,
    /// MLX's streams belong to threads.
    not_send: PhantomData<*const ()>,
}

impl Session {
    /// Opens a session on the [backend](backend()) of this process.
    ///
    /// # Errors
    /// [`Error::Backend`](crate::Error::Backend) if the one that `COTANGENT_BACKEND` names is not available;
    /// [`Error::Refused`](crate::Error::Refused) inside a graph, which has borrowed its own session so that it reads no
    /// values.
    pub fn new() -> Result<Self> {
        running::outside("Session::new", "opened")?;
        let backend = backend()?;
        backend.make_default()?;
        Ok(Session { backend, repeats: Repeats::default(), not_send: PhantomData })
    }

    /// Drivers that train hold what this returns as long as they run functions of models.
    ///
    /// # Errors
    /// [`Error::Refused`](crate::Error::Refused) inside a graph, whatever session runs it.
    pub(crate) fn run(&mut self, operation: &'static str) -> Result<Running<'_>> {
        Running::enter(operation, &mut self.repeats, true)
    }

    /// Returns the backend on which this session computes.
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
    /// What `function` returns, and MLX's errors at evaluation; [`Error::Refused`](crate::Error::Refused) inside another
    /// graph, and for a result that was computed in another.
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
        let operation = "infer";
        let running = Running::enter(operation, &mut self.repeats, false)?;
        let trace = TraceId::fresh();
        let result = function(&enter(parameters, trace)?, &enter(state, trace)?, host).and_then(|output| {
            let mut arrays = Vec::new();
            output.visit(&mut Path::root(), &mut |_, tensor| arrays.push(tensor.array()));
            ffi::evaluate(operation, arrays)?;
            output.convert(&mut Path::root(), &mut |path, tensor| {
                tensor.clone().leave(trace, operation, || match path.as_str() {
                    "" => "the result".to_owned(),
                    name => format!("the result `{name}`"),
                })?;
                Ok(tensor.in_mode(Origin::HOST))
            })
        });
        running.finish(result)
    }
}

fn enter<P: Parameters<Mode = Stored>>(tree: &P, trace: TraceId) -> Result<P::In<Infer>> {
    tree.convert(&mut Path::root(), &mut |path, tensor| {
        Ok(tensor.in_mode(Origin::new(trace, false).named(path.as_str())))
    })
}
