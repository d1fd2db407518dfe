//! Compares functions that have their own backward with finite differences.

use mlx_rs::Array;

use super::random::Random;
use super::report::Report;
use crate::backend::with_backend;
use crate::tensor::{Origin, TraceId};
use crate::transform::vjp_arrays;
use crate::{Backend, Constant, CustomVjp, Error, Result, Session, Stored, Tensor, Train, VjpCase, custom_vjp};

/// Half the step of a difference: see the bound below.
const STEP: f32 = 1e-2;

/// How far a directional derivative may be from the difference, relative to the gradient's length: float32 leaves 1e-7
/// sqrt(n) / STEP of the function's value, curvature STEP^2 / 6 of its third derivative.
const BOUND: f64 = 5e-3;

/// Directions that each input is moved along.
const DIRECTIONS: usize = 3;

/// Checks the backward of a declared function against central finite differences, on the CPU in float32: along three random
/// directions of each input whose gradient the case compares, at values between -1 and 1. All outputs that a caller sees
/// count, each element with a random weight.
///
/// # Errors
/// What the function returns.
pub fn check_function<H: Clone + Send + 'static>(function: &CustomVjp<H>) -> Result<Report> {
    Session::new()?;
    let mut report = Report::new(function.name);
    with_backend(Backend::Cpu, || {
        (function.cases)()?
            .iter()
            .enumerate()
            .try_for_each(|(number, case)| check_case(function, number, case, &mut report))
    })?;
    Ok(report)
}

/// [`check_function`] as the test that a declaration brings.
///
/// # Panics
/// If a gradient deviates, if nothing was compared, or if the function fails.
pub fn assert_function<H: Clone + Send + 'static>(function: &CustomVjp<H>) {
    match check_function(function) {
        Ok(report) => assert!(report.passed(), "{report}"),
        Err(error) => panic!("`{}` was not checked: {error}", function.name),
    }
}

