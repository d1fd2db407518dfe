//! Causal attention for training, in memory linear in the length of the rows.

mod blocks;
mod blocks_backward;
mod decode;
mod products;
mod strips;

use cotangent::{Backend, Dtype, Error, Graph, Indices, Result, Tensor, VjpCase, custom_vjp};

use crate::documents::Documents;

pub use blocks::{AttendInBlocksInputs, attend_in_blocks};
pub use decode::{AttendOneQueryInputs, attend_one_query, decode_attention};

const OPERATION: &str = "causal_attention";

/// The widest head of float32 that [`attend_in_blocks`](fn@attend_in_blocks) takes: two blocks of wider ones exceed a
/// threadgroup's memory.
const WIDEST_FLOATS: i32 = 128;

/// The way in which the work is cut up, and what is kept of it.
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
    /// Returns what suits a backend: on GPUs launches cost more than scores that no query sees.
    pub fn new(backend: Backend) -> Self {
        let queries = match backend {
            Backend::Metal | Backend::Cuda => 512,
            Backend::Cpu | Backend::Emulated => 64,
        };
        Strips { queries, bytes: backend.chunk_bytes(), kept_bytes: 64 << 20 }
    }
}

/// The values that forward and backward need in addition to tensors.
#[derive(Clone)]
struct Host {
    scale: f32,
    /// Queries of a strip.
    rows: i32,
    keeps_weights: bool,
    /// Whether a query sees keys up to its own only, else all.
    causal: bool,
    /// The first key that each query sees, `[B, T]`; all if there is none.
    first_keys: Option<Indices>,
}

custom_vjp! {
    /// Attention in strips. Its backward computes the weights again where they were not kept.
    static BY_STRIPS: Host = "causal_attention" {
        inputs: [queries, keys, values],
        outputs: [output],
        forward: strips::forward,
        backward: strips::backward,
        cases: [
            // There are more queries than fit in a strip, two heads for a key head, and more keys than queries.
            case([1, 4, 2], [5, 5], (2, true), false, None),
            case([2, 2, 2], [3, 6], (8, true), true, None),
            case([2, 2, 1], [7, 7], (3, true), true, Some(Documents::new(&[vec![3, 2], vec![4]], 7, 7)?)),
            case([1, 4, 2], [5, 5], (2, false), false, None),
        ],
    }
}

/// A case of these sizes: `batch` rows, `heads` heads of queries and `groups` of keys, in strips of `rows` queries. A query
/// sees the keys before it if `causal`, else all.
fn case(
    [batch, heads, groups]: [i32; 3],
    [queries, keys]: [i32; 2],
    (rows, causal): (i32, bool),
    keeps_weights: bool,
    documents: Option<Documents>,
) -> VjpCase<Host> {
    let first_keys = documents.map(|documents| documents.first_keys().clone());
    let host = Host { scale: 0.5, rows, keeps_weights, causal, first_keys };
    VjpCase::new(&[&[batch, heads, queries, 4], &[batch, groups, keys, 4], &[batch, groups, keys, 3]], host)
}

