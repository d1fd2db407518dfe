//! Every kernel at every declared case: gradients against the fallback and finite differences; in the emulator also
//! races, bounds, unwritten elements, and two orders of threads.

use std::process::Command;

fn check(backend: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_check")).env("COTANGENT_BACKEND", backend).output().unwrap();
    let (report, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{backend}\n{report}{errors}");
    assert!(report.contains("kernel `mrope`") && report.contains("kernel `gated_delta`"), "{report}");
    assert!(report.trim_end().ends_with(", 0 failed"), "{report}");
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
