//! Gradient checks of kernels, at the sizes that their declarations name.
//!
//! The kernel's own pair is held against its fallback, outputs and gradients, and both against finite differences:
//! symmetric directional derivatives, one for each differentiable input, so that an error in one input's gradient does
//! not hide behind another's.

use std::fmt;

use mlx_rs::Array;

use super::declaration::{Declaration, Fallback, Route};
use super::dispatch::{Request, runs_on};
use super::signature::{Case, PortDtype, PortRole, Sample, ScalarKind, Signature};
use super::value::{ConstantValue, Content, PortValue, ScalarValue};
use crate::tensor::{Origin, TraceId};
use crate::transform::vjp_arrays;
use crate::{Constant, Dtype, Error, Indices, Infer, Mask, Result, Session, Stored, Tensor, Train};

/// Half the step of a finite difference. Values are float32: a smaller step would measure rounding.
const STEP: f32 = 1e-2;
/// How far a directional derivative may be from the finite difference, relative to the gradient's length.
const DIFFERENCE_BOUND: f64 = 2e-2;
/// How far the pair may be from the fallback, relative to the largest value.
const FALLBACK_BOUND: f64 = 1e-4;

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report {
    kernel: &'static str,
    comparisons: Vec<Comparison>,
}

/// Two numbers that should agree.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What is compared, at which case.
    pub subject: String,
    /// How far the two are apart, relative to their size.
    pub deviation: f64,
    /// How far they may be.
    pub bound: f64,
}

impl Comparison {
    /// Whether the two agree; what is not a number agrees with nothing.
    pub fn passed(&self) -> bool {
        self.deviation <= self.bound
    }
}

impl Report {
    /// Whether everything agreed.
    pub fn passed(&self) -> bool {
        self.comparisons.iter().all(Comparison::passed)
    }

    /// Everything that was compared.
    pub fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "kernel `{}`", self.kernel)?;
        for comparison in &self.comparisons {
            let verdict = if comparison.passed() { "ok  " } else { "FAIL" };
            let Comparison { subject, deviation, bound } = comparison;
            writeln!(formatter, "  {verdict} {deviation:9.2e} of {bound:.0e}  {subject}")?;
        }
        Ok(())
    }
}

/// Checks the gradient of a kernel at each of its cases, on the session's backend, in float32.
///
/// Stages and inference-only kernels have no gradient: they are run where the backend can, and what they write must be
/// numbers (on the `emulated` backend, free of races and reads out of bounds as well). A backward is checked with its
/// forward. A case that breaks a requirement of the kernel checks the fallback alone; where the fallback is preferred
/// because it is faster, the kernel is checked all the same.
///
/// # Errors
/// What the kernel or its fallback returns.
pub fn check(_session: &mut Session, declaration: &'static Declaration) -> Result<Report> {
    let mut report = Report { kernel: declaration.signature.name, comparisons: Vec::new() };
    for case in declaration.cases {
        match declaration.route {
            Route::Gradient { .. } => check_case(declaration, case, &mut report)?,
            Route::Stage | Route::InferenceOnly { .. } => run_case(declaration, case, &mut report)?,
            Route::Backward { .. } => {}
        }
    }
    Ok(report)
}

fn run_case(declaration: &'static Declaration, case: Case, report: &mut Report) -> Result<()> {
    if !runs_at(declaration, case)? {
        return Ok(());
    }
    let experiment = Experiment::new(declaration, case)?;
    let mut broken = 0;
    for output in experiment.run(Way::Kernel, &experiment.primals(), None)? {
        broken += read(output)?.iter().filter(|value| !value.is_finite()).count();
    }
    let subject = format!("outputs that are no numbers ({})", sizes(case));
    report.comparisons.push(Comparison { subject, deviation: broken as f64, bound: 0.0 });
    Ok(())
}

/// Whether the kernel itself can run a case on this backend, be its fallback faster there or not.
fn runs_at(declaration: &'static Declaration, case: Case) -> Result<bool> {
    let value_of = |name: &str| case.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    Ok(runs_on(declaration, crate::backend()?) && declaration.signature.broken_requirement(&value_of).is_none())
}

