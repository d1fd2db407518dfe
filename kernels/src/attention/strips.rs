//! Attention in strips of queries: only the scores of one strip, for all keys that it sees, are in memory at once.
//!
//! The backward pass recomputes a strip's weights from queries and keys, as in Dao et al., "FlashAttention" (2022),
//! but over whole rows of the softmax, so that there is no log-sum-exp to save and nothing to rescale.

use cotangent::{Constant, Dtype, Infer, Mask, Result, Tensor};

use super::Host;

/// Queries `start..end`, and the keys `..keys` that they see: all, unless attention is causal. The query heads of a key head lie one after the other:
/// `[B, G, R * queries, ..]` with R = H / G.
struct Strip {
    start: i32,
    end: i32,
    keys: i32,
    groups: i32,
}

impl Strip {
    /// First to last.
    fn all(queries: &Tensor<Infer>, keys: &Tensor<Infer>, host: &Host) -> Vec<Strip> {
        let (length, offset) = (queries.dimension(2), keys.dimension(2) - queries.dimension(2));
        (0..length)
            .step_by(host.rows as usize)
            .map(|start| {
                let end = (start + host.rows).min(length);
                let seen = if host.causal { end + offset } else { keys.dimension(2) };
                Strip { start, end, keys: seen, groups: keys.dimension(1) }
            })
            .collect()
    }

    /// `[B, H, T, N]` to this strip's `[B, G, R * queries, N]`.
    fn of_queries(&self, x: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        let &[batch, heads, _, width] = x.shape() else { unreachable!("four axes") };
        let rows = heads / self.groups * (self.end - self.start);
        x.slice(2, self.start, self.end)?.reshape(&[batch, self.groups, rows, width])
    }

    /// `[B, G, R * queries, N]` to `[B, H, queries, N]`.
    fn to_heads(&self, x: &Tensor<Infer>, heads: i32) -> Result<Tensor<Infer>> {
        x.reshape(&[x.dimension(0), heads, self.end - self.start, x.dimension(3)])
    }

    /// `[B, G, S, N]` to `[B, G, keys, N]`.
    fn of_keys(&self, x: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        x.slice(2, 0, self.keys)
    }

    /// The softmax of the scores in `dtype`: `[B, G, R * queries, keys]`. It is summed in float32 whatever the dtype, so in a
    /// narrower one it is that of float32, rounded.
    fn weights(
        &self,
        queries: &Tensor<Infer>,
        keys: &Tensor<Infer>,
        host: &Host,
        dtype: Dtype,
    ) -> Result<Tensor<Infer>> {
        let scores = queries.matmul(&keys.swap_axes(2, 3)?)?.cast(dtype)?;
        let queries = self.end - self.start;
        let &[batch, groups, rows, keys] = scores.shape() else { unreachable!("four axes") };
        let by_head = |scores: &Tensor<Infer>| scores.reshape(&[batch, groups * rows / queries, queries, keys]);
        let causal = if host.causal && queries > 1 {
            Some(Mask::lower_triangular(queries, keys, keys - queries)?)
        } else {
            None
        };
        let Some(first_keys) = &host.first_keys else {
            return match causal {
                Some(causal) => {
                    let seen = by_head(&scores)?.select(&causal, f32::NEG_INFINITY)?;
                    seen.reshape(&[batch, groups, rows, keys])?.softmax()
                }
                None => scores.softmax(),
            };
        };
        let reason = "which keys a query sees is no float path";
        let first = first_keys.to_constant(reason)?.to_tensor::<Infer>().slice(1, self.start, self.end)?;
        let places: Vec<f32> = (0..keys).map(|key| key as f32 + 0.5).collect();
        let places = Constant::from_slice(&places, &[1, 1, 1, keys])?.to_tensor::<Infer>();
        let own = places.greater(&first.reshape(&[batch, 1, queries, 1])?)?;
        // A row that sees nothing has no softmax. With a finite filling it has one, whose weights the second pass sets
        // to 0.
        let seen = |x: &Tensor<Infer>, filling: f32| {
            let x = x.select(&own, filling)?;
            causal.as_ref().map_or(Ok(x.clone()), |causal| x.select(causal, filling))
        };
        let weights = seen(&by_head(&scores)?, -1e30)?.softmax()?;
        seen(&weights, 0.0)?.reshape(&[batch, groups, rows, keys])
    }
}

/// The output `[B, H, T, E]`; then, if they are kept, the weights of each strip.
pub(super) fn forward([queries, keys, values]: [&Tensor<Infer>; 3], host: &Host) -> Result<Vec<Tensor<Infer>>> {
    let mut outputs: Vec<Tensor<Infer>> = Vec::new();
    let mut kept: Vec<Tensor<Infer>> = Vec::new();
    // The filling of hidden keys needs the range of float32, and slopes need its precision.
    let dtype = if host.keeps_weights || host.first_keys.is_some() { Dtype::F32 } else { values.dtype() };
    for strip in Strip::all(queries, keys, host) {
        let scaled = strip.of_queries(&ordered(queries, outputs.last().as_slice())?)?.multiply(host.scale)?;
        let weights = strip.weights(&scaled, &strip.of_keys(keys)?, host, dtype)?;
        let output = weights.cast(values.dtype())?.matmul(&strip.of_keys(values)?)?;
        outputs.push(strip.to_heads(&output, queries.dimension(1))?);
        if host.keeps_weights {
            kept.push(weights);
        }
    }
    let output = Tensor::concatenate(&outputs.iter().collect::<Vec<_>>(), 2)?;
    Ok([output].into_iter().chain(kept).collect())
}

