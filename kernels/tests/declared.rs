//! What machinery checks of every kernel.

use std::process::Command;

use cotangent::{Session, kernel::check};

#[test]
fn every_kernel_has_the_gradient_it_declares() {
    let session = Session::new().unwrap();
    let kernels = cotangent_kernels::kernels();
    assert!(kernels.iter().any(|kernel| kernel.signature.name == "mrope"), "the registry is linked");
    for kernel in kernels {
        let report = check::check_on(session.backend(), kernel).unwrap();
        println!("{report}");
        // On the CPU backend the source of a stage does not run.
        assert!(report.passed() || report.comparisons().is_empty(), "{report}");
    }
}

/// A process has one backend, so this is another process: there the kernels' own texts run, watched for races, reads out
/// of bounds or before a write, and elements left unwritten.
#[test]
fn every_text_has_it_in_the_emulator() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "every_kernel_has_the_gradient_it_declares", "--nocapture"])
        .env("COTANGENT_BACKEND", "emulated")
        .output()
        .unwrap();
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("kernel gradient of `x` against finite differences (A = 1, B = 3, H = 1, S = 13"), "{text}");
}