fn check_case<H: Clone + Send + 'static>(
    function: &CustomVjp<H>,
    number: usize,
    case: &VjpCase<H>,
    report: &mut Report,
) -> Result<()> {
    let mut random = Random::INPUTS;
    let count = |shape: &[i32]| shape.iter().map(|extent| extent.unsigned_abs() as usize).product::<usize>();
    let mut drawn = |shape: &[i32]| (0..count(shape)).map(|_| random.between(-1.0, 1.0)).collect::<Vec<f32>>();
    let inputs: Vec<Vec<f32>> = case.shapes.iter().map(|shape| drawn(shape)).collect();
    let arrays = |inputs: &[Vec<f32>]| -> Result<Vec<Array>> {
        let of = |(values, shape): (&Vec<f32>, &Vec<i32>)| Ok(Constant::from_slice(values, shape)?.array().clone());
        inputs.iter().zip(&case.shapes).map(of).collect()
    };
    let call = |primals: &[Array], origin: Origin| -> Result<Vec<Tensor<Train>>> {
        let tensors: Vec<Tensor<Train>> =
            primals.iter().map(|primal| Tensor::from_parts(primal.clone(), origin)).collect();
        custom_vjp(function, &tensors.iter().collect::<Vec<_>>(), &case.host)
    };
    let run = |inputs: &[Vec<f32>], cotangents: &[Array]| {
        let (function, host) = (*function, case.host.clone());
        let traced = move |primals: &[Array]| {
            let origin = Origin::new(TraceId::fresh(), true);
            let tensors: Vec<Tensor<Train>> =
                primals.iter().map(|primal| Tensor::from_parts(primal.clone(), origin)).collect();
            let outputs = custom_vjp(&function, &tensors.iter().collect::<Vec<_>>(), &host)?;
            Ok(outputs.iter().map(|output| output.array().clone()).collect())
        };
        vjp_arrays(function.name, traced, &arrays(inputs)?, cotangents)
    };

    let outputs = call(&arrays(&inputs)?, Origin::new(TraceId::fresh(), false))?;
    let weights: Vec<Vec<f32>> = outputs.iter().map(|output| drawn(output.shape())).collect();
    let cotangents = outputs
        .iter()
        .zip(&weights)
        .map(|(output, weights)| Ok(Constant::from_slice(weights, output.shape())?.array().clone()));
    let cotangents = cotangents.collect::<Result<Vec<_>>>()?;

    let (_, gradients) = run(&inputs, &cotangents)?;
    let gradients = gradients.into_iter().map(read).collect::<Result<Vec<_>>>()?;
    let weighted = |inputs: &[Vec<f32>]| -> Result<f64> {
        let mut sum = 0.0;
        for (output, weights) in call(&arrays(inputs)?, Origin::new(TraceId::fresh(), false))?.into_iter().zip(&weights)
        {
            let values = read(output.array().clone())?;
            sum += values.iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum::<f64>();
        }
        Ok(sum)
    };
    let mut random = Random::DIRECTIONS;
    let names = &function.inputs[..gradients.len()];
    if let Some(unknown) = case.compared.iter().find(|name| !names.contains(name)) {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let names = names.join(", ");
        let message = format!("case {number} of `{}` compares `{unknown}`, and its inputs are {names}", function.name);
        return Err(Error::Other(message));
    }
    let is_compared = |name: &str| case.compared.is_empty() || case.compared.contains(&name);
    for (place, (name, gradient)) in names.iter().zip(&gradients).enumerate() {
        if !is_compared(name) {
            continue;
        }
        for direction_number in 0..DIRECTIONS {
            let direction: Vec<f32> = gradient.iter().map(|_| random.sign()).collect();
            let at = |step: f32| {
                let mut moved = inputs.clone();
                moved[place].iter_mut().zip(&direction).for_each(|(value, sign)| *value += step * sign);
                weighted(&moved)
            };
            let measured = (at(STEP)? - at(-STEP)?) / (2.0 * f64::from(STEP));
            let claimed: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
            let length = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            let subject = format!(
                "gradient of `{name}` along direction {direction_number} against a difference {:?}",
                case.shapes
            );
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
    use crate::{Backward, Infer};

    type Value = Tensor<Infer>;

    /// `x y`, and `x` kept for a backward.
    const fn product(backward: Backward<()>) -> CustomVjp<()> {
        CustomVjp::declared(
            "product",
            (&["x", "y"], 2),
            &["product"],
            |inputs, ()| Ok(vec![inputs[0].multiply(&inputs[1])?, inputs[0].multiply(3.0)?]),
            backward,
            || Ok(vec![VjpCase::new(&[&[7], &[7]], ()), VjpCase::new(&[&[3, 5], &[3, 5]], ())]),
        )
    }

    fn right(primals: &[Value], cotangents: &[Value], kept: &[Value], (): &()) -> Result<Vec<Value>> {
        Ok(vec![cotangents[0].multiply(&primals[1])?, cotangents[0].multiply(&kept[1])?.multiply(1.0 / 3.0)?])
    }

    fn wrong(primals: &[Value], cotangents: &[Value], kept: &[Value], (): &()) -> Result<Vec<Value>> {
        let mut gradients = right(primals, cotangents, kept, &())?;
        gradients[0] = gradients[0].negative()?;
        Ok(gradients)
    }

    #[test]
    fn a_right_backward_passes_and_what_is_kept_does_not_count() {
        assert_function(&product(right));
    }

    #[test]
    fn a_wrong_sign_is_found_in_the_input_that_has_it() {
        let report = check_function(&product(wrong)).unwrap();
        let failed = report.comparisons().iter().filter(|comparison| !comparison.passed());
        let failed: Vec<&str> = failed.map(|comparison| comparison.subject.as_str()).collect();
        assert!(failed.len() == 2 * DIRECTIONS && failed.iter().all(|subject| subject.contains("of `x`")), "{report}");
    }

    /// `x` as it is, with results of these names.
    const fn identity(outputs: &'static [&'static str], cases: fn() -> Result<Vec<VjpCase<()>>>) -> CustomVjp<()> {
        CustomVjp::declared(
            "identity",
            (&["x"], 1),
            outputs,
            |x, ()| Ok(x.to_vec()),
            |_, c, _, ()| Ok(c.to_vec()),
            cases,
        )
    }

    #[test]
    fn what_compares_nothing_is_no_success() {
        assert!(!check_function(&identity(&["y"], || Ok(Vec::new()))).unwrap().passed());
    }

    #[test]
    fn what_does_not_fit_the_names_of_a_declaration_is_refused() {
        let one = || Ok(vec![VjpCase::new(&[&[3]], ())]);
        let other = || Ok(vec![VjpCase::new(&[&[3]], ()).of_inputs(&["z"])]);
        let two = || Ok(vec![VjpCase::new(&[&[3], &[3]], ())]);
        for (function, expected) in [
            (identity(&["y"], other), "case 0 of `identity` compares `z`, and its inputs are `x`"),
            (identity(&["y", "kept"], one), "`identity` returned 1 results, where its declaration names `y`, `kept`"),
            (identity(&["y"], two), "`identity` got 2 inputs, where its declaration names `x`"),
            (
                CustomVjp::declared(
                    "pair",
                    (&["x", "y"], 2),
                    &["x"],
                    |x, ()| Ok(x.to_vec()),
                    |_, c, _, ()| Ok(c.to_vec()),
                    one,
                ),
                "`pair` got 1 inputs, where its declaration names `x`, `y`",
            ),
        ] {
            assert_eq!(check_function(&function).unwrap_err().to_string(), expected);
        }
    }
}
