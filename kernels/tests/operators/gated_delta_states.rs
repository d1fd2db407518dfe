//! States in between, against the recurrence.

use crate::cases::delta_rule::named;
use crate::cases::{Operator, TOLERANCE, assert_close, assert_gradients, assert_same_in_the_emulator, outputs, random};
use cotangent::{Graph, Indices, Result, Stored, Tensor};
use cotangent_kernels::{
    AcceptStateInputs, GatedDeltaStateInputs, GatedDeltaStepInputs, GatedDeltaWithStatesInputs, accept_state,
    gated_delta_state, gated_delta_steps, gated_delta_with_states,
};

/// Queries, keys, values, log gates, betas and the state, of two rows of five tokens.
fn draw() -> Vec<Tensor<Stored>> {
    let gates = |seed: u64, scale: f32, shift: f32| {
        let raw = random(seed, &[2, 5, 4], 1.0).to_vec::<f32>().unwrap();
        let values: Vec<f32> = raw.iter().map(|x| scale / (1.0 + (-x).exp()) + shift).collect();
        Tensor::from_slice(&values, &[2, 5, 4]).unwrap()
    };
    vec![
        random(1, &[2, 5, 2, 6], 0.4),
        random(2, &[2, 5, 2, 6], 0.4),
        random(3, &[2, 5, 4, 3], 1.0),
        gates(4, -1.0, 0.0),
        gates(5, 1.0, 0.0),
        random(6, &[2, 4, 3, 6], 0.5),
    ]
}

/// The states after each token, and what of it is under test.
#[derive(Clone)]
enum States {
    Each,
    EachByRows,
    After(Indices),
    AfterByRows(Vec<i32>),
}

/// The recurrence over the first tokens alone.
fn first<M: Graph>(inputs: &[Tensor<M>], tokens: i32) -> Result<[Tensor<M>; 2]> {
    let mut first: Vec<_> = inputs[..5].iter().map(|input| input.slice(1, 0, tokens)).collect::<Result<_>>()?;
    first.push(inputs[5].clone());
    let outputs = gated_delta_steps(named(&first))?;
    Ok([outputs.y, outputs.final_state])
}

impl Operator for States {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state } = named(inputs);
        match self {
            States::Each => {
                let outputs = gated_delta_with_states(GatedDeltaWithStatesInputs {
                    queries,
                    keys,
                    values,
                    log_decay,
                    beta,
                    initial_state: state,
                })?;
                Ok(vec![outputs.y, outputs.states])
            }
            States::EachByRows => {
                let states: Vec<_> =
                    (1..=5).map(|tokens| Ok(first(inputs, tokens)?[1].clone())).collect::<Result<_>>()?;
                Ok(vec![first(inputs, 5)?[0].clone(), Tensor::stack(&states.iter().collect::<Vec<_>>(), 1)?])
            }
            States::After(steps) => Ok(vec![gated_delta_state(GatedDeltaStateInputs {
                keys,
                values,
                log_decay,
                beta,
                initial_state: state,
                steps,
            })?]),
            States::AfterByRows(steps) => {
                let rows: Vec<_> = steps
                    .iter()
                    .enumerate()
                    .map(|(row, tokens)| {
                        let state = if *tokens == 0 { state.clone() } else { first(inputs, *tokens)?[1].clone() };
                        state.slice(0, row as i32, row as i32 + 1)
                    })
                    .collect::<Result<_>>()?;
                Ok(vec![Tensor::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?])
            }
        }
    }
}

#[test]
fn states_after_each_token_are_those_of_shorter_rows() {
    let cotangents = [random(7, &[2, 5, 4, 3], 1.0), random(8, &[2, 5, 4, 3, 6], 1.0)];
    assert_gradients(&States::Each, &States::EachByRows, &draw(), &cotangents, TOLERANCE);
}

#[test]
fn a_state_after_some_tokens_is_that_of_a_shorter_row() {
    for steps in [[0, 5], [1, 3], [5, 0]] {
        let indices = Indices::from_slice(&steps, &[2]).unwrap();
        let cotangents = [random(9, &[2, 4, 3, 6], 1.0)];
        let rows = States::AfterByRows(steps.to_vec());
        assert_gradients(&States::After(indices), &rows, &draw()[..], &cotangents, TOLERANCE);
    }
}

#[derive(Clone)]
struct Accept([i32; 3]);

impl Operator for Accept {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [states, read, state, window] = inputs else { panic!("four inputs") };
        let accepted = Indices::from_slice(&self.0, &[3])?;
        let outputs = accept_state(AcceptStateInputs {
            states,
            inputs: read,
            live_state: state,
            live_window: window,
            accepted: &accepted,
        })?;
        Ok(vec![outputs.state, outputs.window])
    }
}

#[test]
fn what_is_accepted_stays_and_a_row_that_accepts_nothing_is_as_it_was() {
    let inputs = vec![
        random(1, &[3, 4, 2, 3, 5], 1.0),
        random(2, &[3, 4 + 2, 7], 1.0),
        random(3, &[3, 2, 3, 5], 1.0),
        random(4, &[3, 2, 7], 1.0),
    ];
    let found = outputs(&Accept([0, 3, 4]), &inputs);
    let values = |index: usize| inputs[index].to_vec::<f32>().unwrap();
    let [states, read, live_state, live_window] = [0, 1, 2, 3].map(values);
    let state = [&states[..30], &states[(4 + 3) * 30..8 * 30], &live_state[60..]].concat();
    let window = [&read[7..3 * 7], &read[(6 + 4) * 7..(6 + 6) * 7], &live_window[28..]].concat();
    assert_close("state", &found[0], &Tensor::from_slice(&state, &[3, 2, 3, 5]).unwrap(), 0.0);
    assert_close("window", &found[1], &Tensor::from_slice(&window, &[3, 2, 7]).unwrap(), 0.0);
}

/// A process has one backend, so this is another process, where the texts run.
#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
