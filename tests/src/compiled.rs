//! The project's kernels as clang compiles them in C++ for OpenCL, which has Metal's address spaces, types and contraction:
//! lowered as Apple's modules are, run by the emulator's scheduler, and compared with the emulator's results for the source.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cotangent::Session;
use cotangent::kernel::Declaration;
use cotangent::kernel::check::{Comparison, EmulatedLaunch, Record, Recorded, compare, emulated_launches};
use cotangent_apple::lower::{Options, Source};
use cotangent_apple::{Failure, Kernel, Llvm, Workshop, own_module};
use cotangent_emulator::{Dtype, Emulator, StaticCheck};

/// The arguments of the program.
#[derive(clap::Parser)]
pub struct Arguments {
    /// Kernels whose launches are compared; all without one
    kernels: Vec<String>,
    /// The folder for what is compiled
    #[arg(long, value_name = "FOLDER", default_value = "target/apple")]
    cache: PathBuf,
}

/// The result of one kernel, stage or backward.
#[derive(Default)]
struct Row {
    texts: BTreeSet<String>,
    launches: usize,
    equal: usize,
    /// Launches with products that are contracted; how many of these stay within the bounds of the checks, and how many have
    /// the same bits as without contraction.
    contracted: usize,
    within: usize,
    /// The largest deviation of a contracted launch, as a part of its bound.
    worst: f64,
    shared: BTreeSet<Source>,
    /// What is wrong, the first of each kind.
    wrong: BTreeMap<&'static str, (usize, String)>,
}

impl Row {
    fn note(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        self.wrong.entry(kind).or_insert_with(|| (0, what())).0 += 1;
    }
}

/// Compares, and prints a table. Returns whether all launches gave the same bits without contraction, and stayed within the
/// bounds of the checks with it.
///
/// # Errors
/// If a tool is missing, or a kernel does not run in the emulator.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let llvm = Llvm::find().context(Llvm::MISSING)?;
    let clang = StaticCheck::find().context("clang++ 19 or newer is not here: COTANGENT_CLANG names one")?;
    let emulator = Emulator::with_cache(&arguments.cache.join("emulator"))?;
    let workshop = Workshop::new(llvm, &emulator, &arguments.cache.join("objects"))?;
    let mut session = Session::new()?;
    let mut rows: BTreeMap<&'static str, Row> = BTreeMap::new();
    let mut objects: HashMap<String, Result<[Kernel; 2], Failure>> = HashMap::new();
    let mut seen = BTreeSet::new();
    let wanted = |kernel: &&'static Declaration| {
        arguments.kernels.is_empty() || arguments.kernels.iter().any(|name| name == kernel.signature.name)
    };
    for declaration in cotangent_commands::kernels_of(&crate::CRATES).into_iter().filter(wanted) {
        for made in emulated_launches(&mut session, declaration)? {
            let key = format!("{:?}{:?}", made.text, made.launch);
            if !seen.insert(cotangent_metal::content_key([key.as_str()])) {
                continue;
            }
            let shapes: Vec<&[usize]> = made.launch.inputs.iter().map(|buffer| buffer.shape.as_slice()).collect();
            let small: Vec<bool> = shapes.iter().map(|shape| shape.iter().product::<usize>() < 8).collect();
            let text = format!("{:?}{small:?}", made.text);
            let compiled = objects.entry(text.clone()).or_insert_with(|| {
                let module = own_module(&clang, &made.text, &shapes)?;
                let kernel = |contract| {
                    let options = Options { contract, ..Options::default() };
                    workshop.kernel(&made.text.name, &module, &options)
                };
                Ok([kernel(false)?, kernel(true)?])
            });
            let row = rows.entry(made.kernel).or_default();
            row.texts.insert(text);
            row.launches += 1;
            match compiled {
                Ok(both) => hold(row, &emulator, &made, both, declaration)?,
                Err(failure) => row.note("not compiled", || failure.to_string()),
            }
        }
    }
    let (table, good) = report(&rows);
    print!("{table}");
    Ok(good)
}

