//! The gated delta rule in chunks: against float64, against the recurrence token by token, against finite differences.

use crate::cases::delta_rule::{Packed, cotangents, named, with_gates_of_heads as draw};
use crate::cases::{
    Case, Cases, Operator, TOLERANCE, assert_close, assert_finite_differences, assert_gradients,
    assert_same_bits_again, assert_same_in_the_emulator, outputs,
};
use cotangent::{Backend, Constant, Dtype, Graph, Result, Tensor};
use cotangent_kernels::{
    GatedDeltaInputs, GatedDeltaOutputs, GatedDeltaStepInputs, gated_delta, gated_delta_step, gated_delta_steps, gates,
    l2norm,
};

/// The tolerance for similar keys, shut gates and long rows.
const STRESS_TOLERANCE: f32 = 5e-5;

/// The lengths of chunks that backends use, and a longer one, which tiles take for their longest.
fn chunks() -> &'static [usize] {
    if cotangent::backend().expect("a backend") == Backend::Cpu { &[32, 64, 128] } else { &[32, 128] }
}
/// The chunk where its length does not matter.
const CHUNK: usize = 32;

#[derive(Clone, Copy)]
enum Form {
    /// The rule in chunks of the given number of tokens.
    Chunked(usize),
    Steps,
}

/// Inputs: queries, keys, values, gate, beta and, unless it starts from zero, the state.
#[derive(Clone)]
struct GatedDelta {
    form: Form,
    /// Whether the gate is the logarithm of the decay, or the decay itself.
    log_gate: bool,
    /// 1 for tokens that count, 0 for those that leave the state alone: `[B, T, 1]`, and `[B, T, 1, 1]` for outputs.
    mask: Option<(Constant, Constant)>,
}

impl GatedDelta {
    const CHUNKED: GatedDelta = GatedDelta { form: Form::Chunked(CHUNK), log_gate: true, mask: None };
    const STEPS: GatedDelta = GatedDelta { form: Form::Steps, ..GatedDelta::CHUNKED };
}

impl Operator for GatedDelta {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [queries, keys, values, gate, beta, state @ ..] = inputs else { panic!("at least five inputs") };
        let masked =
            |tensor: &Tensor<M>| self.mask.as_ref().map_or(Ok(tensor.clone()), |(mask, _)| tensor.multiply(mask));
        let log_decay = masked(&if self.log_gate { gate.clone() } else { gate.log()? })?;
        let beta = masked(beta)?;
        let state = match state {
            [state] => state.clone(),
            _ => zero_state(keys, values)?,
        };
        let outputs = match self.form {
            Form::Chunked(chunk) => gated_delta(GatedDeltaInputs {
                queries,
                keys,
                values,
                log_decay: &log_decay,
                beta: &beta,
                initial_state: &state,
                chunk,
            })?,
            Form::Steps => gated_delta_steps(GatedDeltaStepInputs {
                queries,
                keys,
                values,
                log_decay: &log_decay,
                beta: &beta,
                state: &state,
            })?,
        };
        let y = match &self.mask {
            Some((_, mask)) => outputs.y.multiply(mask)?,
            None => outputs.y,
        };
        Ok(vec![y, outputs.final_state])
    }
}

fn zero_state<M: Graph>(keys: &Tensor<M>, values: &Tensor<M>) -> Result<Tensor<M>> {
    let shape = [values.dimension(0), values.dimension(2), values.dimension(3), keys.dimension(3)];
    Ok(Constant::full(&shape, 0.0, Dtype::F32)?.to_tensor())
}

fn check(case: &Case<'_>, form: Form, log_gate: bool, tolerance: f32) {
    let gate = if log_gate { "lg" } else { "g" };
    let mut inputs = vec!["q", "k", "v", gate, "beta"];
    if case.has_input("state") {
        inputs.push("state");
    }
    let mask = case.has_input("mask").then(|| {
        let mask: Vec<f32> = case.integers("mask").into_iter().map(|counts| counts as f32).collect();
        let &[batch, time] = case.input("mask").shape() else { panic!("a mask of rows and tokens") };
        let shaped = |shape: &[i32]| Constant::from_slice(&mask, shape).expect("a value a token");
        (shaped(&[batch, time, 1]), shaped(&[batch, time, 1, 1]))
    });
    case.check(&GatedDelta { form, log_gate, mask }, &inputs, &["y", "state"], tolerance);
}

