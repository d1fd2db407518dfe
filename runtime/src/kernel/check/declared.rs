//! The body of a kernel's generated test.

use std::fmt::Write as _;

use super::{Comparison, Report, check_on, compare, record};
use crate::backend::with_backend;
use crate::kernel::declaration::{Declaration, Kernel};
use crate::{Backend, Error, Result, Session};

/// Checks the kernel `K` as the test does that its declaration puts into its crate, and prints what ran and what was
/// compared. This is the line to write where Cargo runs no such test: in a target with `harness = false`, for a kernel
/// inside a function.
///
/// The source of a kernel runs in the emulator, whatever the backend of this process is; where that is a GPU it runs there
/// as well, at the same inputs, and is compared with the emulator's results. A kernel made of operations runs on the CPU.
///
/// # Panics
/// If something deviates, if nothing was compared, or if the kernel cannot run: the emulator needs a C++ compiler, and the
/// feature `emulator` of this crate.
pub fn assert_declared<K: Kernel>() {
    let declaration = K::declaration();
    match examine(declaration) {
        Ok(examined) => {
            println!("{}", examined.text);
            assert!(examined.failures.is_empty(), "{}", examined.failures);
        }
        // The emulator is not available.
        Err(Error::Backend(reason)) => panic!("kernel `{}` was not checked: {reason}", declaration.signature.name),
        Err(error) => panic!("{error}"),
    }
}

/// The result of checking a kernel.
struct Examined {
    /// The place where it ran, and every comparison.
    text: String,
    /// The failures, a line each; nothing if the kernel is as declared.
    failures: String,
}

fn examine(declaration: &'static Declaration) -> Result<Examined> {
    let own = crate::backend()?;
    let home = if declaration.is_portable() { Backend::Cpu } else { Backend::Emulated };
    let mut reports = vec![check_on(home, declaration)?];
    let place = match (home, own) {
        (Backend::Cpu, _) => "ran on the CPU: it is made of operations".to_owned(),
        (_, Backend::Metal | Backend::Cuda) => {
            reports.push(against_the_emulator(own, declaration)?);
            format!("ran in the emulator, and on {own} at the same inputs")
        }
        _ => "ran in the emulator, and on no GPU: this process uses none".to_owned(),
    };
    Ok(Examined { failures: failures(declaration, &reports), text: text(declaration, &place, &reports) })
}

/// Checks what a GPU computes against what the emulator does.
fn against_the_emulator(gpu: Backend, declaration: &'static Declaration) -> Result<Report> {
    let record_on = |backend| with_backend(backend, || record(&mut Session::new()?, declaration));
    Ok(compare(declaration, &record_on(gpu)?, &record_on(Backend::Emulated)?))
}

fn text(declaration: &Declaration, place: &str, reports: &[Report]) -> String {
    let mut text = format!("kernel `{}` {place}\n", declaration.signature.name);
    for report in reports {
        let _ = write!(text, "{report}");
    }
    text
}

fn failures(declaration: &Declaration, reports: &[Report]) -> String {
    let name = declaration.signature.name;
    let mut text = String::new();
    for report in reports {
        let failed: Vec<&Comparison> = report.comparisons().iter().filter(|comparison| !comparison.passed()).collect();
        if report.comparisons().is_empty() {
            let _ = writeln!(text, "kernel `{name}`: nothing was compared{}", because(report.notes()));
        } else if !failed.is_empty() {
            let all = report.comparisons().len();
            let _ = writeln!(text, "kernel `{name}`: {} of {all} comparisons failed", failed.len());
        }
        for Comparison { subject, deviation, bound } in failed {
            let _ = writeln!(text, "  {deviation:9.2e} of {bound:.0e}  {subject}");
        }
    }
    text
}

fn because(notes: &[String]) -> String {
    if notes.is_empty() { String::new() } else { format!(": {}", notes.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[crate::differentiable(
        crate = crate,
        untested = "its gradient is wrong on purpose",
        backward = wrong_backward,
        fallback = tripled,
        grid = (N, 1, 1),
        threads = (32, 1, 1),
        cases = [(N = 5)],
    )]
    fn wrong(x: In![f32; N], y: Out![f32; N]) {
        metal! { uint i = thread_position_in_grid.x; y[i] = 3.0f * x[i]; }
    }

    #[crate::differentiable(crate = crate, backward_of = wrong, grid = (N, 1, 1), threads = (32, 1, 1))]
    fn wrong_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
        metal! { uint i = thread_position_in_grid.x; d_x[i] = -3.0f * d_y[i]; }
    }

    fn tripled<M: crate::Graph>(x: &crate::Tensor<M>) -> Result<crate::Tensor<M>> {
        x.multiply(3.0)
    }

    #[test]
    fn a_wrong_source_fails_on_a_machine_without_a_gpu() {
        let examined = examine(wrong::declaration()).unwrap();
        assert!(examined.text.starts_with("kernel `wrong` ran in the emulator, and "), "{}", examined.text);
        let gradient = "gradient of `x`, kernel against fallback (N = 5)";
        assert!(examined.failures.contains(gradient), "{}", examined.failures);
        assert!(std::panic::catch_unwind(assert_declared::<wrong>).is_err());
    }

    #[test]
    fn a_check_that_compared_nothing_fails() {
        let mut report = Report::new("wrong");
        report.notes.push("its source was not run".to_owned());
        let failures = failures(wrong::declaration(), &[report]);
        assert_eq!(failures, "kernel `wrong`: nothing was compared: its source was not run\n");
    }
}
