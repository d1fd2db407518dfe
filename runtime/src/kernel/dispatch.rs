//! Decides what runs: the kernel with its paired gradient, or the fallback, which MLX differentiates itself.

use std::marker::PhantomData;

use mlx_rs::Array;

use super::binding::{Symbols, bind, check_outputs};
use super::call::{Call, Outputs, Stages};
use super::declaration::{Body, Declaration, Fallback, Kernel, Run};
use super::launch;
use super::mutation;
use super::preference::prefers_fallback;
use super::signature::{Port, PortRole, Sample};
use super::tally;
use super::value::{ConstantValue, Content, PortValue, ScalarValue};
use crate::cut::{self, CutKind};
use crate::error::Context as _;
use crate::kept;
use crate::tensor::{Origin, TraceId, foreign};
use crate::transform::{custom_vjp_arrays, vjp_arrays};
use crate::{Backend, Error, Graph, Infer, Result, Train};

/// Calls a kernel. Generated functions end here.
///
/// # Errors
/// What does not fit the signature; a kernel that cannot run on this backend; whatever its body returns.
pub fn call<K: Kernel, M: Graph>(
    inputs: Vec<PortValue>,
    scalars: &[ScalarValue],
    constants: &[(&'static str, ConstantValue)],
) -> Result<Outputs<M>> {
    let request = Request::new(K::declaration(), inputs, scalars, constants)?;
    match path(request.declaration, &request.symbols, crate::backend()?)? {
        Path::Kernel => request.run_kernel_or_fallback::<M>(),
        Path::Fallback(fallback) => request.run_fallback::<M>(fallback),
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
) -> Result<Outputs<Infer>> {
    let (caller, stage) = (stages.0, K::declaration());
    if !caller.stages().iter().any(|listed| std::ptr::eq(*listed, stage)) {
        let name = stage.signature.name;
        let message = format!("its body launches `{name}`, which is not among its `stages = [..]`: list it there");
        return Err(Error::Kernel { kernel: caller.signature.name, port: None, message });
    }
    let request = Request::new(stage, inputs, scalars, constants)?;
    check_requirements(request.declaration, &request.symbols)?;
    request.run_kernel::<Infer>()
}

/// What runs.
#[derive(Debug)]
enum Path {
    /// The kernel's own body, with its gradient beside it.
    Kernel,
    /// The fallback.
    Fallback(Fallback),
}

/// What runs on a backend at these sizes: the kernel where it can, unless its fallback is measured to be faster there.
///
/// # Errors
/// [`Error::Kernel`] if nothing of the kernel can.
fn path(declaration: &'static Declaration, symbols: &Symbols, backend: Backend) -> Result<Path> {
    let runs = runs_on(declaration, backend);
    let allowed = check_requirements(declaration, symbols);
    match (runs, allowed, declaration.fallback()) {
        (true, Ok(()), Some(fallback))
            if prefers_fallback(declaration.is_portable(), fallback.preferred_on.contains(&backend)) =>
        {
            Ok(Path::Fallback(fallback))
        }
        (true, Ok(()), _) => Ok(Path::Kernel),
        (_, _, Some(fallback)) => Ok(Path::Fallback(fallback)),
        (true, Err(error), None) => Err(error),
        (false, _, None) => {
            let message =
                format!("it launches GPU code and has no fallback, so it cannot run on the {backend} backend");
            Err(Error::Kernel { kernel: declaration.signature.name, port: None, message })
        }
    }
}

/// Whether the body of a kernel, and that of its backward, can run on a backend at all.
pub(super) fn runs_on(declaration: &'static Declaration, backend: Backend) -> bool {
    declaration.is_portable()
        || match backend {
            // What CUDA has no counterpart of depends on sizes, and shows when a launch is made.
            Backend::Metal | Backend::Cuda | Backend::Emulated => true,
            Backend::Cpu => false,
        }
}

/// Holds the sizes of a call against what the kernel requires of them.
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
pub(super) struct Request {
    declaration: &'static Declaration,
    inputs: Vec<PortValue>,
    symbols: Symbols,
    scalars: Vec<ScalarValue>,
    origin: Origin,
}

impl Request {
    pub(super) fn new(
        declaration: &'static Declaration,
        mut inputs: Vec<PortValue>,
        scalars: &[ScalarValue],
        constants: &[(&'static str, ConstantValue)],
    ) -> Result<Self> {
        let origin = Origin::join(declaration.signature.name, inputs.iter().map(PortValue::origin))?;
        let constants: Vec<_> = constants.iter().map(|(name, value)| (*name, value.0)).collect();
        let symbols = bind(declaration.signature, &inputs, &constants)?;
        launch::hold_places(declaration.signature, &symbols, &mut inputs);
        Ok(Self { declaration, inputs, symbols, scalars: scalars.to_vec(), origin })
    }

    /// The kernel, or its fallback where the backend has no counterpart of the kernel's text at these sizes.
    fn run_kernel_or_fallback<M: Graph>(self) -> Result<Outputs<M>> {
        let Some(fallback) = self.declaration.fallback() else { return self.run_kernel() };
        match self.clone().run_kernel() {
            Err(Error::Untranslated { .. }) => self.run_fallback(fallback),
            result => result,
        }
    }

    /// The kernel's own body. Its gradient is made only where somebody wants it.
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

    /// The fallback as it is: MLX differentiates its operations.
    pub(super) fn run_fallback<M: Graph>(self, fallback: Fallback) -> Result<Outputs<M>> {
        let values = if M::TRAINING { self.run_function(fallback.train)? } else { self.run_function(fallback.infer)? };
        Ok(self.outputs(values))
    }

    /// What the caller gets: one value for each visible output.
    fn outputs<M: Graph>(self, values: Vec<Option<PortValue>>) -> Outputs<M> {
        Outputs { declaration: self.declaration, values, symbols: self.symbols, origin: self.origin, mode: PhantomData }
    }

    fn run_function<M: Graph>(&self, function: Run<M>) -> Result<Vec<Option<PortValue>>> {
        tally::count(self.declaration.signature.name, |calls| calls.fallback += 1);
        let outputs = function(&self.as_call(&[]))?;
        let ports: Vec<&'static Port> = self.declaration.signature.visible_outputs().collect();
        check_outputs(self.declaration, &ports, &outputs, &self.symbols)?;
        self.check_origins(&outputs)?;
        Ok(outputs)
    }

    /// Holds that a body or a fallback returns what it computed from its inputs.
    fn check_origins(&self, outputs: &[Option<PortValue>]) -> Result<()> {
        let name = self.declaration.signature.name;
        let own = Origin::join(name, self.inputs.iter().map(PortValue::origin))?.trace;
        for output in outputs.iter().flatten() {
            if output.origin().trace.is_some_and(|trace| Some(trace) != own) {
                return Err(foreign(name, "an output"));
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
        // Nothing differentiates through a body: its gradient is the backward's or the fallback's.
        let _pause = cut::Pause::new();
        let outputs = match &self.declaration.body {
            Body::Launch(launch) => {
                let arrays: Vec<&Array> = self.inputs.iter().map(PortValue::array).collect();
                let absent: Vec<bool> = self.inputs.iter().map(PortValue::is_absent).collect();
                let launch = launch::Request {
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
                let _body = mutation::InBody::of(self.declaration);
                run(&self.as_call(wants))?
            }
        };
        self.check_origins(&outputs)?;
        let ports: Vec<&'static Port> = self.declaration.signature.outputs.iter().collect();
        check_outputs(self.declaration, &ports, &outputs, &self.symbols)?;
        tally::count(self.declaration.signature.name, |calls| calls.kernel += 1);
        Ok(outputs)
    }

    /// Every output of the body, with the declared gradient for MLX to ask.
    fn differentiated(&self) -> Result<Vec<Option<PortValue>>> {
        let name = self.declaration.signature.name;
        let places = self.differentiable_places();
        let primals: Vec<Array> = places.iter().map(|place| self.inputs[*place].array().clone()).collect();
        let forward = {
            let request = self.detached();
            let places = places.clone();
            move |primals: &[Array]| request.with_primals(&places, primals, Origin::alone()).run_forward()
        };
        let outputs = match (self.declaration.backward(), self.declaration.fallback()) {
            (Some(backward), fallback) => {
                let request = self.detached();
                let wants: Vec<bool> = self.inputs.iter().map(|input| input.origin().needs_gradient).collect();
                custom_vjp_arrays(name, &primals, forward, move |primals, cotangents, outputs| {
                    let call = request.with_primals(&places, primals, Origin::alone());
                    match (call.run_backward(backward, &places, &wants, cotangents, outputs), fallback) {
                        (Err(Error::Untranslated { .. }), Some(fallback)) => {
                            request.differentiate_fallback(fallback, &places, primals, cotangents)
                        }
                        (result, _) => result,
                    }
                })?
            }
            (None, Some(fallback)) => {
                let request = self.detached();
                custom_vjp_arrays(name, &primals, forward, move |primals, cotangents, _| {
                    request.differentiate_fallback(fallback, &places, primals, cotangents)
                })?
            }
            (None, None) => {
                let message = "it has no gradient, and a training graph asks for one".to_owned();
                return Err(Error::Kernel { kernel: name, port: None, message });
            }
        };
        if let Some(backward) = self.declaration.backward() {
            self.note_ignored(backward, &outputs);
        }
        if let (Some(reason), Some(output)) = (self.declaration.untested, outputs.first()) {
            let place = (self.declaration.file, self.declaration.line);
            let reason = format!("`{name}` declares `untested = {reason:?}`");
            cut::note_at(place, CutKind::Untested, &reason, output, self.origin.needs_gradient);
        }
        self.note_exceptions();
        Ok(floats(outputs))
    }

    fn note_ignored(&self, backward: &'static Declaration, outputs: &[Array]) {
        for name in backward.signature.ignores {
            let place = self.declaration.signature.outputs.iter().position(|port| port.name == *name);
            if let Some(output) = place.and_then(|place| outputs.get(place)) {
                let reason = format!("`{}` declares `ignores({name})`", backward.signature.name);
                let place = (backward.file, backward.line);
                cut::note_at(place, CutKind::IgnoredOutput, &reason, output, self.origin.needs_gradient);
            }
        }
    }

    /// What the generated checks take on trust: gradients that differ, and values that are never drawn.
    fn note_exceptions(&self) {
        let place = (self.declaration.file, self.declaration.line);
        for (port, input) in self.declaration.signature.inputs.iter().zip(&self.inputs) {
            let needed = input.origin().needs_gradient;
            if let Some(reason) = port.differs(self.declaration) {
                let reason = format!("`d_{}` is not the derivative: {reason}", port.name);
                cut::note_at(place, CutKind::DifferingGradient, &reason, input.array(), needed);
            }
            if let Sample::Domain(low, high, reason) = port.sample {
                let reason = format!("`{}` is checked between {low} and {high} only: {reason}", port.name);
                cut::note_at(place, CutKind::Domain, &reason, input.array(), needed);
            }
        }
    }

    /// Every output, residuals included: of an expensive kernel what was kept of it, if something was.
    fn run_forward(&self) -> Result<Vec<Array>> {
        if self.declaration.is_expensive() {
            kept::outputs(self.declaration.signature.name, || self.compute_forward())
        } else {
            self.compute_forward()
        }
    }

    fn compute_forward(&self) -> Result<Vec<Array>> {
        let outputs = self.run_body(true, &[])?;
        let ports = self.declaration.signature.outputs;
        let arrays = outputs.into_iter().zip(ports).map(|(output, port)| {
            output.map(|output| output.array().clone()).ok_or_else(|| Error::Kernel {
                kernel: self.declaration.signature.name,
                port: Some(port.name),
                message: "the body returned nothing for it".to_owned(),
            })
        });
        arrays.collect()
    }

    /// One gradient for each differentiable input. What nobody wants is zero and never evaluated.
    fn run_backward(
        &self,
        backward: &'static Declaration,
        places: &[usize],
        wants: &[bool],
        cotangents: &[Array],
        outputs: &[Array],
    ) -> Result<Vec<Array>> {
        let forward = self.declaration.signature;
        let place_of = |name: &str| forward.inputs.iter().position(|port| port.name == name);
        let output_of = |name: &str| forward.outputs.iter().position(|port| port.name == name);
        let mut inputs = Vec::new();
        for port in backward.signature.inputs {
            let value = if let Some(place) = place_of(port.name) {
                self.inputs[place].clone()
            } else if let Some(array) = output_of(port.name).and_then(|output| outputs.get(output)) {
                PortValue::float(array.clone())
            } else if let Some(array) =
                port.name.strip_prefix("d_").and_then(output_of).and_then(|output| cotangents.get(output))
            {
                PortValue::float(array.clone())
            } else {
                return Err(Error::Kernel {
                    kernel: backward.signature.name,
                    port: Some(port.name),
                    message: format!("`{}` has nothing of that name", forward.name),
                });
            };
            inputs.push(value);
        }
        let free = backward.signature.constants.iter().filter(|constant| constant.bound.is_none());
        let constants: Vec<_> = free
            .filter_map(|constant| Some((constant.name, ConstantValue(self.symbols.value(constant.name)?))))
            .collect();
        let scalar_of = |name: &str| forward.scalars.iter().position(|scalar| scalar.name == name);
        let scalars: Vec<_> = backward
            .signature
            .scalars
            .iter()
            .filter_map(|scalar| self.scalars.get(scalar_of(scalar.name)?).copied())
            .collect();
        let primal_of = |port: &Port| port.name.strip_prefix("d_").and_then(place_of).unwrap_or(usize::MAX);
        let wanted: Vec<bool> = backward
            .signature
            .outputs
            .iter()
            .map(|port| wants.get(primal_of(port)).copied().unwrap_or(false))
            .collect();
        let gradients = Request::new(backward, inputs, &scalars, &constants)?.run_body(false, &wanted)?;
        let mut by_place: Vec<Option<Array>> = vec![None; forward.inputs.len()];
        for ((port, gradient), wanted) in backward.signature.outputs.iter().zip(gradients).zip(&wanted) {
            match gradient {
                Some(gradient) => by_place[primal_of(port)] = Some(gradient.array().clone()),
                None if *wanted => {
                    return Err(Error::Kernel {
                        kernel: backward.signature.name,
                        port: Some(port.name),
                        message: "the gradient is wanted, and the body returned none".to_owned(),
                    });
                }
                None => {}
            }
        }
        let gradients = places.iter().map(|place| match by_place[*place].take() {
            Some(gradient) => Ok(gradient),
            None => mlx_rs::ops::zeros_like(self.inputs[*place].array()).during(forward.name),
        });
        gradients.collect()
    }

    /// The gradient of the fallback at `primals`.
    fn differentiate_fallback(
        &self,
        fallback: Fallback,
        places: &[usize],
        primals: &[Array],
        cotangents: &[Array],
    ) -> Result<Vec<Array>> {
        let outputs = self.declaration.signature.outputs;
        // Residuals are none of the fallback's outputs, and integers have no cotangent.
        let differentiable = |value: &PortValue| value.dtype().is_float();
        let visible = outputs.iter().zip(cotangents).filter(|(port, _)| port.role == PortRole::Output);
        let cotangents: Vec<Array> = visible
            .filter(|(port, _)| self.symbols.port_dtype(port).is_some_and(|dtype| dtype.is_float()))
            .map(|(_, cotangent)| cotangent.clone())
            .collect();
        let origin = Origin::of(TraceId::fresh(), true);
        let function = |primals: &[Array]| {
            let request = self.with_primals(places, primals, origin);
            let outputs = request.run_function::<Train>(fallback.train)?;
            Ok(outputs.into_iter().flatten().filter(differentiable).map(|value| value.array().clone()).collect())
        };
        let (_, gradients) = vjp_arrays(self.declaration.signature.name, function, primals, &cotangents)?;
        Ok(gradients)
    }

    /// The inputs that MLX must see as primals.
    fn differentiable_places(&self) -> Vec<usize> {
        let is_tensor = |(_, input): &(usize, &PortValue)| matches!(input.0, Content::Tensor(..));
        self.inputs.iter().enumerate().filter(is_tensor).map(|(place, _)| place).collect()
    }

    /// The same call without its differentiable arrays: they come back as primals, so that none is captured.
    fn detached(&self) -> Self {
        let mut request = self.clone();
        for place in self.differentiable_places() {
            // Only shape and dtype are of use from here on, and those are bound.
            request.inputs[place] = PortValue::float(Array::from_f32(0.0));
        }
        request
    }

    fn with_primals(&self, places: &[usize], primals: &[Array], origin: Origin) -> Self {
        let mut request = self.clone();
        for (place, primal) in places.iter().zip(primals) {
            request.inputs[*place] = PortValue(Content::Tensor(primal.clone(), origin));
        }
        request
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
            let request = Request::new(declaration, vec![x], &[], &[]).unwrap();
            let found = match path(declaration, &request.symbols, backend).unwrap() {
                Path::Kernel => "kernel",
                Path::Fallback(_) => "fallback",
            };
            assert_eq!(found, expected, "{} on {backend} at {n}", declaration.signature.name);
        }
    }
}