fn sizes(case: Case) -> String {
    let sizes: Vec<String> = case.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    sizes.join(", ")
}

/// One of the ways to compute the same function.
#[derive(Clone, Copy)]
enum Way {
    Kernel,
    Fallback(Fallback),
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Kernel => "kernel",
            Way::Fallback(_) => "fallback",
        }
    }
}

/// What one way computed, on the host.
struct Computed {
    way: Way,
    outputs: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
}

fn check_case(declaration: &'static Declaration, case: Case, report: &mut Report) -> Result<()> {
    let signature = declaration.signature;
    let sizes = sizes(case);
    let experiment = Experiment::new(declaration, case)?;

    let mut ways = Vec::new();
    if runs_at(declaration, case)? {
        ways.push(Way::Kernel);
    }
    ways.extend(declaration.fallback().map(Way::Fallback));

    let mut computed: Vec<Computed> = Vec::new();
    for way in ways {
        let result = match experiment.differentiate(way) {
            // Nothing of the kernel runs at these sizes here; its fallback is checked next.
            Err(Error::Untranslated { .. }) if declaration.fallback().is_some() => continue,
            result => result?,
        };
        for (place, gradient) in experiment.places.iter().zip(&result.gradients) {
            report.comparisons.push(Comparison {
                subject: format!(
                    "{} gradient of `{}` against finite differences ({sizes})",
                    way.name(),
                    signature.inputs[*place].name
                ),
                deviation: experiment.difference(way, *place, gradient)?,
                bound: DIFFERENCE_BOUND,
            });
        }
        computed.push(result);
    }
    let [kernel, fallback] = computed.as_slice() else { return Ok(()) };
    let both = format!("{} against {} ({sizes})", kernel.way.name(), fallback.way.name());
    let outputs = signature.visible_outputs().filter(|port| experiment.is_float_output(port.name));
    for (port, (left, right)) in outputs.zip(kernel.outputs.iter().zip(&fallback.outputs)) {
        let subject = format!("output `{}`, {both}", port.name);
        report.comparisons.push(Comparison { subject, deviation: distance(left, right), bound: FALLBACK_BOUND });
    }
    for (place, (left, right)) in experiment.places.iter().zip(kernel.gradients.iter().zip(&fallback.gradients)) {
        let subject = format!("gradient of `{}`, {both}", signature.inputs[*place].name);
        report.comparisons.push(Comparison { subject, deviation: distance(left, right), bound: FALLBACK_BOUND });
    }
    Ok(())
}

/// The largest difference, relative to the largest value.
fn distance(left: &[f32], right: &[f32]) -> f64 {
    let scale = right.iter().fold(1e-6_f64, |largest, value| largest.max(f64::from(value.abs())));
    let mut largest = 0.0_f64;
    for (left, right) in left.iter().zip(right) {
        let difference = (f64::from(*left) - f64::from(*right)).abs();
        if !difference.is_finite() {
            return f64::NAN;
        }
        largest = largest.max(difference);
    }
    if left.len() == right.len() { largest / scale } else { f64::NAN }
}

