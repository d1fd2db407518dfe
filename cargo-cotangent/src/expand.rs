//! `cargo cotangent expand KERNEL`: the Rust that a kernel's attribute generates, and the texts that GPUs get.

use crate::source::{self, KernelSource, Kind};
use anyhow::{Context, Result, bail};
use cotangent_macros_core::diagnostics::Diagnostic;
use cotangent_macros_core::model::body::Body;
use cotangent_macros_core::plan::Plan;
use quote::ToTokens;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The items generated for the kernel `name` in the sources below `folders`, or the `compile_error!`s that refuse it; then
/// its texts. Messages name files as seen from `root`, and `caller` as the program to run: `cargo cotangent`.
///
/// # Errors
/// If no kernel has the name, or several; if a file is not Rust.
pub fn expand(root: &Path, folders: &[PathBuf], name: &str, caller: &str) -> Result<String> {
    let kernel = find(root, folders, name, caller)?;
    // The source may be in a file beside it.
    let file = root.join(&kernel.file);
    cotangent_macros_core::in_file(&file, || expansion(kernel, caller))
}

/// The one kernel called `name`.
fn find(root: &Path, folders: &[PathBuf], name: &str, caller: &str) -> Result<KernelSource> {
    let mut kernels = source::find_all(root, folders)?;
    kernels.retain(|kernel| kernel.name() == name);
    match kernels.len() {
        0 => bail!("no kernel is called `{name}`\n  help: list the kernels with `{caller} kernels`"),
        1 => Ok(kernels.remove(0)),
        _ => {
            let places: Vec<_> = kernels.iter().map(|kernel| format!("\n  {}", kernel.place)).collect();
            bail!("{} kernels are called `{name}`{}\n  help: rename all but one", kernels.len(), places.concat())
        }
    }
}

fn expansion(kernel: KernelSource, caller: &str) -> Result<String> {
    let function = kernel.function.to_token_stream();
    let tokens = match kernel.kind {
        Kind::Differentiable => cotangent_macros_core::differentiable(kernel.options.clone(), function),
        Kind::Stage => cotangent_macros_core::stage(kernel.options.clone(), function),
    };
    let file = syn::parse2(tokens).context("the expansion is not Rust, which is a mistake in cotangent-macros-core")?;
    let mut text = format!("// Rust, of {}\n\n{}", kernel.place, prettyplease::unparse(&file));
    if let Ok(plan) = plan(&kernel) {
        text += "\n// Plan\n\n";
        plan.to_string().lines().for_each(|line| text += &format!("// {line}\n"));
        text += &texts(&plan, caller);
    }
    Ok(text)
}

/// Returns what is generated for a kernel.
///
/// # Errors
/// The mistakes in it.
pub fn plan(kernel: &KernelSource) -> Result<Plan, Vec<Diagnostic>> {
    let (options, function) = (kernel.options.clone(), kernel.function.to_token_stream());
    match kernel.kind {
        Kind::Differentiable => cotangent_macros_core::plan(options, function),
        Kind::Stage => cotangent_macros_core::plan_stage(options, function),
    }
}

/// The sources of a launch, or where to find those of a Rust body.
fn texts(plan: &Plan, caller: &str) -> String {
    let name = &plan.kernel.name;
    let Some(texts) = &plan.texts else {
        let Body::Rust(body) = &plan.kernel.body else { return String::new() };
        let stages: Vec<String> = body
            .stages
            .iter()
            .map(|stage| format!("// `{caller} expand {}`\n", stage.to_token_stream().to_string().replace(' ', "")))
            .collect();
        return match stages.as_slice() {
            [] => "\n// No text: the body is made of operations.\n".to_owned(),
            stages => format!("\n// Texts are those of its stages:\n{}", stages.concat()),
        };
    };
    let mut text = String::new();
    let _ = write!(text, "\n// Metal, the body of a function whose head MLX writes\n\n{}\n", texts.metal.trim_end());
    match &texts.cuda {
        Some(cuda) => {
            let _ = write!(text, "\n// CUDA, likewise\n\n{}\n", cuda.trim_end());
        }
        None => {
            let _ = write!(
                text,
                "\n// CUDA: the same, translated at the first launch. `{caller} expand {name} --cuda` shows it.\n"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::find_in;

    fn expanded(text: &str) -> String {
        expansion(find_in(text, "kernels/src/double.rs").unwrap().remove(0), "cargo cotangent").unwrap()
    }

    #[test]
    fn a_launch_is_shown_with_its_texts_as_they_were_laid_out() {
        let text = expanded(
            "#[stage(grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
             fn double(x: In![f32; N], y: Out![f32; N]) {
                 metal! {
                     uint i = thread_position_in_grid.x;
                     y[i] = 2.0f * x[i];
                 }
             }",
        );
        assert!(text.starts_with("// Rust, of kernels/src/double.rs:2\n\n"), "{text}");
        assert!(text.contains("pub struct double") || text.contains("struct double"), "{text}");
        assert!(text.contains("\nuint i = thread_position_in_grid.x;\ny[i] = 2.0f * x[i];\n"), "{text}");
        assert!(text.contains("`cargo cotangent expand double --cuda` shows it"), "{text}");
    }

    #[test]
    fn a_rust_body_names_the_stages_whose_texts_it_runs() {
        let text = expanded(
            "#[differentiable(fallback = ops::double, stages = [part], cases = [(N = 7)])]
             pub fn double(x: In![f32; N], y: Out![f32; N]) { Ok(Outputs { y: part(stages, x)? }) }",
        );
        assert!(text.ends_with("// Texts are those of its stages:\n// `cargo cotangent expand part`\n"), "{text}");
    }

    #[test]
    fn what_is_refused_shows_why() {
        let text = expanded("#[differentiable]\npub fn unfinished(x: In![f32; N]) {}");
        assert!(text.contains("compile_error!"), "{text}");
    }
}
