//! Checks whether a function that is run again computes the same as before.
//!
//! The gradient of a recomputed block belongs to its second computation. If that differs from the first, for example by
//! a mask drawn inside or by a counter, loss and gradient belong to different functions.

use std::collections::BTreeSet;

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::mode::Stored;
use crate::tensor::{Origin, Tensor};

const OPERATION: &str = "compare";

/// The number of steps of a session after which all that runs again is compared.
const INTERVAL: u64 = 100;

/// Builds for development compare in every step: so does every test.
const IN_EVERY_STEP: bool = cfg!(debug_assertions);

/// Shapes that are remembered; past them all are forgotten.
const REMEMBERED: usize = 1 << 12;

/// When what runs again is compared: in every step of a build with debug assertions and of an audit; else in the first
/// step of a session, in the first with each shape, and in every hundredth.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    steps: u64,
    seen: BTreeSet<String>,
    /// Whether everything that runs again in the current graph is compared.
    pub(crate) always: bool,
}

impl Repeats {
    /// Begins another step.
    pub(crate) fn step(&mut self) {
        self.steps += 1;
    }

    /// Returns whether what has this key, which says what is run and in which shapes, is compared now.
    pub(crate) fn is_due(&mut self, key: impl FnOnce() -> String) -> bool {
        self.always || IN_EVERY_STEP || self.is_scheduled(key)
    }

    fn is_scheduled(&mut self, key: impl FnOnce() -> String) -> bool {
        if self.seen.len() == REMEMBERED {
            self.seen.clear();
        }
        self.seen.insert(key()) || self.steps.is_multiple_of(INTERVAL)
    }
}

/// One result that was computed twice.
pub(crate) struct Repetition {
    /// The name of what computed the result.
    name: String,
    tolerance: f32,
    /// The square of the largest difference of two rows relative to their norm: a scalar, not evaluated.
    difference: Array,
}

/// Returns the largest norm that a row's rounding errors may have, relative to the norm of the row.
///
/// A kernel runs in two variants, with saved outputs and without, which may round differently: a few units in the last
/// place of a 16-bit result, some hundreds of one that is summed in float32.
fn tolerance(dtype: Dtype) -> f32 {
    match dtype {
        Dtype::BF16 => 0.5_f32.powi(6),
        Dtype::F16 => 0.5_f32.powi(9),
        _ => 0.5_f32.powi(13),
    }
}

impl Repetition {
    /// Compares two results of `name`, which computes in `dtypes`. Nothing is evaluated.
    ///
    /// # Errors
    /// [`Error::Refused`] if they differ in shape or dtype.
    pub(crate) fn new(
        operation: &'static str,
        name: &str,
        dtypes: impl IntoIterator<Item = Dtype>,
        [first, again]: [&Array; 2],
    ) -> Result<Self> {
        check_form(operation, name, [first, again])?;
        let dtypes = dtypes.into_iter().chain([Dtype::from_mlx(first.dtype())]);
        let tolerance = dtypes.map(tolerance).fold(0.0, f32::max);
        Ok(Repetition { name: name.to_owned(), tolerance, difference: difference(first, again).during(OPERATION)? })
    }

    /// Returns the array to be evaluated.
    pub(crate) fn array(&self) -> &Array {
        &self.difference
    }

    /// Reads what was compared.
    ///
    /// # Errors
    /// [`Error::Refused`] for the first that differ by more than rounding. What is not a number is no verdict.
    pub(crate) fn compare(operation: &'static str, repetitions: &[Repetition]) -> Result<()> {
        if repetitions.is_empty() {
            return Ok(());
        }
        ffi::evaluate(OPERATION, repetitions.iter().map(Repetition::array))?;
        for Repetition { name, tolerance, difference } in repetitions {
            let found = Tensor::<Stored>::from_parts(difference.clone(), Origin::HOST).item::<f32>()?.sqrt();
            if found > *tolerance && found.is_finite() {
                let by = format!(
                    "results {found:.1e} apart, relative to their size, where rounding explains {tolerance:.1e}"
                );
                return Err(differs(operation, name, &by));
            }
        }
        Ok(())
    }
}

