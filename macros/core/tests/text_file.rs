//! Kernels whose text is in a file: the same mistakes, with the place in that file.

use std::path::{Path, PathBuf};

use cotangent_macros_core::{in_file, plan_stage};
use proc_macro2::TokenStream;

const OPTIONS: &str = "grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)]";
const ITEM: &str = "fn scaled(x: In![f32; N], y: Out![f32; N]) { metal_file!(\"scaled.metal\") }";

fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap()
}

/// A folder with the text as `scaled.metal`, and the Rust file that would be beside it.
fn folder(name: &str, text: &str) -> (PathBuf, PathBuf) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("scaled.metal"), text).unwrap();
    (folder.join("kernels.rs"), folder.join("scaled.metal"))
}

fn mistakes(file: &Path) -> Vec<String> {
    in_file(file, || match plan_stage(tokens(OPTIONS), tokens(ITEM)) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().map(|mistake| mistake.text()).collect(),
    })
}

#[test]
fn a_right_text_becomes_the_texts_of_the_plan_as_it_is() {
    let text = "uint i = thread_position_in_grid.x; // 1'000\nif (i < uint(N)) y[i] = 0x1p1f * x[i];\n";
    let (file, _) = folder("right", text);
    let plan = in_file(&file, || plan_stage(tokens(OPTIONS), tokens(ITEM)).unwrap());
    let texts = plan.texts.unwrap();
    assert_eq!((texts.metal.as_str(), texts.dimensions), (text, vec!["N".to_owned()]));
}

#[test]
fn a_text_for_cuda_may_be_in_a_file_as_well() {
    let (file, _) = folder("cuda", "y[0] = x[0];\n");
    std::fs::write(file.with_file_name("scaled.cu"), "if (threadIdx.x < N) y[0] = 1'000 * x[0];\n").unwrap();
    let item = ITEM.replace(") }", "); cuda_file!(\"scaled.cu\") }");
    let plan = in_file(&file, || plan_stage(tokens(OPTIONS), tokens(&item)).unwrap());
    let texts = plan.texts.unwrap();
    assert_eq!(texts.cuda.as_deref(), Some("if (threadIdx.x < N) y[0] = 1'000 * x[0];\n"));
    assert_eq!(texts.dimensions, ["N"]);
}

#[test]
fn mistakes_name_file_line_and_column_and_show_the_line() {
    let (file, text) = folder("wrong", "uint i = 0;\n\tx[i] = 1.0f;\ny[i] = 2.0f;\n");
    let expected = format!(
        "the body of `scaled` writes to its input `x` [C12]\nat {}:2:2\n  |\n2 | \tx[i] = 1.0f;\n  | \t^\nhelp: write to an \
         output: MLX shares an input's memory with every other reader; see `cotangent::errors::C12`",
        text.display()
    );
    assert_eq!(mistakes(&file), [expected]);
}

#[test]
fn a_text_that_cannot_be_read_to_its_end_is_not_blamed_for_what_it_lacks() {
    let (file, _) = folder("open", "y[0] = ((x[0];\n");
    let mistakes = mistakes(&file);
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes.iter().all(|mistake| mistake.starts_with("this `(` is never closed")), "{mistakes:?}");
}

#[test]
fn without_a_file_it_says_so() {
    let Err(mistakes) = plan_stage(tokens(OPTIONS), tokens(ITEM)) else { panic!("it cannot be found") };
    let text = mistakes[0].text();
    assert!(
        text.starts_with("what file this stands in is not known here, so `scaled.metal` cannot be found"),
        "{text}"
    );
}