#[test]
fn chunks_match_the_reference() {
    for case in Cases::operators().all("delta.scalar.") {
        for &chunk in chunks() {
            check(&case, Form::Chunked(chunk), false, TOLERANCE);
        }
    }
}

#[test]
fn steps_match_the_reference() {
    for case in Cases::operators().all("delta.scalar.") {
        check(&case, Form::Steps, false, TOLERANCE);
    }
}

#[test]
fn chunks_match_the_reference_where_it_is_hard() {
    for case in Cases::stress().all("delta.stress.") {
        for &chunk in chunks() {
            check(&case, Form::Chunked(chunk), true, STRESS_TOLERANCE);
        }
    }
}

/// The core of the block: normalised queries and keys, gates from their logits.
#[derive(Clone)]
struct Full;

impl Operator for Full {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let [queries, keys, values, a, b, a_log, dt_bias] = inputs else { panic!("seven inputs") };
        let scale = (queries.dimension(-1) as f32).sqrt().recip();
        let gates = gates(a, b, a_log, dt_bias)?;
        let outputs = gated_delta(GatedDeltaInputs {
            queries: &l2norm(queries, scale, 1e-6)?,
            keys: &l2norm(keys, 1.0, 1e-6)?,
            values,
            log_decay: &gates.log_decay,
            beta: &gates.beta,
            initial_state: &zero_state(keys, values)?,
            chunk: CHUNK,
        })?;
        Ok(vec![outputs.y, outputs.final_state])
    }
}

#[test]
fn the_core_of_the_block_matches_the_reference() {
    let inputs = ["q", "k", "v", "a", "b", "A_log", "dt_bias"];
    Cases::operators().case("gated_delta_full").check(&Full, &inputs, &["y", "state"], TOLERANCE);
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
        [1, 200, 1, 2, 32, 32],
    ] {
        assert_gradients(&GatedDelta::CHUNKED, &GatedDelta::STEPS, &draw(sizes), &cotangents(sizes), TOLERANCE);
    }
}

#[test]
fn the_gradient_agrees_with_finite_differences() {
    assert_finite_differences(&GatedDelta::CHUNKED, &draw([1, 11, 1, 2, 6, 4]), 2e-3);
}

#[test]
fn results_are_equal_bit_by_bit_from_run_to_run() {
    let sizes = [2, 70, 2, 4, 16, 16];
    assert_same_bits_again(&GatedDelta::CHUNKED, &draw(sizes), &cotangents(sizes));
}

#[test]
fn a_row_may_be_cut_anywhere_and_go_on_from_its_state() {
    let sizes = [1, 90, 1, 2, 8, 8];
    let cut = 37;
    let whole = outputs(&GatedDelta::CHUNKED, &draw(sizes));

    #[derive(Clone)]
    struct InTwo(i32);
    impl Operator for InTwo {
        fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
            let part = |start: i32, end: i32, state: &Tensor<M>| {
                let at = |index: usize| inputs[index].slice(1, start, end);
                gated_delta(GatedDeltaInputs {
                    queries: &at(0)?,
                    keys: &at(1)?,
                    values: &at(2)?,
                    log_decay: &at(3)?,
                    beta: &at(4)?,
                    initial_state: state,
                    chunk: CHUNK,
                })
            };
            let first = part(0, self.0, &inputs[5])?;
            let second = part(self.0, inputs[0].dimension(1), &first.final_state)?;
            Ok(vec![Tensor::concatenate(&[&first.y, &second.y], 1)?, second.final_state])
        }
    }
    for (found, expected) in outputs(&InTwo(cut), &draw(sizes)).iter().zip(&whole) {
        assert_close("cut in two", found, expected, TOLERANCE);
    }
}

