//! The recurrence as it is written: token by token. The reference of the chunked form, and the step of generation.

use cotangent::{Dtype, Graph, Result, Tensor};

use super::GatedDeltaOutputs;
use super::geometry::Geometry;

/// [`gated_delta`](fn@super::gated_delta) token by token, in differentiable operations: slow, and easy to believe.
///
/// # Errors
/// As [`gated_delta`](fn@super::gated_delta).
pub fn gated_delta_steps<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    log_decay: &Tensor<M>,
    beta: &Tensor<M>,
    initial_state: &Tensor<M>,
) -> Result<GatedDeltaOutputs<M>> {
    let geometry = Geometry::of([queries, keys, values, log_decay, beta, initial_state])?;
    let mut state = initial_state.clone();
    let mut outputs = Vec::new();
    for t in 0..geometry.time {
        let at = |tensor: &Tensor<M>| tensor.slice(1, t, t + 1);
        let step = step(&geometry, [&at(queries)?, &at(keys)?, &at(values)?, &at(log_decay)?, &at(beta)?], &state)?;
        outputs.push(step.y);
        state = step.final_state;
    }
    let y = Tensor::concatenate(&outputs.iter().collect::<Vec<_>>(), 1)?;
    Ok(GatedDeltaOutputs { y, final_state: state })
}

/// [`gated_delta`](fn@super::gated_delta) of a single token (T = 1), as generation needs it.
///
/// # Errors
/// As [`gated_delta`](fn@super::gated_delta), and more than one token.
pub fn gated_delta_step<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    log_decay: &Tensor<M>,
    beta: &Tensor<M>,
    state: &Tensor<M>,
) -> Result<GatedDeltaOutputs<M>> {
    let geometry = Geometry::of([queries, keys, values, log_decay, beta, state])?;
    geometry.require_single_token()?;
    step(&geometry, [queries, keys, values, log_decay, beta], state)
}

/// `S~ = g S; delta = beta (v - S~ k); S' = S~ + delta k^T; y = S' q`
/// (Yang, Kautz & Hatamizadeh 2024, "Gated Delta Networks", eq. 10, with the state transposed).
fn step<M: Graph>(
    geometry: &Geometry,
    [queries, keys, values, log_decay, beta]: [&Tensor<M>; 5],
    state: &Tensor<M>,
) -> Result<GatedDeltaOutputs<M>> {
    let Geometry { batch, value_heads, key_dim, value_dim, .. } = *geometry;
    let float = |tensor: &Tensor<M>, shape: &[i32]| tensor.cast(Dtype::F32)?.reshape(shape);
    let of_key_heads =
        |tensor: &Tensor<M>| float(&tensor.repeat(geometry.group(), 2)?, &[batch, value_heads, key_dim, 1]);
    let query = of_key_heads(queries)?;
    let key = of_key_heads(keys)?;
    let value = float(values, &[batch, value_heads, value_dim, 1])?;
    let decay = float(log_decay, &[batch, value_heads, 1, 1])?.exp()?;
    let beta = float(beta, &[batch, value_heads, 1, 1])?;

    let decayed = state.multiply(&decay)?;
    let delta = value.subtract(&decayed.matmul(&key)?)?.multiply(&beta)?;
    let state = decayed.add(&delta.multiply(&key.swap_axes(-2, -1)?)?)?;
    let y = state.matmul(&query)?.reshape(&[batch, 1, value_heads, value_dim])?.cast(values.dtype())?;
    Ok(GatedDeltaOutputs { y, final_state: state })
}
