//! The convolution in one launch in each direction, and one more for the gradient of a weight that trains. A thread
//! keeps a piece of one channel in registers, and reads little more than its own inputs.

use cotangent::{differentiable, stage};

use super::portable::portable_causal_conv;
use crate::sigmoid::SIGMOID;

/// Loads and stores of one channel of a piece of tokens.
const PIECES: &str = "
// Loads `COUNT` inputs from the token `start` on, and 0 where the row has none. A piece that does not touch an end of the row
// needs no checks.
template <int COUNT, typename Inputs>
inline void load_inputs(thread float* inputs, Inputs x, uint row, int start, int tokens, int channels, uint channel) {
  if (start >= 0 && start + COUNT <= tokens) {
    auto from = x + ((ulong(row) * uint(tokens) + uint(start)) * uint(channels) + channel);
    #pragma unroll
    for (int i = 0; i < COUNT; ++i) { inputs[i] = float(from[ulong(uint(channels)) * uint(i)]); }
    return;
  }
  #pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    int token = start + i;
    bool there = token >= 0 && token < tokens;
    inputs[i] = there ? float(x[ulong(row * uint(tokens) + uint(token)) * uint(channels) + channel]) : 0.0f;
  }
}

// Loads those of the K - 1 inputs before the token `first` that lie before the row.
template <int K, typename Window>
inline void load_window(thread float* inputs, Window window, uint row, int first, int channels, uint channel) {
  #pragma unroll
  for (int i = 0; i < K - 1; ++i) {
    if (first + i < K - 1) { inputs[i] = float(window[ulong(row * (K - 1) + uint(first + i)) * uint(channels) + channel]); }
  }
}

// Stores the first `count` of a piece's values.
template <int PIECE, typename T>
inline void store_piece(device T* to, thread const float* values, int count, int channels) {
  if (count >= PIECE) {
    #pragma unroll
    for (int i = 0; i < PIECE; ++i) { to[ulong(uint(channels)) * uint(i)] = T(values[i]); }
    return;
  }
  #pragma unroll
  for (int i = 0; i < PIECE; ++i) {
    if (i < count) { to[ulong(uint(channels)) * uint(i)] = T(values[i]); }
  }
}
";

/// `y[t] = silu(sum_j weight[K - 1 - j] x[t - j])` over the inputs that `t` sees.
#[differentiable(
    backward = fused_causal_conv_backward,
    fallback = portable_causal_conv,
    headers = [SIGMOID, PIECES],
    requires = [K >= 2, K <= 16, B <= 65535],
    dims = [PIECE = 16, INPUTS = K - 1 + PIECE],
    grid = (128 * ceil_div(C, 128), ceil_div(S, PIECE), B),
    threads = (128, 1, 1),
    cases = [(B = 1, S = 1, C = 3, K = 4), (B = 2, S = 9, C = 5, K = 3), (B = 2, S = 37, C = 130, K = 4)],
)]
pub fn fused_causal_conv<T: Float, const K: usize>(
    x: In![T; B, S, C],
    weight: In![f32; C, 1, K],
    window: Option<In![T; B, K - 1, C]>,
    mask: Option<In![bool; B, S]>,
    starts: Option<In![bool; B, S]>,
    y: Out![T; B, S, C],
) {
    metal! {
        uint channel = thread_position_in_grid.x;
        uint row = threadgroup_position_in_grid.z;
        int first = int(threadgroup_position_in_grid.y) * PIECE;
        if (channel >= uint(C)) { return; }
        float taps[K];
        for (int j = 0; j < K; ++j) { taps[j] = weight[channel * K + (K - 1 - j)]; }
        ulong start = (ulong(row) * uint(S) + uint(first)) * uint(C) + channel;
        // All loads come first, so that none waits for another.
        float inputs[INPUTS];
        load_inputs<INPUTS>(inputs, x, row, first - (K - 1), S, C, channel);
        if (HAS_window) { load_window<K>(inputs, window, row, first, C, channel); }
        if (HAS_mask) {
            #pragma unroll
            for (int i = 0; i < INPUTS; ++i) {
                int token = first - (K - 1) + i;
                if (token >= 0 && token < S && !mask[row * S + uint(token)]) { inputs[i] = 0.0f; }
            }
        }
        // `seen` is how many inputs before its own a token sees.
        int seen = K - 1;
        float results[PIECE];
        #pragma unroll
        for (int i = 0; i < INPUTS; ++i) {
            int token = first - (K - 1) + i;
            if (HAS_starts) {
                if (token >= 0 && token < S) { seen = starts[row * S + uint(token)] ? 0 : min(seen + 1, K - 1); }
            }
            if (i >= K - 1) {
                float sum = 0.0f;
                #pragma unroll
                for (int j = 0; j < K; ++j) {
                    if (j <= seen) { sum += taps[j] * inputs[i - j]; }
                }
                results[i - (K - 1)] = sum * sigmoid_of(sum);
            }
        }
        store_piece<PIECE>(y + start, results, S - first, C);
    }
}

