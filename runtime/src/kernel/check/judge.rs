//! Compares the results of one call with measured slopes, and the kernel with its fallback.

use super::cases::{Setting, elements};
use super::checker::{Checker, Depth, LEAST};
use super::differences::{Probe, Slopes, Steps, natural};
use super::draw::Draw;
use super::experiment::{Computed, Experiment, Precision, Way};
use super::report::{apart, distance};
use super::tolerance::{Bounds, COARSE, EXACT, INEXACT, OPERATIONS, ROUNDED, Tolerance};
use crate::{Dtype, Result};

/// The more elements a case has, the fewer entries.
const ENTRY_ELEMENTS: u64 = 6_000;

impl Checker<'_> {
    /// The forward of a training graph also keeps residuals; it must compute the same.
    pub(super) fn training_outputs(&mut self, experiment: &Experiment, result: &Computed, depth: Depth, place: &str) {
        let floats = result.outputs.iter().filter(|(port, _)| experiment.is_float(port));
        let bound = Tolerance::new(Dtype::F32).fallback;
        for ((port, inference), training) in floats.zip(&result.trained) {
            let deviation = apart(training, inference, 1.0, ROUNDED.floor, LEAST);
            if depth == Depth::Plain || deviation != 0.0 {
                let (name, way) = (port.name, result.way.name());
                let subject = format!("output `{name}` of the {way} in training against inference {place}");
                self.report.compare(subject, deviation, bound);
            }
        }
    }

    /// Checks gradients against finite differences.
    #[allow(clippy::too_many_arguments, reason = "one call, with what it is a part of")]
    pub(super) fn differentiate(
        &mut self,
        setting: &Setting,
        draw: &Draw,
        experiment: &Experiment,
        (computed, doubles): (&[Computed], &[Option<Computed>]),
        first: &Computed,
        precision: Precision,
        depth: Depth,
        place: &str,
    ) -> Result<()> {
        if !first.gradients.iter().any(Option::is_some) {
            return Ok(());
        }
        if precision == Precision::Single && !draw.suits_single_precision() {
            return Ok(());
        }
        let most = ENTRY_ELEMENTS / elements(self.declaration, setting).max(1);
        let probes = match precision {
            Precision::Double => vec![(Probe::new(experiment, first.way, precision)?, 0..computed.len())],
            // In float32 each way has its own rounding.
            Precision::Single => {
                let probe = |index: usize| Probe::new(experiment, computed[index].way, precision);
                (0..computed.len()).map(|index| Ok((probe(index)?, index..index + 1))).collect::<Result<_>>()?
            }
        };
        for (probe, judged) in &probes {
            let is_exact = |other: &Computed| {
                let first = doubles.iter().flatten().next();
                first.is_some_and(|first| are_exact(&floats(experiment, first), &floats(experiment, other)))
            };
            let is_held = |position: &usize| experiment.wants[*position] && !experiment.differs(*position);
            for position in (0..experiment.places.len()).filter(is_held).collect::<Vec<_>>() {
                let values = &experiment.values[position];
                let name = experiment.port(position).name;
                let is_drawn = draw.floats.iter().any(|(drawn, _)| *drawn == name);
                let limit = depth.entries(is_drawn, most);
                let kinks = draw.kinks(name);
                let is_kink = |element: usize| kinks.is_some_and(|kinks| kinks.contains(&(values[element] as f32)));
                let along = match (kinks, is_drawn || depth != Depth::Varied) {
                    (Some(_), _) => Steps::None,
                    (None, true) => Steps::Two,
                    (None, false) => Steps::One,
                };
                let chosen = chosen(values.len(), limit, &is_kink);
                let slopes = probe.slopes(position, &chosen, &is_kink, along)?;
                let size = probe.natural(position);
                if slopes.poles > 0 {
                    let poles = slopes.poles;
                    self.report.notes.push(format!("{poles} entries of `{name}` lie beside a pole {place}"));
                }
                for index in judged.clone() {
                    let (result, exact) = (&computed[index], doubles[index].as_ref());
                    let gradient = exact.unwrap_or(result).gradients[position].as_deref();
                    let bounds = match (precision, exact, result.way) {
                        (Precision::Single, ..) => &COARSE,
                        (_, None, _) => &ROUNDED,
                        (_, Some(_), Way::Kernel) if !self.has_operations() => &EXACT,
                        (_, Some(exact), Way::Fallback(_)) if !is_exact(exact) => &INEXACT,
                        _ => &OPERATIONS,
                    };
                    let Some(gradient) = gradient else { continue };
                    self.hold(experiment, position, &slopes, gradient, size, bounds, result.way, place);
                    if let (Some(_), Way::Kernel, Some(rounded)) =
                        (exact, result.way, result.gradients[position].as_deref())
                    {
                        self.hold_rounded(experiment, position, gradient, rounded, size, place);
                    }
                }
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "one comparison, with what it is a part of")]
    fn hold(
        &mut self,
        experiment: &Experiment,
        position: usize,
        slopes: &Slopes,
        gradient: &[f64],
        size: f64,
        bounds: &Bounds,
        way: Way,
        place: &str,
    ) {
        let (name, way) = (experiment.port(position).name, way.name());
        if let Some(deviation) = slopes.along_apart(gradient, size, bounds) {
            let subject = format!("{way} gradient of `{name}` against finite differences {place}");
            self.report.compare(subject, deviation, bounds.along);
        }
        if !slopes.entries.is_empty() {
            let deviation = slopes.entries_apart(gradient, size, bounds);
            let subject = format!("{way} gradient of `{name}` by entry against finite differences {place}");
            self.report.compare(subject, deviation, bounds.entry);
        }
    }

    /// The gradient as it is computed in float32 against the same in double.
    fn hold_rounded(
        &mut self,
        experiment: &Experiment,
        position: usize,
        exact: &[f64],
        rounded: &[f64],
        size: f64,
        place: &str,
    ) {
        let name = experiment.port(position).name;
        // Both gradients are the same source's, whose result is known to be right, so only rounding and overflow can
        // differ.
        let deviation = apart(rounded, exact, 0.0, 1.0, size.max(LEAST));
        let subject = format!("kernel gradient of `{name}` against double precision {place}");
        self.report.compare(subject, deviation, Tolerance::new(Dtype::F32).fallback);
    }

    /// Returns whether the gradient is not by launches alone.
    fn has_operations(&self) -> bool {
        self.declaration.backward().is_none_or(|backward| !backward.is_launch())
    }

    /// Compares outputs and gradients of the kernel with those of its fallback, whose gradients in double precision show
    /// what overflows in float32.
    pub(super) fn compare(
        &mut self,
        draw: &Draw,
        experiment: &Experiment,
        kernel: &Computed,
        (fallback, in_double): (&Computed, Option<&Computed>),
        (place, (own, floor)): (&str, (f64, f64)),
    ) {
        let bound = Tolerance::new(Dtype::F32).fallback;
        for ((port, left), (_, right)) in kernel.outputs.iter().zip(&fallback.outputs) {
            let subject = format!("output `{}`, kernel against fallback {place}", port.name);
            if experiment.is_float(port) {
                self.report.compare(subject, apart(left, right, own, floor, LEAST), bound);
            } else {
                // Integers and bools must be equal.
                self.report.compare(subject, distance(left, right), 0.0);
            }
        }
        let outputs = floats(experiment, fallback);
        for (position, left, right) in gradients(draw, experiment, kernel, fallback) {
            let is_finite = |gradient: &[f64]| gradient.iter().all(|entry| entry.is_finite());
            let exact = in_double.and_then(|exact| exact.gradients[position].as_deref());
            // As with outputs, a gradient of values beyond the declared ones may overflow. A GPU computes nothing in
            // double precision.
            if draw.is_far() && !is_finite(&right) && exact.is_none_or(is_finite) {
                let name = experiment.port(position).name;
                self.report.notes.push(format!("the fallback's gradient of `{name}` overflows in float32 {place}"));
                continue;
            }
            let size = natural(experiment, &outputs, position).max(LEAST);
            let subject = format!("gradient of `{}`, kernel against fallback {place}", experiment.port(position).name);
            self.report.compare(subject, apart(&left, &right, own, floor, size), bound);
        }
    }

    /// Compares in double precision, element by element, if the fallback is as exact as the source, which its outputs
    /// show.
    pub(super) fn compare_in_double(
        &mut self,
        draw: &Draw,
        experiment: &Experiment,
        kernel: &Computed,
        fallback: &Computed,
        place: &str,
    ) {
        let Bounds { entry, own, floor, natural: natural_floor, .. } = OPERATIONS;
        let (left, right) = (floats(experiment, kernel), floats(experiment, fallback));
        if !are_exact(&left, &right) {
            return;
        }
        for (position, left, right) in gradients(draw, experiment, kernel, fallback) {
            let size =
                (natural_floor * natural(experiment, &floats(experiment, fallback), position)).max(f64::MIN_POSITIVE);
            let name = experiment.port(position).name;
            let subject = format!("gradient of `{name}` by entry, kernel against fallback {place}");
            self.report.compare(subject, apart(&left, &right, own, floor, size), entry);
        }
    }
}

