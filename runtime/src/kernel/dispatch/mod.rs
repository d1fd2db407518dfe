//! Decides what runs: the kernel with its paired gradient, or the fallback, which MLX differentiates itself.

mod gradient;
mod nesting;

use std::marker::PhantomData;

use mlx_rs::Array;

use self::nesting::{check_not_inside, inside};
use super::binding::{Symbols, bind, check_outputs};
use super::call::{Call, Outputs, Stages};
use super::declaration::{Body, Declaration, Fallback, Kernel, Run};
use super::launch;
use super::mutation;
use super::preference::prefers_fallback;
use super::signature::{Port, PortRole};
use super::tally;
use super::value::{ConstantValue, PortValue, ScalarValue};
use crate::cut;
use crate::kept;
use crate::tensor::{Origin, foreign};
use crate::{Backend, Dtype, Error, Graph, Infer, Result};

/// Calls a kernel. Generated functions end here.
///
/// # Errors
/// What does not fit the signature; a kernel that cannot run on this backend; whatever its body returns.
pub fn call<K: Kernel, M: Graph>(
    inputs: Vec<PortValue>,
    scalars: &[ScalarValue],
    constants: &[(&'static str, ConstantValue)],
) -> Result<Outputs<M>> {
    check_not_inside(K::declaration())?;
    let request = BoundCall::new(K::declaration(), inputs, scalars, constants, &[])?;
    match implementation(request.declaration, &request.symbols, crate::backend()?)? {
        Implementation::Kernel => request.run_kernel_or_fallback::<M>(),
        Implementation::Fallback(fallback) => request.run_fallback::<M>(fallback),
    }
}

/// Calls a stage. Only Rust bodies can: they alone have a [`Stages`].
///
/// # Errors
/// As [`call`]; a stage that the body does not list, which no check would then know of.
pub fn call_stage<K: Kernel>(
    stages: &Stages,
    inputs: Vec<PortValue>,
    scalars: &[ScalarValue],
    constants: &[(&'static str, ConstantValue)],
    dtypes: &[(&'static str, Dtype)],
) -> Result<Outputs<Infer>> {
    let (caller, stage) = (stages.0, K::declaration());
    if !caller.stages().iter().any(|listed| std::ptr::eq(*listed, stage)) {
        let name = stage.signature.name;
        let message = format!("its body launches `{name}`, which is not among its `stages = [..]`: list it there");
        return Err(Error::Kernel { kernel: caller.signature.name, port: None, message });
    }
    let request = BoundCall::new(stage, inputs, scalars, constants, dtypes)?;
    check_requirements(request.declaration, &request.symbols)?;
    request.run_kernel::<Infer>()
}

/// The implementation that a call runs.
#[derive(Debug)]
enum Implementation {
    /// The kernel's own body, with its gradient beside it.
    Kernel,
    /// The fallback.
    Fallback(Fallback),
}

/// Returns the implementation that runs on a backend at these sizes: the kernel where it can run, unless its fallback
/// is measured to be faster there.
///
/// # Errors
/// [`Error::Kernel`] if nothing of the kernel can.
fn implementation(declaration: &'static Declaration, symbols: &Symbols, backend: Backend) -> Result<Implementation> {
    let runs = runs_on(declaration, backend);
    let allowed = check_requirements(declaration, symbols);
    match (runs, allowed, declaration.fallback()) {
        (true, Ok(()), Some(fallback))
            if prefers_fallback(declaration.is_portable(), fallback.preferred_on.contains(&backend)) =>
        {
            Ok(Implementation::Fallback(fallback))
        }
        (true, Ok(()), _) => Ok(Implementation::Kernel),
        (_, _, Some(fallback)) => Ok(Implementation::Fallback(fallback)),
        (true, Err(error), None) => Err(error),
        (false, _, None) => {
            let message =
                format!("it launches GPU code and has no fallback, so it cannot run on the {backend} backend");
            Err(Error::Kernel { kernel: declaration.signature.name, port: None, message })
        }
    }
}

/// Returns whether the body of a kernel, and that of its backward, can run on a backend at all.
pub(super) fn runs_on(declaration: &'static Declaration, backend: Backend) -> bool {
    declaration.is_portable()
        || match backend {
            // Whether CUDA has a counterpart of everything depends on sizes, and is seen when a launch is made.
            Backend::Metal | Backend::Cuda | Backend::Emulated => true,
            Backend::Cpu => false,
        }
}

/// Checks the sizes of a call against what the kernel requires of them.
fn check_requirements(declaration: &'static Declaration, symbols: &Symbols) -> Result<()> {
    let signature = declaration.signature;
    let Some(broken) = signature.broken_requirement(&|name| symbols.value(name)) else { return Ok(()) };
    let names = broken.symbols();
    let port = names.iter().find_map(|name| Some(signature.inputs[signature.binding(name)?.input].name));
    let found = names.iter().filter_map(|name| Some(format!("`{name}` = {}", symbols.value(name)?)));
    let message = format!("found {}, expected `{}`", found.collect::<Vec<_>>().join(", "), broken.text);
    Err(Error::Kernel { kernel: signature.name, port, message })
}

/// A call whose arguments fit the signature.
#[derive(Clone)]
pub(super) struct BoundCall {
    declaration: &'static Declaration,
    inputs: Vec<PortValue>,
    symbols: Symbols,
    scalars: Vec<ScalarValue>,
    origin: Origin,
}

impl BoundCall {
    pub(super) fn new(
        declaration: &'static Declaration,
        mut inputs: Vec<PortValue>,
        scalars: &[ScalarValue],
        constants: &[(&'static str, ConstantValue)],
        dtypes: &[(&'static str, Dtype)],
    ) -> Result<Self> {
        let origin = Origin::join(declaration.signature.name, inputs.iter().map(PortValue::origin))?;
        let constants: Vec<_> = constants.iter().map(|(name, value)| (*name, value.0)).collect();
        let symbols = bind(declaration.signature, &inputs, &constants, dtypes)?;
        launch::hold_places(declaration.signature, &symbols, &mut inputs);
        Ok(Self { declaration, inputs, symbols, scalars: scalars.to_vec(), origin })
    }

    /// Runs the kernel, or its fallback where the backend has no counterpart of the kernel source at these sizes.
    fn run_kernel_or_fallback<M: Graph>(self) -> Result<Outputs<M>> {
        let Some(fallback) = self.declaration.fallback() else { return self.run_kernel() };
        match self.clone().run_kernel() {
            Err(Error::Untranslated { .. }) => self.run_fallback(fallback),
            result => result,
        }
    }

    /// The kernel's own body. Its gradient is made only if it is wanted.
    pub(super) fn run_kernel<M: Graph>(self) -> Result<Outputs<M>> {
        let values = if M::TRAINING && self.origin.needs_gradient {
            self.differentiated()?
        } else if M::TRAINING && self.declaration.is_expensive() && kept::is_kept() {
            floats(self.run_forward()?)
        } else {
            self.run_body(false, &[])?
        };
        let outputs = self.declaration.signature.outputs;
        let visible = outputs.iter().zip(values).filter(|(port, _)| port.role == PortRole::Output);
        let values = visible.map(|(_, value)| value).collect();
        Ok(self.outputs(values))
    }

    /// Runs the fallback, whose operations MLX differentiates.
    pub(super) fn run_fallback<M: Graph>(self, fallback: Fallback) -> Result<Outputs<M>> {
        let values = if M::TRAINING { self.run_function(fallback.train)? } else { self.run_function(fallback.infer)? };
        Ok(self.outputs(values))
    }

    /// Returns what the caller gets: one value for each visible output.
    fn outputs<M: Graph>(self, values: Vec<Option<PortValue>>) -> Outputs<M> {
        Outputs { declaration: self.declaration, values, symbols: self.symbols, origin: self.origin, mode: PhantomData }
    }

    fn run_function<M: Graph>(&self, function: Run<M>) -> Result<Vec<Option<PortValue>>> {
        tally::count(self.declaration.signature.name, |calls| calls.fallback += 1);
        let outputs = inside(self.declaration, "fallback", || function(&self.as_call(&[])))?;
        let ports: Vec<&'static Port> = self.declaration.signature.visible_outputs().collect();
        check_outputs(self.declaration, &ports, &outputs, &self.symbols)?;
        self.check_origins(&outputs)?;
        Ok(outputs)
    }

    /// Checks that a body or a fallback returns what it computed from its inputs.
    fn check_origins(&self, outputs: &[Option<PortValue>]) -> Result<()> {
        let name = self.declaration.signature.name;
        let own = Origin::join(name, self.inputs.iter().map(PortValue::origin))?.trace;
        for output in outputs.iter().flatten() {
            if output.origin().trace.is_some_and(|trace| Some(trace) != own) {
                return Err(foreign(name, "an output", output.origin()));
            }
        }
        Ok(())
    }

    fn as_call<'a, M: Graph>(&'a self, wants: &'a [bool]) -> Call<'a, M> {
        Call {
            declaration: self.declaration,
            inputs: &self.inputs,
            symbols: &self.symbols,
            scalars: &self.scalars,
            wants,
            mode: PhantomData,
        }
    }

    /// Every output of the body, residuals included.
    fn run_body(&self, saves: bool, wants: &[bool]) -> Result<Vec<Option<PortValue>>> {
        // Nothing differentiates through a body: its gradient is that of the backward or of the fallback.
        let _pause = cut::Pause::new();
        let outputs = match &self.declaration.body {
            Body::Launch(launch) => {
                let arrays: Vec<&Array> = self.inputs.iter().map(PortValue::array).collect();
                let absent: Vec<bool> = self.inputs.iter().map(PortValue::is_absent).collect();
                let launch = launch::LaunchRequest {
                    declaration: self.declaration,
                    launch,
                    inputs: &arrays,
                    absent: &absent,
                    symbols: &self.symbols,
                    scalars: &self.scalars,
                    saves,
                    wants,
                };
                floats(launch.run()?)
            }
            Body::Rust { run, .. } => {
                let _body = mutation::InBody::new(self.declaration);
                inside(self.declaration, "body", || run(&self.as_call(wants)))?
            }
        };
        self.check_origins(&outputs)?;
        let ports: Vec<&'static Port> = self.declaration.signature.outputs.iter().collect();
        check_outputs(self.declaration, &ports, &outputs, &self.symbols)?;
        tally::count(self.declaration.signature.name, |calls| calls.kernel += 1);
        Ok(outputs)
    }
}

fn floats(arrays: Vec<Array>) -> Vec<Option<PortValue>> {
    arrays.into_iter().map(|array| Some(PortValue::float(array))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    #[crate::differentiable(
        crate = crate,
        fallback = by_operations,
        fallback_on = [cuda],
        requires = [N % 2 == 0],
        cases = [(N = 6), (N = 3)],
    )]
    fn portable(x: In![f32; N], y: Out![f32; N]) {
        Ok(Outputs { y: x.clone() })
    }

    #[crate::differentiable(
        crate = crate,
        fallback = by_operations,
        fallback_on = [metal, cuda],
        grid = (N, 1, 1),
        threads = (32, 1, 1),
        cases = [(N = 3)],
    )]
    fn launched(x: In![f32; N], y: Out![f32; N]) {
        metal! { y[thread_position_in_grid.x] = x[thread_position_in_grid.x]; }
    }

    fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
        Ok(x.clone())
    }

    #[test]
    fn the_fallback_runs_where_it_is_faster_and_where_the_kernel_cannot() {
        use Backend::{Cpu, Cuda, Emulated, Metal};
        for (declaration, backend, n, expected) in [
            (portable::declaration(), Metal, 4, "kernel"),
            (portable::declaration(), Cpu, 4, "kernel"),
            (portable::declaration(), Cuda, 4, "fallback"),
            (portable::declaration(), Metal, 3, "fallback"),
            (launched::declaration(), Emulated, 3, "kernel"),
            (launched::declaration(), Metal, 3, "fallback"),
            (launched::declaration(), Cuda, 3, "fallback"),
            (launched::declaration(), Cpu, 3, "fallback"),
        ] {
            let x = PortValue::float(Array::from_slice(&vec![0.0_f32; n as usize], &[n]));
            let request = BoundCall::new(declaration, vec![x], &[], &[], &[]).unwrap();
            let found = match implementation(declaration, &request.symbols, backend).unwrap() {
                Implementation::Kernel => "kernel",
                Implementation::Fallback(_) => "fallback",
            };
            assert_eq!(found, expected, "{} on {backend} at {n}", declaration.signature.name);
        }
    }
}