/// Computes the gradients of [`fused_causal_conv`]. With c the sum before the SiLU, s its sigmoid and dc = d_y s (1 + c
/// (1 - s)): d_x[t] = sum_j weight[K - 1 - j] dc[t + j] over the tokens that see t, and likewise d_window before the
/// first token; d_weight[K - 1 - j] = sum_t dc[t] x[t - j].
#[differentiable(backward_of = fused_causal_conv, stages = [conv_input_gradients, conv_weight_parts])]
pub fn fused_causal_conv_backward<T: Float, const K: usize>(
    x: In![T; B, S, C],
    weight: In![f32; C, 1, K],
    window: Option<In![T; B, K - 1, C]>,
    mask: Option<In![bool; B, S]>,
    starts: Option<In![bool; B, S]>,
    d_y: In![T; B, S, C],
    d_x: Out![T; B, S, C],
    d_weight: Out![f32; C, 1, K],
    d_window: Option<Out![T; B, K - 1, C]>,
) {
    let inputs = if wants_d_x || wants_d_window {
        Some(conv_input_gradients(
            stages,
            ConvInputGradientsInputs { x, weight, window, mask, starts, cotangent: d_y },
        )?)
    } else {
        None
    };
    let d_weight = if wants_d_weight {
        let parts =
            conv_weight_parts(stages, ConvWeightPartsInputs { x, weight, window, mask, starts, cotangent: d_y })?;
        Some(parts.sum(&[0, 1])?.swap_axes(0, 1)?.expand_dims(1)?)
    } else {
        None
    };
    let (d_x, d_window) = inputs.map(|inputs| (inputs.x_gradient, inputs.window_gradient)).unzip();
    Ok(Outputs { d_x, d_weight, d_window: d_window.filter(|_| window.is_some()) })
}

/// The gradients of the inputs, those before the first among them. A thread has the inputs of a piece, and walks on to the
/// tokens behind it that see them.
#[stage(
    headers = [SIGMOID, PIECES],
    requires = [K >= 2, K <= 16, B <= 65535],
    dims = [PIECE = 16, SLOPES = PIECE + K - 1, INPUTS = K - 1 + SLOPES],
    grid = (128 * ceil_div(C, 128), ceil_div(S, PIECE), B),
    threads = (128, 1, 1),
    cases = [(B = 1, S = 1, C = 3, K = 4), (B = 2, S = 67, C = 5, K = 3)],
)]
fn conv_input_gradients<T: Float, const K: usize>(
    x: In![T; B, S, C],
    weight: In![f32; C, 1, K],
    window: Option<In![T; B, K - 1, C]>,
    mask: Option<In![bool; B, S]>,
    starts: Option<In![bool; B, S]>,
    cotangent: In![T; B, S, C],
    x_gradient: Out![T; B, S, C],
    window_gradient: Out![T; B, K - 1, C],
) {
    metal! {
        uint channel = thread_position_in_grid.x;
        uint row = threadgroup_position_in_grid.z;
        int first = int(threadgroup_position_in_grid.y) * PIECE;
        if (channel >= uint(C)) { return; }
        float taps[K];
        for (int j = 0; j < K; ++j) { taps[j] = weight[channel * K + (K - 1 - j)]; }
        ulong start = (ulong(row) * uint(S) + uint(first)) * uint(C) + channel;
        // All loads come first, so that none waits for another.
        float inputs[INPUTS];
        float slopes[SLOPES];
        load_inputs<INPUTS>(inputs, x, row, first - (K - 1), S, C, channel);
        if (HAS_window) { load_window<K>(inputs, window, row, first, C, channel); }
        if (first + SLOPES <= S) {
            auto from = cotangent + start;
            #pragma unroll
            for (int i = 0; i < SLOPES; ++i) { slopes[i] = float(from[ulong(uint(C)) * uint(i)]); }
        } else {
            #pragma unroll
            for (int i = 0; i < SLOPES; ++i) {
                slopes[i] = first + i < S ? float(cotangent[ulong(row * S + uint(first + i)) * C + channel]) : 0.0f;
            }
        }
        if (HAS_mask) {
            #pragma unroll
            for (int i = 0; i < INPUTS; ++i) {
                int token = first - (K - 1) + i;
                if (token >= 0 && token < S && !mask[row * S + uint(token)]) { inputs[i] = 0.0f; }
            }
        }
        // `given` holds the gradients of the piece's inputs, and of the K - 1 inputs before it.
        float given[INPUTS] = {};
        int seen = K - 1;
        #pragma unroll
        for (int i = 0; i < INPUTS; ++i) {
            int token = first - (K - 1) + i;
            if (HAS_starts) {
                if (token >= 0 && token < S) { seen = starts[row * S + uint(token)] ? 0 : min(seen + 1, K - 1); }
            }
            if (i >= K - 1) {
                float sum = 0.0f;
                #pragma unroll
                for (int j = 0; j < K; ++j) {
                    if (j <= seen) { sum += taps[j] * inputs[i - j]; }
                }
                float sigmoid = sigmoid_of(sum);
                float slope = slopes[i - (K - 1)] * sigmoid * (1.0f + sum * (1.0f - sigmoid));
                #pragma unroll
                for (int j = 0; j < K; ++j) {
                    if (j <= seen) { given[i - j] += taps[j] * slope; }
                }
            }
        }
        if (HAS_mask) {
            #pragma unroll
            for (int i = 0; i < PIECE; ++i) {
                if (first + i < S && !mask[row * S + uint(first + i)]) { given[i + K - 1] = 0.0f; }
            }
        }
        store_piece<PIECE>(x_gradient + start, given + (K - 1), S - first, C);
        if (first == 0) {
            #pragma unroll
            for (int i = 0; i < K - 1; ++i) {
                window_gradient[ulong(row * (K - 1) + uint(i)) * C + channel] = T(given[i]);
            }
        }
    }
}

