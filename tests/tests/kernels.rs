//! `cargo xtask kernels`: every kernel once, and nothing that its declaration does not say.

use std::process::Command;

use cotangent::kernel::signature::PortRole;

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
    let registered = cotangent_kernels::kernels().len();
    shown.sort_unstable();
    names.sort_unstable();
    assert_eq!(shown, names);
    assert_eq!(names.len(), registered);
}

#[test]
fn a_row_says_what_the_declaration_does() {
    let text = table(&[]);
    let row = |name: &str| {
        let row = text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
    };
    for kernel in cotangent_kernels::kernels().into_iter().filter(|kernel| !kernel.is_backward()) {
        let (row, cases) = (row(kernel.signature.name), kernel.cases.len().to_string());
        assert!(row.contains(&cases.as_str()), "{row:?}");
        let (texts, operations) = (row.iter().any(|cell| cell.ends_with(" emulated")), row.contains(&"operations"));
        assert_eq!((texts, operations), (!kernel.launches().is_empty(), kernel.launches().is_empty()), "{row:?}");
        for residual in kernel.signature.outputs.iter().filter(|port| port.role == PortRole::Saved) {
            assert!(row.last().unwrap().contains(&format!("{} ", residual.name)), "{row:?}");
        }
    }
    assert_eq!(row("fused_rms_norm")[1], "pair + fallback");
    assert_eq!(row("rotate")[1], "(stage)");
    // Backwards stand beneath their forwards, stages beneath what runs them.
    let norm = text.find("\nfused_rms_norm ").unwrap();
    assert!(
        text[norm..].find("\n  fused_rms_norm_backward ").unwrap()
            < text[norm..].find("\n    rms_norm_gradient ").unwrap()
    );
}

#[test]
fn residuals_are_counted_at_given_sizes() {
    let residuals = |arguments: &[&str]| {
        let text = table(arguments);
        text.lines().find_map(|line| line.strip_prefix("residuals")).unwrap().trim().to_owned()
    };
    // 8192 rows of one head, float32.
    assert_eq!(residuals(&["fused_rms_norm", "--at", "N=8192,H=1"]), "inverse 32 KiB");
    // 3 (1 + 9 - 4 + 0) 5 elements, whatever else is given.
    assert_eq!(residuals(&["conv_silu", "--at", "B=3,S=9,K=4,C=5,X=1"]), "sigmoid 360 B");
    assert_eq!(residuals(&["portable_swiglu", "--at", "N=1048576", "--dtype", "bf16"]), "sigmoid 2 MiB");
    assert_eq!(residuals(&["fused_rms_norm", "--at", "H=1"]), "inverse needs N");
    assert_eq!(residuals(&["fused_rms_norm"]), "inverse float32 [N, H]");
}

#[test]
fn cuda_texts_are_those_of_the_stages() {
    let text = table(&["--cuda", "fused_rms_norm_backward"]);
    for stage in ["rms_norm_gradient", "rms_norm_weight_parts"] {
        assert!(
            text.contains(&format!("// {stage}\n")) && text.contains(&format!("namespace kernel_{stage} ")),
            "{stage}"
        );
    }
    assert!(table(&["--cuda", "conv_silu"]).contains("made of operations"));
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
