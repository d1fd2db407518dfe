//! Deviations by kind, each against its bound.

use std::collections::BTreeMap;
use std::fmt;

/// The kind of a comparison. The bounds are four to ten times the deviation of a second implementation in float32, and
/// below the deviation that any wrong convention causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Scores of all counted places.
    Logits,
    /// The vision tower's features of pictures.
    VisionFeatures,
    /// The output of each layer and of the final norm.
    HiddenStates,
    /// The loss of each place.
    TokenLoss,
    /// The mean loss, absolutely.
    MeanLoss,
    /// The gradient of every parameter.
    ParameterGradients,
    /// Sixteen greedy tokens: 0 if equal, 1 if not.
    GreedyTokens,
    /// Scores with adapters.
    AdapterLogits,
    /// The gradient of every adapter tensor.
    AdapterGradients,
    /// The losses along five AdamW steps, absolutely.
    StepLosses,
    /// The adapters after five AdamW steps.
    StepAdapters,
    /// Two rows of every quantized matrix.
    DecodedRows,
    /// The load-balancing loss, and how often each expert was chosen.
    RouterLoss,
    /// Gradients of that loss, alone and beside the loss of the tokens.
    RouterGradients,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Logits => "logits",
            Kind::VisionFeatures => "vision features",
            Kind::HiddenStates => "hidden states",
            Kind::TokenLoss => "token loss",
            Kind::MeanLoss => "mean loss",
            Kind::ParameterGradients => "parameter gradients",
            Kind::GreedyTokens => "greedy tokens",
            Kind::AdapterLogits => "adapter logits",
            Kind::AdapterGradients => "adapter gradients",
            Kind::StepLosses => "losses of 5 steps",
            Kind::StepAdapters => "adapters after 5 steps",
            Kind::DecodedRows => "decoded rows",
            Kind::RouterLoss => "router loss",
            Kind::RouterGradients => "router gradients",
        }
    }

    /// The largest deviation allowed.
    pub fn bound(self) -> f64 {
        match self {
            Kind::Logits | Kind::TokenLoss | Kind::AdapterLogits => 5e-5,
            Kind::HiddenStates => 3e-5,
            Kind::MeanLoss | Kind::RouterLoss => 1e-5,
            Kind::ParameterGradients | Kind::StepAdapters | Kind::RouterGradients => 2e-4,
            Kind::GreedyTokens => 0.0,
            Kind::AdapterGradients => 1e-4,
            Kind::StepLosses | Kind::VisionFeatures => 5e-6,
            // A decoded value is a product and a sum in float32, of numbers that are exact.
            Kind::DecodedRows => 5e-7,
        }
    }

    fn is_absolute(self) -> bool {
        matches!(self, Kind::MeanLoss | Kind::StepLosses)
    }
}

/// One tensor against its reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The tensor's name in the reference.
    pub tensor: String,
    /// The largest difference, over the reference's largest magnitude unless the kind is absolute.
    pub deviation: f64,
}

/// All comparisons.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<Kind, Vec<Comparison>>,
}

impl Table {
    /// Adds a comparison of `found` with `expected` where `counts` is true.
    pub fn compare(
        &mut self,
        kind: Kind,
        tensor: &str,
        found: &[f32],
        expected: &[f32],
        counts: impl Fn(usize) -> bool,
    ) {
        let deviation = if found.len() == expected.len() {
            deviation(found, expected, kind.is_absolute(), counts)
        } else {
            f64::INFINITY
        };
        self.rows.entry(kind).or_default().push(Comparison { tensor: tensor.to_owned(), deviation });
    }

    /// Adds a finished comparison.
    pub fn add(&mut self, kind: Kind, tensor: &str, deviation: f64) {
        self.rows.entry(kind).or_default().push(Comparison { tensor: tensor.to_owned(), deviation });
    }

    /// The comparisons of a kind.
    pub fn of(&self, kind: Kind) -> &[Comparison] {
        self.rows.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// All comparisons.
    pub fn all(&self) -> impl Iterator<Item = &Comparison> {
        self.rows.values().flatten()
    }

    /// Whether every deviation is within its bound; NaN is not.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty()
            && self.rows.iter().all(|(kind, rows)| rows.iter().all(|row| row.deviation <= kind.bound()))
    }

    fn worst(rows: &[Comparison]) -> Option<&Comparison> {
        let key = |row: &Comparison| if row.deviation.is_nan() { f64::INFINITY } else { row.deviation };
        rows.iter().max_by(|left, right| key(left).total_cmp(&key(right)))
    }
}

fn deviation(found: &[f32], expected: &[f32], absolute: bool, counts: impl Fn(usize) -> bool) -> f64 {
    let mut difference = 0.0_f64;
    let mut magnitude = 0.0_f64;
    for index in (0..found.len()).filter(|index| counts(*index)) {
        let (found, expected) = (f64::from(found[index]), f64::from(expected[index]));
        let here = (found - expected).abs();
        // `max` would ignore a NaN.
        difference = if here.is_nan() || difference.is_nan() { f64::NAN } else { difference.max(here) };
        magnitude = magnitude.max(expected.abs());
    }
    if absolute || difference == 0.0 { difference } else { difference / magnitude }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24} {:>7}  {:>9}  {:>9}      worst tensor", "kind", "tensors", "deviation", "bound")?;
        for (kind, rows) in &self.rows {
            let Some(worst) = Self::worst(rows) else { continue };
            let verdict = if worst.deviation <= kind.bound() { "ok  " } else { "FAIL" };
            writeln!(
                f,
                "{:<24} {:>7}  {:>9.1e}  {:>9.1e} {verdict} {}",
                kind.name(),
                rows.len(),
                worst.deviation,
                kind.bound(),
                worst.tensor
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deviation_is_relative_to_the_largest_entry() {
        let mut table = Table::default();
        table.compare(Kind::Logits, "x", &[1.0, 200.1], &[1.0, 200.0], |_| true);
        assert!((table.of(Kind::Logits)[0].deviation - 5e-4).abs() < 1e-6);
        assert!(!table.passed());
    }

    #[test]
    fn nan_and_missing_values_do_not_pass() {
        for found in [&[f32::NAN, 1.0][..], &[1.0]] {
            let mut table = Table::default();
            table.compare(Kind::Logits, "x", found, &[1.0, 1.0], |_| true);
            assert!(!table.passed(), "{table}");
        }
        assert!(!Table::default().passed());
    }

    #[test]
    fn what_does_not_count_is_not_compared() {
        let mut table = Table::default();
        table.compare(Kind::Logits, "x", &[1.0, 9.0], &[1.0, 1.0], |index| index == 0);
        assert!(table.passed());
    }
}
