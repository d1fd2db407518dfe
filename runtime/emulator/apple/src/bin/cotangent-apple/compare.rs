//! Compares compiled kernels with their sources, bit for bit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use cotangent_apple::Library;
use cotangent_apple::lower::Source;
use cotangent_emulator::{Bound, Dtype, Emulator, FunctionText};

use crate::case::Case;
use crate::child::{self, Compiled, Left, MODES, Mode};

/// The outcome of one kernel.
pub struct Outcome {
    pub family: &'static str,
    pub function: String,
    pub kernel: String,
    /// The verdict with products and sums rounded separately; `contracted` is the verdict with both rounded together.
    pub plain: Verdict,
    pub contracted: Verdict,
    pub contractions: usize,
    pub shared: Vec<Source>,
    /// Findings in compiled code and in text.
    pub findings: Vec<String>,
}

/// The result of comparing two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Equal,
    /// Elements differ: how many, how many there are in all, and what the first difference is.
    Differs(usize, usize, String),
    /// The package has no text of the kernel.
    NoText,
    /// One side did not run, for this reason.
    Failed(String),
}

/// Emulators of texts: with products and sums rounded apart, and together, if there is a compiler for that.
pub struct Texts<'e> {
    pub plain: &'e Emulator,
    pub contracted: Option<&'e Emulator>,
    pub sources: PathBuf,
}

/// Compares cases, several at a time, until all are done or this much time is over.
pub fn compare(
    cases: &[Case],
    library: &Library,
    texts: &Texts<'_>,
    cache: &Path,
    (jobs, patience): (usize, Option<Duration>),
) -> Result<Vec<Outcome>> {
    let begun = Instant::now();
    // One instance of each function comes first, so that a run that is cut off has seen all functions.
    let repeats = |n: usize| cases[..n].iter().filter(|case| case.function == cases[n].function).count();
    let mut turns: Vec<usize> = (0..cases.len()).collect();
    turns.sort_by_key(|&n| repeats(n));
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some(&turn) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
            if patience.is_some_and(|patience| begun.elapsed() > patience) {
                break;
            }
            let case = &cases[turn];
            let begun = Instant::now();
            let outcome = one(case, library, texts, cache)?;
            eprintln!("{:>6.1} s {}", begun.elapsed().as_secs_f64(), line(&outcome));
            outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(outcome);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let order = |kernel: &str| cases.iter().position(|case| case.kernel == kernel);
    outcomes.sort_by_key(|outcome| order(&outcome.kernel));
    Ok(outcomes)
}

fn one(case: &Case, library: &Library, texts: &Texts<'_>, cache: &Path) -> Result<Outcome> {
    let compiled = match library.module(&case.kernel) {
        Ok(bitcode) => child::run(case, cache, bitcode)?,
        Err(damage) => Compiled { failure: Some(damage.to_string()), ..Compiled::default() },
    };
    let mut findings = BTreeSet::new();
    for (mode, launch, left) in &compiled.left {
        let order = if mode.reversed { "reversed" } else { "forward" };
        findings.extend(left.findings.iter().map(|f| format!("compiled, launch {launch}, {order}: {f}")));
    }
    let mut verdict = |emulator: Option<&Emulator>, mode: Mode| {
        let Some(emulator) = emulator else {
            return Verdict::Failed("no clang 19 for the text".into());
        };
        if case.headers.is_empty() {
            return compiled.failure.clone().map_or(Verdict::NoText, Verdict::Failed);
        }
        let mut result = Verdict::Equal;
        for number in 0..case.launches.len() {
            let text = match run_text(case, texts, emulator, mode, number) {
                Ok(left) => left,
                Err(why) => return Verdict::Failed(format!("text: {why}")),
            };
            findings.extend(text.findings.iter().map(|f| format!("text, launch {number}: {f}")));
            result = join(result, verdict_of(case, &compiled, &text, mode, number));
        }
        result
    };
    let plain = verdict(Some(texts.plain), MODES[0]);
    let reversed = reversed(case, &compiled);
    let contracted = match compiled.contractions {
        0 => plain.clone(),
        _ => verdict(texts.contracted, MODES[1]),
    };
    let (kernel, function) = (case.kernel.clone(), case.function.clone());
    let findings = findings.into_iter().chain(reversed).collect();
    let Compiled { contractions, shared, .. } = compiled;
    Ok(Outcome { family: case.family, function, kernel, plain, contracted, contractions, shared, findings })
}

/// Returns whether the compiled kernel gives the same in the reverse order of threads.
fn reversed(case: &Case, compiled: &Compiled) -> Option<String> {
    let buffers = |mode, launch| compiled.of(mode, launch).map(|left| &left.buffers);
    let differs = (0..case.launches.len()).find(|&n| {
        let (forward, reversed) = (buffers(MODES[0], n), buffers(MODES[2], n));
        forward.is_some() && reversed.is_some() && forward != reversed
    })?;
    Some(format!("compiled, launch {differs}: another result in the reverse order of threads"))
}

fn run_text(case: &Case, texts: &Texts<'_>, emulator: &Emulator, mode: Mode, launch: usize) -> Result<Left, String> {
    let function = FunctionText {
        source: cotangent_emulator::Source::new(format!("{}.metal", case.kernel), case.text()),
        folders: vec![texts.sources.clone()],
        name: case.kernel.clone(),
        constants: case.constants.clone(),
    };
    let run = emulator.run_function(&function, &mode.of(&case.launches[launch]));
    let run = run.map_err(|error| error.to_string().lines().take(4).collect::<Vec<_>>().join(" "))?;
    let findings = run.findings.iter().map(|finding| finding.to_string().replace('\n', " ")).collect();
    Ok(Left { buffers: run.buffers, findings })
}

