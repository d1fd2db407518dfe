//! Runs one kernel through its plan.

use super::cases::{Setting, elements, runs_at};
use super::differences::Probe;
use super::draw::Draw;
use super::experiment::{Computed, Experiment, Precision, Way, dtypes};
use super::plan::{draws, equal_draws};
use super::report::{Report, apart, distance};
use super::sizes::Planned;
use super::tolerance::Tolerance;
use crate::kernel::declaration::Declaration;
use crate::kernel::launch::{DEFECT, in_one_order};
use crate::{Dtype, Error, Result};

/// The amount of work of one call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// The plain call at the size that is varied.
    Plain,
    /// One with other values there.
    Varied,
    /// A call at another size, at which kernel and fallback are compared, if there are both.
    Other,
    /// A call at a size that the declaration does not name: the forward may fail there without a `requires` that says
    /// so.
    Undeclared,
}

impl Depth {
    /// Entries of an input along which slopes are measured, where `most` are cheap: more of one that is drawn in another way.
    pub(super) fn entries(self, is_drawn: bool, most: u64) -> usize {
        let (least, wanted, factor) = match (self, is_drawn) {
            (Depth::Plain, _) => (2, 48, 4),
            (Depth::Varied, true) => (2, 12, 1),
            (Depth::Varied, false) => (0, 3, 1),
            (Depth::Other | Depth::Undeclared, _) => (2, 8, 1),
        };
        // An input that is not drawn in another way gets fewer entries: at most 3 instead of 12.
        let cheap = if wanted == 3 { most / 4 } else { most * factor };
        cheap.clamp(least, wanted) as usize
    }
}

/// The most elements for which slopes are measured at every declared size.
const FEW_ELEMENTS: u64 = 400;

/// The largest value that counts; larger ones may be infinite in another order of operations.
const LARGEST: f64 = 1e30;

/// The weight of the largest element's size for all others in float32: terms of that size may cancel each other.
const SINGLE_FLOOR: f64 = 0.1;

/// The weight of an element's own size, and that of the largest: element by element in float32, and only the array.
pub(super) const SINGLE: (f64, f64) = (1.0, SINGLE_FLOOR);
pub(super) const WHOLE: (f64, f64) = (0.0, 1.0);

/// The last bits of whatever is compared with half precision, relative to the least size.
pub(super) const LEAST: f64 = 1e-6;

/// Whether differences are taken in double precision.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubles {
    Untried,
    Taken,
    Refused,
}

/// One kernel while it is checked.
pub(super) struct Checker<'a> {
    pub(super) declaration: &'static Declaration,
    pub(super) report: &'a mut Report,
    /// The computations in double precision, of the kernel and of its fallback.
    doubles: [Doubles; 2],
    /// Whether the gradient, too, can be computed in double.
    double_gradients: bool,
}

impl<'a> Checker<'a> {
    pub(super) fn new(declaration: &'static Declaration, report: &'a mut Report) -> Self {
        Checker { declaration, report, doubles: [Doubles::Untried; 2], double_gradients: true }
    }

    /// Runs what has no gradient: its outputs must be numbers.
    pub(super) fn run(&mut self, case: &Setting, dtype: Dtype) -> Result<()> {
        if !runs_at(self.declaration, case)? {
            return Ok(());
        }
        let plain = Draw::default();
        let place = place(case, &plain, dtype);
        let experiment = Experiment::new(self.declaration, case, &plain, dtype, dtype)?;
        let outputs = match experiment.outputs(Way::Kernel) {
            Err(Error::Untranslated { message, .. }) => {
                self.report.notes.push(format!("{place} does not run: {message}"));
                return Ok(());
            }
            outputs => outputs?,
        };
        let floats = outputs.iter().filter(|(port, _)| experiment.is_float(port)).flat_map(|(_, values)| values);
        let broken = floats.filter(|value| !value.is_finite()).count();
        self.report.compare(format!("outputs that are no numbers {place}"), broken as f64, 0.0);
        Ok(())
    }

