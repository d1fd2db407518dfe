//! `cargo cotangent mutate`: mistakes in the kernels' gradients, and which of them their generated checks miss.

mod pool;
mod source;
mod subjects;
mod table;
mod tokens;
mod trial;

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use cotangent::kernel::Declaration;
use cotangent::kernel::mutation::Change;

use self::pool::Trial;
use self::source::Mistake;
use self::subjects::{Mutant, Subject, subjects};

/// The usage of the program.
pub const USAGE: &str = "usage: mutate [KERNEL ..] [--at FILE:LINE ..] [--sample COUNT] [--seed NUMBER]";

/// The arguments of the command.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The kernels, backwards or stages by name; without any, all are mutated.
    pub kernels: Vec<String>,
    /// The lines, in the form in which survivors are printed; without any, all are mutated.
    pub lines: Vec<String>,
    /// The number of mutants; without it all are tried.
    pub sample: Option<usize>,
    /// The seed of the sample.
    pub seed: u64,
    /// The one mutant to try in this process: the number of its subject, and its own.
    trial: Option<(usize, String)>,
}

impl Arguments {
    /// # Errors
    /// What is not understood.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Arguments { kernels: Vec::new(), lines: Vec::new(), sample: None, seed: 1, trial: None };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("`{argument}` needs a value"));
            let number = |text: String| text.parse().with_context(|| format!("`{text}` is no whole number"));
            match argument.as_str() {
                "--at" => parsed.lines.push(value()?),
                "--sample" => parsed.sample = Some(number(value()?)? as usize),
                "--seed" => parsed.seed = number(value()?)?,
                "--trial" => parsed.trial = Some((number(value()?)? as usize, value()?)),
                option if option.starts_with('-') => bail!("unknown option `{option}`"),
                name => parsed.kernels.push(name.to_owned()),
            }
        }
        Ok(parsed)
    }
}

