//! Running an operator in both modes, and its gradients.

use cotangent::{Constant, Graph, Infer, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};

use super::assert_close;

/// An operator under test: a function of tensors, in either mode. `self` holds its host data.
pub trait Operator: Clone {
    /// The outputs.
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>>;
}

fn infer<O: Operator>(inputs: &Vec<Tensor<Infer>>, _: &Vec<Tensor<Infer>>, operator: &O) -> Result<Vec<Tensor<Infer>>> {
    operator.call(inputs)
}

/// The outputs in inference.
pub fn outputs<O: Operator>(operator: &O, inputs: &[Tensor<Stored>]) -> Vec<Tensor<Stored>> {
    let mut session = Session::new().expect("a session");
    session
        .infer(&inputs.to_vec(), &Vec::<Tensor<Stored>>::new(), operator, infer::<O>)
        .unwrap_or_else(|error| panic!("{error}"))
}

type Batch<O> = (O, Vec<Constant>);

/// `sum(cotangent * output)` over all outputs.
fn inner_product<O: Operator>(inputs: &Vec<Tensor<Train>>, (operator, cotangents): &Batch<O>) -> Result<Tensor<Train>> {
    let outputs = operator.call(inputs)?;
    assert_eq!(outputs.len(), cotangents.len(), "one cotangent per output");
    let mut sum: Option<Tensor<Train>> = None;
    for (output, cotangent) in outputs.iter().zip(cotangents) {
        let term = output.multiply(cotangent)?.cast(cotangent::Dtype::F32)?.sum_all()?;
        sum = Some(match sum {
            Some(sum) => sum.add(&term)?,
            None => term,
        });
    }
    Ok(sum.expect("an output"))
}

/// `sum(cotangent * output)` in training, and its gradient for the inputs that `trains` picks.
pub fn gradients_of<O: Operator>(
    operator: &O,
    inputs: &[Tensor<Stored>],
    cotangents: &[Tensor<Stored>],
    trains: impl Fn(usize) -> bool,
) -> (f32, Vec<Option<Tensor<Stored>>>) {
    let mut session = Session::new().expect("a session");
    let inputs = inputs.to_vec();
    let cotangents: Vec<_> = cotangents.iter().map(|ct| Constant::from_stored(ct).expect("floats")).collect();
    let trainable = Trainable::new(&inputs, |name| trains(name.parse().expect("an index"))).expect("float inputs");
    let batch = (operator.clone(), cotangents);
    let (value, gradients) = value_and_grad(&mut session, &inputs, &trainable, &batch, inner_product::<O>)
        .unwrap_or_else(|error| panic!("{error}"));
    let gradients = (0..inputs.len()).map(|index| gradients.get(&index.to_string()).cloned()).collect();
    (value.item().expect("a scalar"), gradients)
}

/// The gradients of `sum(cotangent * output)` for all inputs.
pub fn gradients<O: Operator>(
    operator: &O,
    inputs: &[Tensor<Stored>],
    cotangents: &[Tensor<Stored>],
) -> Vec<Tensor<Stored>> {
    let (_, gradients) = gradients_of(operator, inputs, cotangents, |_| true);
    gradients.into_iter().map(|gradient| gradient.expect("every input trains")).collect()
}

/// Fails unless two operators have the same outputs and gradients.
pub fn assert_gradients<O: Operator, E: Operator>(
    found: &O,
    expected: &E,
    inputs: &[Tensor<Stored>],
    cotangents: &[Tensor<Stored>],
    tolerance: f32,
) {
    for (index, (found, expected)) in outputs(found, inputs).iter().zip(outputs(expected, inputs)).enumerate() {
        assert_close(&format!("output {index}"), found, &expected, tolerance);
    }
    let expected = gradients(expected, inputs, cotangents);
    for (index, (found, expected)) in gradients(found, inputs, cotangents).iter().zip(expected).enumerate() {
        assert_close(&format!("gradient {index}"), found, &expected, tolerance);
    }
}