fn verdict_of(case: &Case, compiled: &Compiled, text: &Left, mode: Mode, number: usize) -> Verdict {
    let Some(compiled_left) = compiled.of(mode, number) else {
        return Verdict::Failed(format!("compiled: {}", compiled.failure.as_deref().unwrap_or("no result")));
    };
    let (mut different, mut total, mut first) = (0, 0, None);
    for (index, bytes) in &text.buffers {
        let Some(bound) = case.launches[number].buffers.iter().find(|bound| bound.index == *index) else { continue };
        let Some((_, other)) = compiled_left.buffers.iter().find(|(known, _)| known == index) else {
            return Verdict::Failed(format!("compiled code does not bind buffer {index}"));
        };
        let size = bound.dtype.size();
        for (n, (ours, theirs)) in bytes.chunks_exact(size).zip(other.chunks_exact(size)).enumerate() {
            total += 1;
            if !same(bound.dtype, ours, theirs) {
                different += 1;
                first.get_or_insert_with(|| describe(bound, n, ours, theirs));
            }
        }
    }
    match first {
        None => Verdict::Equal,
        Some(first) => Verdict::Differs(different, total, first),
    }
}

/// Returns whether two elements have the same bits. Any NaN is like any other.
fn same(dtype: Dtype, a: &[u8], b: &[u8]) -> bool {
    a == b || (dtype.is_nan(a) && dtype.is_nan(b))
}

fn describe(bound: &Bound<'_>, element: usize, text: &[u8], compiled: &[u8]) -> String {
    let value = |bytes: &[u8]| bound.dtype.decode(bytes).first().copied().unwrap_or_default();
    format!("{}[{element}]: text {:e}, compiled {:e}", bound.name, value(text), value(compiled))
}

fn join(a: Verdict, b: Verdict) -> Verdict {
    match (a, b) {
        (Verdict::Equal, b) => b,
        (Verdict::Differs(n, of, first), Verdict::Differs(m, more, _)) => Verdict::Differs(n + m, of + more, first),
        (a, Verdict::Equal) => a,
        (_, failed) => failed,
    }
}

/// One kernel on one line.
pub fn line(outcome: &Outcome) -> String {
    let word = |verdict: &Verdict| match verdict {
        Verdict::Equal => "equal".to_owned(),
        Verdict::Differs(n, of, first) => format!("{n} of {of} differ, {first}"),
        Verdict::NoText => "no text".to_owned(),
        Verdict::Failed(why) => format!("failed: {why}"),
    };
    let mut text = format!("{}: {}", outcome.kernel, word(&outcome.plain));
    if outcome.contractions > 0 {
        let _ = write!(text, "; contracted ({}): {}", outcome.contractions, word(&outcome.contracted));
    }
    // The first of each kind is shown, because a kind that comes later might be another defect.
    let kind = |finding: &str| finding.split(": ").nth(1).unwrap_or_default().to_owned();
    let mut kinds = BTreeSet::new();
    let firsts: Vec<_> =
        outcome.findings.iter().filter(|finding| kinds.insert(kind(finding))).map(String::as_str).collect();
    if !firsts.is_empty() {
        let _ = write!(text, "; {} findings: {}", outcome.findings.len(), firsts.join("; "));
    }
    text
}

/// The table of families, in Markdown.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut families: Vec<&str> = outcomes.iter().map(|outcome| outcome.family).collect();
    families.dedup();
    let mut text = String::from(
        "| family | functions | kernels | equal bits | equal, contracted | differ | did not run | no text | from both sides |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---|\n",
    );
    let mut rows: Vec<(String, Vec<&Outcome>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for family in families.into_iter().filter(|family| seen.insert(*family)) {
        rows.push((family.to_owned(), outcomes.iter().filter(|o| o.family == family).collect()));
    }
    rows.push(("all".to_owned(), outcomes.iter().collect()));
    for (family, members) in rows {
        let functions: BTreeSet<&str> = members.iter().map(|outcome| outcome.function.as_str()).collect();
        let count = |wanted: &dyn Fn(&Outcome) -> bool| members.iter().filter(|outcome| wanted(outcome)).count();
        let equal = count(&|o| o.plain == Verdict::Equal);
        let contains = count(&|o| o.contractions > 0 && o.plain != Verdict::NoText);
        let contracted = count(&|o| o.contractions > 0 && o.contracted == Verdict::Equal);
        let differ = count(&|o| matches!(o.plain, Verdict::Differs(..)));
        let failed = count(&|o| matches!(o.plain, Verdict::Failed(_)));
        let untold = count(&|o| o.plain == Verdict::NoText);
        let mut shared: BTreeMap<Source, usize> = BTreeMap::new();
        members.iter().flat_map(|o| &o.shared).for_each(|source| *shared.entry(*source).or_default() += 1);
        let name = |source: &Source| match source {
            Source::Library => "math library",
            Source::Lanes => "order of lanes",
            Source::Matrix => "sums of matrices",
            Source::Instruction => "",
        };
        let shared: Vec<String> = shared.iter().map(|(source, count)| format!("{} {count}", name(source))).collect();
        let _ = writeln!(
            text,
            "| {family} | {} | {} | {equal} | {contracted} of {contains} | {differ} | {failed} | {untold} | {} |",
            functions.len(),
            members.len(),
            shared.join(", ")
        );
    }
    text
}
