//! The page for authors of other crates, followed word for word in a new folder of the checkout.

use std::fs;
use std::path::{Path, PathBuf};
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

/// The folder that the page makes. It is gone when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(checkout: &Path) -> Self {
        let folder = Folder(checkout.join("my-kernels"));
        folder.remove();
        folder
    }

    fn remove(&self) {
        if self.0.exists() {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.0.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Runs lines of the page, and returns whether they succeeded and what they printed.
fn run(folder: &Path, lines: &str) -> (bool, String) {
    let mut target = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    target.pop();
    let output = Command::new("bash")
        .args(["-eu", "-c", lines])
        .current_dir(folder)
        .env("CARGO", env!("CARGO"))
        // What the checkout has compiled need not be compiled again, and the network is not asked.
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
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (commands, sources) = (blocks("sh"), blocks("rust"));
    let [setup, test, ..] = commands.as_slice() else { panic!("{commands:?}") };
    let [source] = sources.as_slice() else { panic!("{sources:?}") };
    let folder = Folder::new(checkout);

    let (succeeded, text) = run(checkout, setup);
    assert!(succeeded, "{text}");
    folder.write("src/lib.rs", source);
    // The checkout's profiles, so that other people's crates are as it compiled them.
    let mut profiles =
        "[profile.dev]\ndebug = \"line-tables-only\"\n\n[profile.dev.package.\"*\"]\nopt-level = 1\ndebug = false\n"
            .to_owned();
    for ours in ["cotangent", "cotangent-macros", "cotangent-macros-core"] {
        profiles += &format!("\n[profile.dev.package.{ours}]\nopt-level = 0\n");
    }
    folder.write(".cargo/config.toml", &profiles);

    let (succeeded, text) = run(&folder.0, test);
    assert!(succeeded, "{text}");
    let [said] = &blocks("text")[..] else { panic!("the page says once what is printed") };
    assert!(text.contains(said.trim_end()), "{text}");

    // The mistake that the page proposes, and a loop over kernels that the linker has dropped.
    folder.write("src/lib.rs", &source.replace("= 2.0f *", "= -2.0f *"));
    folder.write(
        "tests/loops.rs",
        "#[test]\nfn every_kernel() {\n    assert!(!cotangent::kernel::kernels().is_empty());\n}\n",
    );
    let (succeeded, text) = run(&folder.0, "cargo test --no-fail-fast");
    assert!(!succeeded && text.contains("test kernel_square::is_as_declared ... FAILED"), "{text}");
    assert!(text.contains("gradient of `x`, kernel against fallback (N = 7)"), "{text}");
    assert!(text.contains("test every_kernel ... FAILED") && text.contains("this program links no kernel"), "{text}");
}