#[test]
fn a_single_step_is_a_row_of_one_token() {
    #[derive(Clone)]
    struct Step;
    impl Operator for Step {
        fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
            let outputs = gated_delta_step(named(inputs))?;
            Ok(vec![outputs.y, outputs.final_state])
        }
    }
    let sizes = [2, 1, 2, 4, 8, 8];
    assert_gradients(&GatedDelta::CHUNKED, &Step, &draw(sizes), &cotangents(sizes), TOLERANCE);
}

#[test]
fn half_precision_is_only_at_the_edges() {
    #[derive(Clone)]
    struct Narrow;
    impl Operator for Narrow {
        fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
            let narrow = |index: usize| inputs[index].cast(Dtype::BF16);
            let outputs = gated_delta(GatedDeltaInputs {
                queries: &narrow(0)?,
                keys: &narrow(1)?,
                values: &narrow(2)?,
                log_decay: &inputs[3],
                beta: &inputs[4],
                initial_state: &inputs[5],
                chunk: CHUNK,
            })?;
            assert_eq!((outputs.y.dtype(), outputs.final_state.dtype()), (Dtype::BF16, Dtype::F32));
            Ok(vec![outputs.y.cast(Dtype::F32)?, outputs.final_state])
        }
    }
    // bfloat16 holds these inputs exactly, so only results are rounded, to 8 bits.
    let sizes = [1, 40, 1, 2, 8, 8];
    let inputs: Vec<_> = draw(sizes)
        .iter()
        .enumerate()
        .map(|(index, input)| match index {
            3..=5 => input.clone(),
            _ => input.cast(Dtype::BF16).and_then(|narrow| narrow.cast(Dtype::F32)).expect("a cast"),
        })
        .collect();
    assert_gradients(&Narrow, &GatedDelta::STEPS, &inputs, &cotangents(sizes), 1.0 / 128.0);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    #[derive(Clone)]
    struct Refused;
    impl Operator for Refused {
        fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
            let GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state } = named(inputs);
            let narrow = log_decay.cast(Dtype::BF16)?;
            let of_three = |tensor: &Tensor<M>, axis: i32| tensor.slice(axis, 0, 3);
            let right = GatedDeltaInputs { queries, keys, values, log_decay, beta, initial_state: state, chunk: CHUNK };
            for (result, says) in [
                (gated_delta(GatedDeltaInputs { log_decay: &narrow, ..right }), "port `log_decay`: found bfloat16"),
                (gated_delta(GatedDeltaInputs { beta: &state.slice(0, 0, 1)?, ..right }), "port `beta`: found shape"),
                (
                    gated_delta(GatedDeltaInputs { queries: &queries.slice(1, 0, 2)?, ..right }),
                    "port `keys`: found shape",
                ),
                (
                    gated_delta_step(named(inputs))
                        .map(|outputs| GatedDeltaOutputs { y: outputs.y, final_state: outputs.final_state }),
                    "port `queries`: found shape [1, 3, 2, 8], expected [B, 1, Hk, Dk]",
                ),
                (
                    gated_delta(GatedDeltaInputs {
                        queries,
                        keys,
                        values: &of_three(values, 2)?,
                        log_decay: &of_three(log_decay, 2)?,
                        beta: &of_three(beta, 2)?,
                        initial_state: &of_three(state, 1)?,
                        chunk: CHUNK,
                    }),
                    "found 2 heads, expected a divisor of the 3",
                ),
            ] {
                let message = result.err().expect("an error").to_string();
                assert!(message.contains(says), "{message}");
            }
            Ok(vec![])
        }
    }
    outputs(&Refused, &draw([1, 3, 2, 4, 8, 8]));
}

#[test]
fn packed_documents_do_not_see_each_other() {
    let sizes = [2, 70, 1, 2, 8, 8];
    let packed = |together| Packed { documents: vec![vec![20, 1, 40], vec![33, 36]], chunk: CHUNK, together };
    assert_gradients(&packed(true), &packed(false), &draw(sizes), &cotangents(sizes), TOLERANCE);
}

/// A process has one backend, so this is another process, where the tiles of a GPU compute what operations do here.
#[test]
fn the_same_holds_in_the_emulator() {
    assert_same_in_the_emulator(module_path!(), &[]);
}
