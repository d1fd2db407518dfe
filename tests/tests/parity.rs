//! The shipped checkpoints against transformers, on every backend that any machine has.

use std::process::Command;

/// Runs the command that people run, on one backend. What it prints.
fn parity(backend: &str, fixture: &str) -> String {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/reference/fixtures/").to_owned() + fixture;
    let output =
        Command::new(env!("CARGO_BIN_EXE_parity")).arg(dir).env("COTANGENT_BACKEND", backend).output().unwrap();
    let (table, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{backend} {fixture}\n{table}{errors}");
    // All ten kinds must have been compared, not only those that happened to be found; with pictures, what the tower gives.
    let kinds = if fixture.contains("vl") { 11 } else { 10 };
    assert_eq!(table.matches(" ok ").count(), kinds, "{backend} {fixture}\n{table}");
    table.into_owned()
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
    parity("cpu", "vlm");
}

#[test]
fn a_tower_with_features_for_the_first_layers_on_the_cpu() {
    parity("cpu", "qwen3-vl");
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
fn a_folder_that_is_none_is_one_clear_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_parity")).arg("no/such/folder").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.starts_with("error: ") && errors.contains("no/such/folder"), "{errors}");
    assert_eq!(errors.matches("No such file").count(), 1, "{errors}");
}