/// Runs a launch without contraction and with it.
fn hold(
    row: &mut Row,
    emulator: &Emulator,
    made: &EmulatedLaunch,
    [plain, contracted]: &[Kernel; 2],
    declaration: &'static Declaration,
) -> Result<()> {
    row.shared.extend(&plain.lowered.sources);
    let run = emulator.run_compiled(&plain.object, &made.text, &made.launch)?;
    let place = || format!("{:?}", made.launch.inputs.iter().map(|buffer| &buffer.shape).collect::<Vec<_>>());
    let needed = |n: usize| made.outputs[n].1;
    // An output that nothing reads may be left unwritten.
    let unread = |subject: &Option<String>| {
        made.text.outputs.iter().enumerate().any(|(n, port)| Some(&port.name) == subject.as_ref() && !needed(n))
    };
    if let Some(finding) = run.findings.iter().find(|finding| !unread(&finding.subject)) {
        row.note("findings", || format!("{finding}, inputs {}", place()));
    }
    let differs = |outputs: &[Vec<u8>]| {
        (0..outputs.len()).filter(|&n| needed(n)).find_map(|n| {
            let port = &made.text.outputs[n];
            let size = port.dtype.size();
            let pairs = || made.outputs[n].0.chunks_exact(size).zip(outputs[n].chunks_exact(size));
            let same = |(a, b): (&[u8], &[u8])| a == b || (port.dtype.is_nan(a) && port.dtype.is_nan(b));
            let first = pairs().position(|pair| !same(pair))?;
            let (text, compiled) = pairs().nth(first)?;
            let count = pairs().filter(|pair| !same(*pair)).count();
            let value = |bytes: &[u8]| port.dtype.decode(bytes).first().copied().unwrap_or_default();
            let (text, compiled, all) = (value(text), value(compiled), pairs().count());
            let name = format!("`{}` of {}", port.name, port.dtype);
            Some(format!("{count} of {all} elements of {name}, [{first}]: text {text:e}, compiled {compiled:e}"))
        })
    };
    match differs(&run.outputs) {
        None => row.equal += 1,
        Some(what) => row.note("differ", || format!("{what}, inputs {}", place())),
    }
    if contracted.lowered.contractions > 0 {
        row.contracted += 1;
        let run = emulator.run_compiled(&contracted.object, &made.text, &made.launch)?;
        let record = |outputs: Vec<&[u8]>| {
            let results = (0..outputs.len()).filter(|&n| needed(n)).map(|n| {
                let port = &made.text.outputs[n];
                let values = port.dtype.decode(outputs[n]).into_iter().map(|value| value as f32).collect();
                let rounded_to = match port.dtype {
                    Dtype::BF16 => cotangent::Dtype::BF16,
                    Dtype::F16 => cotangent::Dtype::F16,
                    _ => cotangent::Dtype::F32,
                };
                Recorded { subject: format!("{}, {rounded_to}: `{}`", made.kernel, port.name), rounded_to, values }
            });
            Record { results: results.collect(), refused: Vec::new() }
        };
        let ours = record(made.outputs.iter().map(|(bytes, _)| bytes.as_slice()).collect());
        let theirs = record(run.outputs.iter().map(Vec::as_slice).collect());
        let report = compare(declaration, &theirs, &ours);
        let outside = report.comparisons().iter().find(|comparison| !comparison.passed());
        row.worst = report.comparisons().iter().map(|c| c.deviation / c.bound).fold(row.worst, f64::max);
        match outside {
            None => row.within += 1,
            Some(Comparison { subject, deviation, bound }) => {
                row.note("outside", || format!("{subject}: {deviation:e} of {bound:e}, inputs {}", place()));
            }
        }
    }
    Ok(())
}

/// The table, in Markdown, what is wrong below it, and whether nothing is.
fn report(rows: &BTreeMap<&'static str, Row>) -> (String, bool) {
    let mut text = String::from(
        "| kernel | texts | launches | equal bits | contracted: within the bounds | worst, of its bound | from both sides |\n\
         |---|---:|---:|---:|---:|---:|---|\n",
    );
    let mut wrong = String::new();
    let mut all = Row::default();
    for (kernel, row) in rows {
        let _ = writeln!(text, "{}", line(kernel, row));
        for (kind, (count, first)) in &row.wrong {
            let _ = writeln!(wrong, "{kernel}: {kind}, {count} launches, such as: {}", first.replace('\n', "\n  "));
        }
        all.texts.extend(row.texts.iter().cloned());
        all.launches += row.launches;
        all.equal += row.equal;
        all.contracted += row.contracted;
        all.within += row.within;
        all.worst = all.worst.max(row.worst);
        all.shared.extend(&row.shared);
    }
    let _ = writeln!(text, "{}", line(&format!("all, {}", rows.len()), &all));
    let good = wrong.is_empty() && all.launches > 0;
    (text + &wrong, good)
}

fn line(name: &str, row: &Row) -> String {
    let shared = row.shared.iter().filter_map(|source| match source {
        Source::Library => Some("math library"),
        Source::Lanes => Some("order of lanes"),
        Source::Matrix => Some("sums of matrices"),
        Source::Instruction => None,
    });
    let shared: Vec<&str> = shared.collect();
    let worst = if row.contracted == 0 { String::new() } else { format!("{:.0e}", row.worst) };
    let (texts, launches, equal) = (row.texts.len(), row.launches, row.equal);
    let within = format!("{} of {}", row.within, row.contracted);
    format!("| {name} | {texts} | {launches} | {equal} | {within} | {worst} | {} |", shared.join(", "))
}
