//! The loss over the vocabulary, in chunks of rows: the logits of a whole batch are never in memory.

mod chunk;
mod labels;
mod softmax;

use cotangent::host::leaf;
use cotangent::{Constant, Dtype, Error, Graph, Infer, Result, Tensor, custom_vjp};

use chunk::{Chunks, Head, Scores};
pub use labels::{IGNORED, Labels};
pub use softmax::{LabelLossesOutputs, label_losses};

const OPERATION: &str = "cross_entropy";

/// What the two directions know besides tensors.
#[derive(Clone)]
struct Host {
    labels: Labels,
    scale: f32,
    chunk_bytes: usize,
    wants_hidden: bool,
    wants_weight: bool,
}

/// `scale * sum(-log softmax(hidden weight^T)[label])` over the rows that count, a scalar of float32: hidden states
/// `[N, D]`, the head's weight `[V, D]` as it is stored.
///
/// For a mean pass 1 over the count of the whole accumulation (at least 1) for `scale`. Logits and softmax are
/// float32. Gradients are formed chunk by chunk in the forward pass; a frozen weight costs nothing.
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
    check(hidden, weight, labels)?;
    let host = Host {
        labels: labels.clone(),
        scale,
        chunk_bytes,
        wants_hidden: hidden.needs_gradient(),
        wants_weight: weight.needs_gradient(),
    };
    let mut outputs = custom_vjp(OPERATION, &[hidden, weight], &host, forward, backward)?;
    Ok(outputs.swap_remove(0))
}

/// `-log softmax(hidden weight^T)[label]` of each row, 0 where the label is [`IGNORED`]: `[N]` of float32.
///
/// # Errors
/// As [`cross_entropy`].
pub fn token_losses(hidden: &Tensor<Infer>, weight: &Tensor<Infer>, labels: &Labels) -> Result<Tensor<Infer>> {
    check(hidden, weight, labels)?;
    let chunk_bytes = cotangent::backend()?.chunk_bytes();
    let head = Head::new(weight, chunk_bytes);
    let mut losses: Vec<Tensor<Infer>> = Vec::new();
    for chunk in Chunks::new(labels, weight.dimension(0), chunk_bytes) {
        let before: Vec<_> = losses.last().into_iter().collect();
        let logits = head.logits(&chunk.rows(hidden, &before)?)?;
        losses.push(chunk.losses(&logits)?);
    }
    losses.push(zeros(&[1], Dtype::F32)?);
    Tensor::concatenate(&losses.iter().collect::<Vec<_>>(), 0)?.take_rows(&labels.places()?)
}

fn check<M: Graph>(hidden: &Tensor<M>, weight: &Tensor<M>, labels: &Labels) -> Result<()> {
    let (h, w) = (hidden.shape(), weight.shape());
    if h.len() != 2 || w.len() != 2 || h[1] != w[1] || h[0] as usize != labels.rows() {
        return Err(Error::Shape {
            operation: OPERATION,
            found: format!("{h:?}, {w:?} and {} labels", labels.rows()),
            expected: "[N, D], [V, D] and N labels".into(),
        });
    }
    // Checked before anything is computed: MLX reads out of bounds without a word.
    match labels.counted().iter().find(|counted| counted.label >= w[0]) {
        Some(counted) => {
            Err(Error::IndexOutOfRange { operation: OPERATION, index: counted.label.into(), length: w[0].into() })
        }
        None => Ok(()),
    }
}

/// The loss; then, where they are wanted and a row counts, the gradient of the rows that count (float32) and that of
/// each block of the weight (float32), both for the cotangent 1.
fn forward(inputs: &[Tensor<Infer>], host: &Host) -> Result<Vec<Tensor<Infer>>> {
    let [hidden, weight] = inputs else { unreachable!("two inputs") };
    let (hidden, weight) = (&leaf(hidden)?, &leaf(weight)?);
    let head = Head::new(weight, host.chunk_bytes);
    let mut loss: Option<Tensor<Infer>> = None;
    let mut hidden_gradients: Vec<Tensor<Infer>> = Vec::new();
    let mut weight_gradients: Vec<Tensor<Infer>> = Vec::new();
    for chunk in Chunks::new(&host.labels, weight.dimension(0), host.chunk_bytes) {
        let before: Vec<_> = loss.iter().chain(hidden_gradients.last()).chain(&weight_gradients).collect();
        let rows = chunk.rows(hidden, &before)?;
        let logits = head.logits(&rows)?;
        let scores = if host.wants_hidden || host.wants_weight { Some(chunk.scores(&logits)?) } else { None };
        let losses = match &scores {
            Some(scores) => scores.losses.clone(),
            None => chunk.losses(&logits)?,
        };
        let sum = losses.sum_all()?.multiply(host.scale)?;
        loss = Some(match loss {
            Some(loss) => loss.add(&sum)?,
            None => sum,
        });
        let Some(Scores { slopes, .. }) = scores else { continue };
        if host.wants_hidden {
            hidden_gradients.push(head.hidden_gradient(&slopes)?.multiply(host.scale)?);
        }
        if host.wants_weight {
            let rows = rows.multiply(host.scale)?;
            weight_gradients = head.add_weight_gradients(&slopes, &rows, weight_gradients)?;
        }
    }
    let mut outputs = vec![loss.map_or_else(|| zeros(&[], Dtype::F32), Ok)?];
    if !hidden_gradients.is_empty() {
        outputs.push(Tensor::concatenate(&hidden_gradients.iter().collect::<Vec<_>>(), 0)?);
    }
    outputs.extend(weight_gradients);
    Ok(outputs)
}

fn backward(
    primals: &[Tensor<Infer>],
    cotangents: &[Tensor<Infer>],
    outputs: &[Tensor<Infer>],
    host: &Host,
) -> Result<Vec<Tensor<Infer>>> {
    let [hidden, weight] = primals else { unreachable!("two inputs") };
    let cotangent = &cotangents[0];
    let counts = host.labels.count() > 0;
    let mut residuals = outputs[1..].iter();
    let wanted = if counts && host.wants_hidden { residuals.next() } else { None };
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
    let blocks: Vec<_> =
        residuals.map(|block| block.multiply(cotangent)?.cast(weight.dtype())).collect::<Result<_>>()?;
    let d_weight = match blocks.as_slice() {
        [] => zeros(weight.shape(), weight.dtype())?,
        blocks => Tensor::concatenate(&blocks.iter().collect::<Vec<_>>(), 0)?,
    };
    Ok(vec![d_hidden, d_weight])
}

fn zeros(shape: &[i32], dtype: Dtype) -> Result<Tensor<Infer>> {
    Ok(Constant::full(shape, 0.0, dtype)?.to_tensor())
}
