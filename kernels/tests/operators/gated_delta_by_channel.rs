//! A gate for each channel: in chunks, token by token, against float64, against finite differences, and beside a gate for
//! each head.

use crate::cases::delta_rule::{Packed, cotangents, named, named_by_channel, with_gates_of_channels as draw};
use crate::cases::{
    Case, Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, assert_gradients,
    assert_same_bits_again, assert_same_in_the_emulator, gradients, outputs,
};
use cotangent::{Constant, Graph, Result, Stored, Tensor};
use cotangent_kernels::delta_rule::{GatedDeltaInOperationsInputs, gated_delta_in_operations};
use cotangent_kernels::{
    GatedDeltaByChannelInputs, GatedDeltaByChannelStepInputs, gated_delta_by_channel, gated_delta_by_channel_step,
    gated_delta_by_channel_steps, gated_delta_steps,
};

#[derive(Clone, Copy)]
enum Form {
    /// The backend's own form, with chunks of the given number of tokens.
    Default(usize),
    /// The form in operations.
    Chunked(usize),
    Steps,
    /// The step of a single token.
    Step,
}

/// Inputs: queries, keys, values, log gates `[B, T, Hv, Dk]`, betas and the state.
fn by_channel<M: Graph>(inputs: &[Tensor<M>], form: Form) -> Result<Vec<Tensor<M>>> {
    let GatedDeltaByChannelStepInputs { queries, keys, values, log_decay, beta, state } = named_by_channel(inputs);
    let outputs = match form {
        Form::Default(chunk) => gated_delta_by_channel(GatedDeltaByChannelInputs {
            queries,
            keys,
            values,
            log_decay,
            beta,
            initial_state: state,
            chunk,
        })?,
        Form::Steps => gated_delta_by_channel_steps(named_by_channel(inputs))?,
        Form::Step => {
            let outputs = gated_delta_by_channel_step(named_by_channel(inputs))?;
            return Ok(vec![outputs.y, outputs.final_state]);
        }
        Form::Chunked(chunk) => {
            let outputs = gated_delta_in_operations(GatedDeltaInOperationsInputs {
                queries,
                keys,
                values,
                log_decay,
                beta,
                initial_state: state,
                chunk,
            })?;
            return Ok(vec![outputs.y, outputs.final_state]);
        }
    };
    Ok(vec![outputs.y, outputs.final_state])
}

impl Operator for Form {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        by_channel(inputs, *self)
    }
}

/// The reference's form: decays, not their logarithms, and a mask.
#[derive(Clone)]
struct OfDecays {
    form: Form,
    mask: Option<(Constant, Constant)>,
}

impl Operator for OfDecays {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let mut inputs = inputs.to_vec();
        inputs[3] = inputs[3].log()?;
        if let Some((of_heads, of_channels)) = &self.mask {
            inputs[3] = inputs[3].multiply(of_channels)?;
            inputs[4] = inputs[4].multiply(of_heads)?;
        }
        let mut outputs = by_channel(&inputs, self.form)?;
        if let Some((_, of_channels)) = &self.mask {
            outputs[0] = outputs[0].multiply(of_channels)?;
        }
        Ok(outputs)
    }
}

fn check(case: &Case<'_>, form: Form) {
    let mask = case.has_input("mask").then(|| {
        let mask: Vec<f32> = case.integers("mask").into_iter().map(|counts| counts as f32).collect();
        let &[batch, time] = case.input("mask").shape() else { panic!("a mask of rows and tokens") };
        let shaped = |shape: &[i32]| Constant::from_slice(&mask, shape).expect("a value a token");
        (shaped(&[batch, time, 1]), shaped(&[batch, time, 1, 1]))
    });
    case.check(&OfDecays { form, mask }, &["q", "k", "v", "g", "beta", "state"], &["y", "state"], TOLERANCE);
}

#[test]
fn gates_of_channels_match_the_reference() {
    for case in Cases::operators().all("delta.vector.") {
        for form in [Form::Default(16), Form::Default(64), Form::Chunked(8), Form::Chunked(64), Form::Steps] {
            check(&case, form);
        }
    }
}

/// The backend's form, and operations, with chunks of several lengths. On a CPU both are operations.
const FORMS: [Form; 4] = [Form::Default(16), Form::Default(64), Form::Chunked(8), Form::Chunked(32)];

