//! Planted defects: small kernels in Metal, each with one defect, which the emulator must find in both orders of
//! threads, and each with a repaired twin, in which it must find nothing.

mod compiled;
mod list;

use std::fmt::Write as _;

use cotangent_emulator::{
    Buffer, Dtype, Emulator, Error, Finding, FindingKind, KernelText, Launch, Schedule, Source, TemplateValue,
};

pub use compiled::plant_compiled;
pub use list::DEFECTS;

/// The kinds of planted defects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two threads touch one element, and no barrier would help.
    Race,
    /// A barrier is missing, or orders the wrong memory or too few threads.
    Barrier,
    /// An access outside of a buffer, an array or a vector.
    Bounds,
    /// An index whose arithmetic wraps around or overflows.
    Overflow,
    /// A read of what nothing has set.
    Unset,
    /// Elements of an output that no thread writes.
    Unwritten,
    /// A barrier or an operation of a simdgroup that only some threads reach.
    Collective,
    /// A pointer to a type that its memory is not aligned for.
    Misaligned,
}

impl Kind {
    /// All kinds, in the order of the table.
    pub const ALL: [Kind; 8] = [
        Kind::Race,
        Kind::Barrier,
        Kind::Bounds,
        Kind::Overflow,
        Kind::Unset,
        Kind::Unwritten,
        Kind::Collective,
        Kind::Misaligned,
    ];

    /// The kind in words.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Race => "data race",
            Kind::Barrier => "missing barrier",
            Kind::Bounds => "out of bounds",
            Kind::Overflow => "index overflow",
            Kind::Unset => "uninitialised read",
            Kind::Unwritten => "unwritten output",
            Kind::Collective => "divergent collective",
            Kind::Misaligned => "misaligned vector",
        }
    }

    /// Returns whether this finding is what the kind must lead to.
    fn is(self, finding: FindingKind) -> bool {
        match self {
            Kind::Race | Kind::Barrier => finding == FindingKind::DataRace,
            Kind::Bounds => finding == FindingKind::OutOfBounds,
            Kind::Overflow => matches!(finding, FindingKind::WrappedIndex | FindingKind::UndefinedArithmetic),
            Kind::Unset => finding == FindingKind::UninitialisedRead,
            Kind::Unwritten => finding == FindingKind::UnwrittenOutput,
            Kind::Collective => matches!(finding, FindingKind::DivergentBarrier | FindingKind::DivergentSimd),
            Kind::Misaligned => finding == FindingKind::Misaligned,
        }
    }
}

/// A defect in a snippet, and the kernels that it is planted in.
#[derive(Clone, Copy, Debug)]
pub struct Defect {
    /// The kind of defect.
    pub kind: Kind,
    /// The defect in words.
    pub name: &'static str,
    /// The kernels that it is planted in, a letter each; `frame` has them.
    pub frames: &'static str,
    /// The snippet, in the notation of the list.
    pub text: &'static str,
}

/// A kernel around a snippet.
struct Frame {
    grid: [u32; 3],
    threadgroup: [u32; 3],
    dtype: Dtype,
    header: &'static str,
    body: &'static str,
}

/// The frames: one threadgroup, a grid of many, two dimensions, a ragged grid, a function template, a method, a loop, half,
/// one simdgroup, a macro.
fn frame(letter: char) -> Frame {
    let plain = Frame { grid: [64, 1, 1], threadgroup: [64, 1, 1], dtype: Dtype::F32, header: "", body: "SNIPPET" };
    match letter {
        'g' => Frame { grid: [256, 1, 1], ..plain },
        'd' => Frame { grid: [16, 12, 1], threadgroup: [8, 4, 1], ..plain },
        'r' => Frame { grid: [150, 1, 1], ..plain },
        't' => Frame {
            grid: [128, 1, 1],
            header: "template <typename T, uint SIZE>\ninline void work(const device T* x, device T* y, threadgroup T* s, \
                     uint i, uint t, uint n, uint count) {\nSNIPPET\n}",
            body: "work<T, SIZE>(x, y, s, i, t, n, count);",
            ..plain
        },
        'm' => Frame {
            header: "template <typename T, uint SIZE>\nstruct Worker {\n  uint i, t, n, count;\n\
                     \x20 void work(const device T* x, device T* y, threadgroup T* s) const {\nSNIPPET\n  }\n};",
            body: "Worker<T, SIZE> worker{i, t, n, count};\nworker.work(x, y, s);",
            ..plain
        },
        'l' => Frame { grid: [192, 1, 1], body: "for (uint step = 0; step < 2; ++step) {\nSNIPPET\n@\n}", ..plain },
        'h' => Frame { dtype: Dtype::F16, ..plain },
        's' => Frame { grid: [32, 1, 1], threadgroup: [32, 1, 1], ..plain },
        'f' => Frame {
            grid: [128, 1, 1],
            header: "#define WORK(x, y) { SNIPPET }",
            body: "if (count > 1) WORK(x, y)",
            ..plain
        },
        _ => plain,
    }
}

const BARRIER: &str = "threadgroup_barrier(mem_flags::mem_threadgroup | mem_flags::mem_device);";

/// Elements of threadgroup memory.
const SIZE: i32 = 64;

/// The text with the defect, or with its repair.
fn chosen(text: &str, repaired: bool) -> String {
    let mut all = String::new();
    for part in text.split('»') {
        let (before, choice) = part.split_once('«').unwrap_or((part, ""));
        let (bad, good) = choice.split_once('|').unwrap_or((choice, ""));
        all += before;
        all += if repaired { good } else { bad };
    }
    all
}