/// Prints what became of the mutants, and those that survived with their lines. Whether as many died as must.
///
/// # Errors
/// No such kernel; a kernel that does not run as it is.
pub fn run(kernels: &[&'static Declaration], arguments: &Arguments) -> Result<bool> {
    let subjects = subjects(kernels);
    if let Some((subject, mutant)) = &arguments.trial {
        let subject = subjects.get(*subject).context("no such subject")?;
        let (verdict, told) = trial::run(subject, &decode(subject, mutant)?)?;
        println!("{}{verdict}\t{}", pool::MARK, told.replace('\n', " "));
        return Ok(true);
    }
    let wanted = |subject: &Subject| {
        let names = || subject.checked_with.iter().map(|kernel| kernel.signature.name).chain([subject.name()]);
        arguments.kernels.is_empty() || names().any(|name| arguments.kernels.iter().any(|wanted| wanted == name))
    };
    let mut all = Vec::new();
    for (number, subject) in subjects.iter().enumerate().filter(|(_, subject)| wanted(subject)) {
        let at = |mutant: &Mutant| {
            let place = subject.describe(mutant);
            arguments.lines.is_empty() || arguments.lines.iter().any(|line| place.starts_with(&format!("{line}:")))
        };
        let mutants = subject.mutants()?.into_iter().filter(at);
        all.extend(mutants.map(|mutant| Trial { subject: number, mutant }));
    }
    if all.is_empty() {
        bail!(
            "no kernel of these names and lines has a gradient of its own\n  help: list the kernels with `{} kernels`",
            crate::caller()
        );
    }
    let total = all.len();
    let chosen = sample(all, arguments.sample, arguments.seed);
    eprintln!("{} of {total} mutants, seed {}", chosen.len(), arguments.seed);
    let verdicts = pool::run(&subjects, &chosen)?;
    let (text, passed) = table::table(&subjects, &chosen, &verdicts);
    print!("{text}");
    Ok(passed)
}

/// The mutant as an argument of the process that tries it.
fn encode(subject: &Subject, mutant: &Mutant) -> Result<String> {
    Ok(match mutant {
        Mutant::Operation { number, change } => format!("{number} {change:?}"),
        Mutant::Edit(_) => {
            let place = subject.mutants()?.iter().position(|known| known == mutant);
            place.context("a mutant of another subject")?.to_string()
        }
    })
}

fn decode(subject: &Subject, code: &str) -> Result<Mutant> {
    if let Some((number, change)) = code.split_once(' ') {
        let changes = [Change::Negated, Change::Doubled, Change::Dropped, Change::Swapped];
        let change = changes.into_iter().find(|known| format!("{known:?}") == change);
        return Ok(Mutant::Operation { number: number.parse()?, change: change.context("no such change")? });
    }
    subject.mutants()?.into_iter().nth(code.parse()?).context("no such mutant")
}

/// `count` of all, in a random order: one of every kind in every subject, as far as they go, then any.
fn sample(mut all: Vec<Trial>, count: Option<usize>, seed: u64) -> Vec<Trial> {
    let Some(count) = count.filter(|count| *count < all.len()) else { return all };
    shuffle(&mut all, seed);
    let mut seen: BTreeSet<(usize, Mistake)> = BTreeSet::new();
    let (mut first, rest): (Vec<Trial>, Vec<Trial>) =
        all.into_iter().partition(|trial| seen.insert((trial.subject, trial.mutant.mistake())));
    first.extend(rest);
    first.truncate(count);
    first
}

/// Fisher and Yates, with xorshift64.
fn shuffle(all: &mut [Trial], seed: u64) {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for last in (1..all.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.swap(last, (state % (last as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotangent::{Graph, Tensor, differentiable};

    /// A kernel whose gradient can be wrong in several ways.
    #[differentiable(
        backward = scaled_backward,
        fallback = by_operations,
        grid = (N, 1, 1),
        threads = (64, 1, 1),
        cases = [(N = 7)],
    )]
    pub fn scaled(a: In![f32; N], b: In![f32; N], y: Out![f32; N]) {
        metal! { uint i = thread_position_in_grid.x; y[i] = a[i] * b[i]; }
    }

    #[differentiable(backward_of = scaled, grid = (N, 1, 1), threads = (64, 1, 1))]
    pub fn scaled_backward(a: In![f32; N], b: In![f32; N], d_y: In![f32; N], d_a: Out![f32; N], d_b: Out![f32; N]) {
        metal! { uint i = thread_position_in_grid.x; d_a[i] = d_y[i] * b[i]; d_b[i] = 1.0f * d_y[i] * a[i]; }
    }

    fn by_operations<M: Graph>(a: &Tensor<M>, b: &Tensor<M>) -> cotangent::Result<Tensor<M>> {
        a.multiply(b)
    }

    fn own() -> Vec<Subject> {
        subjects(&crate::kernels_of(&[]))
    }

    #[test]
    fn arguments_are_names_and_a_sample() {
        let parse = |text: &str| Arguments::parse(text.split_whitespace().map(str::to_owned));
        let expected = Arguments {
            kernels: vec!["a".into(), "b".into()],
            lines: vec!["a.rs:7".into()],
            sample: Some(60),
            seed: 7,
            trial: None,
        };
        assert_eq!(parse("a --at a.rs:7 --sample 60 b --seed 7").unwrap(), expected);
        for (text, message) in [
            ("--sample", "`--sample` needs a value"),
            ("--seed x", "`x` is no whole number"),
            ("--all", "unknown option `--all`"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_sample_has_every_kind_of_every_subject_first() {
        let subjects = own();
        let subject = subjects.iter().position(|subject| subject.name() == "scaled_backward").unwrap();
        let all = || -> Vec<Trial> {
            subjects[subject].mutants().unwrap().into_iter().map(|mutant| Trial { subject, mutant }).collect()
        };
        let kinds = |trials: &[Trial]| trials.iter().map(|trial| trial.mutant.mistake()).collect::<BTreeSet<_>>();
        let count = kinds(&all()).len();
        assert!(count > 2 && count < all().len());
        assert_eq!(kinds(&sample(all(), Some(count), 1)), kinds(&all()));
        assert_eq!(sample(all(), Some(count), 1), sample(all(), Some(count), 1));
        assert_ne!(sample(all(), Some(count), 1), sample(all(), Some(count), 2));
    }

    #[test]
    fn a_mutant_is_the_same_in_another_process() {
        let subjects = own();
        for subject in subjects.iter().filter(|subject| !subject.text().is_empty()).take(3) {
            for mutant in subject.mutants().unwrap().iter().take(5) {
                assert_eq!(decode(subject, &encode(subject, mutant).unwrap()).unwrap(), *mutant);
            }
        }
    }
}
