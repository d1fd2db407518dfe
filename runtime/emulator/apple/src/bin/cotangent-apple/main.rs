//! Runs MLX's kernels as Apple's compiler made them beside their sources in the emulator.

mod case;
mod child;
mod compare;
mod families;
mod survey;
mod wheel;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use cotangent_apple::planted::{self, Planted, Verdict as Found};
use cotangent_apple::{Llvm, Workshop};
use cotangent_emulator::Emulator;

use compare::{Texts, Verdict};
use wheel::Wheel;

/// Runs MLX's kernels as Apple's compiler made them beside their sources in the emulator.
#[derive(Parser)]
struct Arguments {
    /// Kernels of MLX's library to describe, and to compare if they are among those; all that are compared without one
    kernels: Vec<String>,
    /// Compare only this family
    #[arg(long, value_name = "NAME", conflicts_with = "kernels")]
    family: Option<String>,
    /// How many kernels to compare at a time
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// List the kernels that are compared, with their families and functions
    #[arg(long)]
    list: bool,
    /// Begin no comparison after this number of minutes. One instance of each function comes first
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<u64>,
    /// Run the launches of one kernel as compiled, and leave what they give in files: the work of a process of its own
    #[arg(long, value_name = "KERNEL", hide = true)]
    child: Option<String>,
    /// The folder for the package and what is made of it
    #[arg(long, value_name = "FOLDER", default_value = "target/apple")]
    cache: PathBuf,
    /// Lower every N-th kernel of the library instead, and count what is refused
    #[arg(long, value_name = "N", conflicts_with = "kernels")]
    survey: Option<usize>,
    /// With --survey: compile them, too
    #[arg(long, requires = "survey")]
    compile: bool,
    /// Run the kernels with planted defects in the emulator instead, and count what it finds: as text, and compiled if there is LLVM
    #[arg(long, conflicts_with_all = ["kernels", "survey"])]
    planted: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.planted {
        return planted(&arguments.cache);
    }
    let llvm = Llvm::find().context(Llvm::MISSING)?;
    let emulator = Emulator::with_cache(&arguments.cache.join("emulator"))?;
    let workshop = Workshop::new(llvm, &emulator, &arguments.cache.join("objects"))?;
    let mut cases = families::all();
    if arguments.list {
        for case in &cases {
            println!("{}\t{}\t{}", case.family, case.function, case.kernel);
        }
        return Ok(true);
    }
    if let Some(kernel) = &arguments.child {
        let case = cases.iter().find(|case| case.kernel == *kernel).context("no such case")?;
        return child::work(case, &arguments.cache, &workshop).map(|()| true);
    }
    let wheel = Wheel::in_cache(&arguments.cache)?;
    let library = wheel.library()?;
    if let Some(step) = arguments.survey {
        return survey::survey(&library, &workshop, step, arguments.compile);
    }
    let mut good = true;
    for kernel in &arguments.kernels {
        good &= survey::describe(&library, &workshop, kernel)?;
    }
    let named = !arguments.kernels.is_empty();
    cases.retain(|case| match &arguments.family {
        Some(family) => case.family == family,
        None => !named || arguments.kernels.contains(&case.kernel),
    });
    let contracted = Emulator::contracting(&arguments.cache.join("emulator"));
    let texts = Texts { plain: &emulator, contracted: contracted.as_ref().ok(), sources: wheel.sources() };
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let patience = arguments.minutes.map(|minutes| std::time::Duration::from_secs(60 * minutes));
    let outcomes = compare::compare(&cases, &library, &texts, &arguments.cache, (jobs, patience))?;
    let lines: Vec<String> = outcomes.iter().map(compare::line).collect();
    let report = arguments.cache.join("comparison.txt");
    std::fs::write(&report, lines.join("\n") + "\n").with_context(|| format!("cannot write {}", report.display()))?;
    println!("{}", compare::table(&outcomes));
    println!("{} of {} kernels were compared; each: {}", outcomes.len(), cases.len(), report.display());
    Ok(good && outcomes.iter().all(|outcome| matches!(outcome.plain, Verdict::Equal | Verdict::NoText)))
}

fn planted(cache: &Path) -> Result<bool> {
    let emulator = Emulator::with_cache(&cache.join("emulator"))?;
    let texts = planted::plant(&emulator, true);
    let good = report("text", &texts);
    let Some(llvm) = Llvm::find() else {
        println!("The compiled kernels were skipped: {}", Llvm::MISSING);
        return Ok(good);
    };
    let workshop = Workshop::new(llvm, &emulator, &cache.join("objects"))?;
    let compiled = planted::plant_compiled(&workshop, true)?;
    Ok(report("compiled", &compiled) && good)
}

/// Prints what was found; returns whether nothing was missed.
fn report(form: &str, planted: &[Planted]) -> bool {
    for one in planted {
        match &one.verdict {
            Found::Found => {}
            Found::AsAnother(found) => eprintln!("{}: found as another kind: {found}", one.name),
            Found::Missed(why) => eprintln!("{}: missed: {why}", one.name),
        }
        if let Some(found) = &one.falsely {
            eprintln!("{}: in the repaired kernel: {found}", one.name);
        }
    }
    println!("{form}:\n\n{}", planted::table(planted));
    planted.iter().all(|one| !matches!(one.verdict, Found::Missed(_)) && one.falsely.is_none())
}
