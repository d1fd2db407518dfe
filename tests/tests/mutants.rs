//! Mistakes in the kernels' gradients: the generated checks notice a sample of them.

use std::process::Command;

/// Kernels whose checks are quick. `cargo xtask mutate` without names takes all.
const KERNELS: [&str; 6] =
    ["fused_swiglu", "fused_norm", "fused_attention_gate", "fused_gates", "portable_swiglu", "portable_conv_silu"];

fn mutate(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mutate")).args(arguments).output().unwrap();
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    (output.status.success(), text)
}

#[test]
fn mistakes_die_by_the_generated_checks() {
    let (passed, text) = mutate(&[&KERNELS[..], &["--sample", "60", "--seed", "1"]].concat());
    assert!(passed, "{text}");
    assert!(text.contains("60 of "), "{text}");
}

#[test]
fn a_kernel_that_is_not_there_is_one_clear_error() {
    let (passed, text) = mutate(&["no_such_kernel"]);
    assert!(
        !passed && text.starts_with("error: no kernel of these names and lines has a gradient of its own"),
        "{text}"
    );
}