/// One case with its inputs: the same in every run.
struct Experiment {
    declaration: &'static Declaration,
    inputs: Vec<PortValue>,
    scalars: Vec<ScalarValue>,
    constants: Vec<(&'static str, ConstantValue)>,
    /// The differentiable inputs.
    places: Vec<usize>,
    random: Random,
}

impl Experiment {
    fn new(declaration: &'static Declaration, case: Case) -> Result<Self> {
        let signature = declaration.signature;
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let value_of = |name: &str| case.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let mut inputs = Vec::new();
        let mut places = Vec::new();
        for (place, port) in signature.inputs.iter().enumerate() {
            let fail = |message: String| Error::Kernel { kernel: signature.name, port: Some(port.name), message };
            let shape: Option<Vec<i32>> = port
                .shape
                .iter()
                .map(|extent| i32::try_from(extent.value.evaluate(&value_of)?).ok().filter(|extent| *extent >= 0))
                .collect();
            let shape = shape.ok_or_else(|| fail(format!("{} has no value at {case:?}", port.shape_text)))?;
            let count = shape.iter().map(|extent| *extent as usize).product();
            inputs.push(match port.role {
                PortRole::Differentiable | PortRole::Constant => {
                    let (low, high) = match port.sample {
                        Sample::Floats(low, high) => (low as f32, high as f32),
                        _ => (-1.0, 1.0),
                    };
                    let values: Vec<f32> = (0..count).map(|_| random.between(low, high)).collect();
                    let constant = Constant::from_slice(&values, &shape)?.cast(float_dtype(signature, port.dtype))?;
                    if port.role == PortRole::Differentiable {
                        places.push(place);
                        PortValue::float(constant.array().clone())
                    } else {
                        PortValue::from(constant)
                    }
                }
                PortRole::Index => {
                    let (low, high) = match &port.sample {
                        Sample::Integers(low, high) => (low.evaluate(&value_of), high.evaluate(&value_of)),
                        _ => (Some(0), Some(8)),
                    };
                    let (Some(low), Some(high)) = (low, high) else {
                        return Err(fail(format!("its range has no value at {case:?}")));
                    };
                    let values: Vec<i32> = (0..count).map(|_| random.integer(low, high) as i32).collect();
                    PortValue::from(Indices::from_slice(&values, &shape)?)
                }
                _ => {
                    let values: Vec<bool> = (0..count).map(|_| random.integer(0, 2) == 1).collect();
                    PortValue::from(Mask::from_slice(&values, &shape)?)
                }
            });
        }
        let scalars = signature.scalars.iter().map(|scalar| match scalar.kind {
            ScalarKind::F32 => ScalarValue::F32(0.5),
            ScalarKind::I32 => ScalarValue::I32(1),
            ScalarKind::U32 => ScalarValue::U32(1),
            ScalarKind::Bool => ScalarValue::Bool(true),
        });
        let free = signature.constants.iter().filter(|constant| constant.bound.is_none());
        let constants =
            free.filter_map(|constant| Some((constant.name, ConstantValue(value_of(constant.name)?)))).collect();
        Ok(Self { declaration, inputs, scalars: scalars.collect(), constants, places, random })
    }

    fn is_float_output(&self, name: &str) -> bool {
        let signature = self.declaration.signature;
        let port = signature.outputs.iter().find(|port| port.name == name);
        port.is_some_and(|port| match port.dtype {
            PortDtype::Fixed(dtype) => dtype.is_float(),
            PortDtype::Parameter(name) => signature
                .dtypes
                .iter()
                .any(|parameter| parameter.name == name && parameter.class.iter().all(|dtype| dtype.is_float())),
        })
    }

    fn primals(&self) -> Vec<Array> {
        self.places.iter().map(|place| self.inputs[*place].array().clone()).collect()
    }

    /// The visible float outputs at `primals`, as a training graph would compute them.
    fn run(&self, way: Way, primals: &[Array], trace: Option<TraceId>) -> Result<Vec<Array>> {
        let mut inputs = self.inputs.clone();
        for (place, primal) in self.places.iter().zip(primals) {
            let origin = trace.map_or(Origin::HOST, |trace| Origin::of(trace, true));
            inputs[*place] = PortValue(Content::Tensor(primal.clone(), origin));
        }
        let request = Request::new(self.declaration, inputs, &self.scalars, &self.constants)?;
        let values = match (way, trace) {
            (Way::Kernel, Some(_)) => request.run_kernel::<Train>()?.values,
            (Way::Kernel, None) => request.run_kernel::<Infer>()?.values,
            (Way::Fallback(fallback), Some(_)) => request.run_fallback::<Train>(fallback)?.values,
            (Way::Fallback(fallback), None) => request.run_fallback::<Infer>(fallback)?.values,
        };
        let visible = self.declaration.signature.visible_outputs();
        let floats = visible.zip(values).filter(|(port, _)| self.is_float_output(port.name));
        Ok(floats.filter_map(|(_, value)| value).map(|value| value.array().clone()).collect())
    }