/// Fails unless outputs and gradients have the same bits when all is computed again.
pub fn assert_same_bits_again<O: Operator>(operator: &O, inputs: &[Tensor<Stored>], cotangents: &[Tensor<Stored>]) {
    let run = || {
        let mut results = outputs(operator, inputs);
        results.extend(gradients(operator, inputs, cotangents));
        results.iter().map(|tensor| tensor.to_bytes().expect("values")).collect::<Vec<_>>()
    };
    assert!(run() == run());
}

/// Runs tests of a file again, with the kernels' own sources in the emulator: all of `module_path!()`, or those of these
/// names. A process has one backend, so this is another process. The test that calls it is named
/// `the_same_holds_in_the_emulator`.
pub fn assert_same_in_the_emulator(module: &str, names: &[&str]) {
    let (_, module) = module.split_once("::").expect("a file of this program");
    let wanted = if names.is_empty() { &[""] } else { names };
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--skip", "the_same_holds_in_the_emulator"])
        .args(wanted.iter().map(|name| format!("{module}::{name}")))
        .env("COTANGENT_BACKEND", "emulated")
        .output()
        .expect("this program starts");
    let text = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success() && !text.contains("running 0 tests"), "{text}");
    for name in names {
        assert!(text.contains(&format!("test {module}::{name} ... ok")), "{name}\n{text}");
    }
}

/// Fails unless the gradient agrees with central differences along a random direction of each input, within
/// `tolerance` of the gradient's length.
pub fn assert_finite_differences<O: Operator>(operator: &O, inputs: &[Tensor<Stored>], tolerance: f64) {
    let step = 1e-2_f32;
    let cotangents: Vec<_> = outputs(operator, inputs)
        .iter()
        .enumerate()
        .map(|(index, output)| super::random(71 + index as u64, output.shape(), 1.0))
        .collect();
    let value = |inputs: &[Tensor<Stored>]| -> f64 {
        let outputs = outputs(operator, inputs);
        outputs.iter().zip(&cotangents).map(|(output, cotangent)| dot(output, cotangent)).sum()
    };
    let terms: Vec<f64> = outputs(operator, inputs)
        .iter()
        .zip(&cotangents)
        .map(|(output, cotangent)| dot_of_squares(output, cotangent))
        .collect();
    // Rounding the outputs to float32 changes a difference by about this much.
    let rounding = f64::from(f32::EPSILON / step) * terms.iter().sum::<f64>().sqrt();
    for (index, gradient) in gradients(operator, inputs, &cotangents).iter().enumerate() {
        let direction = super::random(171 + index as u64, gradient.shape(), 1.0);
        let shifted = |sign: f32| {
            let mut inputs = inputs.to_vec();
            let (at, towards) = (inputs[index].to_vec::<f32>(), direction.to_vec::<f32>());
            let values: Vec<f32> =
                at.unwrap().iter().zip(towards.unwrap()).map(|(at, towards)| at + sign * step * towards).collect();
            inputs[index] = Tensor::from_slice(&values, gradient.shape()).expect("the same shape");
            value(&inputs)
        };
        let found = dot(gradient, &direction);
        let expected = (shifted(1.0) - shifted(-1.0)) / f64::from(2.0 * step);
        // A direction along which little happens shows little, so the measure is the difference along a typical one.
        let typical = dot(gradient, gradient).sqrt();
        let difference = (found - expected).abs();
        assert!(
            difference <= tolerance * typical.max(expected.abs()) + rounding,
            "gradient {index}: {found} along a direction, central differences say {expected}"
        );
    }
}

fn dot_of_squares(left: &Tensor<Stored>, right: &Tensor<Stored>) -> f64 {
    let (left, right) = (left.to_vec::<f32>().expect("values"), right.to_vec::<f32>().expect("values"));
    left.iter().zip(&right).map(|(left, right)| (f64::from(*left) * f64::from(*right)).powi(2)).sum()
}

fn dot(left: &Tensor<Stored>, right: &Tensor<Stored>) -> f64 {
    let (left, right) = (left.to_vec::<f32>().expect("values"), right.to_vec::<f32>().expect("values"));
    left.iter().zip(&right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
}
