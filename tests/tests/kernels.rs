//! `cargo xtask kernels`: every kernel once, and nothing that its declaration does not say.

use std::process::Command;

use cotangent::kernel::signature::PortRole;
use cotangent::kernel::{self, Declaration};
use cotangent::{Graph, Result, Tensor, differentiable, stage};
use cotangent_commands::{Sizes, kernels_of};
use cotangent_tests as _;

/// A pair made of operations, with residuals of two dtypes.
#[differentiable(backward = windows_backward, fallback = windows_by_operations, cases = [(B = 3, S = 9, K = 4)])]
pub fn windows<T: Float, const K: usize>(
    x: In![T; B, S],
    y: Out![T; B, S],
    #[saved] sums: Out![f32; B, S - K + 1],
    #[saved] kept: Out![T; B, S],
) {
    let sums = x.slice(1, 0, S - K as i32 + 1)?.cast(cotangent::Dtype::F32)?;
    Ok(Outputs { y: x.multiply(2.0)?, sums, kept: x.multiply(1.0)? })
}

#[differentiable(backward_of = windows)]
pub fn windows_backward<T: Float, const K: usize>(
    sums: In![f32; B, S - K + 1],
    kept: In![T; B, S],
    d_y: In![T; B, S],
    d_x: Out![T; B, S],
) {
    let _ = (sums, kept, K);
    Ok(Outputs { d_x: Some(d_y.multiply(2.0)?) })
}

fn windows_by_operations<M: Graph>(x: &Tensor<M>, _: usize) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

/// A launch, and the kernel that makes it at even sizes.
#[stage(grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
fn doubled(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = 2.0f * x[i];
    }
}

#[differentiable(
    fallback = twice_by_operations,
    stages = [doubled],
    requires = [N % 2 == 0],
    fallback_on = [cuda],
    cases = [(N = 6), (N = 7)],
)]
pub fn twice(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: doubled(stages, x)? })
}

fn twice_by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

#[stage(untested = "it counts for nothing", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
fn uncounted(x: In![f32; N], y: Out![f32; N]) {
    metal! { y[thread_position_in_grid.x] = x[thread_position_in_grid.x]; }
}

/// A rounding that passes the cotangent through, of values that have a logarithm.
#[differentiable(
    backward = coarse_backward,
    grid = (N, 1, 1),
    threads = (64, 1, 1),
    cases = [(N = 7)],
)]
pub fn coarse(
    #[values(0.25..8.0, only = "it is a rate")] x: In![f32; N],
    #[values(0.5..2.0, only = "it divides")] by: f32,
    y: Out![f32; N],
) {
    metal! { uint i = thread_position_in_grid.x; y[i] = rint(log(x[i]) / by); }
}

#[differentiable(backward_of = coarse, grid = (N, 1, 1), threads = (64, 1, 1))]
pub fn coarse_backward(
    x: In![f32; N],
    by: f32,
    d_y: In![f32; N],
    #[differs("a straight-through estimate")] d_x: Out![f32; N],
) {
    metal! { uint i = thread_position_in_grid.x; d_x[i] = d_y[i] / (x[i] * by); }
}

#[test]
fn what_is_not_checked_everywhere_is_listed_with_its_reason() {
    let text = cotangent_commands::table(&kernels_of(&[]), None).unwrap();
    let (_, listed) = text.split_once("not checked everywhere, as declared:\n").unwrap();
    for line in [
        "coarse: `x` is 0.25 to 8 only: it is a rate",
        "coarse: `by` is 0.5 to 2 only: it divides",
        "coarse_backward: `d_x` is not the derivative: a straight-through estimate",
        "fused_norm: `epsilon` is 0 to 1 only: a sum of squares and less has no root",
    ] {
        assert!(listed.contains(&format!("  {line}\n")), "{listed}");
    }
    let details = cotangent_commands::kernel(&kernels_of(&[]), "coarse_backward", None).unwrap();
    assert!(
        details.contains("\nbut           `d_x` is not the derivative: a straight-through estimate\n"),
        "{details}"
    );
}

#[test]
fn functions_with_a_backward_of_their_own_are_listed() {
    let text = cotangent_commands::table(&kernels_of(&[]), None).unwrap();
    let line = "functions with a backward of their own, checked by differences: causal_attention, cross_entropy, \
                cross_entropy_packed, gather_from_experts, grouped_packed_linear, packed_linear, spread_to_experts, \
                weights_of_rows\n";
    assert!(text.ends_with(line), "{text}");
}

