//! Counts how many of the library's kernels are lowered and compiled.

use std::collections::BTreeMap;

use anyhow::Result;
use cotangent_apple::lower::{ArgumentRole, Options, Refusal, lower};
use cotangent_apple::{Failure, Library, Workshop};

/// Lowers every `step`-th kernel, and compiles those that are lowered if `compile` says so. Prints what was refused, by
/// cause.
pub fn survey(library: &Library, workshop: &Workshop<'_>, step: usize, compile: bool) -> Result<bool> {
    let (mut seen, mut good) = (0, 0);
    let mut refused: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for function in library.functions().iter().step_by(step.max(1)) {
        seen += 1;
        let module = workshop.llvm().disassemble(library.module(&function.name)?)?;
        let options = with_constants(&module, &function.name);
        let result = match compile {
            true => workshop.kernel(&function.name, &module, &options).map(drop),
            false => lower(&module, "kernel.ll", &options).map(drop).map_err(Failure::Refused),
        };
        match result {
            Ok(()) => good += 1,
            Err(failure) => {
                let cause = failure.to_string().lines().take(3).collect::<Vec<_>>().join(" ");
                refused.entry(cause).or_insert((0, function.name.clone())).0 += 1;
            }
        }
    }
    println!("{good} of {seen} kernels are {}", if compile { "lowered and compiled" } else { "lowered" });
    for (cause, (count, example)) in &refused {
        println!("  {count} refused, such as `{example}`: {cause}");
    }
    Ok(refused.is_empty())
}

/// Function constants that are all 1: true, or a count.
fn with_constants(module: &str, name: &str) -> Options {
    let mut options = Options::default();
    if let Err(Refusal::Constants(missing)) = lower(module, name, &options) {
        options.constants = missing.into_iter().map(|(index, _)| (index, 1)).collect();
    }
    options
}

/// Returns what is known of one kernel.
pub fn describe(library: &Library, workshop: &Workshop<'_>, name: &str) -> Result<bool> {
    let Some(function) = library.functions().iter().find(|function| function.name == name) else {
        println!("{name}: the library has no such kernel");
        return Ok(false);
    };
    let module = workshop.llvm().disassemble(library.module(name)?)?;
    let options = with_constants(&module, name);
    let kernel = match workshop.kernel(name, &module, &options) {
        Ok(kernel) => kernel,
        Err(failure) => {
            println!("{name}: {failure}");
            return Ok(false);
        }
    };
    println!("{name}: AIR {}.{}, Metal {}.{}", function.air.0, function.air.1, function.metal.0, function.metal.1);
    for argument in &kernel.lowered.arguments {
        match &argument.role {
            ArgumentRole::Buffer { index, ty, writable } => {
                println!("  buffer {index}: {ty} `{}`{}", argument.name, if *writable { ", written" } else { "" });
            }
            ArgumentRole::Attribute(attribute) => println!("  `{}`: {attribute}", argument.name),
        }
    }
    for (index, (ty, constant)) in &kernel.lowered.constants {
        println!("  function constant {index}: {ty} `{constant}`");
    }
    println!(
        "  contractions: {}, calls that threads meet at: {}",
        kernel.lowered.contractions,
        kernel.lowered.sites.len()
    );
    println!("  lowered to {}", kernel.object.path.with_file_name(&kernel.object.files[0]).display());
    Ok(true)
}
