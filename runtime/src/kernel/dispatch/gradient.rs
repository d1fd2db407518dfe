//! The gradient of a kernel: its paired backward, or that of its fallback.

use mlx_rs::Array;

use super::{BoundCall, floats};
use crate::cut::{self, CutKind};
use crate::error::Context as _;
use crate::kept;
use crate::kernel::declaration::{Declaration, Fallback};
use crate::kernel::signature::{Port, PortRole, Sample};
use crate::kernel::value::{ConstantValue, Content, PortValue};
use crate::tensor::{Origin, TraceId};
use crate::transform::{custom_vjp_arrays, vjp_arrays};
use crate::{Error, Result, Train};

impl BoundCall {
    /// Every output of the body, with the declared gradient for MLX to ask.
    pub(super) fn differentiated(&self) -> Result<Vec<Option<PortValue>>> {
        let name = self.declaration.signature.name;
        let places = self.differentiable_places();
        let primals: Vec<Array> = places.iter().map(|place| self.inputs[*place].array().clone()).collect();
        let names = places.iter().map(|place| self.declaration.signature.inputs[*place].name).collect();
        let forward = {
            let request = self.detached();
            let places = places.clone();
            move |primals: &[Array]| request.with_primals(&places, primals, Origin::alone()).run_forward()
        };
        let outputs = match (self.declaration.backward(), self.declaration.fallback()) {
            (Some(backward), fallback) => {
                let request = self.detached();
                let wants: Vec<bool> = self.inputs.iter().map(|input| input.origin().needs_gradient).collect();
                custom_vjp_arrays(name, names, &primals, forward, move |primals, cotangents, outputs| {
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
                custom_vjp_arrays(name, names, &primals, forward, move |primals, cotangents, _| {
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

    pub(super) fn note_ignored(&self, backward: &'static Declaration, outputs: &[Array]) {
        for name in backward.signature.ignores {
            let place = self.declaration.signature.outputs.iter().position(|port| port.name == *name);
            if let Some(output) = place.and_then(|place| outputs.get(place)) {
                let reason = format!("`{}` declares `ignores({name})`", backward.signature.name);
                let place = (backward.file, backward.line);
                cut::note_at(place, CutKind::IgnoredOutput, &reason, output, self.origin.needs_gradient);
            }
        }
    }

    /// Records what the generated checks cannot check: gradients that differ, and values that are never drawn.
    pub(super) fn note_exceptions(&self) {
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
    pub(super) fn run_forward(&self) -> Result<Vec<Array>> {
        if self.declaration.is_expensive() {
            kept::outputs(self.declaration.signature.name, || self.compute_forward())
        } else {
            self.compute_forward()
        }
    }

    pub(super) fn compute_forward(&self) -> Result<Vec<Array>> {
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

    /// One gradient for each differentiable input. What is not wanted is zero and never evaluated.
    pub(super) fn run_backward(
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
        let gradients = BoundCall::new(backward, inputs, &scalars, &constants, &[])?.run_body(false, &wanted)?;
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
    pub(super) fn differentiate_fallback(
        &self,
        fallback: Fallback,
        places: &[usize],
        primals: &[Array],
        cotangents: &[Array],
    ) -> Result<Vec<Array>> {
        let outputs = self.declaration.signature.outputs;
        // Residuals are not outputs of the fallback, and integers have no cotangent.
        let differentiable = |value: &PortValue| value.dtype().is_float();
        let visible = outputs.iter().zip(cotangents).filter(|(port, _)| port.role == PortRole::Output);
        let cotangents: Vec<Array> = visible
            .filter(|(port, _)| self.symbols.port_dtype(port).is_some_and(|dtype| dtype.is_float()))
            .map(|(_, cotangent)| cotangent.clone())
            .collect();
        let origin = Origin::new(TraceId::fresh(), true);
        let function = |primals: &[Array]| {
            let request = self.with_primals(places, primals, origin);
            let outputs = request.run_function::<Train>(fallback.train)?;
            Ok(outputs.into_iter().flatten().filter(differentiable).map(|value| value.array().clone()).collect())
        };
        let (_, gradients) = vjp_arrays(self.declaration.signature.name, function, primals, &cotangents)?;
        Ok(gradients)
    }

    /// The inputs that MLX must see as primals.
    pub(super) fn differentiable_places(&self) -> Vec<usize> {
        let is_tensor = |(_, input): &(usize, &PortValue)| matches!(input.0, Content::Tensor(..));
        self.inputs.iter().enumerate().filter(is_tensor).map(|(place, _)| place).collect()
    }

    /// Returns the call without its differentiable arrays: they come back as primals, so that none is captured.
    pub(super) fn detached(&self) -> Self {
        let mut request = self.clone();
        for place in self.differentiable_places() {
            // Only shape and dtype are needed from here on, and both are bound.
            request.inputs[place] = PortValue::float(Array::from_f32(0.0));
        }
        request
    }

    pub(super) fn with_primals(&self, places: &[usize], primals: &[Array], origin: Origin) -> Self {
        let mut request = self.clone();
        for (place, primal) in places.iter().zip(primals) {
            request.inputs[*place] = PortValue(Content::Tensor(primal.clone(), origin));
        }
        request
    }
}