/// Computes `softmax(scale * q k^T) v`, where each query sees the keys up to its own. Queries `[B, H, T, D]`, keys `[B,
/// G, S, D]` and values `[B, G, S, E]`, with G a divisor of H, give `[B, H, T, E]`. The last query is at the position
/// of the last key, and S >= T.
///
/// Query heads `h` with the same `h / (H / G)` share a key head. Softmax is float32. On GPUs heads whose widths are
/// multiples of 16 up to 256 (float32: 128) go through [`attend_in_blocks`](fn@attend_in_blocks). All others, and all on
/// CPUs, go through strips of queries.
///
/// Rows padded on the right need no `documents`: padding comes after every token that counts, so none sees it. Only what
/// the padding's own queries give is meaningless; with `documents` it is 0, without a gradient.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn causal_attention<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    scale: f32,
    documents: Option<&Documents>,
) -> Result<Tensor<M>> {
    let backend = cotangent::backend()?;
    check(queries, keys, values)?;
    let wide = queries.dtype() == Dtype::F32 && queries.dimension(3).max(values.dimension(3)) > WIDEST_FLOATS;
    if backend == Backend::Cpu || wide {
        return causal_attention_in_strips(queries, keys, values, scale, documents, Strips::new(backend));
    }
    let shape = [queries.dimension(0), queries.dimension(2)];
    let whole;
    let documents = match documents {
        Some(documents) => documents,
        None => {
            whole = Documents::whole(shape[0], shape[1])?;
            &whole
        }
    };
    documents.check(OPERATION, shape)?;
    // Two blocks of 32 rows of a wide head exceed what Metal gives a threadgroup.
    let block = if backend == Backend::Cuda { 32 } else { 16 };
    attend_in_blocks(AttendInBlocksInputs { queries, keys, values, first_keys: documents.first_keys(), scale, block })
}

/// Computes [`causal_attention`] in strips of queries, on every backend.
///
/// # Errors
/// As [`causal_attention`].
pub fn causal_attention_in_strips<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    scale: f32,
    documents: Option<&Documents>,
    strips: Strips,
) -> Result<Tensor<M>> {
    check(queries, keys, values)?;
    if let Some(documents) = documents {
        documents.check(OPERATION, [queries.dimension(0), queries.dimension(2)])?;
    }
    in_strips(queries, keys, values, scale, (true, documents.map(Documents::first_keys)), strips)
}

/// `softmax(scale * q k^T) v`, each query seeing all keys: queries `[B, H, T, D]`, keys `[B, G, S, D]`, values
/// `[B, G, S, E]`, G a divisor of H, T at most S, give `[B, H, T, E]`.
///
/// It goes through strips of queries on every backend.
///
/// # Errors
/// Shapes or dtypes that do not fit.
pub fn full_attention<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    scale: f32,
) -> Result<Tensor<M>> {
    in_strips(queries, keys, values, scale, (false, None), Strips::new(cotangent::backend()?))
}

fn in_strips<M: Graph>(
    queries: &Tensor<M>,
    keys: &Tensor<M>,
    values: &Tensor<M>,
    scale: f32,
    (causal, first_keys): (bool, Option<&Indices>),
    strips: Strips,
) -> Result<Tensor<M>> {
    check(queries, keys, values)?;
    let [batch, heads, steps] = [0, 1, 2].map(|axis| queries.dimension(axis) as usize);
    let score_bytes = Dtype::F32.size() * batch * heads;
    let query_bytes = score_bytes * keys.dimension(2) as usize;
    let unseen_bytes = if causal { score_bytes * steps * (steps - 1) / 2 } else { 0 };
    let seen_bytes = query_bytes * steps - unseen_bytes;
    let rows = (strips.bytes / query_bytes.max(1)).min(strips.queries.max(1) as usize).clamp(1, steps) as i32;
    let trains = [queries, keys, values].iter().any(|input| input.needs_gradient());
    let keeps_weights = trains && seen_bytes <= strips.kept_bytes;
    let host = Host { scale, rows, keeps_weights, causal, first_keys: first_keys.cloned() };
    let mut outputs = custom_vjp(&BY_STRIPS, &[queries, keys, values], &host)?;
    Ok(outputs.swap_remove(0))
}

/// The fallback of [`attend_in_blocks`](fn@attend_in_blocks), to which blocks mean nothing.
fn by_strips<M: Graph>(inputs: AttendInBlocksInputs<'_, M>) -> Result<Tensor<M>> {
    let AttendInBlocksInputs { queries, keys, values, first_keys, scale, .. } = inputs;
    let strips = Strips::new(cotangent::backend()?);
    in_strips(queries, keys, values, scale, (true, Some(first_keys)), strips)
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
