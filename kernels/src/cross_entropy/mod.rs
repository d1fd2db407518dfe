//! The loss over the vocabulary, in chunks of rows: the logits of a whole batch are never in memory.

mod adapter;
mod chunk;
mod labels;
mod softmax;

use cotangent::host::leaf;
use cotangent::{Constant, Dtype, Error, Graph, Infer, Packed, Result, Tensor, VjpCase, custom_vjp};

use crate::packed_linear;
use adapter::Adapter;
use chunk::{Chunks, Head, Matrix};
pub use labels::{IGNORED, Labels, labels_after};
pub use softmax::{LabelLossesOutputs, label_losses};

const OPERATION: &str = "cross_entropy";

/// The values that forward and backward need in addition to tensors.
#[derive(Clone)]
struct Host {
    labels: Labels,
    scale: f32,
    chunk_bytes: usize,
    /// The head, if it is packed codes; else it is an input.
    head: Option<Packed>,
    /// The adapter's multiplier, if the head has an adapter.
    adapter_scale: Option<f32>,
    /// Whether a gradient of each input is wanted: hidden states, the weight unless it is packed codes, and the adapter's two
    /// matrices.
    wants: Vec<bool>,
}

impl Host {
    fn wants_weight(&self) -> bool {
        self.head.is_none() && self.wants.get(1) == Some(&true)
    }

    fn wants_adapter(&self) -> bool {
        let first = if self.head.is_none() { 2 } else { 1 };
        self.wants.iter().skip(first).any(|wants| *wants)
    }
}

custom_vjp! {
    /// The loss in chunks of rows. Its forward forms the gradients, which its backward multiplies by the cotangent.
    static IN_CHUNKS: Host = "cross_entropy" {
        inputs: [hidden, weight],
        optional: [lora_a, lora_b],
        outputs: [loss],
        forward: |[hidden, weight], adapter, host| forward(hidden, Some(weight), adapter, host),
        backward: |[hidden, weight], adapter, [d_loss], outputs, host| {
            backward(hidden, Some(weight), adapter, d_loss, &outputs[1..], host)
        },
        cases: [
            case(&[2, IGNORED, 0, 6, 2], 7, 2, &[true, true])?,
            case(&[1, 3, 0], 4, 9, &[true, true])?,
            case(&[1, IGNORED, 0], 4, 1, &[true, false])?.of_inputs(&["hidden"]),
            case(&[5, 3, IGNORED, 3], 6, 2, &[true, true, true, true])?,
            case(&[0, 2], 3, 1, &[true, false, true, true])?.of_inputs(&["hidden", "lora_a", "lora_b"]),
        ],
    }
}

custom_vjp! {
    /// [`IN_CHUNKS`] with a head of codes, which is host data.
    static IN_CHUNKS_OF_CODES: Host = "cross_entropy_packed" {
        inputs: [hidden],
        optional: [lora_a, lora_b],
        outputs: [loss],
        forward: |[hidden], adapter, host| forward(hidden, None, adapter, host),
        backward: |[hidden], adapter, [d_loss], outputs, host| {
            backward(hidden, None, adapter, d_loss, &outputs[1..], host)
        },
        cases: [case_of_codes(&[&[3, 64]])?, case_of_codes(&[&[3, 64], &[64, 2], &[2, 8]])?],
    }
}

/// A case of these labels over a vocabulary of `words`, in chunks of `rows`; of four inputs the last two are an adapter's.
fn case(labels: &[i32], words: i32, rows: usize, wants: &[bool]) -> Result<VjpCase<Host>> {
    const WIDTH: i32 = 5;
    let host = Host {
        labels: Labels::from_slice(labels)?,
        scale: 0.5,
        chunk_bytes: rows * words as usize * Dtype::F32.size(),
        head: None,
        adapter_scale: (wants.len() > 2).then_some(0.25),
        wants: wants.to_vec(),
    };
    let shapes: [&[i32]; 4] = [&[labels.len() as i32, WIDTH], &[words, WIDTH], &[WIDTH, 2], &[2, words]];
    Ok(VjpCase::new(&shapes[..wants.len()], host))
}

/// A case of three rows and a head of eight words, with an adapter if there are three shapes.
fn case_of_codes(shapes: &[&[i32]]) -> Result<VjpCase<Host>> {
    let host = Host {
        labels: Labels::from_slice(&[5, IGNORED, 0])?,
        scale: 0.5,
        chunk_bytes: 8 * Dtype::F32.size(),
        head: Some(packed_linear::example()?),
        adapter_scale: (shapes.len() > 1).then_some(0.25),
        wants: vec![true; shapes.len()],
    };
    Ok(VjpCase::new(shapes, host))
}