    /// Runs all calls of the plan at one size.
    pub(super) fn check(&mut self, planned: &Planned) -> Result<()> {
        let setting = &planned.setting;
        let in_single = dtypes(self.declaration.signature).contains(&Dtype::F32);
        if in_single {
            let depth = match (planned.is_varied, planned.is_declared) {
                (true, _) => Depth::Plain,
                (false, true) => Depth::Other,
                (false, false) => Depth::Undeclared,
            };
            for setting in std::iter::once(setting).chain(&planned.otherwise) {
                if self.draw(setting, &[Draw::default()], depth)? {
                    break;
                }
            }
        }
        // Single precision has shown at these sizes that orders of threads do not matter.
        let in_half = |checker: &mut Self| planned.halves.iter().try_for_each(|dtype| checker.in_half(setting, *dtype));
        if in_single {
            in_one_order(|| in_half(self))?
        } else {
            in_half(self)?
        }
        if planned.wants_in_turn && in_single {
            self.equal(setting)?;
        }
        if planned.is_varied && in_single {
            for draws in draws(self.declaration, setting) {
                let mut draw = || self.draw(setting, &draws, Depth::Varied);
                // The order of threads depends on sizes, indices and masks, and not on the values of floats.
                if draws.iter().all(|draw| !draw.floats.is_empty()) {
                    in_one_order(draw)?
                } else {
                    draw()?
                };
            }
        }
        Ok(())
    }

    /// Calls that must give what the plain one gives.
    fn equal(&mut self, setting: &Setting) -> Result<()> {
        if !runs_at(self.declaration, setting)? {
            return Ok(());
        }
        let of = |draw: &Draw| -> Result<_> {
            let experiment = Experiment::new(self.declaration, setting, draw, Dtype::F32, Dtype::F32)?;
            let computed = experiment.gradients(Way::Kernel)?;
            Ok((experiment, computed))
        };
        let draws = equal_draws(self.declaration, setting);
        if draws.is_empty() {
            return Ok(());
        }
        let (_, (outputs, gradients)) = match of(&Draw::default()) {
            // A note says so already.
            Err(Error::Untranslated { .. }) if self.declaration.fallback().is_some() => return Ok(()),
            plain => plain?,
        };
        let (own, floor, bound) = (1.0, SINGLE_FLOOR, Tolerance::new(Dtype::F32).fallback);
        for draw in draws {
            let (experiment, (other_outputs, other_gradients)) = of(&draw)?;
            let place = place(setting, &draw, Dtype::F32);
            for (number, (found, plain)) in other_outputs.iter().zip(&outputs).enumerate() {
                let subject = format!("float output {number} of the kernel against the plain call {place}");
                self.report.compare(subject, apart(found, plain, own, floor, LEAST), bound);
            }
            for (position, (found, plain)) in other_gradients.iter().zip(&gradients).enumerate() {
                let (Some(found), Some(plain)) = (found, plain) else { continue };
                let name = experiment.port(position).name;
                let subject = format!("kernel gradient of `{name}` against the plain call {place}");
                self.report.compare(subject, apart(found, plain, own, floor, LEAST), bound);
            }
        }
        Ok(())
    }

    /// Returns whether everything runs at a size that the declaration does not name.
    pub(super) fn works(&self, setting: &Setting) -> bool {
        let run = || -> Result<()> {
            let experiment = Experiment::new(self.declaration, setting, &Draw::default(), Dtype::F32, Dtype::F32)?;
            self.ways(setting)?.into_iter().try_for_each(|way| experiment.compute(way).map(drop))
        };
        run().is_ok()
    }

    fn ways(&self, setting: &Setting) -> Result<Vec<Way>> {
        let kernel = runs_at(self.declaration, setting)?.then_some(Way::Kernel);
        Ok(kernel.into_iter().chain(self.declaration.fallback().map(Way::Fallback)).collect())
    }

    /// Returns what each way computes, where the backend has a counterpart of it.
    fn computed(
        &mut self,
        experiment: &Experiment,
        ways: &[Way],
        place: &str,
        inference: bool,
    ) -> Result<Vec<Computed>> {
        let mut computed = Vec::new();
        for way in ways {
            let result = if inference { experiment.compute(*way) } else { experiment.train(*way) };
            match result {
                Err(Error::Untranslated { message, .. }) if self.declaration.fallback().is_some() => {
                    self.report.notes.push(format!("the fallback runs at {place}: {message}"));
                }
                result => computed.push(result?),
            }
        }
        Ok(computed)
    }

