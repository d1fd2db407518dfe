//! The page for authors of other crates, followed word for word in an empty folder outside the checkout.

use std::fs;
use std::path::Path;
use std::process::Command;

const PAGE: &str = include_str!("../../docs/kernels.md");

/// The blocks of the page that begin with `fence`, in their order.
fn blocks(fence: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if line == format!("```{fence}") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push(block.join("\n") + "\n");
        }
    }
    found
}

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Runs lines of the page, and returns whether they succeeded and what they printed.
fn run(folder: &Path, lines: &str) -> (bool, String) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(target.join("debug")).chain(std::env::split_paths(&path));
    let output = Command::new("bash")
        .args(["-eu", "-c", lines])
        .current_dir(folder)
        .env("CARGO", env!("CARGO"))
        // The page installs `cargo cotangent`, which was built for this test.
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("COTANGENT", checkout())
        // With the checkout's target directory, compiled crates are not compiled again and no network is needed.
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_NET_OFFLINE", "true")
        .env("CARGO_TERM_COLOR", "never")
        .env("OPENBLAS_NUM_THREADS", "1")
        .env("COTANGENT_BACKEND", "cpu")
        .output()
        .unwrap();
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    (output.status.success(), text)
}

#[test]
fn it_leads_to_a_kernel_whose_wrong_gradient_fails_by_itself() {
    let (commands, sources) = (blocks("sh"), blocks("rust"));
    let [install, setup, test, ..] = commands.as_slice() else { panic!("{commands:?}") };
    let [source] = sources.as_slice() else { panic!("{sources:?}") };
    assert_eq!(install, "COTANGENT=$PWD\ncargo install --locked --path cargo-cotangent\n");
    let (succeeded, text) = run(checkout(), "cargo build --quiet --package cargo-cotangent");
    assert!(succeeded, "{text}");
    let empty = tempfile::tempdir().unwrap();
    assert!(!empty.path().starts_with(checkout()), "Cargo would find the checkout's configuration");

    let (succeeded, text) = run(empty.path(), setup);
    assert!(succeeded, "{text}");
    let folder = empty.path().join("my-kernels");
    write(&folder, "src/lib.rs", source);
    // With the checkout's profiles, other people's crates need not be compiled again.
    let mut configuration = fs::read_to_string(folder.join(".cargo/config.toml")).unwrap()
        + "\n[profile.dev]\ndebug = \"line-tables-only\"\n\n[profile.dev.package.\"*\"]\nopt-level = 1\ndebug = false\n";
    for ours in ["cotangent", "cotangent-commands", "cotangent-macros", "cotangent-macros-core"] {
        configuration += &format!("\n[profile.dev.package.{ours}]\nopt-level = 0\n");
    }
    write(&folder, ".cargo/config.toml", &configuration);

    let (succeeded, text) = run(&folder, test);
    assert!(succeeded, "{text}");
    let [said] = &blocks("text")[..] else { panic!("the page says once what is printed") };
    assert!(text.contains(said.trim_end()), "{text}");

    // The page's other commands are run in a lone crate with its own kernels.
    let (succeeded, text) = run(&folder, "cargo cotangent setup && cargo cotangent expand square");
    assert!(succeeded && text.contains("// Rust, of src/lib.rs:13\n") && text.contains("pub fn square"), "{text}");
    let (succeeded, text) = run(&folder, "cargo cotangent kernels --names && cargo cotangent kernels square --at N=1");
    assert!(succeeded && text.starts_with("square\nsquare_backward\n"), "{text}");
    assert!(text.contains("\ngradient      the kernel `square_backward`"), "{text}");

    // This makes the mistake that the page proposes, and a loop over kernels that the linker has dropped.
    write(&folder, "src/lib.rs", &source.replace("= 2.0f *", "= -2.0f *"));
    let every = "#[test]\nfn every_kernel() {\n    assert!(!cotangent::kernel::kernels().is_empty());\n}\n";
    write(&folder, "tests/loops.rs", every);
    let (succeeded, text) = run(&folder, "cargo test --no-fail-fast");
    assert!(!succeeded && text.contains("test kernel_square::is_as_declared ... FAILED"), "{text}");
    assert!(text.contains("gradient of `x`, kernel against fallback (N = 7)"), "{text}");
    assert!(text.contains("test every_kernel ... FAILED") && text.contains("this program links no kernel"), "{text}");
}
