//! Inputs of the gated delta rule.

use cotangent::{Stored, Tensor};

use super::random;

/// Batch, tokens, key heads, value heads, key dimension, value dimension.
pub type Sizes = [i32; 6];

/// Queries, keys, values, log gates `[B, T, Hv]`, betas and the state.
pub fn with_gates_of_heads(sizes: Sizes) -> Vec<Tensor<Stored>> {
    let [batch, time, _, value_heads, ..] = sizes;
    draw(sizes, &[batch, time, value_heads])
}

/// The same with log gates `[B, T, Hv, Dk]`.
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

/// Those of `y` and of the final state.
pub fn cotangents([batch, time, _, value_heads, key_dim, value_dim]: Sizes) -> Vec<Tensor<Stored>> {
    vec![
        random(7, &[batch, time, value_heads, value_dim], 1.0),
        random(8, &[batch, value_heads, value_dim, key_dim], 1.0),
    ]
}
