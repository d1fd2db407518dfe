//! AdamW against its definition, and the properties a trainer relies on; other rules are in `optimizer_rules.rs`.

mod common;

use common::{Pair, copy, gradients_of, pair};
use cotangent::optimizer::{AdamW, AdamWOptions, Sgd, SgdOptions, global_norm};
use cotangent::random::Key;
use cotangent::{Constant, Dtype, Gradients, Session, Stored, Tensor, Trainable, value_and_grad};

/// Loshchilov and Hutter's algorithm 2 in double precision.
struct Definition {
    options: AdamWOptions,
    first: f64,
    second: f64,
    steps: i32,
}

impl Definition {
    fn new(options: AdamWOptions) -> Self {
        Definition { options, first: 0.0, second: 0.0, steps: 0 }
    }

    fn step(&mut self, parameter: f64, gradient: f64, learning_rate: f64) -> f64 {
        let AdamWOptions { beta1, beta2, epsilon, weight_decay, .. } = self.options;
        self.steps += 1;
        self.first = beta1 * self.first + (1.0 - beta1) * gradient;
        self.second = beta2 * self.second + (1.0 - beta2) * gradient * gradient;
        let first = self.first / (1.0 - beta1.powi(self.steps));
        let second = self.second / (1.0 - beta2.powi(self.steps));
        let decayed = parameter * (1.0 - learning_rate * f64::from(weight_decay));
        decayed - learning_rate * first / (second.sqrt() + f64::from(epsilon))
    }
}

#[test]
fn ten_steps_follow_the_definition() {
    let options = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
    let mut parameters = pair(&[0.5, -2.0], &[3.0]);
    let mut optimizer = AdamW::new(options);
    let mut expected = [(0.5_f64, 0.3_f64), (-2.0, -1e-4), (3.0, 50.0)]
        .map(|(parameter, gradient)| (Definition::new(options), parameter, gradient));
    for step in 0..10 {
        let learning_rate = 0.01 / f64::from(step + 1);
        let sign = if step % 3 == 0 { -1.0 } else { 1.0 };
        let gradients = gradients_of(&parameters, &[0.3 * sign, -1e-4 * sign], &[50.0 * sign]);
        let update = optimizer.update(&mut parameters, &gradients, learning_rate as f32).unwrap();
        assert!(update.applied().unwrap());
        for (definition, parameter, gradient) in &mut expected {
            *parameter = definition.step(*parameter, *gradient * f64::from(sign), learning_rate);
        }
    }
    let mut found: Vec<f32> = parameters.left.to_vec().unwrap();
    found.extend(parameters.right.to_vec::<f32>().unwrap());
    for (found, (_, expected, _)) in found.into_iter().zip(expected) {
        assert!((f64::from(found) - expected).abs() <= 1e-6 * expected.abs(), "{found} {expected}");
    }
}

#[test]
fn bf16_parameters_stay_bf16_with_f32_state() {
    let mut parameters = pair(&[1.0], &[1.0]);
    parameters.left = parameters.left.cast(Dtype::BF16).unwrap();
    let mut optimizer = AdamW::new(AdamWOptions::default());
    for _ in 0..2 {
        let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
        assert_eq!(gradients.get("left").unwrap().dtype(), Dtype::BF16);
        optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
    }
    assert_eq!((parameters.left.dtype(), parameters.right.dtype()), (Dtype::BF16, Dtype::F32));
    let state = optimizer.state().unwrap();
    assert!(state.values().all(|tensor| tensor.dtype() == Dtype::F32));
    assert_eq!(state["step"].item::<f32>().unwrap(), 2.0);
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut parameters = pair(&[1.0, 2.0], &[3.0]);
        let mut optimizer = AdamW::new(AdamWOptions::default());
        let good = gradients_of(&parameters, &[1.0, 1.0], &[1.0]);
        optimizer.update(&mut parameters, &good, 0.1).unwrap();
        let before = (parameters.left.to_bytes().unwrap(), optimizer.state().unwrap()["left.m"].to_bytes().unwrap());

        let broken = gradients_of(&parameters, &[1.0, 1.0], &[bad]);
        let update = optimizer.update(&mut parameters, &broken, 0.1).unwrap();
        assert!(!update.applied().unwrap() && !update.gradient_norm().unwrap().is_finite());
        assert_eq!(
            before,
            (parameters.left.to_bytes().unwrap(), optimizer.state().unwrap()["left.m"].to_bytes().unwrap())
        );
        assert_eq!(optimizer.state().unwrap()["step"].item::<f32>().unwrap(), 1.0);
    }
}