#[test]
fn a_row_says_what_the_declaration_does() {
    let text = cotangent_commands::table(&kernels_of(&[]), None).unwrap();
    let row = |name: &str| {
        let row = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(
        row("windows"),
        [
            "windows",
            "nothing",
            "pair + fallback",
            "operations",
            "yes",
            "1",
            "differences, fallback, half precision",
            "sums float32 [B, -K + S + 1]; kept T [B, S]",
        ]
    );
    assert_eq!(row("windows_backward"), ["windows_backward", "(backward)", "operations", "yes"]);
    let checks = "differences, fallback, emulator";
    assert_eq!(
        row("twice"),
        ["twice", "nothing", "fallback", "metal (cuda*) emulated", "yes", "2", checks, "N % 2 == 0"]
    );
    assert_eq!(row("doubled"), ["doubled", "twice", "(stage)", "metal cuda* emulated", "yes", "1", "emulator"]);
    let untested = "nothing: it counts for nothing";
    assert_eq!(row("uncounted"), ["uncounted", "nothing", "(stage)", "metal cuda* emulated", "yes", "1", untested]);
    // Backwards are listed below their forwards, and stages below the kernels that run them.
    assert!(text.contains("\n  windows_backward ") && text.contains("\n  doubled "), "{text}");
    for kernel in cotangent_kernels::kernels() {
        let row = row(kernel.signature.name);
        let (texts, operations) = (row.iter().any(|cell| cell.ends_with(" emulated")), row.contains(&"operations"));
        assert_eq!((texts, operations), (!kernel.launches().is_empty(), kernel.launches().is_empty()), "{row:?}");
        for residual in kernel.signature.outputs.iter().filter(|port| port.role == PortRole::Saved) {
            assert!(row.last().unwrap().contains(&format!("{} ", residual.name)), "{row:?}");
        }
    }
}

/// The front page of the kernels names exactly those that nothing calls, in the paragraph that says so.
#[test]
fn kernels_that_nothing_calls_are_named_where_a_reader_begins() {
    let page = include_str!("../../kernels/src/lib.rs");
    let (_, said) = page.split_once("Nothing calls ").unwrap();
    let (said, _) = said.split_once("\n\n").unwrap();
    let mut said: Vec<&str> =
        said.split('`').skip(1).step_by(2).filter(|word| !word.ends_with("()") && *word != "verify").collect();
    said.sort_unstable();
    let is_uncalled = |kernel: &&&Declaration| !kernel.is_backward() && kernel::callers(kernel).is_empty();
    let kernels = kernels_of(&["cotangent_kernels"]);
    let mut uncalled: Vec<&str> = kernels.iter().filter(is_uncalled).map(|kernel| kernel.signature.name).collect();
    uncalled.sort_unstable();
    assert_eq!(said, uncalled);
}

#[test]
fn residuals_are_counted_at_given_sizes() {
    let residuals = |at: &str, dtype: &str| {
        let text =
            cotangent_commands::kernel(&kernels_of(&[]), "windows", Some(&Sizes::parse(at, dtype).unwrap())).unwrap();
        text.lines().find_map(|line| line.strip_prefix("residuals")).unwrap().trim().to_owned()
    };
    // The residuals are 3 (9 - 4 + 1) numbers of float32, and 3 * 9 of the dtype parameter.
    assert_eq!(residuals("B=3,S=9,K=4", "f32"), "sums 72 bytes; kept 108 bytes");
    assert_eq!(residuals("B=3,S=9,K=4,D=1", "bf16"), "sums 72 bytes; kept 54 bytes");
    assert_eq!(residuals("B=1024,S=1027,K=4", "f16"), "sums 4 MiB; kept 2.0 MiB");
    assert_eq!(residuals("S=9", "f32"), "sums needs B, K; kept needs B");
}

#[test]
fn cuda_texts_are_those_of_the_stages() {
    let text = cotangent_commands::cuda(&kernels_of(&[]), "twice").unwrap();
    assert!(text.starts_with("// doubled\n") && text.contains("namespace kernel_doubled "), "{text}");
    assert!(cotangent_commands::cuda(&kernels_of(&[]), "windows").unwrap().contains("made of operations"));
}

/// Exit code, standard output, standard error.
fn kernels(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_kernels")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn table(arguments: &[&str]) -> String {
    let (code, text, errors) = kernels(arguments);
    assert_eq!(code, Some(0), "{errors}");
    text
}

#[test]
fn every_kernel_of_the_registry_has_one_row() {
    let text = table(&[]);
    let rows: Vec<&str> = text.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let mut shown: Vec<&str> = rows.iter().filter_map(|row| row.split_whitespace().next()).collect();
    let names = table(&["--names"]);
    let mut names: Vec<&str> = names.lines().collect();
    shown.sort_unstable();
    names.sort_unstable();
    assert_eq!(shown, names);
    // The registry of this test has seven more kernels.
    assert_eq!(names.len() + 7, cotangent_kernels::kernels().len());
}

#[test]
fn mistakes_are_one_clear_error() {
    for (arguments, expected) in [
        (&["nope"][..], "error: no kernel is called `nope`"),
        (&["--at"], "error: `--at` has no value\nusage: "),
        (&["--at", "B"], "error: `B`: expected a size such as `B=4`"),
        (&["--at", "B=0"], "error: `B=0`: expected a size such as `B=4`"),
        (&["--at", "B=1", "--dtype", "int4"], "error: `int4`: expected f32, bf16 or f16"),
        (&["--sizes"], "error: found `--sizes`\nusage: "),
    ] {
        let (code, text, errors) = kernels(arguments);
        assert_eq!((code, text.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(errors.starts_with(expected), "{arguments:?}: {errors}");
    }
}
