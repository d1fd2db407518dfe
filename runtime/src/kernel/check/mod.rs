//! Checks of kernels that nobody writes: each kernel at the sizes its declaration names, in the dtypes it allows.
//!
//! - Outputs and gradients of the kernel's own pair against those of its fallback: in float32 with the same numbers, in
//!   half precision against the fallback in float32 on the same, already rounded inputs.
//! - Gradients of both against central finite differences in float32: along a random direction of each input, so that an
//!   error in one input's gradient does not hide behind another's, and entry by entry at the largest of the small cases.
//! - At the declared cases and, where there is a sequence, for one token; with all inputs, without each optional one, and
//!   without all of them.
//! - In the emulator each launch runs in two orders of its threads, on outputs full of garbage, and a defect is an error.

mod cases;
mod coverage;
mod declared;
mod differences;
mod experiment;
mod random;
mod record;
mod report;
mod texts;
mod tolerance;

use std::sync::{Mutex, PoisonError};

use self::cases::{Setting, cases, elements, runs_at};
use self::experiment::{Computed, Experiment, Way, dtypes, read};
use self::report::distance;
use self::tolerance::{DIFFERENCE, JACOBIAN, Tolerance};
use super::declaration::{Declaration, Route};
use super::dispatch::runs_on;
use crate::backend::with_backend;
use crate::{Backend, Dtype, Error, Result, Session};

pub use self::coverage::{Check, OnCuda};
pub use self::declared::assert_declared;
pub use self::record::{Record, Recorded, compare, record};
pub use self::report::{Comparison, Report, first_failure};
pub use self::texts::LaunchText;

/// The most elements of a kernel's arrays for which whole Jacobians are made: each of an input takes two forward passes,
/// each of an output a backward pass.
const JACOBIAN_ELEMENTS: u64 = 600;

/// Checks a kernel: where its source runs on the session's backend, there, and in any case in the emulator.
///
/// On the CPU backend sources do not run, so that the check is that of the emulator, which needs a C++ compiler. Without
/// one, the fallback alone is checked and a note says what was not. On a GPU both are checked, one after the other.
///
/// Stages and inference-only kernels have no gradient: what they write must be numbers. A backward is checked with its
/// forward, and its report says so. A case that breaks a requirement of the kernel checks the fallback alone; where the
/// fallback is preferred because it is faster, the kernel is checked all the same.
///
/// # Errors
/// What the kernel or its fallback returns; in the emulator also a defect it found.
pub fn check(session: &mut Session, declaration: &'static Declaration) -> Result<Report> {
    let own = session.backend();
    if own == Backend::Emulated || launches_nothing(declaration) {
        return check_on(own, declaration);
    }
    let emulated = match emulator() {
        Ok(()) => Ok(check_on(Backend::Emulated, declaration)?),
        Err(reason) => Err(format!("the source of `{}` was not run: {reason}", declaration.signature.name)),
    };
    match (own, emulated) {
        (Backend::Cpu, Ok(report)) => Ok(report),
        (own, emulated) => {
            let mut report = check_on(own, declaration)?;
            match emulated {
                Ok(emulated) => report.append(emulated, "in the emulator"),
                Err(note) => report.notes.push(note),
            }
            Ok(report)
        }
    }
}

/// Checks a kernel on one backend, whatever that of the process is: on [`Backend::Emulated`] its source runs on the CPU of
/// any machine, watched for races and accesses out of bounds, and is held against finite differences and its fallback. On
/// [`Backend::Cpu`] sources do not run, and the fallback alone is checked, with a note that says so.
///
/// The report of a backward is one comparison: how many of those of its forward failed.
///
/// # Errors
/// As [`check`]; [`Error::Backend`] if the machine does not have the backend, or has no C++ compiler for the emulator.
pub fn check_on(backend: Backend, declaration: &'static Declaration) -> Result<Report> {
    // Refuses inside a graph, and makes MLX ready.
    Session::new()?;
    if backend == Backend::Emulated && !launches_nothing(declaration) {
        emulator().map_err(Error::Backend)?;
    }
    with_backend(backend, || match declaration.route {
        Route::Backward { of } => {
            let forward = remembered(backend, of())?;
            let failed = forward.comparisons().iter().filter(|comparison| !comparison.passed()).count();
            let mut report = Report::new(declaration.signature.name);
            if !forward.comparisons().is_empty() {
                let (kernel, all) = (of().signature.name, forward.comparisons().len());
                report.compare(
                    format!("failures of {all} comparisons of `{kernel}`, whose backward it is"),
                    failed as f64,
                    0.0,
                );
            }
            report.notes.extend(forward.notes().iter().cloned());
            Ok(report)
        }
        _ => remembered(backend, declaration),
    })
}

/// Whether neither the kernel nor what it is paired with launches a source.
fn launches_nothing(declaration: &'static Declaration) -> bool {
    match declaration.route {
        Route::Backward { of } => of().is_portable(),
        _ => declaration.is_portable(),
    }
}

/// Whether sources can run in the emulator, else why not.
fn emulator() -> std::result::Result<(), String> {
    cotangent_emulator::Emulator::global().map(|_| ()).map_err(|error| error.to_string())
}

/// The report of a kernel, made once in a process: its backward asks for it as well.
fn remembered(backend: Backend, declaration: &'static Declaration) -> Result<Report> {
    type Key = (Backend, &'static str, &'static str, u32);
    static REPORTS: Mutex<Vec<(Key, Result<Report>)>> = Mutex::new(Vec::new());
    let reports = || REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (backend, declaration.signature.module, declaration.signature.name, declaration.line);
    if let Some((_, report)) = reports().iter().find(|(known, _)| *known == key) {
        return report.clone();
    }
    let report = check_cases(backend, declaration);
    reports().push((key, report.clone()));
    report
}