    fn in_half(&mut self, setting: &Setting, dtype: Dtype) -> Result<()> {
        let ways = self.ways(setting)?;
        let Some(last) = ways.last().copied() else { return Ok(()) };
        let plain = Draw::default();
        let place = place(setting, &plain, dtype);
        let experiment = Experiment::new(self.declaration, setting, &plain, dtype, dtype)?;
        let computed = self.computed(&experiment, &ways, &place, true)?;
        // The last way is the fallback, if there is one; it computes in float32 from the same inputs.
        let exact = Experiment::new(self.declaration, setting, &plain, dtype, Dtype::F32)?.compute(last)?;
        let bound = Tolerance::new(dtype).fallback;
        for result in &computed {
            let both = format!("{} against {} in float32 {place}", result.way.name(), exact.way.name());
            for ((port, left), (_, right)) in result.outputs.iter().zip(&exact.outputs) {
                let bound = if experiment.is_float(port) { bound } else { 0.0 };
                self.report.compare(format!("output `{}`, {both}", port.name), distance(left, right), bound);
            }
            for (position, (left, right)) in result.gradients.iter().zip(&exact.gradients).enumerate() {
                let (Some(left), Some(right)) = (left, right) else { continue };
                let name = experiment.port(position).name;
                self.report.compare(format!("gradient of `{name}`, {both}"), distance(left, right), bound);
            }
        }
        Ok(())
    }

    /// One call in float32: the first of several alternatives whose outputs are numbers. Whether there was one.
    fn draw(&mut self, setting: &Setting, alternatives: &[Draw], depth: Depth) -> Result<bool> {
        let ways = self.ways(setting)?;
        let Some(first) = ways.first().copied() else { return Ok(false) };
        let mut refusal = String::new();
        for draw in alternatives {
            let experiment = Experiment::new(self.declaration, setting, draw, Dtype::F32, Dtype::F32)?;
            match self.has_values(&experiment, &ways, draw, depth)? {
                Ok(()) => match self.judge(setting, draw, &experiment, &ways, first, depth) {
                    // These values do not fit together, and the author has not declared them.
                    Err(error) if depth == Depth::Undeclared && !is_defect(&error) => refusal = first_line(&error),
                    result => return result.map(|()| true),
                },
                Err(reason) => refusal = reason,
            }
        }
        if let Some(draw) = alternatives.first() {
            self.report.notes.push(format!("not drawn: {}: {refusal}", place(setting, draw, Dtype::F32)));
        }
        Ok(false)
    }

    /// Returns whether a call can be judged: not where the function has no value, which its fallback knows, or else the
    /// kernel.
    fn has_values(
        &self,
        experiment: &Experiment,
        ways: &[Way],
        draw: &Draw,
        depth: Depth,
    ) -> Result<std::result::Result<(), String>> {
        if depth == Depth::Undeclared && matches!(ways.first(), Some(Way::Kernel)) {
            return Ok(match experiment.outputs(Way::Kernel) {
                Err(error) if !matches!(error, Error::Untranslated { .. }) => {
                    Err(format!("{}; if it cannot run there, `requires = [..]` says so", first_line(&error)))
                }
                _ => Ok(()),
            });
        }
        if *draw == Draw::default() {
            return Ok(Ok(()));
        }
        let is_value = |outputs: &[(&_, Vec<f64>)]| {
            outputs.iter().flat_map(|(_, values)| values).all(|value| value.abs() < LARGEST)
        };
        let fallback = ways.iter().find(|way| matches!(way, Way::Fallback(_)));
        let fallback = fallback.map(|way| experiment.outputs(*way));
        match fallback {
            Some(Ok(outputs)) if is_value(&outputs) => {}
            Some(Ok(_)) => return Ok(Err("the fallback's outputs are no numbers".to_owned())),
            Some(Err(error)) => return Ok(Err(first_line(&error))),
            None => match experiment.outputs(Way::Kernel) {
                Ok(outputs) if is_value(&outputs) => {}
                Ok(_) => return Ok(Err("outputs are no numbers".to_owned())),
                Err(error) => {
                    // A value that no scalar may have is no finding. A NaN among the intermediate values is one.
                    let outputs =
                        draw.scalars.is_empty().then(|| Precision::Double.within(|| experiment.outputs(Way::Kernel)));
                    if outputs.is_some_and(|outputs| outputs.is_ok_and(|outputs| is_value(&outputs))) {
                        return Err(error);
                    }
                    return Ok(Err(first_line(&error)));
                }
            },
        }
        Ok(Ok(()))
    }

