//! Causal attention for training, in memory linear in the length of the rows.

mod strips;

use cotangent::{Backend, Constant, Dtype, Error, Graph, Mask, Result, Tensor, custom_vjp};

const OPERATION: &str = "causal_attention";

/// How the work is cut up, and what is kept of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strips {
    /// Queries of a strip. Keys that no query of a strip sees are skipped, so narrow strips do less.
    pub queries: i32,
    /// Bytes of float32 scores that a strip may have, up to ten arrays of this size being alive at once. Where it is
    /// less than a strip of `queries` has, strips are narrower, down to one query.
    pub bytes: usize,
    /// Bytes of softmax weights that may be kept for the backward pass; more are computed again.
    pub kept_bytes: usize,
}

impl Strips {
    /// What suits a backend: on GPUs launches cost more than scores that nobody sees.
    pub fn of(backend: Backend) -> Self {
        let queries = match backend {
            Backend::Metal | Backend::Cuda => 512,
            Backend::Cpu | Backend::Emulated => 64,
        };
        Strips { queries, bytes: backend.chunk_bytes(), kept_bytes: 64 << 20 }
    }
}

/// What the two directions know besides tensors.
#[derive(Clone, Copy)]
struct Host {
    scale: f32,
    /// Queries of a strip.
    rows: i32,
    keeps_weights: bool,
}

/// `softmax(scale * q k^T) v`, each query seeing the keys up to its own: queries `[B, H, T, D]`, keys `[B, G, S, D]`,
/// values `[B, G, S, E]`, G a divisor of H, give `[B, H, T, E]`. The last query stands at the last key, S >= T.
///
/// Query heads `h` with the same `h / (H / G)` share a key head. Softmax is float32.
///
/// Rows padded on the right need no mask: padding comes after every token that counts, so none sees it. Only what the
/// padding's own queries give is meaningless; with `lengths` (keys of each row that count) it is 0, without a
/// gradient.
///
/// # Errors
/// Shapes or dtypes that do not fit, or lengths that are not one a row.
pub fn causal_attention<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    scale: f32,
    lengths: Option<&[i32]>,
) -> Result<Tensor<M>> {
    causal_attention_in_strips(queries, keys, values, scale, lengths, Strips::of(cotangent::backend()?))
}

/// [`causal_attention`] with the work cut up otherwise.
///
/// # Errors
/// As [`causal_attention`].
pub fn causal_attention_in_strips<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    scale: f32,
    lengths: Option<&[i32]>,
    strips: Strips,
) -> Result<Tensor<M>> {
    check(queries, keys, values)?;
    let [batch, heads, steps] = [0, 1, 2].map(|axis| queries.dimension(axis) as usize);
    let score_bytes = Dtype::F32.size() * batch * heads;
    let query_bytes = score_bytes * keys.dimension(2) as usize;
    let seen_bytes = query_bytes * steps - score_bytes * steps * (steps - 1) / 2;
    let rows = (strips.bytes / query_bytes.max(1)).min(strips.queries.max(1) as usize).clamp(1, steps) as i32;
    let trains = [queries, keys, values].iter().any(|input| input.needs_gradient());
    let host = Host { scale, rows, keeps_weights: trains && seen_bytes <= strips.kept_bytes };
    let mut outputs = custom_vjp(OPERATION, &[queries, keys, values], &host, strips::forward, strips::backward)?;
    let output = outputs.swap_remove(0);
    match lengths {
        Some(lengths) => {
            let zero = Constant::full(&[], 0.0, output.dtype())?;
            output.select(&counting(lengths, queries.shape(), keys.dimension(2))?, &zero)
        }
        None => Ok(output),
    }
}

fn check<M: Graph>(queries: &Tensor<M>, keys: &Tensor<M>, values: &Tensor<M>) -> Result<()> {
    let (q, k, v) = (queries.shape(), keys.shape(), values.shape());
    let fits = q.len() == 4
        && k.len() == 4
        && v.len() == 4
        && (q[0], q[3]) == (k[0], k[3])
        && k[..3] == v[..3]
        && k[1] > 0
        && q[1] % k[1] == 0
        && (1..=k[2]).contains(&q[2]);
    if !fits {
        return Err(Error::Shape {
            operation: OPERATION,
            found: format!("{q:?}, {k:?}, {v:?}"),
            expected: "[B, H, T, D], [B, G, S, D], [B, G, S, E] with H % G = 0 and 0 < T <= S".into(),
        });
    }
    if keys.dtype() != queries.dtype() || values.dtype() != queries.dtype() {
        return Err(Error::Dtype {
            operation: OPERATION,
            found: format!("{}, {}, {}", queries.dtype(), keys.dtype(), values.dtype()),
            expected: "one dtype; `cast` the others".into(),
        });
    }
    Ok(())
}

/// `[B, 1, T, 1]`: true for the queries that stand at a key that counts.
fn counting(lengths: &[i32], queries: &[i32], keys: i32) -> Result<Mask> {
    let (rows, steps) = (queries[0], queries[2]);
    if lengths.len() != rows as usize {
        return Err(Error::Shape {
            operation: OPERATION,
            found: format!("{} lengths", lengths.len()),
            expected: format!("one for each of {rows} rows"),
        });
    }
    let offset = keys - steps;
    let counts: Vec<bool> =
        lengths.iter().flat_map(|&length| (0..steps).map(move |step| step + offset < length)).collect();
    Mask::from_slice(&counts, &[rows, 1, steps, 1])
}
