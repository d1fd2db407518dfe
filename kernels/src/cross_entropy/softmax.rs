//! The softmax of a chunk of logits: one pass over it for the losses, one for their gradient.

use cotangent::{Constant, Dtype, Graph, Indices, Result, Tensor, differentiable, stage};

/// `losses = log sum exp(logits) - logits[label]` of each row, and `slopes = softmax - [v = label] at_label`, which are
/// their gradient where `at_label` is 1, for the logits of a chunk in float32. Slopes are rounded once, to the dtype of
/// `at_label`.
///
/// The sum is formed in one pass, scaled to the largest logit so far (Milakov and Gimelshein, "Online normalizer
/// calculation for softmax", 2018). Slopes that are not read are not computed.
#[differentiable(
    fallback = label_losses_by_operations,
    stages = [row_sums, row_slopes],
    cases = [(N = 3, V = 7), (N = 1, V = 2), (N = 2, V = 1301)],
)]
pub fn label_losses<S: Float>(
    #[values(-3.0..3.0)] logits: In![f32; N, V],
    #[values(0..V)] labels: In![i32; N],
    #[nodiff] at_label: In![S; 1],
    losses: Out![f32; N],
    slopes: Out![S; N, V],
) {
    let sums = row_sums(stages, logits, labels)?;
    let slopes = row_slopes(
        stages,
        RowSlopesInputs { logits, labels, at_label, largest_logits: &sums.largest_logits, log_sums: &sums.log_sums },
    )?;
    Ok(Outputs { losses: sums.losses, slopes })
}

/// Each row's largest logit, the logarithm of the sum of exponentials relative to it, and the loss: apart, as their sum
/// would round large logits. A threadgroup takes a row.
#[stage(grid = (256 * N, 1, 1), threads = (256, 1, 1), cases = [(N = 3, V = 7), (N = 1, V = 1), (N = 2, V = 4801)])]
fn row_sums(
    logits: In![f32; N, V],
    #[values(0..V)] labels: In![i32; N],
    losses: Out![f32; N],
    largest_logits: Out![f32; N],
    log_sums: Out![f32; N],
) {
    metal! {
        threadgroup float of_simdgroups[16];
        uint row = threadgroup_position_in_grid.x;
        ulong start = ulong(row) * V;
        float largest = -INFINITY;
        float sum = 0.0f;
        // Sixteen loads are in flight at a time, none of which waits for another.
        for (int v = int(thread_index_in_threadgroup); v < V; v += 4096) {
            float x[16];
            auto from = logits + (start + uint(v));
            if (v + 3840 < V) {
                #pragma unroll
                for (int i = 0; i < 16; ++i) { x[i] = from[256 * i]; }
            } else {
                #pragma unroll
                for (int i = 0; i < 16; ++i) { x[i] = v + 256 * i < V ? from[256 * i] : -INFINITY; }
            }
            float top = x[0];
            #pragma unroll
            for (int i = 1; i < 16; ++i) { top = max(top, x[i]); }
            if (top > largest) {
                sum *= exp(largest - top);
                largest = top;
            }
            float shift = largest == -INFINITY ? 0.0f : largest;
            #pragma unroll
            for (int i = 0; i < 16; ++i) { sum += exp(x[i] - shift); }
        }
        float all = simd_max(largest);
        float shift = all == -INFINITY ? 0.0f : all;
        sum = simd_sum(sum * exp(largest - shift));
        if (thread_index_in_simdgroup == 0) {
            of_simdgroups[2 * simdgroup_index_in_threadgroup] = all;
            of_simdgroups[2 * simdgroup_index_in_threadgroup + 1] = sum;
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index_in_threadgroup != 0) return;
        all = of_simdgroups[0];
        for (int i = 1; i < 8; ++i) all = max(all, of_simdgroups[2 * i]);
        shift = all == -INFINITY ? 0.0f : all;
        sum = 0.0f;
        for (int i = 0; i < 8; ++i) sum += of_simdgroups[2 * i + 1] * exp(of_simdgroups[2 * i] - shift);
        float log_sum = log(sum);
        largest_logits[row] = all;
        log_sums[row] = log_sum;
        losses[row] = all - logits[start + labels[row]] + log_sum;
    }
}

