//! The state after the accepted tokens of a draft.

use cotangent::{Graph, Result, differentiable};

use super::by_operations::counts;

/// The state and the convolution's window after the accepted token of each row.
///
/// - `states`: after each of `T` tokens, as [`gated_delta_with_states`](fn@super::gated_delta_with_states) gives them;
/// - `inputs`: what the convolution read, its window of `W` tokens before the first included;
/// - `accepted`: the last accepted token, counted from 0; at `T` the row keeps `live_state` and `live_window`.
///
/// # Errors
/// Shapes or dtypes that do not fit.
#[differentiable(
    fallback = accept_by_operations,
    grid = (max(B * Hv * Dv * Dk, B * W * K), 1, 1),
    threads = (256, 1, 1),
    cases = [(B = 3, T = 5, Hv = 2, Dv = 3, Dk = 4, W = 3, K = 7), (B = 2, T = 1, Hv = 1, Dv = 1, Dk = 1, W = 2, K = 300)],
)]
pub fn accept_state<F: Float>(
    states: In![f32; B, T, Hv, Dv, Dk],
    inputs: In![F; B, T + W, K],
    live_state: In![f32; B, Hv, Dv, Dk],
    live_window: In![F; B, W, K],
    #[values(0..T + 1)] accepted: In![i32; B],
    state: Out![f32; B, Hv, Dv, Dk],
    window: Out![F; B, W, K],
) {
    metal! {
        const uint i = thread_position_in_grid.x;
        const uint of_state = Hv * Dv * Dk;
        const uint of_window = W * K;
        if (i < B * of_state) {
            const uint row = i / of_state;
            const uint token = accepted[row];
            state[i] = token < uint(T) ? states[(row * T + token) * of_state + i % of_state] : live_state[i];
        }
        if (i < B * of_window) {
            const uint row = i / of_window;
            const uint token = accepted[row];
            window[i] = token < uint(T) ? inputs[(row * (T + W) + token + 1) * K + i % of_window] : live_window[i];
        }
    }
}

fn accept_by_operations<M: Graph>(inputs: AcceptStateInputs<'_, M>) -> Result<AcceptStateOutputs<M>> {
    let AcceptStateInputs { states, inputs, live_state, live_window, accepted } = inputs;
    let (tokens, width) = (states.dimension(1), live_window.dimension(1));
    let of_state = counts::<M>(accepted, live_state.rank())?;
    let of_window = counts::<M>(accepted, live_window.rank())?;
    let (mut state, mut window) = (live_state.clone(), live_window.clone());
    for token in 0..tokens {
        // The last step whose comparison holds is the accepted token.
        let before = token as f32 - 0.5;
        state = states.slice(1, token, token + 1)?.squeeze(1)?.select(&of_state.greater(before)?, &state)?;
        window = inputs.slice(1, token + 1, token + 1 + width)?.select(&of_window.greater(before)?, &window)?;
    }
    let all = tokens as f32 - 0.5;
    Ok(AcceptStateOutputs {
        state: live_state.select(&of_state.greater(all)?, &state)?,
        window: live_window.select(&of_window.greater(all)?, &window)?,
    })
}