/// `scale * sum(-log softmax(hidden weight^T)[label])` over the rows that count, a scalar of float32: hidden states
/// `[N, D]`, the head's weight `[V, D]` as it is stored.
///
/// For a mean pass 1 over the count of the whole accumulation (at least 1) for `scale`. Logits and softmax are
/// float32. Gradients are formed chunk by chunk in the forward pass; a frozen weight costs nothing. Where weight and
/// hidden states have one dtype of sixteen bits, all but the CPU round the softmax to it for the gradient of hidden states.
///
/// # Errors
/// Shapes that do not fit, [`Error::IndexOutOfRange`] for a label that is not in the vocabulary.
pub fn cross_entropy<M: Graph>(
    hidden: &Tensor<M>,
    weight: &Tensor<M>,
    labels: &Labels,
    scale: f32,
) -> Result<Tensor<M>> {
    cross_entropy_in_chunks(hidden, weight, labels, scale, cotangent::backend()?.chunk_bytes())
}

/// [`cross_entropy`] with `chunk_bytes` of float32 logits in a chunk, or a single row if that is more; a weight of
/// another dtype is converted in blocks of as many bytes. Up to ten arrays of this size are alive at once: MLX allocates
/// for operations when it queues them.
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_in_chunks<M: Graph>(
    hidden: &Tensor<M>,
    weight: &Tensor<M>,
    labels: &Labels,
    scale: f32,
    chunk_bytes: usize,
) -> Result<Tensor<M>> {
    check(hidden.shape(), weight.shape(), labels)?;
    run(&[hidden, weight], None, None, labels, scale, chunk_bytes)
}

/// [`cross_entropy`] with a head that has a low-rank adapter: its logits are `hidden weight^T + adapter_scale (hidden A) B`
/// with `A` `[D, R]` and `B` `[R, V]`, of which no `[V, D]` is formed.
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_adapted<M: Graph>(
    hidden: &Tensor<M>,
    weight: &Tensor<M>,
    [lora_a, lora_b]: [&Tensor<M>; 2],
    adapter_scale: f32,
    labels: &Labels,
    scale: f32,
) -> Result<Tensor<M>> {
    let chunk_bytes = cotangent::backend()?.chunk_bytes();
    cross_entropy_adapted_in_chunks(hidden, weight, [lora_a, lora_b], adapter_scale, labels, scale, chunk_bytes)
}

/// [`cross_entropy_adapted`] in chunks, as [`cross_entropy_in_chunks`].
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_adapted_in_chunks<M: Graph>(
    hidden: &Tensor<M>,
    weight: &Tensor<M>,
    [lora_a, lora_b]: [&Tensor<M>; 2],
    adapter_scale: f32,
    labels: &Labels,
    scale: f32,
    chunk_bytes: usize,
) -> Result<Tensor<M>> {
    check(hidden.shape(), weight.shape(), labels)?;
    check_adapter(weight.shape(), lora_a.shape(), lora_b.shape())?;
    run(&[hidden, weight, lora_a, lora_b], None, Some(adapter_scale), labels, scale, chunk_bytes)
}

/// [`cross_entropy`] with a head of packed codes, and an adapter of two matrices and a multiplier if it has one. Neither all
/// logits nor the whole decoded head are in memory, unless the head is no larger than a few chunks.
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_packed<M: Graph>(
    hidden: &Tensor<M>,
    head: &Packed,
    adapter: Option<([&Tensor<M>; 2], f32)>,
    labels: &Labels,
    scale: f32,
) -> Result<Tensor<M>> {
    cross_entropy_packed_in_chunks(hidden, head, adapter, labels, scale, cotangent::backend()?.chunk_bytes())
}

/// [`cross_entropy_packed`] in chunks, as [`cross_entropy_in_chunks`].
///
/// # Errors
/// As [`cross_entropy`].
pub fn cross_entropy_packed_in_chunks<M: Graph>(
    hidden: &Tensor<M>,
    head: &Packed,
    adapter: Option<([&Tensor<M>; 2], f32)>,
    labels: &Labels,
    scale: f32,
    chunk_bytes: usize,
) -> Result<Tensor<M>> {
    let shape = [head.rows(), head.columns()];
    check(hidden.shape(), &shape, labels)?;
    let mut inputs = vec![hidden];
    if let Some(([lora_a, lora_b], _)) = adapter {
        check_adapter(&shape, lora_a.shape(), lora_b.shape())?;
        inputs.extend([lora_a, lora_b]);
    }
    run(&inputs, Some(head.clone()), adapter.map(|(_, scale)| scale), labels, scale, chunk_bytes)
}

