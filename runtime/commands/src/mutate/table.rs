//! The table of the mutants: a row for each kernel, then the mutants that no check noticed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::pool::Trial;
use super::subjects::Subject;
use super::trial::Verdict;

/// The share of mutants that must die, of those that change a result by more than the bounds of the checks.
const MUST_DIE: f64 = 0.98;

/// The share of one kernel's mutants, if there are enough of them to speak of a share.
const OF_EACH: (f64, usize) = (0.90, 10);

/// The numbers of mutants that met each end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    number: usize,
    finding: usize,
    crash: usize,
    hang: usize,
    survived: usize,
    below: usize,
    equivalent: usize,
    invalid: usize,
}

impl Counts {
    fn add(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Number => &mut self.number,
            Verdict::Finding => &mut self.finding,
            Verdict::Crash => &mut self.crash,
            Verdict::Hang => &mut self.hang,
            Verdict::Survived(_) => &mut self.survived,
            Verdict::Below(_) => &mut self.below,
            Verdict::Equivalent => &mut self.equivalent,
            Verdict::Invalid => &mut self.invalid,
        } += 1;
    }

    fn dead(&self) -> usize {
        self.number + self.finding + self.crash + self.hang
    }

    /// The share that died of those that should.
    fn share(&self) -> f64 {
        let all = self.dead() + self.survived;
        if all == 0 { 1.0 } else { self.dead() as f64 / all as f64 }
    }

    fn passed(&self) -> bool {
        let (share, enough) = OF_EACH;
        self.dead() + self.survived < enough || self.share() >= share
    }

    fn row(&self, name: &str) -> String {
        let Counts { number, finding, crash, hang, survived, below, equivalent, invalid } = self;
        let share = 100.0 * self.share();
        format!(
            "{name:<40} {number:>7} {finding:>8} {crash:>6} {hang:>5} {survived:>9} {share:>7.1} {below:>7} {equivalent:>11} \
             {invalid:>8}\n"
        )
    }
}

/// The table, and whether as many died as must.
pub fn table(subjects: &[Subject], trials: &[Trial], verdicts: &[(Verdict, String)]) -> (String, bool) {
    let mut rows: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut all = Counts::default();
    let (mut survivors, mut small) = (String::new(), String::new());
    for (trial, (verdict, told)) in trials.iter().zip(verdicts) {
        let subject = &subjects[trial.subject];
        rows.entry(subject.name()).or_default().add(*verdict);
        all.add(*verdict);
        let line = || subject.describe(&trial.mutant);
        match verdict {
            Verdict::Survived(size) => drop(writeln!(survivors, "  {} (differs by {size:.1e}) {told}", line())),
            Verdict::Below(size) => drop(writeln!(small, "  {} (differs by {size:.1e})", line())),
            _ => {}
        }
    }
    let mut text = format!(
        "{:<40} {:>7} {:>8} {:>6} {:>5} {:>9} {:>7} {:>7} {:>11} {:>8}\n",
        "kernel", "number", "finding", "crash", "hang", "survived", "died, %", "below", "equivalent", "invalid"
    );
    for (name, counts) in &rows {
        text += &counts.row(name);
    }
    text += &all.row("all");
    if !small.is_empty() {
        text += &format!("\nsmaller than the bounds of the checks:\n{small}");
    }
    if !survivors.is_empty() {
        text += &format!("\nsurvived:\n{survivors}");
    }
    let passed = all.share() >= MUST_DIE && rows.values().all(Counts::passed);
    let _ = writeln!(text, "\n{} of {} that change a result died", all.dead(), all.dead() + all.survived);
    (text, passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_need_not_die() {
        let mut counts = Counts::default();
        for verdict in [Verdict::Equivalent, Verdict::Below(1e-6), Verdict::Invalid] {
            counts.add(verdict);
        }
        assert!(counts.share() == 1.0 && counts.passed());
        (0..9).for_each(|_| counts.add(Verdict::Number));
        counts.add(Verdict::Survived(0.5));
        assert!(counts.passed() && counts.share() == 0.9);
        counts.add(Verdict::Survived(0.5));
        assert!(!counts.passed());
    }
}
