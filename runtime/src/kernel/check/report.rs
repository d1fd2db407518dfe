//! The reports of checks.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::Result;

thread_local! {
    /// Whether checks of this thread end at the first comparison that fails.
    static STOPS: Cell<bool> = const { Cell::new(false) };
}

/// The payload with which a check that stops unwinds.
struct Stopped(Comparison);

/// Runs `check` as far as the first comparison that fails, and returns that one; what compared nothing fails as well.
///
/// # Errors
/// What `check` returns before.
pub fn first_failure(check: impl FnOnce() -> Result<Report>) -> Result<Option<Comparison>> {
    /// Puts the former state back, also after a panic.
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            STOPS.set(self.0);
        }
    }
    let restore = Restore(STOPS.replace(true));
    let outcome = catch_unwind(AssertUnwindSafe(check));
    drop(restore);
    let stopped = |panic: Box<dyn Any + Send>| match panic.downcast::<Stopped>() {
        Ok(stopped) => stopped.0,
        Err(panic) => resume_unwind(panic),
    };
    match outcome {
        Err(panic) => Ok(Some(stopped(panic))),
        Ok(report) => {
            let report = report?;
            let failed = report.comparisons.iter().find(|comparison| !comparison.passed()).cloned();
            let nothing = || Comparison { subject: "nothing was compared".to_owned(), deviation: f64::NAN, bound: 0.0 };
            Ok(failed.or_else(|| report.comparisons.is_empty().then(nothing)))
        }
    }
}

/// The report of a check.
#[derive(Debug, Clone)]
pub struct Report {
    pub(super) kernel: &'static str,
    pub(super) comparisons: Vec<Comparison>,
    pub(super) notes: Vec<String>,
}

/// Two numbers that should agree.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The values that are compared, and the case.
    pub subject: String,
    /// The distance of the two, relative to their size.
    pub deviation: f64,
    /// The largest distance that passes.
    pub bound: f64,
}

impl Comparison {
    /// Returns whether the two agree; what is not a number agrees with nothing.
    pub fn passed(&self) -> bool {
        self.deviation <= self.bound
    }
}

impl Report {
    pub(super) fn new(kernel: &'static str) -> Self {
        Report { kernel, comparisons: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn compare(&mut self, subject: String, deviation: f64, bound: f64) {
        let comparison = Comparison { subject, deviation, bound };
        if STOPS.get() && !comparison.passed() {
            resume_unwind(Box::new(Stopped(comparison)));
        }
        self.comparisons.push(comparison);
    }

    /// Adds what another report says, `place` behind each of its subjects.
    pub(super) fn append(&mut self, other: Report, place: &str) {
        let said = |mut comparison: Comparison| {
            comparison.subject += &format!(", {place}");
            comparison
        };
        self.comparisons.extend(other.comparisons.into_iter().map(said));
        self.notes.extend(other.notes.into_iter().map(|note| format!("{note}, {place}")));
    }

    /// Returns whether something was compared, and all of it agreed.
    pub fn passed(&self) -> bool {
        !self.comparisons.is_empty() && self.comparisons.iter().all(Comparison::passed)
    }

    /// Returns all comparisons.
    pub fn comparisons(&self) -> &[Comparison] {
        &self.comparisons
    }

    /// Returns what was left out, with the reasons.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "kernel `{}`", self.kernel)?;
        for comparison in &self.comparisons {
            let verdict = if comparison.passed() { "ok  " } else { "FAIL" };
            let Comparison { subject, deviation, bound } = comparison;
            writeln!(formatter, "  {verdict} {deviation:9.2e} of {bound:.0e}  {subject}")?;
        }
        for note in &self.notes {
            writeln!(formatter, "  note: {note}")?;
        }
        Ok(())
    }
}

/// The largest difference, relative to the largest value of `right`, NaN where lengths differ or a difference is none.
pub(super) fn distance(left: &[f64], right: &[f64]) -> f64 {
    apart(left, right, 0.0, 1.0, 1e-6)
}

/// The largest difference of two elements, relative to `own` times their size and `floor` times that of the largest, which
/// is `least` at least. NaN where lengths differ or a difference is none.
pub(super) fn apart(left: &[f64], right: &[f64], own: f64, floor: f64, least: f64) -> f64 {
    let scale = floor * right.iter().fold(least, |largest, value| largest.max(value.abs()));
    let mut largest = 0.0_f64;
    for (left, right) in left.iter().zip(right) {
        let difference = (left - right).abs();
        if !difference.is_finite() {
            return f64::NAN;
        }
        largest = largest.max(difference / (own * right.abs() + scale));
    }
    if left.len() == right.len() { largest } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_relative_and_nothing_agrees_with_nan() {
        assert_eq!(distance(&[1.0, 2.0], &[1.0, 4.0]), 0.5);
        assert_eq!(distance(&[], &[]), 0.0);
        // The deviation is a thousandth of the largest value, and the small entry is wholly wrong.
        assert!(apart(&[1.0, 0.0], &[1.0, 1e-3], 1.0, 2e-2, 1e-6) > 1e-2);
        for deviation in [
            distance(&[f64::NAN], &[1.0]),
            distance(&[1.0], &[f64::NAN]),
            distance(&[f64::INFINITY], &[1.0]),
            distance(&[1.0], &[1.0, 2.0]),
        ] {
            assert!(!Comparison { subject: String::new(), deviation, bound: 1.0 }.passed());
        }
    }
}