fn run<M: Graph>(
    inputs: &[&Tensor<M>],
    head: Option<Packed>,
    adapter_scale: Option<f32>,
    labels: &Labels,
    scale: f32,
    chunk_bytes: usize,
) -> Result<Tensor<M>> {
    let wants = inputs.iter().map(|input| input.needs_gradient()).collect();
    let host = Host { labels: labels.clone(), scale, chunk_bytes, head, adapter_scale, wants };
    let function = if host.head.is_some() { &IN_CHUNKS_OF_CODES } else { &IN_CHUNKS };
    let mut outputs = custom_vjp(function, inputs, &host)?;
    Ok(outputs.swap_remove(0))
}

/// `-log softmax(hidden weight^T)[label]` of each row, 0 where the label is [`IGNORED`]: `[N]` of float32.
///
/// # Errors
/// As [`cross_entropy`].
pub fn token_losses(hidden: &Tensor<Infer>, weight: &Tensor<Infer>, labels: &Labels) -> Result<Tensor<Infer>> {
    losses_of_tokens(hidden, Matrix::Dense(weight.clone()), weight.shape(), labels)
}

/// [`token_losses`] with a head of packed codes.
///
/// # Errors
/// As [`cross_entropy`].
pub fn token_losses_packed(hidden: &Tensor<Infer>, head: &Packed, labels: &Labels) -> Result<Tensor<Infer>> {
    losses_of_tokens(hidden, Matrix::Packed(head.clone()), &[head.rows(), head.columns()], labels)
}

fn losses_of_tokens(hidden: &Tensor<Infer>, matrix: Matrix, shape: &[i32], labels: &Labels) -> Result<Tensor<Infer>> {
    check(hidden.shape(), shape, labels)?;
    let chunk_bytes = cotangent::backend()?.chunk_bytes();
    let head = Head::new(matrix, chunk_bytes)?;
    let mut losses: Vec<Tensor<Infer>> = Vec::new();
    for chunk in Chunks::new(labels, shape[0], chunk_bytes) {
        let before: Vec<_> = losses.last().into_iter().collect();
        let logits = head.logits(&chunk.rows(hidden, &before)?)?;
        losses.push(chunk.losses(&logits)?);
    }
    losses.push(zeros(&[1], Dtype::F32)?);
    Tensor::concatenate(&losses.iter().collect::<Vec<_>>(), 0)?.take_rows(&labels.places()?)
}

fn check(h: &[i32], w: &[i32], labels: &Labels) -> Result<()> {
    if h.len() != 2 || w.len() != 2 || h[1] != w[1] || h[0] as usize != labels.rows() {
        return Err(Error::Shape {
            operation: OPERATION,
            found: format!("{h:?}, {w:?} and {} labels", labels.rows()),
            expected: "[N, D], [V, D] and N labels".into(),
        });
    }
    // The labels are checked before anything is computed, because MLX reads out of bounds without an error.
    match labels.counted().iter().find(|counted| counted.label >= w[0]) {
        Some(counted) => {
            Err(Error::IndexOutOfRange { operation: OPERATION, index: counted.label.into(), length: w[0].into() })
        }
        None => Ok(()),
    }
}

fn check_adapter(w: &[i32], a: &[i32], b: &[i32]) -> Result<()> {
    if a.len() != 2 || b.len() != 2 || a[1] != b[0] || (a[0], b[1]) != (w[1], w[0]) {
        return Err(Error::Shape {
            operation: OPERATION,
            found: format!("{w:?} with an adapter of {a:?} and {b:?}"),
            expected: "[V, D], [D, R] and [R, V]".into(),
        });
    }
    Ok(())
}

/// The head's matrix: the weight, or the codes that are host data.
fn matrix(weight: Option<&Tensor<Infer>>, host: &Host) -> Matrix {
    match (weight, &host.head) {
        (Some(weight), _) => Matrix::Dense(weight.clone()),
        (None, Some(head)) => Matrix::Packed(head.clone()),
        (None, None) => unreachable!("a head is an input or host data"),
    }
}