/// Computes the gradients of queries, keys and values. With weights P and score slopes dS = P (dO v^T - sum(dO O)): dq
/// = scale dS k, dk = dS^T (scale q), dv = P^T dO.
pub(super) fn backward(
    [queries, keys, values]: [&Tensor<Infer>; 3],
    [d_output]: [&Tensor<Infer>; 1],
    outputs: &[Tensor<Infer>],
    host: &Host,
) -> Result<Vec<Tensor<Infer>>> {
    let (output, kept) = (&outputs[0], &outputs[1..]);
    let mut d_queries: Vec<Tensor<Infer>> = Vec::new();
    let (mut d_keys, mut d_values) = (OfKeys::default(), OfKeys::default());
    // The last strip comes first, because it sees all keys: the gradients of those that the strip before does not see
    // are then complete.
    for (index, strip) in Strip::all(queries, keys, host).iter().enumerate().rev() {
        let before: Vec<_> =
            d_queries.last().into_iter().chain(d_keys.done.last()).chain(d_values.done.last()).collect();
        let scaled = strip.of_queries(&ordered(queries, &before)?)?.multiply(host.scale)?;
        let d_strip = strip.of_queries(&ordered(d_output, &before)?)?;
        let (seen_keys, seen_values) = (strip.of_keys(keys)?, strip.of_keys(values)?);
        let weights = match kept.get(index) {
            Some(weights) => weights.clone(),
            None => strip.weights(&scaled, &seen_keys, host, Dtype::F32)?,
        };
        d_values.add(&weights.cast(values.dtype())?.swap_axes(2, 3)?.matmul(&d_strip)?.cast(Dtype::F32)?)?;

        let d_weights = d_strip.matmul(&seen_values.swap_axes(2, 3)?)?.cast(Dtype::F32)?;
        let along =
            d_strip.cast(Dtype::F32)?.multiply(&strip.of_queries(output)?.cast(Dtype::F32)?)?.sum_keep(&[-1])?;
        let d_scores = weights.multiply(&d_weights.subtract(&along)?)?.cast(keys.dtype())?;
        d_keys.add(&d_scores.swap_axes(2, 3)?.matmul(&scaled)?.cast(Dtype::F32)?)?;
        let d_scaled = d_scores.matmul(&seen_keys)?;
        d_queries.push(strip.to_heads(&d_scaled.multiply(host.scale)?, queries.dimension(1))?);
    }
    d_queries.reverse();
    Ok(vec![
        Tensor::concatenate(&d_queries.iter().collect::<Vec<_>>(), 2)?,
        d_keys.finish(keys.dtype())?,
        d_values.finish(values.dtype())?,
    ])
}

fn ordered(x: &Tensor<Infer>, before: &[&Tensor<Infer>]) -> Result<Tensor<Infer>> {
    if before.is_empty() { Ok(x.clone()) } else { x.after(before) }
}

/// A sum over strips in float32, each term of which covers fewer keys than the one before.
#[derive(Default)]
struct OfKeys {
    /// Keys that no further term covers, last first.
    done: Vec<Tensor<Infer>>,
    sum: Option<Tensor<Infer>>,
}

impl OfKeys {
    fn add(&mut self, term: &Tensor<Infer>) -> Result<()> {
        let sum = match self.sum.take() {
            Some(sum) => {
                let (keys, covered) = (sum.dimension(2), term.dimension(2));
                if covered < keys {
                    // This is a copy, because a slice would keep the whole sum alive.
                    self.done.push(sum.slice(2, covered, keys)?.multiply(1.0)?);
                }
                sum.slice(2, 0, covered)?.add(term)?
            }
            None => term.clone(),
        };
        self.sum = Some(sum);
        Ok(())
    }

    fn finish(self, dtype: Dtype) -> Result<Tensor<Infer>> {
        let pieces: Vec<_> = self.sum.iter().chain(self.done.iter().rev()).collect();
        Tensor::concatenate(&pieces, 2)?.cast(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotangent::{Session, Stored};

    #[test]
    fn weights_in_16_bits_are_those_of_float32_rounded() {
        let values: Vec<f32> = (0..2 * 6 * 8).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let heads = Tensor::<Stored>::from_slice(&values, &[1, 2, 6, 8]).unwrap().cast(Dtype::BF16).unwrap();
        let weights = |narrow: bool, causal: bool| {
            let weights = |heads: &Tensor<Infer>, _: &Tensor<Infer>, (narrow, causal): &(bool, bool)| {
                let host = Host { scale: 1.0, rows: 6, keeps_weights: false, causal: *causal, first_keys: None };
                let strip = Strip { start: 0, end: 6, keys: 6, groups: 2 };
                let dtype = if *narrow { Dtype::BF16 } else { Dtype::F32 };
                strip.weights(heads, heads, &host, dtype)?.cast(Dtype::BF16)?.cast(Dtype::F32)
            };
            let found = Session::new().unwrap().infer(&heads, &heads, &(narrow, causal), weights).unwrap();
            found.to_vec::<f32>().unwrap()
        };
        for causal in [false, true] {
            assert_eq!(weights(true, causal), weights(false, causal));
        }
    }
}