/// The input of this index, changed token by token: `change(values, row, token)` of each token's numbers.
fn changed(inputs: &mut [Tensor<Stored>], index: usize, change: impl Fn(&mut [f32], usize)) {
    let shape = inputs[index].shape().to_vec();
    let mut values = inputs[index].to_vec::<f32>().expect("floats");
    let width = shape[2..].iter().product::<i32>() as usize;
    values.chunks_mut(width).enumerate().for_each(|(token, values)| change(values, token % shape[1] as usize));
    inputs[index] = Tensor::from_slice(&values, &shape).expect("the same shape");
}

#[test]
fn chunks_agree_with_steps_at_any_size() {
    for sizes in [
        [1, 1, 1, 1, 4, 4],
        [2, 8, 1, 3, 4, 8],
        [1, 9, 2, 2, 5, 3],
        [3, 31, 1, 2, 8, 8],
        [1, 64, 2, 4, 16, 8],
        [2, 65, 2, 2, 8, 24],
        [1, 150, 1, 2, 32, 32],
    ] {
        for form in FORMS {
            assert_gradients(&form, &Form::Steps, &draw(sizes), &cotangents(sizes), TOLERANCE);
        }
    }
}

#[test]
fn a_single_step_is_a_row_of_one_token() {
    let sizes = [2, 1, 2, 4, 8, 8];
    for form in FORMS {
        assert_gradients(&form, &Form::Step, &draw(sizes), &cotangents(sizes), TOLERANCE);
    }
}

#[test]
fn results_are_equal_bit_by_bit_from_run_to_run() {
    let sizes = [2, 70, 2, 4, 16, 16];
    for form in FORMS {
        assert_same_bits_again(&form, &draw(sizes), &cotangents(sizes));
    }
}

#[test]
fn the_gradient_agrees_with_finite_differences() {
    for form in [Form::Chunked(8), Form::Chunked(16)] {
        assert_finite_differences(&form, &draw([1, 19, 1, 2, 6, 4]), 2e-3);
    }
}

/// Channels that share their gate are heads with a gate.
#[derive(Clone)]
enum Shared {
    Heads,
    Channels(Form),
}

impl Operator for Shared {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        match self {
            Shared::Heads => {
                let outputs = gated_delta_steps(named(inputs))?;
                Ok(vec![outputs.y, outputs.final_state])
            }
            Shared::Channels(form) => {
                let mut inputs = inputs.to_vec();
                inputs[3] = inputs[3].expand_dims(3)?.repeat(inputs[1].dimension(3), 3)?;
                by_channel(&inputs, *form)
            }
        }
    }
}

#[test]
fn channels_that_share_their_gate_are_a_head_with_one() {
    let sizes = [2, 45, 2, 4, 8, 8];
    let mut inputs = draw(sizes);
    let first: Vec<f32> = inputs[3].to_vec::<f32>().unwrap().into_iter().step_by(8).collect();
    inputs[3] = Tensor::from_slice(&first, &[2, 45, 4]).unwrap();
    for form in FORMS {
        assert_gradients(&Shared::Channels(form), &Shared::Heads, &inputs, &cotangents(sizes), TOLERANCE);
    }
}

/// Sums of these log gates are beyond what float32 has exponentials for, in one channel, beside a channel that forgets
/// nothing: whatever divides by a decay, or takes differences of sums, is not finite or has no digits here.
#[test]
fn shut_gates_are_as_exact_as_open_ones() {
    let sizes = [2, 70, 1, 2, 8, 8];
    type Gates = fn(usize, usize) -> f32;
    let patterns: [(&str, Gates); 6] = [
        ("a document begins", |token, _| if token == 37 { -1e4 } else { -0.3 }),
        ("a document begins where a chunk does", |token, _| if token % 32 == 0 { -1e4 } else { -0.3 }),
        ("fifty at every token", |_, _| -50.0),
        ("fifty at every token of a channel, nothing at others", |_, channel| if channel == 2 { -50.0 } else { 0.0 }),
        ("all kinds in turn", |token, channel| [0.0, -50.0, -1e-3, -1e4, -2.0][(token + channel) % 5]),
        ("everything forgotten at every token", |_, _| f32::NEG_INFINITY),
    ];
    for (what, gate) in patterns {
        let mut inputs = draw(sizes);
        changed(&mut inputs, 3, |gates, token| {
            gates.iter_mut().enumerate().for_each(|(channel, value)| *value = gate(token, channel % 8));
        });
        for form in FORMS {
            println!("{what}");
            for tensor in [outputs(&form, &inputs), gradients(&form, &inputs, &cotangents(sizes))].concat() {
                assert!(tensor.to_vec::<f32>().unwrap().iter().all(|value| value.is_finite()), "{what}");
            }
            assert_gradients(&form, &Form::Steps, &inputs, &cotangents(sizes), TOLERANCE);
        }
    }
}

