//! Records of the results of one machine, for comparison with another's.

use super::cases::{cases, runs_at};
use super::draw::Draw;
use super::experiment::{Experiment, Way, dtypes};
use super::report::{Report, distance};
use super::tolerance::Tolerance;
#[cfg(feature = "emulator")]
use crate::Backend;
#[cfg(feature = "emulator")]
use crate::backend::with_backend;
use crate::kernel::declaration::{Declaration, Route};
#[cfg(feature = "emulator")]
use crate::kernel::launch::emulated::{EmulatedLaunch, with_launches};
use crate::kernel::signature::PortDtype;
use crate::{Dtype, Error, Result, Session};

/// The results of a kernel's own source, or of its backward's, at one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Case, dtype, and which output or gradient: the same on every machine.
    pub subject: String,
    /// The least precise of the dtypes that the elements were computed and stored in.
    pub rounded_to: Dtype,
    /// The elements, whatever their dtype.
    pub values: Vec<f32>,
}

/// All that a kernel computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Outputs and gradients of all cases.
    pub results: Vec<Recorded>,
    /// Cases that the backend has no counterpart for, with the reason.
    pub refused: Vec<String>,
}

/// Computes outputs and gradients of a kernel at all cases and dtypes, by its own text.
///
/// # Errors
/// What the kernel returns. Backwards are computed with their forwards and give an empty record of their own.
pub fn record(_session: &mut Session, declaration: &'static Declaration) -> Result<Record> {
    let mut record = Record::default();
    if matches!(declaration.route, Route::Backward { .. }) {
        return Ok(record);
    }
    let differentiable = matches!(declaration.route, Route::Gradient { .. });
    for (case, dtype) in cases(declaration)
        .iter()
        .flat_map(|case| dtypes(declaration.signature).into_iter().map(move |dtype| (case, dtype)))
    {
        if !runs_at(declaration, case)? {
            continue;
        }
        let place = format!("{case}, {dtype}");
        let experiment = Experiment::new(declaration, case, &Draw::default(), dtype, dtype)?;
        let found = if differentiable {
            experiment.compute(Way::Kernel).map(|found| (found.outputs, found.gradients))
        } else {
            experiment.outputs(Way::Kernel).map(|outputs| (outputs, Vec::new()))
        };
        let rounded = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
        match found {
            Err(Error::Untranslated { message, .. }) => record.refused.push(format!("{place}: {message}")),
            Err(error) => return Err(error),
            Ok((outputs, gradients)) => {
                for (port, values) in outputs {
                    let subject = format!("{place}: `{}`", port.name);
                    let free = case.dtypes.iter().find(|(name, _)| port.dtype == PortDtype::Parameter(name));
                    let rounded_to = free.map_or(dtype, |(_, free)| less_precise(dtype, *free));
                    record.results.push(Recorded { subject, rounded_to, values: rounded(values) });
                }
                for (place_of, values) in experiment.places.iter().zip(gradients) {
                    let subject = format!("{place}: gradient of `{}`", declaration.signature.inputs[*place_of].name);
                    let values = values.map_or_else(Vec::new, rounded);
                    record.results.push(Recorded { subject, rounded_to: dtype, values });
                }
            }
        }
    }
    Ok(record)
}

fn less_precise(a: Dtype, b: Dtype) -> Dtype {
    if Tolerance::new(a).machine < Tolerance::new(b).machine { b } else { a }
}

/// Computes outputs and gradients of a kernel as [`record`] does, in the emulator, and returns its launches with their
/// results: for another way to run the same sources.
///
/// # Errors
/// As [`record`]; also if the kernel cannot run in the emulator, or the emulator finds a defect.
#[cfg(feature = "emulator")]
pub fn emulated_launches(session: &mut Session, declaration: &'static Declaration) -> Result<Vec<EmulatedLaunch>> {
    let run = || with_backend(Backend::Emulated, || record(session, declaration));
    let (recorded, launches) = with_launches(run);
    recorded.map(|_| launches)
}

/// Checks what this machine computed against what another did.
pub fn compare(declaration: &'static Declaration, found: &Record, reference: &Record) -> Report {
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|value| f64::from(*value)).collect() };
    let mut report = Report::new(declaration.signature.name);
    for result in &found.results {
        let other = reference.results.iter().find(|other| other.subject == result.subject);
        let deviation = other.map_or(f64::NAN, |other| distance(&wide(&result.values), &wide(&other.values)));
        let mut subject = result.subject.clone();
        if other.is_none() {
            subject += ", which the record does not have";
        }
        report.compare(subject, deviation, Tolerance::new(result.rounded_to).machine);
    }
    report.notes.extend(found.refused.iter().map(|refused| format!("the fallback runs at {refused}")));
    report
}
