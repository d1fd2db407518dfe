//! `cargo xtask check`: what it prints of a kernel, and what it compares a kernel with. That every kernel passes is the
//! business of the tests that they bring.

use std::process::Command;

use cotangent::kernel::check::Check;

/// The report on one kernel.
fn check(kernel: &str, backend: &str) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_check")).arg(kernel).env("COTANGENT_BACKEND", backend).output().unwrap();
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{backend}\n{report}{errors}");
    assert!(
        report.contains(&format!("kernel `{kernel}`\n")) && report.contains("\n1 kernel checked, 0 failed"),
        "{report}"
    );
    report.into_owned()
}

/// The claims of `cargo xtask kernels` about what is checked of a kernel are true.
#[test]
fn claims_are_true() {
    for (name, backend) in
        [("mrope", "cpu"), ("mrope", "emulated"), ("portable_swiglu", "cpu"), ("row_sums", "emulated")]
    {
        let report = check(name, backend);
        let kernels = cotangent_kernels::kernels();
        let kernel = kernels.iter().find(|kernel| kernel.signature.name == name).unwrap();
        let (claims, own) = (kernel.checks(), backend == "emulated" || kernel.is_portable());
        let has_gradient = claims.contains(&Check::FiniteDifferences);
        for (claimed, subject) in [
            (has_gradient, "against finite differences"),
            (claims.contains(&Check::Fallback) && own, "kernel against fallback ("),
            (claims.contains(&Check::HalfPrecision), ", bfloat16)"),
            (has_gradient && own, "kernel gradient of"),
            (!has_gradient && own, "outputs that are no numbers"),
        ] {
            assert_eq!(claimed, report.contains(subject), "{backend}: `{name}`: `{subject}`\n{report}");
        }
    }
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