/// The gradient of the weight in parts, each of 32 tokens in order: their sum is the same in every run.
#[stage(
    headers = [SIGMOID],
    requires = [K >= 2, K <= 16, B <= 65535],
    grid = (128 * ceil_div(C, 128), ceil_div(S, 32), B),
    threads = (128, 1, 1),
    cases = [(B = 1, S = 1, C = 3, K = 4), (B = 2, S = 67, C = 5, K = 3)],
)]
fn conv_weight_parts<T: Float, const K: usize>(
    x: In![T; B, S, C],
    weight: In![f32; C, 1, K],
    window: Option<In![T; B, K - 1, C]>,
    mask: Option<In![bool; B, S]>,
    starts: Option<In![bool; B, S]>,
    cotangent: In![T; B, S, C],
    parts: Out![f32; B, ceil_div(S, 32), K, C],
) {
    metal! {
        uint channel = thread_position_in_grid.x;
        uint row = threadgroup_position_in_grid.z;
        uint part = threadgroup_position_in_grid.y;
        int first = int(part) * 32;
        if (channel >= uint(C)) { return; }
        float taps[K];
        float past[K] = {};
        float sums[K] = {};
        for (int j = 0; j < K; ++j) { taps[j] = weight[channel * K + (K - 1 - j)]; }
        int seen = K - 1;
        for (int token = first - (K - 1); token < min(first + 32, int(S)); ++token) {
            for (int j = K - 1; j > 0; --j) { past[j] = past[j - 1]; }
            past[0] = 0.0f;
            uint place = row * S + uint(max(token, 0));
            if (token >= 0) {
                past[0] = float(x[ulong(place) * C + channel]);
                if (HAS_mask) { past[0] = mask[place] ? past[0] : 0.0f; }
                if (HAS_starts) { seen = starts[place] ? 0 : min(seen + 1, K - 1); }
            } else if (HAS_window) {
                past[0] = float(window[ulong(row * (K - 1) + uint(token + K - 1)) * C + channel]);
            }
            if (token >= first) {
                float sum = 0.0f;
                for (int j = 0; j < K; ++j) {
                    if (j <= seen) { sum += taps[j] * past[j]; }
                }
                float sigmoid = sigmoid_of(sum);
                float slope = float(cotangent[ulong(place) * C + channel]) * sigmoid * (1.0f + sum * (1.0f - sigmoid));
                for (int j = 0; j < K; ++j) {
                    if (j <= seen) { sums[j] += slope * past[j]; }
                }
            }
        }
        ulong start = (ulong(row) * ((S + 31) / 32) + part) * K;
        for (int j = 0; j < K; ++j) { parts[(start + (K - 1 - j)) * C + channel] = sums[j]; }
    }
}

cotangent::calls! { "fused_causal_conv": super::portable_conv_silu }
