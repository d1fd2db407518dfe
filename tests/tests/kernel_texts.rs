//! The text of every launch of the registry, at each of its cases and in each dtype, before compilers that need no device:
//! NVIDIA's for an H100, and clang with Metal's address spaces.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use cotangent::kernel::check::{CudaCompiler, LaunchText};
use cotangent_emulator::StaticCheck;
use cotangent_metal::{CudaGrid, CudaText, CudaUnit, Dtype, KernelText, TemplateValue, cuda_text};

/// Every text with its kernel's name.
fn texts() -> Vec<(&'static str, LaunchText)> {
    let mut texts = Vec::new();
    for kernel in cotangent_kernels::kernels() {
        let own = kernel.launch_texts().unwrap_or_else(|error| panic!("{error}"));
        texts.extend(own.into_iter().map(|text| (kernel.signature.name, text)));
    }
    assert!(texts.iter().any(|(name, _)| *name == "rotate"), "the registry is empty");
    texts
}

/// Returns the program that NVIDIA's compiler gets of a launch.
fn unit(text: &LaunchText) -> Option<CudaUnit<'_>> {
    let input_shapes = text.input_shapes.iter().map(Vec::as_slice).collect();
    Some(CudaUnit { kernel: &text.metal, input_shapes, text: text.cuda.as_ref().ok()? })
}

/// Asks `judge` about each, on two threads; panics with all it refuses.
fn judge_all<T: Sync>(items: &[T], judge: impl Fn(&T) -> Result<(), String> + Sync) {
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (failures, judge) = (&failures, &judge);
            scope.spawn(move || {
                for item in items.iter().skip(half).step_by(2) {
                    if let Err(failure) = judge(item) {
                        failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {}\n{}", failures.len(), items.len(), failures.join("\n"));
}

#[test]
fn every_text_compiles_for_an_h100() {
    let Some(compiler) = CudaCompiler::find() else {
        eprintln!("SKIPPED: no NVRTC; `cargo xtask test` brings one, or name a libnvrtc.so in COTANGENT_NVRTC");
        return;
    };
    // Cases that differ only in sizes share a source.
    let mut distinct = BTreeMap::new();
    for (name, text) in texts() {
        match &text.cuda {
            // A CUDA source that the author wrote needs CUDA's headers, which MLX brings and this compiler does not
            // have.
            Ok(_) if text.is_native => eprintln!("SKIPPED: the text for CUDA of `{name}`"),
            Ok(cuda) => drop(distinct.entry(cuda.name(name)).or_insert((name, text))),
            Err(reason) => eprintln!("`{name}` at {}: the fallback runs on CUDA: {reason}", text.place),
        }
    }
    let marks = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda");
    let distinct: Vec<_> = distinct.into_values().collect();
    eprintln!("{} texts, {compiler}", distinct.len());
    let units: Vec<_> = distinct.iter().filter_map(|(_, text)| unit(text)).collect();
    assert_eq!(units.len(), distinct.len());
    let refused = compiler.refused(&units, &marks).unwrap();
    let told: String = refused
        .iter()
        .map(|(index, log)| format!("\n`{}` at {}\n{log}", distinct[*index].0, distinct[*index].1.place))
        .collect();
    assert!(told.is_empty(), "{} of {}{told}", refused.len(), units.len());
}

#[test]
fn what_nvidias_compiler_refuses_is_said_in_its_words() {
    let Some(compiler) = CudaCompiler::find() else {
        eprintln!("SKIPPED: no NVRTC; `cargo xtask test` brings one, or name a libnvrtc.so in COTANGENT_NVRTC");
        return;
    };
    let kernel = KernelText::new("one", "y[thread_position_in_grid.x] = 1;").output("y", Dtype::F32);
    let text = cuda_text(&kernel, &[], CudaGrid { ragged: false }).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(&compiler.compile("entry", &kernel, &[], &text).unwrap()[..4], b"\x7fELF");
    let broken = CudaText { source: text.source.replace("metal_kernel_body", "no_such_body"), ..text };
    let log = compiler.compile("entry", &kernel, &[], &broken).expect_err("a source that cannot compile");
    assert!(log.contains("no_such_body"), "{log}");
}

/// Checks all texts, of each kernel one for each combination of what a check depends on: the template values that `matter`, and
/// which inputs are small enough for `constant`. Without clang it checks none, and says so.
fn judge_statically<E: std::fmt::Display, C: std::fmt::Display>(
    matter: impl Fn(&TemplateValue) -> bool,
    complaints: impl Fn(&StaticCheck, &KernelText, &[&[usize]]) -> Result<Vec<C>, E> + Sync,
) {
    let Some(check) = StaticCheck::find() else {
        eprintln!("SKIPPED: the static check needs clang++ 19 or newer (or COTANGENT_CLANG)");
        return;
    };
    let mut distinct = BTreeMap::new();
    for (name, text) in texts() {
        let small: Vec<bool> = text.input_shapes.iter().map(|shape| shape.iter().product::<usize>() < 8).collect();
        let template: Vec<_> = text.metal.template.iter().filter(|(_, value)| matter(value)).collect();
        distinct.entry(format!("{name} {template:?} {small:?}")).or_insert((name, text));
    }
    let distinct: Vec<_> = distinct.into_values().collect();
    eprintln!("{} texts", distinct.len());
    judge_all(&distinct, |(name, text)| {
        let shapes: Vec<&[usize]> = text.input_shapes.iter().map(Vec::as_slice).collect();
        let complaints = complaints(&check, &text.metal, &shapes).map_err(|error| error.to_string())?;
        let told: String = complaints.iter().map(|complaint| format!("\n{complaint}")).collect();
        if told.is_empty() { Ok(()) } else { Err(format!("`{name}` at {}, inputs {shapes:?}{told}", text.place)) }
    });
}

#[test]
fn every_text_keeps_metals_rules_with_small_and_large_inputs() {
    judge_statically(|_| true, StaticCheck::check);
}

/// Where address spaces are part of the language, dtypes and numbers make no difference to them.
#[test]
fn every_text_keeps_address_spaces_that_are_part_of_the_language() {
    judge_statically(|value| matches!(value, TemplateValue::Bool(_)), StaticCheck::check_spaces);
}
