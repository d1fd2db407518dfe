//! Inputs of the gated delta rule, and rows of several documents.

use cotangent::{Constant, Dtype, Graph, Result, Stored, Tensor};
use cotangent_kernels::{
    Documents, GatedDeltaByChannelInputs, GatedDeltaByChannelStepInputs, GatedDeltaInputs, GatedDeltaStepInputs,
    gated_delta_by_channel_of_documents, gated_delta_by_channel_steps, gated_delta_of_documents, gated_delta_steps,
};

use super::{Operator, random};

/// Batch, tokens, key heads, value heads, key dimension, value dimension.
pub type Sizes = [i32; 6];

/// Queries, keys, values, log gates `[B, T, Hv]`, betas and the state.
pub fn with_gates_of_heads(sizes: Sizes) -> Vec<Tensor<Stored>> {
    let [batch, time, _, value_heads, ..] = sizes;
    draw(sizes, &[batch, time, value_heads])
}

/// Inputs with log gates `[B, T, Hv, Dk]`.
pub fn with_gates_of_channels(sizes: Sizes) -> Vec<Tensor<Stored>> {
    let [batch, time, _, value_heads, key_dim, _] = sizes;
    draw(sizes, &[batch, time, value_heads, key_dim])
}

/// Unit keys, scaled unit queries, gates between .37 and 1, betas between 0 and 1.
fn draw([batch, time, key_heads, value_heads, key_dim, value_dim]: Sizes, of_gates: &[i32]) -> Vec<Tensor<Stored>> {
    let mapped = |tensor: Tensor<Stored>, map: &dyn Fn(&mut [f32])| {
        let mut values = tensor.to_vec::<f32>().expect("floats");
        values.chunks_mut(key_dim as usize).for_each(map);
        Tensor::from_slice(&values, tensor.shape()).expect("the same shape")
    };
    let unit = |length: f32| {
        move |vector: &mut [f32]| {
            let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            vector.iter_mut().for_each(|x| *x *= length / norm);
        }
    };
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let of_keys = [batch, time, key_heads, key_dim];
    vec![
        mapped(random(1, &of_keys, 1.0), &unit((key_dim as f32).powf(-0.5))),
        mapped(random(2, &of_keys, 1.0), &unit(1.0)),
        random(3, &[batch, time, value_heads, value_dim], 1.0),
        mapped(random(4, of_gates, 2.0), &|x| x.iter_mut().for_each(|x| *x = -sigmoid(*x))),
        mapped(random(5, &[batch, time, value_heads], 1.5), &|x| x.iter_mut().for_each(|x| *x = sigmoid(*x))),
        random(6, &[batch, value_heads, value_dim, key_dim], 0.5),
    ]
}

/// The cotangents of `y` and of the final state.
pub fn cotangents([batch, time, _, value_heads, key_dim, value_dim]: Sizes) -> Vec<Tensor<Stored>> {
    vec![
        random(7, &[batch, time, value_heads, value_dim], 1.0),
        random(8, &[batch, value_heads, value_dim, key_dim], 1.0),
    ]
}

/// Queries, keys, values, log gates, betas and the state by name.
pub fn named<M: Graph>(inputs: &[Tensor<M>]) -> GatedDeltaStepInputs<'_, M> {
    let [queries, keys, values, log_decay, beta, state] = inputs else { panic!("six inputs") };
    GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state }
}

/// As [`named`], with the gates of channels.
pub fn named_by_channel<M: Graph>(inputs: &[Tensor<M>]) -> GatedDeltaByChannelStepInputs<'_, M> {
    let GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state } = named(inputs);
    GatedDeltaByChannelStepInputs { queries, keys, values, log_decay, beta, state }
}

/// Documents packed into rows, with padding behind; the gates are those of heads or of channels.
#[derive(Clone)]
pub struct Packed {
    /// Tokens of each document, row by row.
    pub documents: Vec<Vec<i32>>,
    /// Tokens of a chunk.
    pub chunk: usize,
    /// All in one call, or each document alone, token by token.
    pub together: bool,
}

impl Operator for Packed {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let GatedDeltaStepInputs { queries, keys, values, log_decay, beta, state } = named(inputs);
        let by_channel = log_decay.rank() == 4;
        let &[_, time, heads, dim] = values.shape() else { panic!("four axes") };
        let zeros = |shape: &[i32]| Ok::<_, cotangent::Error>(Constant::full(shape, 0.0, Dtype::F32)?.to_tensor::<M>());
        if self.together {
            let documents = &Documents::new(&self.documents, time, time)?;
            let chunk = self.chunk;
            if by_channel {
                let outputs = gated_delta_by_channel_of_documents(
                    GatedDeltaByChannelInputs { queries, keys, values, log_decay, beta, initial_state: state, chunk },
                    documents,
                )?;
                return Ok(vec![outputs.y, outputs.final_state]);
            }
            let outputs = gated_delta_of_documents(
                GatedDeltaInputs { queries, keys, values, log_decay, beta, initial_state: state, chunk },
                documents,
            )?;
            return Ok(vec![outputs.y, outputs.final_state]);
        }
        let (mut rows, mut states) = (Vec::new(), Vec::new());
        for (row, lengths) in self.documents.iter().enumerate() {
            let (mut begin, mut parts) = (0, Vec::new());
            let of_row = |tensor: &Tensor<M>| tensor.slice(0, row as i32, row as i32 + 1);
            let mut last = of_row(state)?;
            for length in lengths {
                let part = |tensor: &Tensor<M>| of_row(tensor)?.slice(1, begin, begin + length);
                let entry = if begin == 0 { of_row(state)? } else { zeros(of_row(state)?.shape())? };
                let [q, k, v, g, b] = [part(queries)?, part(keys)?, part(values)?, part(log_decay)?, part(beta)?];
                let inputs = [q, k, v, g, b, entry];
                let (y, state) = if by_channel {
                    let outputs = gated_delta_by_channel_steps(named_by_channel(&inputs))?;
                    (outputs.y, outputs.final_state)
                } else {
                    let outputs = gated_delta_steps(named(&inputs))?;
                    (outputs.y, outputs.final_state)
                };
                parts.push(y);
                last = state;
                begin += length;
            }
            parts.push(zeros(&[1, time - begin, heads, dim])?);
            rows.push(Tensor::concatenate(&parts.iter().collect::<Vec<_>>(), 1)?);
            states.push(last);
        }
        let joined = |parts: &[Tensor<M>]| Tensor::concatenate(&parts.iter().collect::<Vec<_>>(), 0);
        Ok(vec![joined(&rows)?, joined(&states)?])
    }
}