/// Returns whether two ways compute the same outputs in double precision, except for the bits that MLX's exponential
/// lacks.
fn are_exact(left: &[f64], right: &[f64]) -> bool {
    distance(left, right) < OPERATIONS.entry * OPERATIONS.floor
}

/// The elements of all float outputs.
fn floats(experiment: &Experiment, computed: &Computed) -> Vec<f64> {
    let outputs = computed.outputs.iter().filter(|(port, _)| experiment.is_float(port));
    outputs.flat_map(|(_, values)| values.iter().copied()).collect()
}

/// The gradients that both have, with their positions, except for entries at kinks: there each may take another slope between
/// those on either side.
fn gradients(
    draw: &Draw,
    experiment: &Experiment,
    left: &Computed,
    right: &Computed,
) -> Vec<(usize, Vec<f64>, Vec<f64>)> {
    let both = left.gradients.iter().zip(&right.gradients).enumerate();
    let both = both.filter_map(|(position, (left, right))| {
        if experiment.differs(position) {
            return None;
        }
        let kinks = draw.kinks(experiment.port(position).name);
        let is_smooth = |value: f64| !kinks.is_some_and(|kinks| kinks.contains(&(value as f32)));
        let smooth = |gradient: &[f64]| -> Vec<f64> {
            let entries = gradient.iter().zip(&experiment.values[position]);
            entries.filter(|(_, value)| is_smooth(**value)).map(|(entry, _)| *entry).collect()
        };
        Some((position, smooth(left.as_ref()?), smooth(right.as_ref()?)))
    });
    both.collect()
}

/// Returns which of `count` elements: kinks first, the others spread over all.
fn chosen(count: usize, limit: usize, is_kink: &dyn Fn(usize) -> bool) -> Vec<usize> {
    let mut chosen: Vec<usize> = (0..count).filter(|element| is_kink(*element)).take(limit).collect();
    let left = limit - chosen.len();
    let step = count.div_ceil(left.max(1)).max(1);
    // The first element of each stretch is not enough, because the lengths of rows divide the step.
    let spread = (0..left).map(|number| number * step + number % step).filter(|element| *element < count);
    let others: Vec<usize> = spread.filter(|element| !chosen.contains(element)).collect();
    chosen.extend(others);
    chosen
}