/// `exp(logits - largest - log_sum) - [v = label] at_label`. A threadgroup takes 4096 logits of a row.
#[stage(
    grid = (256 * ceil_div(V, 4096) * N, 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 3, V = 7), (N = 2, V = 1301), (N = 2, V = 4801)],
)]
fn row_slopes<S: Float>(
    logits: In![f32; N, V],
    #[values(0..V)] labels: In![i32; N],
    #[nodiff] at_label: In![S; 1],
    largest_logits: In![f32; N],
    log_sums: In![f32; N],
    slopes: Out![S; N, V],
) {
    metal! {
        int blocks = (V + 4095) / 4096;
        int row = int(threadgroup_position_in_grid.x) / blocks;
        int first = int(threadgroup_position_in_grid.x) % blocks * 4096 + int(thread_index_in_threadgroup);
        ulong start = ulong(row) * V + uint(first);
        auto from = logits + start;
        auto to = slopes + start;
        // If the last of this thread's places is in the row, all of them are.
        bool whole = first + 3840 < V;
        // All loads come before the first store, because the compiler cannot know that a store does not change a later
        // load.
        float x[16];
        if (whole) {
            #pragma unroll
            for (int i = 0; i < 16; ++i) { x[i] = from[256 * i]; }
        } else {
            #pragma unroll
            for (int i = 0; i < 16; ++i) { x[i] = first + 256 * i < V ? from[256 * i] : -INFINITY; }
        }
        float largest = largest_logits[row];
        float log_sum = log_sums[row];
        int label = labels[row];
        float taken = float(at_label[0]);
        #pragma unroll
        for (int i = 0; i < 16; ++i) {
            x[i] = exp(x[i] - largest - log_sum);
            if (first + 256 * i == label) { x[i] -= taken; }
        }
        if (whole) {
            #pragma unroll
            for (int i = 0; i < 16; ++i) { to[256 * i] = S(x[i]); }
        } else {
            #pragma unroll
            for (int i = 0; i < 16; ++i) {
                if (first + 256 * i < V) { to[256 * i] = S(x[i]); }
            }
        }
    }
}

fn label_losses_by_operations<M: Graph>(
    logits: &Tensor<M>,
    labels: &Indices,
    at_label: &Constant,
) -> Result<LabelLossesOutputs<M>> {
    let rows = logits.dimension(0);
    let largest =
        logits.detach("the softmax is the same whatever is taken from all logits").to_tensor::<M>().max_keep(&[-1])?;
    let shifted = logits.subtract(&largest)?;
    let log_sums = shifted.logsumexp_keep(-1)?;
    let losses = log_sums.subtract(&shifted.take_along_axis(&labels.reshape(&[rows, 1])?, -1)?)?.squeeze(1)?;
    let labels = labels.to_constant("the place of the 1")?.to_tensor::<M>().reshape(&[rows, 1])?;
    let vocabulary: Vec<f32> = (0..logits.dimension(1)).map(|index| index as f32).collect();
    let vocabulary = Constant::from_slice(&vocabulary, &[1, logits.dimension(1)])?.to_tensor::<M>();
    // This is -1 where the distance is 0, else 0. Whole numbers are exact in float32 up to 2^24.
    let is_label = vocabulary.subtract(&labels)?.abs()?.subtract(1.0)?.minimum(0.0)?;
    let taken = is_label.multiply(&at_label.to_tensor::<M>().cast(Dtype::F32)?)?;
    let slopes = shifted.subtract(&log_sums)?.exp()?.add(&taken)?.cast(at_label.dtype())?;
    Ok(LabelLossesOutputs { losses, slopes })
}
