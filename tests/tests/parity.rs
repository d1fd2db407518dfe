//! The shipped checkpoints against transformers, on every backend that any machine has.

use std::collections::BTreeSet;
use std::process::Command;

use cotangent::kernel::{self, Declaration, Route};
use cotangent_tests as _;

/// Runs the command that people run, on one backend. What it prints.
fn parity(backend: &str, fixture: &str) -> String {
    // All ten kinds must have been compared, not only those that were found; with pictures, the tower's results too;
    // with experts, the loss of routers and its gradients too.
    let kinds = match fixture {
        "moe" => 12,
        with_pictures if with_pictures.contains("vl") => 11,
        _ => 10,
    };
    parity_of_kinds(backend, &format!("fixtures/{fixture}"), kinds)
}

/// Compares a folder below `reference`, with this number of kinds of comparisons.
fn parity_of_kinds(backend: &str, folder: &str, kinds: usize) -> String {
    parity_with(backend, folder, folder, kinds)
}

/// Compares a folder with the references of another folder.
fn parity_with(backend: &str, folder: &str, references: &str, kinds: usize) -> String {
    let folders = [folder, references].map(|folder| format!("{}/reference/{folder}", env!("CARGO_MANIFEST_DIR")));
    let output =
        Command::new(env!("CARGO_BIN_EXE_parity")).args(folders).env("COTANGENT_BACKEND", backend).output().unwrap();
    let (table, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{backend} {folder}\n{table}{errors}");
    assert_eq!(table.matches(" ok ").count(), kinds, "{backend} {folder}\n{table}");
    table.into_owned()
}

/// The forward kernels in the two lists of what ran: as kernels, and as their fallbacks.
fn forwards_that_ran(table: &str) -> BTreeSet<&str> {
    let lines = table.lines().filter_map(|line| {
        line.strip_prefix("kernels that ran: ").or_else(|| line.strip_prefix("kernels whose fallbacks ran: "))
    });
    let ran = lines.flat_map(|line| line.split(", ")).filter_map(|kernel| kernel.split(' ').next());
    let is_forward = |name: &&str| {
        let is_it = |kernel: &&Declaration| kernel.signature.name == *name && !kernel.is_backward();
        let kernels = cotangent_kernels::kernels();
        kernels.into_iter().find(is_it).is_some_and(|kernel| !matches!(kernel.route, Route::Stage))
    };
    ran.filter(is_forward).collect()
}

/// The forward kernels that one of `callers` calls, as `calls!` says.
fn called_by(callers: &[&str]) -> BTreeSet<&'static str> {
    let is_called = |kernel: &&Declaration| kernel::callers(kernel).iter().any(|caller| callers.contains(caller));
    let is_stage = |kernel: &&Declaration| matches!(kernel.route, Route::Stage);
    let kernels = cotangent_kernels::kernels().into_iter().filter(|kernel| !is_stage(kernel));
    kernels.filter(is_called).map(|kernel| kernel.signature.name).collect()
}

/// Checks what runs on a CPU: attention goes through strips, and kernels that others fall back on run as well.
fn calls_on_the_cpu(table: &str, callers: &[&str]) {
    let ran = forwards_that_ran(table);
    let mut expected = called_by(callers);
    assert!(expected.remove("attend_in_blocks"));
    expected.extend(called_by(&ran.iter().copied().collect::<Vec<_>>()));
    assert_eq!(ran, expected, "`models/src/kernels.rs` says otherwise");
}

/// A whole training step in the emulator: every kernel that the model calls ran by its own text, and so did its backward.
fn parity_by_own_text(fixture: &str) {
    let table = parity("emulated", fixture);
    assert!(table.contains("\nkernels whose fallbacks ran: none\n"), "{table}");
    let line = table.lines().find_map(|line| line.strip_prefix("kernels that ran: ")).unwrap();
    let ran: Vec<&str> = line.split(", ").filter_map(|kernel| kernel.split(' ').next()).collect();
    for kernel in cotangent_kernels::kernels() {
        let name = kernel.signature.name;
        let backward = kernel.backward().filter(|_| ran.contains(&name));
        assert!(backward.is_none_or(|backward| ran.contains(&backward.signature.name)), "the backward of `{name}`");
    }
    assert_eq!(forwards_that_ran(&table), called_by(&["text models"]), "`models/src/kernels.rs` says otherwise");
    for block in ["gated_delta_backward", "mrope_backward", "row_sums", "row_slopes"] {
        assert!(ran.contains(&block), "`{block}` is not among {ran:?}");
    }
}

#[test]
fn tied_embeddings_on_the_cpu() {
    parity("cpu", "dense-tied");
}

#[test]
fn untied_embeddings_on_the_cpu() {
    parity("cpu", "dense-untied");
}

#[test]
fn a_vision_tower_on_the_cpu() {
    calls_on_the_cpu(&parity("cpu", "vlm"), &["text models", "vision towers"]);
}

#[test]
fn a_tower_with_features_for_the_first_layers_on_the_cpu() {
    parity("cpu", "qwen3-vl");
}

/// The losses, and every gradient of both together, against formulas in float64.
#[test]
fn multi_token_prediction_on_the_cpu() {
    parity_of_kinds("cpu", "fixtures/mtp", 2);
}

#[test]
fn experts_in_every_layout_on_the_cpu() {
    calls_on_the_cpu(&parity("cpu", "moe"), &["text models", "experts"]);
    // The same weights are stored in one tensor for each expert.
    parity_with("cpu", "fixtures/moe-per-expert", "fixtures/moe", 12);
}

#[test]
fn experts_of_codes_on_the_cpu() {
    for checkpoint in ["q8-moe", "mxfp4-moe"] {
        parity_of_kinds("cpu", &format!("quantized/{checkpoint}"), 11);
    }
}

#[test]
fn tied_embeddings_through_the_kernels_own_text() {
    parity_by_own_text("dense-tied");
}

#[test]
fn untied_embeddings_through_the_kernels_own_text() {
    parity_by_own_text("dense-untied");
}

#[test]
fn codes_of_every_width_on_the_cpu() {
    // There are groups of 32, 64 and 128, `null` for the default, and modules that are dense because of their width, by
    // `false`, or without an entry.
    for checkpoint in ["q2-dense", "q3-dense", "q4-mixed", "q5-entries", "q8-dense"] {
        parity_of_kinds("cpu", &format!("quantized/{checkpoint}"), 11);
    }
}

#[test]
fn codes_that_are_floats_on_the_cpu() {
    for checkpoint in ["mxfp4-dense", "mxfp8-dense", "nvfp4-dense"] {
        parity_of_kinds("cpu", &format!("quantized/{checkpoint}"), 11);
    }
}

#[test]
fn codes_beside_a_vision_tower_on_the_cpu() {
    for checkpoint in ["q4-vlm", "q8-qwen3-vl"] {
        parity_of_kinds("cpu", &format!("quantized/{checkpoint}"), 12);
    }
}

#[test]
fn a_folder_that_is_none_is_one_clear_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_parity")).arg("no/such/folder").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.starts_with("error: ") && errors.contains("no/such/folder"), "{errors}");
    assert_eq!(errors.matches("No such file").count(), 1, "{errors}");
}
