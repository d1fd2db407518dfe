//! The command: a plain Metal file and a TOML file in, outputs and findings out.

use std::path::Path;
use std::process::Command;

const LAUNCH: &str = r#"
    grid = [64]
    threadgroup = [32]
    [[inputs]]
    name = "x"
    dtype = "f32"
    shape = [64]
    values = "count"
    [[outputs]]
    name = "y"
    dtype = "bf16"
    shape = [64]
    [template]
    T = "bf16"
    N = 2
"#;

/// Exit code and everything printed.
fn run(folder: &Path, body: &str, launch: &str) -> (i32, String) {
    std::fs::write(folder.join("k.metal"), body).expect("a file in a fresh folder");
    std::fs::write(folder.join("k.toml"), launch).expect("a file in a fresh folder");
    let output = Command::new(env!("CARGO_BIN_EXE_cotangent-emulator"))
        .current_dir(folder)
        .args(["k.metal", "k.toml"])
        .output()
        .expect("the command starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn a_launch_prints_outputs_and_findings() {
    let folder = tempfile::tempdir().expect("a folder");
    let cases = [
        ("uint i = thread_position_in_grid.x;\ny[i] = T(x[i] * N);", LAUNCH, 0, "y bf16 [64] = [0, 2, 4, 6,"),
        (
            "uint i = thread_position_in_grid.x;\n\ny[i] = T(x[i + 1]);",
            LAUNCH,
            1,
            "k.metal:3: read by thread (31, 0, 0)",
        ),
        ("uint i = thread_position_in_grid.x;\ny[i] = nothing;", LAUNCH, 2, "k.metal:2:8: error: "),
        ("y[0] = T(0);", "grid = [1]", 2, "missing field `threadgroup`"),
        ("y[0] = T(0);", &LAUNCH.replace("\"count\"", "[1, 2]"), 2, "input `x`: 2 values given, shape [64] holds 64"),
        ("y[0] = T(0);", &LAUNCH.replace("bf16", "f17"), 2, "`f17` is no element type: write one of bool, "),
        (
            "y[0] = T(0);",
            &LAUNCH.replace("\"count\"", "\"cuont\""),
            2,
            "write \"count\", \"random\", a number or numbers",
        ),
    ];
    for (body, launch, code, text) in cases {
        let (found_code, found) = run(folder.path(), body, launch);
        assert!(
            found_code == code && found.contains(text),
            "{body}: expected {code} and `{text}`, got {found_code}:\n{found}"
        );
    }
}