fn check_cases(backend: Backend, declaration: &'static Declaration) -> Result<Report> {
    let mut report = Report::new(declaration.signature.name);
    if !runs_on(declaration, backend) {
        report.notes.push(format!("its source was not run: the {backend} backend runs none"));
    }
    let cases = cases(declaration);
    let small = cases.iter().filter(|case| elements(declaration, case) <= JACOBIAN_ELEMENTS);
    let whole = small.max_by_key(|case| elements(declaration, case));
    for case in &cases {
        for dtype in dtypes(declaration.signature) {
            match declaration.route {
                Route::Gradient { .. } => {
                    let whole = whole.is_some_and(|whole| whole.sizes == case.sizes);
                    check_case(declaration, case, dtype, whole, &mut report)?;
                }
                Route::Stage | Route::InferenceOnly { .. } => run_case(declaration, case, dtype, &mut report)?,
                Route::Backward { .. } => {}
            }
        }
    }
    Ok(report)
}

/// `(S = 7, bfloat16)`
fn place(case: &Setting, dtype: Dtype) -> String {
    if dtype == Dtype::F32 { format!("({case})") } else { format!("({case}, {dtype})") }
}

fn run_case(declaration: &'static Declaration, case: &Setting, dtype: Dtype, report: &mut Report) -> Result<()> {
    if !runs_at(declaration, case)? {
        return Ok(());
    }
    let experiment = Experiment::new(declaration, case, dtype, dtype)?;
    let outputs = match experiment.run(Way::Kernel, &experiment.primals()) {
        Err(Error::Untranslated { message, .. }) => {
            report.notes.push(format!("{} does not run: {message}", place(case, dtype)));
            return Ok(());
        }
        outputs => outputs?,
    };
    let mut broken = 0;
    for output in experiment.floats(outputs) {
        broken += read(output)?.iter().filter(|value| !value.is_finite()).count();
    }
    report.compare(format!("outputs that are no numbers {}", place(case, dtype)), broken as f64, 0.0);
    Ok(())
}

fn check_case(
    declaration: &'static Declaration,
    case: &Setting,
    dtype: Dtype,
    whole: bool,
    report: &mut Report,
) -> Result<()> {
    let experiment = Experiment::new(declaration, case, dtype, dtype)?;
    let mut ways = Vec::new();
    if runs_at(declaration, case)? {
        ways.push(Way::Kernel);
    }
    ways.extend(declaration.fallback().map(Way::Fallback));
    let Some(last) = ways.last().copied() else { return Ok(()) };

    let mut computed = Vec::new();
    for way in ways {
        match experiment.compute(way) {
            Err(Error::Untranslated { message, .. }) if declaration.fallback().is_some() => {
                report.notes.push(format!("the fallback runs at {}: {message}", place(case, dtype)));
            }
            result => computed.push(result?),
        }
    }
    if dtype == Dtype::F32 {
        for result in &computed {
            differentiate(declaration, case, &experiment, result, whole, report)?;
        }
        if let [kernel, fallback] = computed.as_slice() {
            compare_results(declaration, &experiment, (kernel, fallback), dtype, &place(case, dtype), report);
        }
    } else {
        // The last way, which is the fallback where there is one, on the same inputs and without its roundings.
        let exact = Experiment::new(declaration, case, dtype, Dtype::F32)?.compute(last)?;
        for result in &computed {
            compare_results(declaration, &experiment, (result, &exact), dtype, &place(case, dtype), report);
        }
    }
    Ok(())
}

/// Holds gradients against finite differences.
fn differentiate(
    declaration: &'static Declaration,
    case: &Setting,
    experiment: &Experiment,
    computed: &Computed,
    whole: bool,
    report: &mut Report,
) -> Result<()> {
    let way = computed.way.name();
    let name = |place: usize| declaration.signature.inputs[place].name;
    for (position, input) in experiment.places.iter().enumerate() {
        let subject = format!("{way} gradient of `{}` against finite differences ({case})", name(*input));
        report.compare(subject, experiment.difference(computed, position)?, DIFFERENCE);
    }
    if whole {
        for (input, deviation) in experiment.places.iter().zip(experiment.jacobian(computed.way)?) {
            let subject = format!("{way} Jacobian by `{}` against finite differences ({case})", name(*input));
            report.compare(subject, deviation, JACOBIAN);
        }
    }
    Ok(())
}

/// Holds outputs and gradients of one way against those of another.
fn compare_results(
    declaration: &'static Declaration,
    experiment: &Experiment,
    (left, right): (&Computed, &Computed),
    dtype: Dtype,
    place: &str,
    report: &mut Report,
) {
    let bound = Tolerance::of(dtype).fallback;
    let exact = if dtype == Dtype::F32 { "" } else { " in float32" };
    let both = format!("{} against {}{exact} {place}", left.way.name(), right.way.name());
    for ((port, left), (_, right)) in left.outputs.iter().zip(&right.outputs) {
        // Integers and bools agree or do not.
        let bound = if experiment.is_float(port) { bound } else { 0.0 };
        report.compare(format!("output `{}`, {both}", port.name), distance(left, right), bound);
    }
    for (input, (left, right)) in experiment.places.iter().zip(left.gradients.iter().zip(&right.gradients)) {
        let name = declaration.signature.inputs[*input].name;
        report.compare(format!("gradient of `{name}`, {both}"), distance(left, right), bound);
    }
}