/// Checks that two results of `name` have one shape and dtype, and that the cotangent has the shape and dtype of the
/// first.
///
/// # Errors
/// [`Error::Refused`] if they differ.
pub(crate) fn check_form(operation: &'static str, name: &str, [first, again]: [&Array; 2]) -> Result<()> {
    if first.shape() == again.shape() && first.dtype() == again.dtype() {
        return Ok(());
    }
    let show = |array: &Array| format!("{} {:?}", Dtype::from_mlx(array.dtype()), array.shape());
    Err(differs(operation, name, &format!("{} and then {}", show(first), show(again))))
}

fn differs(operation: &'static str, name: &str, found: &str) -> Error {
    Error::Refused {
        operation,
        message: format!(
            "{name} computed something else when it was run again for its gradient ({found}): what it computes must follow \
             from its arguments alone; take random numbers from keys in the batch, and count outside"
        ),
        code: "C22",
    }
}

/// The largest, over rows along the last axis, of the squared norm of the difference, relative to that of the row and of
/// the mean row.
fn difference(first: &Array, again: &Array) -> mlx_rs::error::Result<Array> {
    if first.size() == 0 {
        return Ok(Array::from_f32(0.0));
    }
    let [first, again] = [first, again].map(|array| array.as_dtype(mlx_rs::Dtype::Float32));
    let (first, again) = (mlx_rs::stop_gradient(first?)?, mlx_rs::stop_gradient(again?)?);
    let squares = [again.subtract(&first)?.square()?, first.square()?];
    let [difference, size] = squares.map(|squares| match squares.ndim() {
        0 => Ok(squares),
        _ => squares.sum_axis(-1, false),
    });
    let size = size?;
    let scale = size.add(size.mean(false)?)?.add(Array::from_f32(f32::MIN_POSITIVE))?;
    difference?.divide(scale)?.max(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(dtype: Dtype, change: impl Fn(usize, f32) -> f32) -> Result<()> {
        ffi::initialise();
        let values: Vec<f32> = (0..64 * 32).map(|index| (index as f32 * 0.7).sin() + 1.1).collect();
        let changed: Vec<f32> = values.iter().enumerate().map(|(index, value)| change(index, *value)).collect();
        let [first, again] =
            [values, changed].map(|values| Array::from_slice(&values, &[4, 16, 32]).as_dtype(dtype.to_mlx()).unwrap());
        let repetition = Repetition::new("train", "`layers.1`", [], [&first, &again])?;
        Repetition::compare("train", &[repetition])
    }

    #[test]
    fn rounding_is_no_difference_and_a_changed_row_is_one() {
        for (dtype, unit) in [(Dtype::F32, 1e-6), (Dtype::F16, 0.5_f32.powi(11)), (Dtype::BF16, 0.5_f32.powi(8))] {
            compare(dtype, |_, value| value).unwrap();
            compare(dtype, |index, value| value * (1.0 + unit * if index % 3 == 0 { 1.0 } else { -1.0 })).unwrap();
            // One row of 64 is in another order; one element in ten is dropped; a counter is added.
            let row = |index: usize, value: f32| if index / 32 == 7 { 2.2 - value } else { value };
            let dropped = |index: usize, value: f32| if index % 10 == 3 { 0.0 } else { value };
            for change in [row as fn(usize, f32) -> f32, dropped, |_, value| value + 0.1] {
                let error = compare(dtype, change).unwrap_err().to_string();
                assert!(error.contains("`layers.1` computed something else") && error.ends_with("[C22]"), "{error}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_no_verdict() {
        compare(Dtype::F32, |_, _| f32::NAN).unwrap();
        compare(Dtype::F32, |_, _| f32::INFINITY).unwrap();
    }

    #[test]
    fn the_first_step_each_shape_and_every_hundredth_step_are_compared() {
        let mut repeats = Repeats::default();
        let compared: Vec<u64> = (1..=250)
            .filter(|step| {
                repeats.step();
                repeats.is_scheduled(|| if *step < 30 { "short".to_owned() } else { "long".to_owned() })
            })
            .collect();
        assert_eq!(compared, [1, 30, 100, 200]);
    }
}