/// The gradient is tiny if every gate of a channel is nearly shut, and right in proportion to itself.
#[test]
fn the_gradient_of_a_shut_gate_keeps_its_digits() {
    let sizes = [1, 40, 1, 1, 4, 4];
    let mut inputs = draw(sizes);
    changed(&mut inputs, 3, |gates, _| gates.copy_from_slice(&[-20.0, -20.0, -20.0, -0.1]));
    let of_gates = |form: Form| gradients(&form, &inputs, &cotangents(sizes))[3].to_vec::<f32>().unwrap();
    let expected = of_gates(Form::Steps);
    for form in FORMS {
        for (at, (found, expected)) in of_gates(form).iter().zip(&expected).enumerate().filter(|(at, _)| at % 4 != 3) {
            assert!(expected.abs() < 1e-7, "element {at}: a gate that is nearly shut, not {expected:e}");
            let difference = (found - expected).abs();
            assert!(difference <= 1e-4 * expected.abs() + 1e-13, "element {at}: {found:e} for {expected:e}");
        }
    }
}

#[test]
fn a_token_without_gate_and_beta_leaves_the_state_alone() {
    let sizes = [1, 40, 1, 2, 8, 8];
    let mut inputs = draw(sizes);
    let counts = |token: usize| !(20..33).contains(&token);
    for index in [3, 4] {
        changed(&mut inputs, index, |values, token| {
            if !counts(token) {
                values.fill(0.0);
            }
        });
    }
    let shortened: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            if index == 5 {
                return input.clone();
            }
            let width = input.shape()[2..].iter().product::<i32>() as usize;
            let values = input.to_vec::<f32>().unwrap();
            let kept = values.chunks(width).enumerate().filter(|(token, _)| counts(*token));
            let kept: Vec<f32> = kept.flat_map(|(_, values)| values.to_vec()).collect();
            let shape = [&[1, 27], &input.shape()[2..]].concat();
            Tensor::from_slice(&kept, &shape).unwrap()
        })
        .collect();
    for form in FORMS {
        let (found, expected) = (outputs(&form, &inputs), outputs(&Form::Steps, &shortened));
        assert_close("state", &found[1], &expected[1], TOLERANCE);
    }
}

#[test]
fn packed_documents_do_not_see_each_other() {
    let sizes = [2, 70, 1, 2, 8, 8];
    let packed = |chunk, together| Packed { documents: vec![vec![20, 1, 40], vec![33, 36]], chunk, together };
    for chunk in [16, 32, 64] {
        let (together, alone) = (packed(chunk, true), packed(chunk, false));
        assert_gradients(&together, &alone, &draw(sizes), &cotangents(sizes), TOLERANCE);
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    #[derive(Clone)]
    struct Refused;
    impl Operator for Refused {
        fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
            let mut gates = inputs.to_vec();
            gates[3] = gates[3].slice(3, 0, 3)?;
            let says = |result: Result<Vec<Tensor<M>>>| match result {
                Ok(_) => panic!("sizes that do not fit"),
                Err(error) => error.to_string(),
            };
            for form in [Form::Default(8), Form::Chunked(8), Form::Steps] {
                let message = says(by_channel(&gates, form));
                let names_it = message.contains("port `log_decay`: found") && message.contains("[1, 9, 2, 3]");
                assert!(names_it, "{message}");
            }
            let message = says(by_channel(inputs, Form::Chunked(12)));
            assert!(message.contains("found chunks of 12 tokens, expected a power of two"), "{message}");
            by_channel(inputs, Form::Default(8))
        }
    }
    outputs(&Refused, &draw([1, 9, 1, 2, 4, 4]));
}

/// There tiles compute what operations do here.
#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