impl Defect {
    /// The kernel in one of its frames, and its launch.
    pub fn kernel(&self, letter: char, repaired: bool) -> (KernelText, Launch<'static>) {
        let Frame { grid, threadgroup, dtype, header, body } = frame(letter);
        let fill = |text: &str| text.replace("SNIPPET", &chosen(self.text, repaired)).replace('@', BARRIER);
        let body = format!(
            "const uint n = threads_per_threadgroup.x * threads_per_threadgroup.y;\n\
             const uint t = thread_index_in_threadgroup;\n\
             const uint count = threads_per_grid.x * threads_per_grid.y;\n\
             const uint i = thread_position_in_grid.y * threads_per_grid.x + thread_position_in_grid.x;\n\
             threadgroup T s[SIZE];\n{}",
            fill(body)
        );
        let count = grid.iter().product::<u32>();
        let mut kernel = KernelText::new("planted", body)
            .header(Source::new("planted.h", fill(header)))
            .input("x", dtype)
            .output("y", dtype)
            .template("T", TemplateValue::Dtype(dtype))
            .template("SIZE", TemplateValue::Int(SIZE));
        // If the output had no value at first, a thread that was stopped would leave a second defect.
        kernel.init_value = (!matches!(self.kind, Kind::Unset | Kind::Unwritten)).then_some(0.0);
        let x = Buffer::from_values(dtype, [count as usize], (0..count).map(f64::from));
        let output_shapes = vec![vec![count as usize]];
        (kernel, Launch { grid, threadgroup, inputs: vec![x], output_shapes, ..Launch::default() })
    }
}

/// The outcome of a planted kernel.
#[derive(Clone, Debug)]
pub struct Planted {
    /// The kind of defect.
    pub kind: Kind,
    /// The defect and its frame, for a reader.
    pub name: String,
    /// The verdict on the defect, in the worse of the two orders.
    pub verdict: Verdict,
    /// The finding in the repaired kernel, if there is one, or the reason why it did not run.
    pub falsely: Option<String>,
}

/// The emulator's verdict on a planted defect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Findings of its kind, and no others.
    Found,
    /// These findings, of which one at least is of another kind.
    AsAnother(String),
    /// The defect was not found, or the kernel did not run, for this reason.
    Missed(String),
}

/// Plants all defects, or only the first kernel of each.
pub fn plant(emulator: &Emulator, all: bool) -> Vec<Planted> {
    let kernels = |defect: &'static Defect| defect.frames.chars().take(if all { usize::MAX } else { 1 });
    DEFECTS.iter().flat_map(|defect| kernels(defect).map(|letter| planted(emulator, defect, letter))).collect()
}

fn planted(emulator: &Emulator, defect: &Defect, letter: char) -> Planted {
    let name = format!("{}, {} ({letter})", defect.kind.title(), defect.name);
    judged(defect.kind, name, |schedule, repaired| {
        let (kernel, launch) = defect.kernel(letter, repaired);
        emulator.run(&kernel, &Launch { schedule, ..launch }).map(|run| run.findings)
    })
}

/// Runs a kernel and its repaired twin in both orders.
fn judged(kind: Kind, name: String, run: impl Fn(Schedule, bool) -> Result<Vec<Finding>, Error>) -> Planted {
    let words = |schedule: Schedule, findings: &[Finding]| {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        format!("{schedule:?}: {}", findings.join("\n"))
    };
    let orders = [Schedule::Forward, Schedule::Reversed];
    let verdict = |schedule: Schedule| match run(schedule, false) {
        Err(error) => Verdict::Missed(error.to_string()),
        Ok(found) if found.is_empty() => Verdict::Missed(format!("{schedule:?}: nothing")),
        Ok(found) if found.iter().all(|finding| kind.is(finding.kind)) => Verdict::Found,
        Ok(found) => Verdict::AsAnother(words(schedule, &found)),
    };
    let falsely = |schedule: Schedule| match run(schedule, true) {
        Err(error) => Some(error.to_string()),
        Ok(found) => (!found.is_empty()).then(|| words(schedule, &found)),
    };
    Planted {
        kind,
        name,
        verdict: orders.map(verdict).into_iter().max().unwrap_or(Verdict::Found),
        falsely: orders.into_iter().find_map(falsely),
    }
}

/// The table of kinds, in Markdown.
pub fn table(planted: &[Planted]) -> String {
    let mut text = String::from(
        "| kind | planted | found in both orders | found as another kind | missed | findings in the repaired kernels |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    let mut row = |title: &str, kinds: &[Kind]| {
        let count = |wanted: &dyn Fn(&Planted) -> bool| {
            planted.iter().filter(|one| kinds.contains(&one.kind) && wanted(one)).count()
        };
        let found = count(&|one| one.verdict == Verdict::Found);
        let other = count(&|one| matches!(one.verdict, Verdict::AsAnother(_)));
        let missed = count(&|one| matches!(one.verdict, Verdict::Missed(_)));
        let falsely = count(&|one| one.falsely.is_some());
        let _ = writeln!(text, "| {title} | {} | {found} | {other} | {missed} | {falsely} |", count(&|_| true));
    };
    for kind in Kind::ALL.into_iter().filter(|kind| planted.iter().any(|one| one.kind == *kind)) {
        row(kind.title(), &[kind]);
    }
    row("all", &Kind::ALL);
    text
}
