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
        ("uint i = thread_position_in_grid.x;\ny[i] = nothing;", LAUNCH, 2, "k.metal:2: `nothing` is not known here"),
        ("y[0] = T(0);", "grid = [1]", 2, "missing field `threadgroup`"),
        ("y[0] = T(0);", &LAUNCH.replace("\"count\"", "[1, 2]"), 2, "input `x`: 2 values given, shape [64] holds 64"),
        ("y[0] = T(0);", &LAUNCH.replace("bf16", "f17"), 2, "`f17` is no element type: write one of bool, "),
        ("y[0] = T(0);", &LAUNCH.replace("\"x\"", "\"x y\""), 2, "`x y` is no name: use letters, digits and `_`"),
        ("y[0] = T(0);", &LAUNCH.replace("\"x\"", "\"y\""), 2, "`y` is the name of two ports"),
        (
            "y[0] = T(0);",
            &LAUNCH.replace("shape = [64]", "shape = [9999999999, 9999999999]"),
            2,
            "input `x`: shape [9999999999, 9999999999] holds too many elements",
        ),
        (
            "y[0] = T(0);",
            "grid = [1]\nthreadgroup = [1]\n[[outputs]]\nname = 'y'\ndtype = 'f32'\nshape = [999999999999]",
            2,
            "takes more than",
        ),
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

#[test]
fn all_compilers_give_the_same_bits() {
    let named = std::env::var("COTANGENT_CLANG").ok();
    let usual = ["g++", "clang++", "clang++-19", "clang++-14"].map(str::to_owned);
    let compilers: Vec<String> = named
        .into_iter()
        .chain(usual)
        .filter(|c| Command::new(c).arg("--version").output().is_ok_and(|o| o.status.success()))
        .collect();
    if compilers.len() < 2 {
        eprintln!("SKIPPED: two compilers are needed to compare them, found {compilers:?}");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let body = "uint i = thread_position_in_grid.x;
        float v = x[i] * 0.37;
        half h = half(v) * 1.7h + half(sin(v));
        bfloat b = bfloat(exp(-v)) / bfloat(3.0f);
        float s = simd_sum(log(v + 1.5) * float(h)) + simd_prefix_exclusive_sum(pow(v, 1.3)) / 7.0;
        y[i] = T(s + float(b) * N + fast::tanh(v) - float3(v, 2, 3).zyx.x / sqrt(v + 0.1));";
    let launch = LAUNCH.replace("bf16", "f32");
    std::fs::write(folder.path().join("k.metal"), body).expect("a file in a fresh folder");
    for checks in [true, false] {
        std::fs::write(folder.path().join("k.toml"), format!("checks = {checks}\n{launch}")).expect("a file");
        let printed = |compiler: &String| {
            let output = Command::new(env!("CARGO_BIN_EXE_cotangent-emulator"))
                .current_dir(folder.path())
                .env("COTANGENT_CXX", compiler)
                .args(["k.metal", "k.toml"])
                .output()
                .expect("the command starts");
            assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let first = printed(&compilers[0]);
        for compiler in &compilers[1..] {
            assert_eq!(printed(compiler), first, "{compiler} against {}, checks {checks}", compilers[0]);
        }
    }
}

#[test]
fn a_function_of_a_whole_file_runs_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = "#include <metal_stdlib>\nconstant int by [[function_constant(2)]];\n\
                kernel void times(device const float* x [[buffer(0)]], device float* y [[buffer(3)]],\n\
                uint i [[thread_position_in_grid]]) {\n  y[i] = x[i + SHIFT] * by;\n}\n";
    let launch = "grid = [4]\nthreadgroup = [4]\nfunction = \"times\"\n[constants]\n2 = 10\n\
                  [[inputs]]\nname = \"x\"\ndtype = \"f32\"\nshape = [4]\nvalues = \"count\"\n\
                  [[outputs]]\nname = \"y\"\ndtype = \"f32\"\nshape = [4]\nbuffer = 3\n";
    for (shift, launch, code, said) in [
        ("0", launch.to_owned(), 0, "y f32 [4] = [0, 10, 20, 30]\n\n4 threads, nothing found"),
        ("1", launch.to_owned(), 1, "k.metal:5: read by thread (3, 0, 0)"),
        ("0", launch.replace("\"times\"", "\"divides\""), 2, "divides"),
        ("0", launch.replace("grid", "init_value = 1.0\ngrid"), 2, "a `function` has what its file says"),
        ("0", launch.replace("function = \"times\"\n", ""), 2, "name one with `function`"),
    ] {
        let (found, text) = run(folder.path(), &file.replace("SHIFT", shift), &launch);
        assert_eq!(found, code, "{text}");
        assert!(text.contains(said), "{said}: {text}");
    }
}