/// The loss; then, where they are wanted and a row counts, gradients for the cotangent 1 in float32: of the rows that
/// count, of the adapter's two matrices, and of each block of the weight.
fn forward(
    hidden: &Tensor<Infer>,
    weight: Option<&Tensor<Infer>>,
    adapter: Option<[&Tensor<Infer>; 2]>,
    host: &Host,
) -> Result<Vec<Tensor<Infer>>> {
    let (hidden, weight) = (&leaf(hidden)?, weight.map(leaf).transpose()?);
    let matrix = matrix(weight.as_ref(), host);
    let vocabulary = matrix.shape()[0];
    let head = Head::new(matrix, host.chunk_bytes)?;
    let adapter = Adapter::new(adapter, host.adapter_scale)?;
    let product_dtype = head.product_dtype(hidden.dtype())?;
    // Gradients of the head and of an adapter are computed from float32 slopes; only the hidden states take rounded
    // ones.
    let only_hidden = adapter.is_none() && !host.wants_weight();
    let slope_dtype = if only_hidden { product_dtype } else { Dtype::F32 };
    let mut loss: Option<Tensor<Infer>> = None;
    let mut hidden_gradients: Vec<Tensor<Infer>> = Vec::new();
    let mut adapter_gradients: Vec<Tensor<Infer>> = Vec::new();
    let mut weight_gradients: Vec<Tensor<Infer>> = Vec::new();
    for chunk in Chunks::new(&host.labels, vocabulary, host.chunk_bytes) {
        let before: Vec<_> =
            loss.iter().chain(hidden_gradients.last()).chain(&adapter_gradients).chain(&weight_gradients).collect();
        let rows = chunk.rows(hidden, &before)?;
        let mut logits = head.logits(&rows)?;
        if let Some(adapter) = &adapter {
            logits = adapter.add_logits(&logits, &rows)?;
        }
        let scores = if host.wants.contains(&true) { Some(chunk.scores(&logits, slope_dtype)?) } else { None };
        let losses = match &scores {
            Some(scores) => scores.losses.clone(),
            None => chunk.losses(&logits)?,
        };
        loss = Some(sum_with(loss, losses.sum_all()?.multiply(host.scale)?)?);
        let Some(scores) = scores else { continue };
        let slopes = scores.slopes;
        if host.wants[0] {
            let mut gradient = head.hidden_gradient(&slopes.cast(product_dtype)?)?;
            if let Some(adapter) = &adapter {
                gradient = adapter.add_hidden_gradient(&gradient, &slopes)?;
            }
            hidden_gradients.push(gradient.multiply(host.scale)?);
        }
        let rows = rows.multiply(host.scale)?;
        if let Some(adapter) = &adapter
            && host.wants_adapter()
        {
            let mut before = std::mem::take(&mut adapter_gradients).into_iter();
            for gradient in adapter.gradients(&slopes, &rows)? {
                adapter_gradients.push(sum_with(before.next(), gradient)?);
            }
        }
        if host.wants_weight() {
            weight_gradients = head.add_weight_gradients(&slopes, &rows, weight_gradients)?;
        }
    }
    let mut outputs = vec![loss.map_or_else(|| zeros(&[], Dtype::F32), Ok)?];
    if !hidden_gradients.is_empty() {
        outputs.push(Tensor::concatenate(&hidden_gradients.iter().collect::<Vec<_>>(), 0)?);
    }
    outputs.extend(adapter_gradients);
    outputs.extend(weight_gradients);
    Ok(outputs)
}

fn sum_with(before: Option<Tensor<Infer>>, more: Tensor<Infer>) -> Result<Tensor<Infer>> {
    match before {
        Some(before) => before.add(&more),
        None => Ok(more),
    }
}

fn backward(
    hidden: &Tensor<Infer>,
    weight: Option<&Tensor<Infer>>,
    adapter: Option<[&Tensor<Infer>; 2]>,
    cotangent: &Tensor<Infer>,
    residuals: &[Tensor<Infer>],
    host: &Host,
) -> Result<Vec<Tensor<Infer>>> {
    let counts = host.labels.count() > 0;
    let mut residuals = residuals.iter();
    let wanted = if counts && host.wants[0] { residuals.next() } else { None };
    let d_hidden = match wanted {
        Some(residual) => {
            let counted = residual.multiply(cotangent)?.cast(hidden.dtype())?;
            if host.labels.count() == host.labels.rows() {
                counted
            } else {
                let nothing = zeros(&[1, hidden.dimension(1)], hidden.dtype())?;
                Tensor::concatenate(&[&counted, &nothing], 0)?.take_rows(&host.labels.places()?)?
            }
        }
        None => zeros(hidden.shape(), hidden.dtype())?,
    };
    let adapts = counts && host.wants_adapter();
    let mut d_adapter = Vec::new();
    for matrix in adapter.into_iter().flatten() {
        let residual = if adapts { residuals.next() } else { None };
        d_adapter.push(match residual {
            Some(residual) => residual.multiply(cotangent)?.cast(matrix.dtype())?,
            None => zeros(matrix.shape(), matrix.dtype())?,
        });
    }
    let Some(weight) = weight else { return Ok([d_hidden].into_iter().chain(d_adapter).collect()) };
    let blocks: Vec<_> =
        residuals.map(|block| block.multiply(cotangent)?.cast(weight.dtype())).collect::<Result<_>>()?;
    let d_weight = match blocks.as_slice() {
        [] => zeros(weight.shape(), weight.dtype())?,
        blocks => Tensor::concatenate(&blocks.iter().collect::<Vec<_>>(), 0)?,
    };
    Ok([d_hidden, d_weight].into_iter().chain(d_adapter).collect())
}

fn zeros(shape: &[i32], dtype: Dtype) -> Result<Tensor<Infer>> {
    Ok(Constant::full(shape, 0.0, dtype)?.to_tensor())
}