    /// Outputs, and gradients of their inner product with the weights of [`Self::weights`].
    fn differentiate(&self, way: Way) -> Result<Computed> {
        let plain = self.run(way, &self.primals(), None)?;
        let mut weights = Vec::new();
        for (weight, output) in self.weights(&plain).into_iter().zip(&plain) {
            let weight = Constant::from_slice(&weight, output.shape())?.cast(Dtype::from_mlx(output.dtype()))?;
            weights.push(weight.array().clone());
        }
        let trace = TraceId::fresh();
        let function = |primals: &[Array]| self.run(way, primals, Some(trace));
        let (outputs, gradients) = vjp_arrays(self.declaration.signature.name, function, &self.primals(), &weights)?;
        let read = |arrays: Vec<Array>| arrays.into_iter().map(read).collect::<Result<Vec<_>>>();
        Ok(Computed { way, outputs: read(outputs)?, gradients: read(gradients)? })
    }

    /// How far the derivative along a random direction of one input is from the finite difference.
    fn difference(&self, way: Way, place: usize, gradient: &[f32]) -> Result<f64> {
        let mut random = self.random.clone();
        let direction: Vec<f32> = gradient.iter().map(|_| if random.integer(0, 2) == 0 { 1.0 } else { -1.0 }).collect();
        let at = |step: f32| -> Result<f64> {
            let mut primals = self.primals();
            let position = self.places.iter().position(|other| *other == place).unwrap_or(0);
            let primal = &primals[position];
            let shape = primal.shape().to_vec();
            let dtype = Dtype::from_mlx(primal.dtype());
            let values: Vec<f32> =
                read(primal.clone())?.iter().zip(&direction).map(|(value, way)| value + step * way).collect();
            primals[position] = Constant::from_slice(&values, &shape)?.cast(dtype)?.array().clone();
            let outputs = self.run(way, &primals, None)?;
            let mut sum = 0.0;
            for (weight, output) in self.weights(&outputs).iter().zip(outputs) {
                let output = read(output)?;
                sum += weight.iter().zip(&output).map(|(w, y)| f64::from(*w) * f64::from(*y)).sum::<f64>();
            }
            Ok(sum)
        };
        let measured = (at(STEP)? - at(-STEP)?) / (2.0 * f64::from(STEP));
        let claimed: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        // A gradient that is zero everywhere is right where the difference is zero, too.
        Ok((measured - claimed).abs() / length.max(1e-3))
    }

    /// Weights of the outputs, whose weighted sum is what is differentiated.
    fn weights(&self, outputs: &[Array]) -> Vec<Vec<f32>> {
        let mut random = Random(0xD1B5_4A32_D192_ED03);
        outputs.iter().map(|output| (0..output.size()).map(|_| random.between(-1.0, 1.0)).collect()).collect()
    }
}

fn read(array: Array) -> Result<Vec<f32>> {
    Tensor::<Stored>::from_parts(array, Origin::HOST).to_vec::<f32>()
}

/// float32 where the class has it.
fn float_dtype(signature: &Signature, dtype: PortDtype) -> Dtype {
    match dtype {
        PortDtype::Fixed(dtype) => dtype,
        PortDtype::Parameter(name) => {
            let class = signature.dtypes.iter().find(|parameter| parameter.name == name);
            let class = class.map_or(&[][..], |parameter| parameter.class);
            if class.contains(&Dtype::F32) { Dtype::F32 } else { class.first().copied().unwrap_or(Dtype::F32) }
        }
    }
}

/// xorshift64*: the same numbers on every machine (S. Vigna, "An experimental exploration of Marsaglia's xorshift
/// generators, scrambled", 2016).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1_u64 << 24) as f32;
        low + (high - low) * unit
    }

    fn integer(&mut self, low: i64, high: i64) -> i64 {
        let span = high.saturating_sub(low).max(1) as u64;
        low.saturating_add((self.next() % span) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_relative_and_nothing_agrees_with_nan() {
        assert_eq!(distance(&[1.0, 2.0], &[1.0, 4.0]), 0.5);
        assert_eq!(distance(&[], &[]), 0.0);
        for comparison in [distance(&[f32::NAN], &[1.0]), distance(&[1.0], &[1.0, 2.0])] {
            assert!(!Comparison { subject: String::new(), deviation: comparison, bound: 1.0 }.passed());
        }
    }
}
