//! The test that a kernel brings: Cargo finds it, and even strict lints accept it.

#![deny(warnings, missing_docs, clippy::pedantic, unused, dead_code)]
// These lints concern what the fixtures themselves say.
#![allow(
    clippy::unnecessary_wraps,
    clippy::missing_errors_doc,
    reason = "generated functions are those of their crates"
)]

use std::process::Command;

use cotangent::{Graph, Result, Tensor, differentiable, stage};

fn doubled_by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

/// A kernel at the top of its crate.
#[differentiable(fallback = doubled_by_operations, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
pub fn at_the_top(x: In![f32; N], y: Out![f32; N]) {
    metal! { y[thread_position_in_grid.x] = 2.0f * x[thread_position_in_grid.x]; }
}

/// A launch.
#[stage(grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
fn copied(x: In![f32; N], y: Out![f32; N]) {
    metal! { y[thread_position_in_grid.x] = x[thread_position_in_grid.x]; }
}

/// Runs the launch.
#[differentiable(inference_only = "the fixture of a stage", stages = [copied], cases = [(N = 7)])]
pub fn with_stage(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: copied(stages, x)? })
}

mod private {
    use cotangent::differentiable;

    mod runtime {
        pub(super) use cotangent::*;
    }

    // The path of the runtime is known only in this module.
    #[differentiable(crate = self::runtime, fallback = super::doubled_by_operations, cases = [(N = 7)])]
    fn in_a_module(x: In![f32; N], y: Out![f32; N]) {
        Ok(Outputs { y: x.multiply(2.0)? })
    }

    #[differentiable(crate = runtime, fallback = super::doubled_by_operations, cases = [(N = 7)])]
    fn of_a_name(x: In![f32; N], y: Out![f32; N]) {
        Ok(Outputs { y: x.add(x)? })
    }

    pub(super) fn uses<M: super::Graph>(x: &super::Tensor<M>) -> super::Result<super::Tensor<M>> {
        of_a_name(&in_a_module(x)?)
    }
}

macro_rules! declare {
    ($name:ident) => {
        /// Made by a macro.
        #[differentiable(fallback = doubled_by_operations, cases = [(N = 7)])]
pub fn $name(x: In![f32; N], y: Out![f32; N]) {
            Ok(Outputs { y: x.add(x)? })
        }
    };
}

declare!(by_a_macro);

#[differentiable(untested = "the fixture of one that is not", fallback = doubled_by_operations, cases = [(N = 7)])]
fn taken_out(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: x.add(x)? })
}

/// Calls a kernel that is declared here.
pub fn declares_one<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    #[differentiable(fallback = doubled_by_operations, cases = [(N = 7)])]
    fn in_a_function(x: In![f32; N], y: Out![f32; N]) {
        Ok(Outputs { y: x.add(x)? })
    }

    in_a_function(&taken_out(&private::uses(x)?)?)
}

#[test]
fn cargo_finds_a_test_for_each_kernel_that_a_module_can_name() {
    let output = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    let mut found: Vec<_> = list.lines().filter_map(|line| line.strip_suffix("::is_as_declared: test")).collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "kernel_at_the_top",
            "kernel_by_a_macro",
            "kernel_copied",
            "kernel_with_stage",
            "private::kernel_in_a_module",
            "private::kernel_of_a_name",
        ]
    );
}

/// Runs the test of a kernel in a process of its own, and returns whether it passed and what it printed.
fn run(variable: &str, value: &str) -> (bool, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kernel_at_the_top::is_as_declared", "--nocapture"])
        .env(variable, value)
        .output()
        .unwrap();
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    (output.status.success(), text)
}

#[test]
fn the_source_runs_whatever_the_backend_and_the_output_says_so() {
    for backend in ["cpu", "emulated"] {
        let (passed, text) = run("COTANGENT_BACKEND", backend);
        assert!(passed && text.contains("kernel `at_the_top` ran in the emulator, and on no GPU"), "{text}");
        assert!(text.contains("kernel gradient of `x` against"), "{text}");
    }
}

#[test]
fn without_a_compiler_it_fails_with_one_sentence() {
    let (passed, text) = run("COTANGENT_CXX", "no-such-compiler");
    let sentence = "kernel `at_the_top` was not checked: no C++ compiler found (tried no-such-compiler)";
    assert!(!passed && text.contains(sentence), "{text}");
}
