//! Runs one mutant in a process of its own: its checks, and, if they find nothing, a search for any difference.

use std::fmt;

use anyhow::{Context, Result};
use cotangent::Backend;
use cotangent::kernel::check::{check_on, first_failure};
use cotangent::kernel::mutation::{Outcome, outcome, with_mutation};
use cotangent::kernel::{Declaration, Route};

use super::subjects::{Mutant, Subject};

/// Draws on which an original and a mutant run side by side.
const DRAWS: u64 = 20;

/// Differences that no check would call one, relative to the largest value: the bounds for float32 of the checks.
const BOUND: f64 = 1e-4;

/// The end of a mutant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// A comparison of numbers failed.
    Number,
    /// The emulator found a defect, or the call was refused.
    Finding,
    /// The process ended by itself.
    Crash,
    /// The mutant ran into the limit of turns or of time.
    Hang,
    /// The mutant is not valid Metal, so nothing was tried.
    Invalid,
    /// All checks passed, and every draw has the same bits.
    Equivalent,
    /// All checks passed, and this is the largest difference.
    Below(f64),
    /// All checks passed, and this is the largest difference, which is past their bounds.
    Survived(f64),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Number => f.write_str("number"),
            Verdict::Finding => f.write_str("finding"),
            Verdict::Crash => f.write_str("crash"),
            Verdict::Hang => f.write_str("hang"),
            Verdict::Invalid => f.write_str("invalid"),
            Verdict::Equivalent => f.write_str("equivalent"),
            Verdict::Below(size) => write!(f, "below {size:e}"),
            Verdict::Survived(size) => write!(f, "survived {size:e}"),
        }
    }
}

impl Verdict {
    /// Reads what [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let size = |text: &str| text.trim().parse().ok();
        Some(match text.trim() {
            "number" => Verdict::Number,
            "finding" => Verdict::Finding,
            "crash" => Verdict::Crash,
            "hang" => Verdict::Hang,
            "invalid" => Verdict::Invalid,
            "equivalent" => Verdict::Equivalent,
            other => match other.split_once(' ')? {
                ("below", rest) => Verdict::Below(size(rest)?),
                ("survived", rest) => Verdict::Survived(size(rest)?),
                _ => return None,
            },
        })
    }
}

/// Runs the generated checks of a mutant, each as its test does, to the first failure. The report says what was found.
///
/// # Errors
/// If the original itself cannot be run.
pub fn run(subject: &Subject, mutant: &Mutant) -> Result<(Verdict, String)> {
    let mutation = || subject.mutation(mutant);
    for kernel in &subject.checked_with {
        let backend = if kernel.is_portable() { Backend::Cpu } else { Backend::Emulated };
        match with_mutation(subject.declaration, mutation(), || first_failure(|| check_on(backend, kernel))) {
            Ok(None) => {}
            Ok(Some(comparison)) => {
                let told = format!("{} ({:.1e} of {:.0e})", comparison.subject, comparison.deviation, comparison.bound);
                return Ok((Verdict::Number, told));
            }
            Err(error) => return Ok(classified(&error.to_string())),
        }
    }
    let mut largest: Option<f64> = None;
    // The inputs and results of a stage are those of the kernels that launch it.
    let is_stage = |kernel: &Declaration| matches!(kernel.route, Route::Stage);
    for kernel in subject.checked_with.iter().filter(|kernel| !is_stage(kernel)) {
        // A body may refuse the sizes of a draw.
        let mut originals =
            (0..5 * DRAWS).filter_map(|draw| Some((draw, outcome(kernel, draw).ok()?))).take(DRAWS as usize).peekable();
        originals.peek().with_context(|| format!("`{}` runs at no draw", kernel.signature.name))?;
        for (draw, original) in originals {
            let changed = match with_mutation(subject.declaration, mutation(), || outcome(kernel, draw)) {
                Ok(changed) => changed,
                Err(error) => {
                    return Ok((Verdict::Survived(f64::INFINITY), format!("{}: {error}", told(kernel, draw))));
                }
            };
            if let Some(size) = difference(&original, &changed) {
                largest =
                    Some(largest.map_or(size, |largest| if size > largest || size.is_nan() { size } else { largest }));
            }
        }
    }
    Ok(match largest {
        None => (Verdict::Equivalent, String::new()),
        Some(size) if size <= BOUND => (Verdict::Below(size), String::new()),
        Some(size) => (Verdict::Survived(size), String::new()),
    })
}

fn told(kernel: &Declaration, draw: u64) -> String {
    format!("draw {draw} of `{}`", kernel.signature.name)
}

/// Returns the meaning of an error of a check.
fn classified(error: &str) -> (Verdict, String) {
    let verdict = if error.contains("does not compile") {
        Verdict::Invalid
    } else if error.contains("and does not end") {
        Verdict::Hang
    } else {
        Verdict::Finding
    };
    (verdict, error.lines().take(3).collect::<Vec<_>>().join(" "))
}

/// The largest difference, relative to the largest value of its array; none where all bits are the same.
fn difference(original: &Outcome, changed: &Outcome) -> Option<f64> {
    let mut largest: Option<f64> = None;
    for ((_, original), (_, changed)) in original.iter().zip(changed) {
        if original.len() != changed.len() {
            return Some(f64::INFINITY);
        }
        let scale = original.iter().map(|value| f64::from(value.abs())).filter(|size| size.is_finite());
        let scale = scale.fold(f64::from(f32::MIN_POSITIVE), f64::max);
        for (left, right) in original.iter().zip(changed) {
            if left.to_bits() != right.to_bits() {
                let apart = (f64::from(*left) - f64::from(*right)).abs() / scale;
                let apart = if apart.is_nan() { f64::INFINITY } else { apart };
                largest = Some(largest.map_or(apart, |largest| largest.max(apart)));
            }
        }
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_as_they_are_written() {
        for verdict in [Verdict::Number, Verdict::Invalid, Verdict::Below(2.5e-7), Verdict::Survived(f64::INFINITY)] {
            assert_eq!(Verdict::parse(&verdict.to_string()), Some(verdict));
        }
        assert_eq!(Verdict::parse("nonsense"), None);
    }

    #[test]
    fn only_different_bits_are_a_difference() {
        let of = |values: &[f32]| vec![("y".to_owned(), values.to_vec())];
        assert_eq!(difference(&of(&[1.0, f32::NAN]), &of(&[1.0, f32::NAN])), None);
        assert_eq!(difference(&of(&[1.0, 4.0]), &of(&[1.0, 5.0])), Some(0.25));
        assert_eq!(difference(&of(&[1.0]), &of(&[f32::NAN])), Some(f64::INFINITY));
    }
}
