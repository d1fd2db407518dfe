//! The states in between, for speculative decoding: those after every token, and the one after a number of tokens.

use cotangent::{Graph, Result, Tensor, differentiable};

use super::by_operations::{Recurrence, counts};
use super::run::{RunTokensInputs, run_tokens};
use crate::delta_rule::geometry::Gates;

/// [`gated_delta`](fn@crate::gated_delta) token by token, with the state after each: `states` `[B, T, Hv, Dv, Dk]`, whose
/// last is the final state. For the few tokens that a draft proposes.
///
/// # Errors
/// Shapes or dtypes that do not fit.
#[differentiable(
    fallback = with_states_by_operations,
    stages = [run_tokens],
    requires = [T >= 1, Hk >= 1, Hv % Hk == 0],
    cases = [(B = 2, T = 1, Hk = 1, Hv = 1, Dk = 4, Dv = 5), (B = 1, T = 5, Hk = 2, Hv = 4, Dk = 5, Dv = 3)],
)]
pub fn gated_delta_with_states<F: Float, G: Float>(
    queries: In![F; B, T, Hk, Dk],
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    y: Out![F; B, T, Hv, Dv],
    states: Out![f32; B, T, Hv, Dv, Dk],
) {
    let run = run_tokens(
        stages,
        RunTokensInputs { queries, keys, values, log_decay, beta, initial_state, steps: None, every: 1 },
    )?;
    // A token begins with the state that the token before it ends with.
    let last = run.final_state.expand_dims(2)?;
    let states = Tensor::concatenate(&[&run.entry_states.slice(2, 1, T)?, &last], 2)?;
    Ok(Outputs { y: run.y, states: states.transpose(&[0, 2, 1, 3, 4])? })
}

fn with_states_by_operations<M: Graph>(
    inputs: GatedDeltaWithStatesInputs<'_, M>,
) -> Result<GatedDeltaWithStatesOutputs<M>> {
    let GatedDeltaWithStatesInputs { queries, keys, values, log_decay, beta, initial_state } = inputs;
    let recurrence = Recurrence::new([queries, keys, values, log_decay, beta, initial_state], Gates::OfHeads)?;
    let steps = recurrence.run()?;
    let outputs: Vec<_> = steps.iter().map(|step| &step.y).collect();
    let states: Vec<_> = steps.iter().map(|step| &step.final_state).collect();
    Ok(GatedDeltaWithStatesOutputs { y: Tensor::concatenate(&outputs, 1)?, states: Tensor::stack(&states, 1)? })
}

/// The state after the first `steps[b]` of `T` tokens of each row, without outputs: a rollback to what was accepted.
///
/// # Errors
/// Shapes or dtypes that do not fit.
#[differentiable(
    fallback = state_by_operations,
    stages = [run_tokens],
    requires = [T >= 1, Hk >= 1, Hv % Hk == 0],
    cases = [(B = 2, T = 1, Hk = 1, Hv = 1, Dk = 4, Dv = 5), (B = 3, T = 5, Hk = 2, Hv = 4, Dk = 5, Dv = 3)],
)]
pub fn gated_delta_state<F: Float, G: Float>(
    keys: In![F; B, T, Hk, Dk],
    values: In![F; B, T, Hv, Dv],
    #[values(-2.0..0.0)] log_decay: In![f32; B, T, Hv],
    #[values(0.0..1.0)] beta: In![G; B, T, Hv],
    initial_state: In![f32; B, Hv, Dv, Dk],
    #[values(0..T + 1)] steps: In![i32; B],
    state: Out![f32; B, Hv, Dv, Dk],
) {
    let run = run_tokens(
        stages,
        RunTokensInputs {
            queries: keys,
            keys,
            values,
            log_decay,
            beta,
            initial_state,
            steps: Some(steps),
            every: T as usize,
        },
    )?;
    Ok(Outputs { state: run.final_state })
}

fn state_by_operations<M: Graph>(inputs: GatedDeltaStateInputs<'_, M>) -> Result<Tensor<M>> {
    let GatedDeltaStateInputs { keys, values, log_decay, beta, initial_state, steps } = inputs;
    let recurrence = Recurrence::new([keys, keys, values, log_decay, beta, initial_state], Gates::OfHeads)?;
    let steps = counts::<M>(steps, initial_state.rank())?;
    let mut state = initial_state.clone();
    for (t, step) in recurrence.run()?.iter().enumerate() {
        // A token that does not count comes after all that do, so its change of the state is never seen.
        state = step.final_state.select(&steps.greater(t as f32)?, &state)?;
    }
    Ok(state)
}
