//! Programs outside the workspace, which know the public face alone: what compiles trains, and what is wrong across
//! crates does not compile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The dependency as `cotangent` itself has it, so that it is in the lock file, and compiled.
const MLX: &str = "mlx-rs = { version = \"0.33\", default-features = false, features = [\"metal\"] }";

/// A workspace of four packages in the target directory: below the checkout, so that Cargo finds where MLX is, but
/// none of the checkout's own.
fn packages() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("downstream");
    let ours = workspace();
    let path = |folder: &str| format!("{{ path = {:?} }}", ours.join(folder));
    let (cotangent, kernels) = (path("runtime"), path("kernels"));
    let package = |name: &str, dependencies: &str, file: &str, text: &str| {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependencies}\n"
        );
        write(&dir.join(name).join("Cargo.toml"), &manifest);
        write(&dir.join(name).join("src").join(file), text);
    };
    // With the checkout's profiles, other people's crates need not be compiled again. This project's crates, which are
    // compiled after every change, are not optimised.
    let mut manifest = "[workspace]\nresolver = \"3\"\nmembers = [\"facade\", \"learns\", \"renamed\", \"wrong\"]\n\n\
         [profile.dev]\ndebug = \"line-tables-only\"\n\n[profile.dev.package.\"*\"]\nopt-level = 1\ndebug = false\n"
        .to_owned();
    for ours in ["cotangent", "cotangent-kernels", "cotangent-macros", "cotangent-macros-core"] {
        manifest += &format!("\n[profile.dev.package.{ours}]\nopt-level = 0\n");
    }
    write(&dir.join("Cargo.toml"), &manifest);
    write(&dir.join("Cargo.lock"), &fs::read_to_string(ours.join("Cargo.lock")).unwrap());
    let only_cotangent = format!("cotangent = {cotangent}");
    package("learns", &only_cotangent, "main.rs", include_str!("../downstream/learns.rs"));
    package("facade", &only_cotangent, "lib.rs", include_str!("../downstream/facade.rs"));
    package("renamed", "facade = { path = \"../facade\" }", "main.rs", include_str!("../downstream/renamed.rs"));
    let facade = "facade = { path = \"../facade\" }";
    let all = format!("{only_cotangent}\ncotangent-kernels = {kernels}\n{facade}\n{MLX}");
    package("wrong", &all, "main.rs", include_str!("../downstream/wrong.rs"));
    dir
}

/// Writes a file unless it is there as it should be: an older file need not be compiled again.
fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn cargo(dir: &Path, arguments: &[&str]) -> Output {
    let mut target = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    target.pop();
    Command::new(env!("CARGO"))
        .current_dir(dir)
        .args(arguments)
        .args(["--offline", "--quiet", "--color=never"])
        .env("CARGO_TARGET_DIR", target)
        .env("OPENBLAS_NUM_THREADS", "1")
        .output()
        .unwrap()
}

/// Runs a program on a backend and returns what it printed.
fn run(dir: &Path, package: &str, backend: &str) -> String {
    let mut target = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    target.pop();
    let program = target.join("debug").join(package);
    let output = Command::new(program).current_dir(dir).env("COTANGENT_BACKEND", backend).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{package} on {backend}\n{text}{errors}");
    text.into_owned()
}

/// One test, because Cargo runs one at a time in a folder anyway.
#[test]
fn the_public_face_is_enough_and_is_guarded_across_crates() {
    let dir = packages();

    let built = cargo(&dir, &["build", "--package", "learns", "--package", "renamed"]);
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    for backend in ["cpu", "emulated"] {
        let text = run(&dir, "learns", backend);
        assert!(text.contains("kernel `silu_gate`\n") && !text.contains("FAIL"), "{text}");
        // The kernel's source runs in the emulator whatever the backend is.
        assert!(text.contains("gradient of `b`, kernel against fallback (N = 301)"), "{text}");
        assert!(text.contains(&format!("\n{backend}: loss ")), "{text}");
        assert_eq!(run(&dir, "renamed", backend), format!("{backend}: gradients through a re-export\n"));
    }

    let refused = cargo(&dir, &["build", "--package", "wrong"]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(101), "{message}");
    for expected in [
        "error[E0277]: `mrope_backward` is not the backward of `negate` [C16]\n",
        "--> wrong/src/main.rs:6:29\n",
        "kernel `decode` is inference-only, so it cannot be reached from a training graph [C10]\n",
        "--> wrong/src/main.rs:17:20\n",
        "inference_only = \"it needs a left-padded cache\",\n",
        "`&mlx_rs::Array` is no operand of a tensor operation in mode `M` [C08] [C11]\n",
        "--> wrong/src/main.rs:21:16\n",
        "`cotangent_kernels::mrope::mrope` does not name `turn_back` as its backward, so that gradient would never run [C16]\n",
        "--> wrong/src/main.rs:11:32\n",
    ] {
        assert!(message.contains(expected), "expected `{expected}` in\n{message}");
    }
}
