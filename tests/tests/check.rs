//! Every kernel at every declared case: gradients against the fallback and finite differences; in the emulator also
//! races, bounds, unwritten elements, and two orders of threads.

use std::process::Command;

use cotangent::kernel::Route;
use cotangent::kernel::check::Check;

/// What `cargo xtask kernels` says is checked of a kernel is what was.
fn claims_are_true(backend: &str, report: &str) {
    for kernel in cotangent_kernels::kernels() {
        let (name, checks) = (kernel.signature.name, kernel.checks());
        let has = |subject: &str| {
            let after = report.split(&format!("kernel `{name}`\n")).nth(1).unwrap_or_default();
            after.lines().take_while(|line| line.starts_with("  ")).any(|line| line.contains(subject))
        };
        let emulated = backend == "emulated" && checks.contains(&Check::Emulator);
        let own = emulated || kernel.is_portable();
        let facts = match kernel.route {
            Route::Gradient { .. } => vec![
                (checks.contains(&Check::FiniteDifferences), has("against finite differences")),
                (checks.contains(&Check::Jacobian), has("Jacobian by")),
                (checks.contains(&Check::Fallback) && own, has("kernel against fallback (")),
                (checks.contains(&Check::HalfPrecision), has(", bfloat16)")),
                (own, has("kernel gradient of")),
            ],
            Route::Stage | Route::InferenceOnly { .. } => vec![(own, has("outputs that are no numbers"))],
            Route::Backward { .. } => vec![],
        };
        assert!(facts.iter().all(|(claimed, found)| claimed == found), "{backend}: `{name}`: {facts:?}\n{report}");
    }
}

fn check(backend: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_check")).env("COTANGENT_BACKEND", backend).output().unwrap();
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{backend}\n{report}{errors}");
    assert!(report.contains("kernel `mrope`") && report.contains("kernel `gated_delta`"), "{report}");
    assert!(report.trim_end().ends_with(", 0 failed"), "{report}");
    claims_are_true(backend, &report);
}

#[test]
fn kernels_have_the_gradients_they_declare() {
    check("cpu");
}

#[test]
fn kernels_run_clean_in_the_emulator() {
    check("emulated");
}

#[test]
fn a_kernel_that_is_not_there_is_one_clear_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_check")).arg("no_such_kernel").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.starts_with("error: no kernel is called `no_such_kernel`"), "{errors}");
}

#[test]
fn results_are_held_against_those_of_another_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record");
    let run = |arguments: &[&std::ffi::OsStr]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_check"));
        let output = command.args(arguments).env("COTANGENT_BACKEND", "emulated").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = run(&["mrope".as_ref(), "--record".as_ref(), file.as_os_str()]);
    assert!(code == Some(0) && text.contains("emulated backend, MLX "), "{text}");

    let (code, text) = run(&["mrope".as_ref(), "--against".as_ref(), file.as_os_str()]);
    assert!(code == Some(0) && text.contains("bfloat16: gradient of `x`"), "{text}");

    let (code, text) = run(&["gated_delta".as_ref(), "--against".as_ref(), file.as_os_str()]);
    assert!(code == Some(1) && text.contains("which the record does not have"), "{text}");
}

#[test]
fn the_emulator_agrees_with_itself() {
    let output = Command::new(env!("CARGO_BIN_EXE_check"))
        .args(["mrope", "--device"])
        .env("COTANGENT_BACKEND", "emulated")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("against the record, kernel `mrope`"), "{text}");
}

#[test]
fn a_backend_without_kernels_has_nothing_to_record() {
    let output = Command::new(env!("CARGO_BIN_EXE_check"))
        .args(["--record", "never-written"])
        .env("COTANGENT_BACKEND", "cpu")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && errors.contains("help: set COTANGENT_BACKEND"), "{errors}");
}