#[test]
fn clipping_scales_all_gradients_by_one_factor() {
    let parameters = pair(&[1.0, 1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[3.0, 0.0], &[4.0]);
    assert_eq!(global_norm(&gradients).unwrap().item::<f32>().unwrap(), 5.0);
    let moment = |max_norm| {
        let mut optimizer = AdamW::new(AdamWOptions { max_norm, ..AdamWOptions::default() });
        let mut parameters = pair(&[1.0, 1.0], &[1.0]);
        let gradients = gradients.moved_to(&parameters).unwrap();
        optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
        let state = optimizer.state().unwrap();
        (state["left.m"].to_vec::<f32>().unwrap()[0], state["right.m"].item::<f32>().unwrap())
    };
    for (max_norm, factor) in [(None, 1.0), (Some(1.0), 0.2), (Some(10.0), 1.0)] {
        let (left, right) = moment(max_norm);
        assert!(
            (left - 0.3 * factor).abs() < 1e-6 && (right - 0.4 * factor).abs() < 1e-6,
            "{max_norm:?} {left} {right}"
        );
    }
}

#[test]
fn a_resumed_optimizer_continues_bit_by_bit() {
    let options = AdamWOptions { max_norm: Some(0.5), ..AdamWOptions::default() };
    let mut straight = (pair(&[1.0, -1.0], &[2.0]), AdamW::new(options));
    let mut resumed = (pair(&[1.0, -1.0], &[2.0]), AdamW::new(options));
    for step in 0..6 {
        let gradient = 0.1 * step as f32 - 0.2;
        for (parameters, optimizer) in [&mut straight, &mut resumed] {
            let gradients = gradients_of(parameters, &[gradient, 1.0], &[-gradient]);
            optimizer.update(parameters, &gradients, 0.01).unwrap();
        }
        resumed.1 = AdamW::resume(options, &resumed.1.state().unwrap()).unwrap();
    }
    assert_eq!(straight.0.left.to_bytes().unwrap(), resumed.0.left.to_bytes().unwrap());
    assert_eq!(straight.0.right.to_bytes().unwrap(), resumed.0.right.to_bytes().unwrap());
}

#[test]
fn half_a_state_is_refused() {
    let mut optimizer = AdamW::new(AdamWOptions::default());
    let mut parameters = pair(&[1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
    for missing in ["step", "left.v", "right.m"] {
        let mut state = optimizer.state().unwrap();
        state.remove(missing);
        let error = AdamW::resume(AdamWOptions::default(), &state).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
    }
}

#[test]
fn a_gradient_without_a_parameter_is_refused() {
    let parameters = pair(&[1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    let mut other: Tensor<Stored> = Tensor::zeros(&[1], Dtype::F32).unwrap();
    let error = AdamW::new(AdamWOptions::default()).update(&mut other, &gradients, 0.1).unwrap_err();
    assert!(error.to_string().contains("parameter `left`"), "{error}");
}

#[test]
fn a_gradient_of_another_shape_is_refused_and_nothing_changes() {
    let gradients = gradients_of(&pair(&[1.0], &[1.0, 2.0]), &[1.0], &[1.0, 1.0]);
    let mut parameters = pair(&[1.0], &[1.0]);
    let mut optimizer = AdamW::new(AdamWOptions::default());
    let error = optimizer.update(&mut parameters, &gradients, 0.1).unwrap_err().to_string();
    assert!(error.contains("parameter `right`") && error.contains("[2]"), "{error}");
    assert_eq!(parameters.left.to_vec::<f32>().unwrap(), [1.0]);
    assert_eq!(optimizer.state().unwrap().len(), 1);
}

#[test]
fn moments_of_another_shape_are_refused_by_name() {
    let mut optimizer = AdamW::new(AdamWOptions::default());
    let mut parameters = pair(&[1.0], &[1.0, 2.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0, 1.0]);
    optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
    for other in [&["right.m"] as &[&str], &["right.v"], &["right.m", "right.v"]] {
        let mut state = optimizer.state().unwrap();
        state.extend(other.iter().map(|name| ((*name).into(), Tensor::zeros(&[3], Dtype::F32).unwrap())));
        let error = AdamW::resume(AdamWOptions::default(), &state)
            .and_then(|mut resumed| resumed.update(&mut parameters, &gradients, 0.1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("parameter `right`") && error.contains("[3]"), "{error}");
    }
}

type Tree = Vec<Option<Tensor<Stored>>>;

/// Gradients of the parameters that `trains` picks by index, different in every step.
fn gradients_in_step(tree: &Tree, step: u64, trains: impl Fn(usize) -> bool) -> Gradients {
    let mut constants = Vec::new();
    for (index, parameter) in tree.iter().enumerate() {
        let parameter = parameter.as_ref();
        let shape = parameter.map_or_else(Vec::new, |parameter| parameter.shape().to_vec());
        let drawn = Key::new(1000 * step + index as u64).unwrap().uniform(-1.0, 1.0, &shape).unwrap();
        constants.push(Constant::from_stored(&drawn).unwrap());
    }
    let trainable = Trainable::new(tree, |name| trains(name.parse().unwrap())).unwrap();
    value_and_grad(&mut Session::new().unwrap(), tree, &trainable, &constants, |tree, constants| {
        let mut sum: Option<Tensor<_>> = None;
        for (parameter, constant) in tree.iter().zip(constants) {
            let Some(parameter) = parameter else { continue };
            let product = parameter.cast(Dtype::F32)?.multiply(constant)?.sum_all()?;
            sum = Some(sum.map_or(Ok(product.clone()), |sum| sum.add(&product))?);
        }
        Ok(sum.expect("a tree has a parameter"))
    })
    .unwrap()
    .1
}

#[test]
fn a_parameter_steps_as_if_it_were_alone_and_the_run_were_never_resumed() {
    let shapes: [(&[i32], Dtype); 10] = [
        (&[], Dtype::F32),
        (&[3, 5], Dtype::F32),
        (&[2, 128], Dtype::BF16),
        (&[0, 4], Dtype::F32),
        (&[128], Dtype::F32),
        (&[300, 300], Dtype::F32),
        (&[7], Dtype::BF16),
        (&[150, 300], Dtype::F32),
        (&[200, 150], Dtype::F32),
        (&[9], Dtype::F16),
    ];
    let draw = |index: usize| {
        let (shape, dtype) = shapes[index];
        Key::new(index as u64).unwrap().uniform(-1.0, 1.0, shape).unwrap().cast(dtype).unwrap()
    };
    // Each function says which parameters have a gradient in that step.
    let sets: [fn(usize) -> bool; 6] =
        [|_| true, |_| true, |index| index % 2 == 0, |index| index != 4, |index| index == 8, |_| true];

    let options = AdamWOptions { weight_decay: 0.1, ..AdamWOptions::default() };
    let mut together: Tree = (0..shapes.len()).map(|index| Some(draw(index))).collect();
    let mut optimizer = AdamW::new(options);
    for (step, trains) in sets.iter().enumerate() {
        let gradients = gradients_in_step(&together, step as u64, trains);
        assert_eq!(gradients.len(), (0..shapes.len()).filter(|index| trains(*index)).count());
        optimizer.update(&mut together, &gradients, 0.01).unwrap();
        optimizer = AdamW::resume(options, &optimizer.state().unwrap()).unwrap();
    }
    let state = optimizer.state().unwrap();

    for index in 0..shapes.len() {
        // A further number has a gradient in every step, so that no step is without one.
        let last = shapes.len();
        let mut alone: Tree = vec![None; last];
        alone[index] = Some(draw(index));
        alone.push(Some(Tensor::zeros(&[], Dtype::F32).unwrap()));
        let mut optimizer = AdamW::new(options);
        for (step, trains) in sets.iter().enumerate() {
            // A step counts for the bias correction even if this parameter has no gradient in it.
            let trains = |found| found == last || found == index && trains(index);
            let gradients = gradients_in_step(&alone, step as u64, trains);
            optimizer.update(&mut alone, &gradients, 0.01).unwrap();
        }
        let (together, alone) = (together[index].as_ref().unwrap(), alone[index].as_ref().unwrap());
        assert_eq!((together.shape(), together.dtype()), shapes[index]);
        assert_eq!(together.to_bytes().unwrap(), alone.to_bytes().unwrap(), "parameter {index}");
        for moment in [format!("{index}.m"), format!("{index}.v")] {
            let expected = &optimizer.state().unwrap()[&moment];
            assert_eq!(state[&moment].shape(), expected.shape(), "{moment}");
            assert_eq!(state[&moment].to_bytes().unwrap(), expected.to_bytes().unwrap(), "{moment}");
        }
    }
}

/// Parameters lie side by side in one array after a step, and the next one takes it as it is, if it may.
#[test]
fn a_parameter_that_was_replaced_or_moved_steps_from_its_new_value() {
    let draw = |seed: u64| Key::new(seed).unwrap().uniform(-1.0, 1.0, &[3, 5]).unwrap();
    let changes: [(&str, fn(&mut Tree)); 5] = [
        ("nothing", |_| ()),
        ("two change places", |tree| tree.swap(0, 2)),
        ("one is another's copy", |tree| tree[1] = tree[2].as_ref().map(copy)),
        ("one is new", |tree| tree[1] = Some(Tensor::zeros(&[3, 5], Dtype::F32).unwrap())),
        ("all turn round", |tree| tree.reverse()),
    ];
    for (what, change) in changes {
        let mut found: Tree = (0..3).map(|seed| Some(draw(seed))).collect();
        let mut optimizer = AdamW::new(AdamWOptions::default());
        for step in 0..3 {
            change(&mut found);
            let mut expected: Tree = found.iter().map(|tensor| tensor.as_ref().map(copy)).collect();
            let gradients = gradients_in_step(&found, step, |_| true);
            let mut other = AdamW::resume(AdamWOptions::default(), &optimizer.state().unwrap()).unwrap();
            optimizer.update(&mut found, &gradients, 0.1).unwrap();
            let gradients = gradients.moved_to(&expected).unwrap();
            other.update(&mut expected, &gradients, 0.1).unwrap();
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let [found, expected] = [found, expected].map(|tensor| tensor.as_ref().unwrap().to_bytes().unwrap());
                assert_eq!(found, expected, "{what}, step {step}, parameter {index}");
            }
        }
    }
}

#[test]
fn the_norm_of_more_ones_than_float32_counts_is_exact() {
    let parameter: Tensor<Stored> = Tensor::zeros(&[1 << 13, 1 << 12], Dtype::F32).unwrap();
    let trainable = Trainable::new(&parameter, |_| true).unwrap();
    let sum = |parameter: &Tensor<_>, (): &()| parameter.sum_all();
    let (_, gradients) = value_and_grad(&mut Session::new().unwrap(), &parameter, &trainable, &(), sum).unwrap();
    assert_eq!(global_norm(&gradients).unwrap().item::<f32>().unwrap(), 2.0_f32.powf(12.5));
}

#[test]
fn gradients_of_another_model_are_refused_unless_it_is_said() {
    let (mine, mut other) = (pair(&[1.0], &[1.0]), pair(&[1.0], &[1.0]));
    let gradients = gradients_of(&mine, &[1.0], &[1.0]);
    let mut optimizer = AdamW::new(AdamWOptions::default());
    let error = optimizer.update(&mut other, &gradients, 0.1).unwrap_err().to_string();
    assert!(
        error.starts_with("`AdamW::update`: the gradient of `left` is of another model's") && error.ends_with("[C21]")
    );
    let moved = gradients.moved_to(&other).unwrap();
    assert!(optimizer.update(&mut other, &moved, 0.1).unwrap().applied().unwrap());
    // A parameter in another dtype, or after a step, is the same parameter.
    let (mut master, mut optimizer) = (mine, AdamW::new(AdamWOptions::default()));
    for _ in 0..2 {
        let half = Pair { left: master.left.cast(Dtype::BF16).unwrap(), right: master.right.clone() };
        optimizer.update(&mut master, &gradients_of(&half, &[1.0], &[1.0]), 0.1).unwrap();
    }
    assert!(gradients.moved_to(&master.left).is_err(), "no parameter of these names");
}

#[test]
fn an_optimizer_is_of_one_model_unless_its_state_is_taken_over() {
    let [mut mine, mut other] = [pair(&[1.0], &[1.0]), pair(&[1.0], &[1.0])];
    let mut optimizer = AdamW::new(AdamWOptions::default());
    let gradients = gradients_of(&mine, &[1.0], &[1.0]);
    optimizer.update(&mut mine, &gradients, 0.1).unwrap();
    let gradients = gradients_of(&other, &[1.0], &[1.0]);
    let error = optimizer.update(&mut other, &gradients, 0.1).unwrap_err().to_string();
    assert!(error.contains("what the optimizer keeps of `left` is of another model's") && error.ends_with("[C21]"));
    let mut resumed = AdamW::resume(AdamWOptions::default(), &optimizer.state().unwrap()).unwrap();
    assert!(resumed.update(&mut other, &gradients, 0.1).unwrap().applied().unwrap());
}

#[test]
fn a_learning_rate_that_is_no_size_of_a_step_is_refused() {
    let mut parameters = pair(&[1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    for rate in [f32::NAN, f32::INFINITY, -0.1] {
        let error =
            AdamW::new(AdamWOptions::default()).update(&mut parameters, &gradients, rate).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("`AdamW::update`: found a learning rate of {rate}, expected a finite number from 0 on")
        );
    }
}

#[test]
fn constants_that_a_rule_cannot_have_are_refused() {
    let adamw = AdamWOptions::default();
    let refused = |options: AdamWOptions| {
        let mut parameters = pair(&[1.0], &[1.0]);
        let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
        let mut optimizer = AdamW::new(adamw).with_group(options, ["right"]);
        optimizer.update(&mut parameters, &gradients, 0.1).err().map(|error| error.to_string())
    };
    for (options, expected) in [
        (AdamWOptions { beta1: 1.0, ..adamw }, "a beta1 of 1, expected 0 to below 1"),
        (AdamWOptions { beta2: 1.5, ..adamw }, "a beta2 of 1.5, expected 0 to below 1"),
        (AdamWOptions { epsilon: f32::NAN, ..adamw }, "an epsilon of NaN, expected a finite number above 0"),
        // An element whose gradient was always 0 would become 0 / 0.
        (AdamWOptions { epsilon: 0.0, ..adamw }, "an epsilon of 0, expected a finite number above 0"),
        (AdamWOptions { weight_decay: -0.5, ..adamw }, "a weight decay of -0.5, expected a finite number from 0 on"),
        (AdamWOptions { max_norm: Some(0.0), ..adamw }, "a largest norm of 0, expected a number above 0, or `None`"),
    ] {
        assert_eq!(refused(options), Some(format!("`AdamW::update`: found {expected}")));
    }
    assert_eq!(refused(AdamWOptions { beta1: 0.0, epsilon: 1e-30, max_norm: Some(f32::INFINITY), ..adamw }), None);

    let mut parameters = pair(&[1.0], &[1.0]);
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    let momentum = SgdOptions { momentum: 1.5, ..SgdOptions::default() };
    let error = Sgd::new(momentum).update(&mut parameters, &gradients, 0.1).unwrap_err();
    assert_eq!(error.to_string(), "`Sgd::update`: found a momentum of 1.5, expected 0 to below 1");
}

#[test]
fn gradients_are_used_once() {
    let mut parameters = pair(&[1.0], &[1.0]);
    let mut restored = Pair { left: parameters.left.clone(), right: parameters.right.clone() };
    let gradients = gradients_of(&parameters, &[1.0], &[1.0]);
    let mut optimizer = AdamW::new(AdamWOptions::default());
    optimizer.update(&mut parameters, &gradients, 0.1).unwrap();
    let error = optimizer.update(&mut parameters, &gradients, 0.1).unwrap_err().to_string();
    assert!(error.contains("the gradient of `left` was used in the last step") && error.ends_with("[C21]"), "{error}");
    // A step that is taken back can be taken again, and gradients can be moved on purpose.
    optimizer.update(&mut restored, &gradients, 0.1).unwrap();
    let moved = gradients.moved_to(&restored).unwrap();
    optimizer.update(&mut restored, &moved, 0.1).unwrap();
}

#[test]
fn an_update_without_gradients_is_refused() {
    let mut parameters = pair(&[1.0], &[1.0]);
    let error = AdamW::new(AdamWOptions::default()).update(&mut parameters, &Gradients::new(), 0.1).unwrap_err();
    assert!(error.to_string().contains("found no gradients") && error.to_string().ends_with("[C20]"), "{error}");
}
