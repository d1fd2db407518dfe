//! Functions that bring a backward of their own, against finite differences.

use mlx_rs::Array;

use super::random::Random;
use super::report::Report;
use crate::backend::with_backend;
use crate::tensor::{Origin, TraceId};
use crate::transform::vjp_arrays;
use crate::{Backend, Constant, Result, Session, Stored, Tensor, Train};

/// Half the step of a difference: see the bound below.
const STEP: f32 = 1e-2;

/// How far a directional derivative may be from the difference, relative to the gradient's length: float32 leaves 1e-7
/// sqrt(n) / STEP of the function's value, curvature STEP^2 / 6 of its third derivative.
const BOUND: f64 = 5e-3;

/// Directions that each input is moved along.
const DIRECTIONS: usize = 3;

/// Holds the gradient of `function`, to which [`custom_vjp`](crate::custom_vjp) gives a backward, against central finite
/// differences, on the CPU in float32: along three random directions of each input, at inputs of the shapes of each case with
/// values between -1 and 1. All outputs count, each element with a random weight.
///
/// # Errors
/// What `function` returns.
pub fn check_vjp(
    name: &'static str,
    cases: &[&[&[i32]]],
    function: fn(&[Tensor<Train>]) -> Result<Vec<Tensor<Train>>>,
) -> Result<Report> {
    Session::new()?;
    let mut report = Report::new(name);
    with_backend(Backend::Cpu, || cases.iter().try_for_each(|shapes| check_case(name, shapes, function, &mut report)))?;
    Ok(report)
}

/// [`check_vjp`] as a test.
///
/// # Panics
/// If a gradient deviates, if nothing was compared, or if `function` fails.
pub fn assert_vjp(
    name: &'static str,
    cases: &[&[&[i32]]],
    function: fn(&[Tensor<Train>]) -> Result<Vec<Tensor<Train>>>,
) {
    match check_vjp(name, cases, function) {
        Ok(report) => assert!(report.passed(), "{report}"),
        Err(error) => panic!("`{name}` was not checked: {error}"),
    }
}

fn check_case(
    name: &'static str,
    shapes: &[&[i32]],
    function: fn(&[Tensor<Train>]) -> Result<Vec<Tensor<Train>>>,
    report: &mut Report,
) -> Result<()> {
    let mut random = Random::INPUTS;
    let count = |shape: &[i32]| shape.iter().map(|extent| extent.unsigned_abs() as usize).product::<usize>();
    let mut drawn = |shape: &[i32]| (0..count(shape)).map(|_| random.between(-1.0, 1.0)).collect::<Vec<f32>>();
    let inputs: Vec<Vec<f32>> = shapes.iter().map(|shape| drawn(shape)).collect();
    let arrays = |inputs: &[Vec<f32>]| -> Result<Vec<Array>> {
        let of = |(values, shape): (&Vec<f32>, &&[i32])| Ok(Constant::from_slice(values, shape)?.array().clone());
        inputs.iter().zip(shapes).map(of).collect()
    };
    let run = |inputs: &[Vec<f32>], cotangents: &[Array]| {
        let origin = Origin::of(TraceId::fresh(), true);
        let traced = |primals: &[Array]| {
            let tensors: Vec<Tensor<Train>> =
                primals.iter().map(|primal| Tensor::from_parts(primal.clone(), origin)).collect();
            Ok(function(&tensors)?.iter().map(|output| output.array().clone()).collect())
        };
        vjp_arrays(name, traced, &arrays(inputs)?, cotangents)
    };

    let probe = Origin::of(TraceId::fresh(), false);
    let tensors: Vec<Tensor<Train>> =
        arrays(&inputs)?.into_iter().map(|array| Tensor::from_parts(array, probe)).collect();
    let outputs = function(&tensors)?;
    let weights: Vec<Vec<f32>> = outputs.iter().map(|output| drawn(output.shape())).collect();
    let cotangents = outputs
        .iter()
        .zip(&weights)
        .map(|(output, weights)| Ok(Constant::from_slice(weights, output.shape())?.array().clone()));
    let cotangents = cotangents.collect::<Result<Vec<_>>>()?;

    let (_, gradients) = run(&inputs, &cotangents)?;
    let gradients = gradients.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let weighted = |inputs: &[Vec<f32>]| -> Result<f64> {
        let (outputs, _) = run(inputs, &cotangents)?;
        let mut sum = 0.0;
        for (output, weights) in outputs.into_iter().zip(&weights) {
            sum += read(output)?.iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum::<f64>();
        }
        Ok(sum)
    };
    let mut random = Random::DIRECTIONS;
    for (place, gradient) in gradients.iter().enumerate() {
        for number in 0..DIRECTIONS {
            let direction: Vec<f32> = gradient.iter().map(|_| random.sign()).collect();
            let at = |step: f32| {
                let mut moved = inputs.clone();
                moved[place].iter_mut().zip(&direction).for_each(|(value, sign)| *value += step * sign);
                weighted(&moved)
            };
            let measured = (at(STEP)? - at(-STEP)?) / (2.0 * f64::from(STEP));
            let claimed: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let subject = format!("gradient of input {place} along direction {number} against a difference {shapes:?}");
            report.compare(subject, (measured - claimed).abs() / length.max(1e-3), BOUND);
        }
    }
    Ok(())
}

fn read(array: Array) -> Result<Vec<f32>> {
    Tensor::<Stored>::from_parts(array, Origin::HOST).to_vec::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Infer, custom_vjp};

    type Value = Tensor<Infer>;

    fn product(
        inputs: &[Tensor<Train>],
        backward: fn(&[Value], &[Value], &[Value], &()) -> Result<Vec<Value>>,
    ) -> Result<Vec<Tensor<Train>>> {
        let forward = |inputs: &[Value], (): &()| Ok(vec![inputs[0].multiply(&inputs[1])?]);
        custom_vjp("product", &[&inputs[0], &inputs[1]], &(), forward, backward)
    }

    const CASES: &[&[&[i32]]] = &[&[&[7], &[7]], &[&[3, 5], &[3, 5]]];

    #[test]
    fn a_right_backward_passes() {
        assert_vjp("product", CASES, |inputs| {
            product(inputs, |p, c, _, ()| Ok(vec![c[0].multiply(&p[1])?, c[0].multiply(&p[0])?]))
        });
    }

    #[test]
    fn a_wrong_sign_is_found_in_the_input_that_has_it() {
        let report = check_vjp("product", CASES, |inputs| {
            product(inputs, |p, c, _, ()| Ok(vec![c[0].multiply(&p[1])?.negative()?, c[0].multiply(&p[0])?]))
        });
        let report = report.unwrap();
        let failed = report.comparisons().iter().filter(|comparison| !comparison.passed());
        let failed: Vec<&str> = failed.map(|comparison| comparison.subject.as_str()).collect();
        assert!(failed.len() == 2 * DIRECTIONS && failed.iter().all(|subject| subject.contains("input 0")), "{report}");
    }

    #[test]
    fn no_case_is_no_success() {
        assert!(!check_vjp("product", &[], |_| Ok(Vec::new())).unwrap().passed());
    }
}