    fn judge(
        &mut self,
        setting: &Setting,
        draw: &Draw,
        experiment: &Experiment,
        ways: &[Way],
        first: Way,
        depth: Depth,
    ) -> Result<()> {
        let place = place(setting, draw, Dtype::F32);
        let computed = self.computed(experiment, ways, &place, depth != Depth::Varied)?;
        if depth != Depth::Varied {
            computed.iter().for_each(|result| self.training_outputs(experiment, result, depth, &place));
        }
        let Some(result) = computed.iter().find(|result| result.way.name() == first.name()).or(computed.first()) else {
            return Ok(());
        };
        if matches!(depth, Depth::Other | Depth::Undeclared) && computed.len() > 1 {
            self.compare(draw, experiment, &computed[0], (&computed[1], None), (&place, SINGLE));
            // Kernel and fallback may have the same mistake, so slopes are measured too where that costs little.
            if depth == Depth::Undeclared || elements(self.declaration, setting) > FEW_ELEMENTS {
                return Ok(());
            }
        }
        let precision = self.precision(experiment, result)?;
        let doubles = match precision {
            Precision::Single => vec![None; computed.len()],
            Precision::Double => computed.iter().map(|result| self.in_double(experiment, result.way)).collect(),
        };
        self.differentiate(setting, draw, experiment, (&computed, &doubles), result, precision, depth, &place)?;
        if let [kernel, fallback] = computed.as_slice() {
            // Where double precision is not available, results are compared element by element.
            let sizes = if precision == Precision::Double { WHOLE } else { SINGLE };
            self.compare(draw, experiment, kernel, (fallback, doubles[1].as_ref()), (&place, sizes));
            if let [Some(kernel), Some(fallback)] = doubles.as_slice() {
                self.compare_in_double(draw, experiment, kernel, fallback, &place);
            }
        }
        Ok(())
    }

    /// Returns what a way computes in double precision, if it can.
    fn in_double(&mut self, experiment: &Experiment, way: Way) -> Option<Computed> {
        match Precision::Double.within(|| experiment.train(way)) {
            Ok(computed) => Some(computed),
            Err(error) => {
                if matches!(way, Way::Kernel) && self.double_gradients {
                    self.double_gradients = false;
                    let reason = first_line(&error);
                    self.report.notes.push(format!("gradients are not computed in double precision: {reason}"));
                }
                None
            }
        }
    }

    /// Double, if this kernel can run so, computes the same, and is smooth over so small a step.
    fn precision(&mut self, experiment: &Experiment, result: &Computed) -> Result<Precision> {
        let way = usize::from(matches!(result.way, Way::Fallback(_)));
        if self.doubles[way] == Doubles::Untried {
            let refused = match Precision::Double.within(|| experiment.outputs(result.way)) {
                Err(error) => Some(first_line(&error)),
                Ok(outputs) => {
                    let outputs = outputs.iter().zip(&result.outputs);
                    let far = outputs.filter(|((port, double), (_, single))| {
                        // A result that is not a number is reported by another check.
                        experiment.is_float(port) && distance(single, double) > 1e-2
                    });
                    match far.map(|((port, _), _)| port.name).next() {
                        Some(name) => Some(format!("output `{name}` is another one there")),
                        None if Probe::new(experiment, result.way, Precision::Double)?.resolves()? => None,
                        None => Some("some of its operations round to fewer bits".to_owned()),
                    }
                }
            };
            if let Some(reason) = &refused {
                let way_name = result.way.name();
                let note = format!(
                    "finite differences of the {way_name} are taken in float32, with its bounds: in double precision {reason}"
                );
                self.report.notes.push(note);
            }
            self.doubles[way] = if refused.is_some() { Doubles::Refused } else { Doubles::Taken };
        }
        Ok(if self.doubles[way] == Doubles::Taken { Precision::Double } else { Precision::Single })
    }
}

/// `(S = 7, `scale` = 0, bfloat16)`
fn place(setting: &Setting, draw: &Draw, dtype: Dtype) -> String {
    if dtype == Dtype::F32 { format!("({setting}{draw})") } else { format!("({setting}{draw}, {dtype})") }
}

/// Returns whether a source did something wrong, as the emulator saw.
fn is_defect(error: &Error) -> bool {
    error.to_string().contains(DEFECT)
}

fn first_line(error: &Error) -> String {
    // The second line of a defect says which defect it is.
    error.to_string().lines().take(2).collect::<Vec<_>>().join(": ")
}
