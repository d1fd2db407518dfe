//! The generated checks of kernels: each kernel at the sizes that its declaration names, in the dtypes that it allows.
//!
//! - Gradients are compared with central finite differences: along a random direction of each input, and entry by
//!   entry. If the source can run with `float` as `double`, both are in double precision, so that a factor of 1.0001 is
//!   found. If it cannot (it looks at the bits of a float, or rounds to half precision), a note says so and float32 is
//!   used.
//! - Outputs and gradients of the kernel's own pair are compared with those of its fallback: in float32 with the same
//!   numbers, element by element; in half precision with the fallback in float32 on the same, already rounded inputs.
//! - The outputs of the forward of a training graph are compared with those of inference.
//! - These run at the declared cases. At one small case everything else varies by a plan: scalars, wanted gradients,
//!   optional inputs, values near and far from zero and exactly at kinks, indices that repeat, masks, and the layouts
//!   of strided inputs. The plan adds sizes that no case has: beyond a simdgroup along as many dimensions at once as
//!   there is room for, beyond a threadgroup, a whole simdgroup, the bounds of requirements, and other constants. The
//!   largest declared case runs in each half precision, and the others in one of them, in turn.
//! - In the emulator each launch runs in two orders of its threads, on outputs full of garbage, and a defect is an error. One
//!   order is enough in half precision, and where only values of floats differ from a call that ran in both.

mod cases;
mod checker;
mod coverage;
mod declared;
mod differences;
mod draw;
mod experiment;
mod fill;
mod judge;
mod plan;
mod random;
mod record;
mod report;
mod sizes;
mod texts;
mod tolerance;
mod vjp;

use std::sync::{Mutex, PoisonError};

use self::cases::cases;
use self::checker::Checker;
use self::experiment::dtypes;
use self::sizes::{halves, planned};
use super::declaration::{Declaration, Route};
use super::dispatch::runs_on;
use super::signature::Sample;
use crate::backend::with_backend;
use crate::{Backend, Dtype, Error, Result, Session};

pub use self::coverage::{Check, OnCuda};
pub use self::declared::assert_declared;
#[cfg(feature = "emulator")]
pub use self::record::emulated_launches;
pub use self::record::{Record, Recorded, compare, record};
pub use self::report::{Comparison, Report, first_failure};
pub use self::texts::LaunchText;
pub use self::vjp::{assert_function, check_function};
#[cfg(feature = "emulator")]
pub use super::launch::emulated::EmulatedLaunch;
pub use super::launch::nvrtc::CudaCompiler;

/// Checks a kernel in the emulator, and also on the session's backend if its source runs there.
///
/// On the CPU backend sources do not run, so the check is that of the emulator, which needs a C++ compiler and the
/// feature `emulator`. Without them only the fallback is checked, and a note says what was not. On a GPU both are
/// checked, one after the other.
///
/// Stages and inference-only kernels have no gradient; the check is that everything they write is a number. A backward
/// is checked with its forward, and its report says so. A case that breaks a requirement of the kernel checks only the
/// fallback. A kernel whose fallback is preferred because it is faster is still checked.
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

/// Checks a kernel on one backend, which need not be that of the process. On [`Backend::Emulated`] its source runs on
/// the CPU of any machine, watched for races and accesses out of bounds, and its results are compared with finite
/// differences and with its fallback. On [`Backend::Cpu`] sources do not run, and only the fallback is checked, with a
/// note that says so.
///
/// The report of a backward is one comparison: how many of those of its forward failed.
///
/// # Errors
/// As [`check`]; [`Error::Backend`] if the machine does not have the backend, or has no C++ compiler for the
/// emulator, or the program was built without it.
pub fn check_on(backend: Backend, declaration: &'static Declaration) -> Result<Report> {
    // Opening a session fails inside a graph, and prepares MLX.
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

/// Returns whether neither the kernel nor what it is paired with launches a source.
fn launches_nothing(declaration: &'static Declaration) -> bool {
    match declaration.route {
        Route::Backward { of } => of().is_portable(),
        _ => declaration.is_portable(),
    }
}

/// Returns whether sources can run in the emulator, else why not.
fn emulator() -> std::result::Result<(), String> {
    #[cfg(feature = "emulator")]
    return super::launch::emulated::is_ready();
    #[cfg(not(feature = "emulator"))]
    Err(crate::backend::NO_EMULATOR.to_owned())
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
    for port in declaration.signature.inputs {
        if let Some(reason) = port.differs(declaration) {
            report
                .notes
                .push(format!("the gradient of `{}` is not compared: it is not the derivative, {reason}", port.name));
        }
        if let Sample::Domain(low, high, reason) = port.sample {
            report.notes.push(format!("`{}` is drawn between {low} and {high} only: {reason}", port.name));
        }
    }
    for scalar in declaration.signature.scalars {
        if let Some((low, high, reason)) = scalar.domain {
            report.notes.push(format!("`{}` is {low} to {high} only: {reason}", scalar.name));
        }
    }
    let mut checker = Checker::new(declaration, &mut report);
    match declaration.route {
        Route::Gradient { .. } => {
            let planned = planned(declaration, &|setting| checker.works(setting));
            planned.iter().try_for_each(|planned| checker.check(planned))?;
        }
        Route::Stage | Route::InferenceOnly { .. } => {
            let cases = cases(declaration);
            let halves = halves(declaration, &cases.iter().collect::<Vec<_>>());
            let single = dtypes(declaration.signature).contains(&Dtype::F32).then_some(Dtype::F32);
            for (case, halves) in cases.iter().zip(halves) {
                single.into_iter().chain(halves).try_for_each(|dtype| checker.run(case, dtype))?;
            }
        }
        Route::Backward { .. } => {}
    }
    Ok(report)
}
