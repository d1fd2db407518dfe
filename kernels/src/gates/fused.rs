//! The gates in one launch each way.

use cotangent::{Dtype, Graph, Result, Tensor, differentiable, stage};

/// `log_decay = -exp(a_log) * softplus(a + dt_bias)` and `beta = sigmoid(b)`, one row a token, one column a head.
#[differentiable(
    backward = fused_gates_backward,
    fallback = gates_by_operations,
    grid = (256 * ceil_div(N * H, 256), 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 1, H = 1), (N = 7, H = 3), (N = 67, H = 5)],
)]
pub fn fused_gates<T: Float>(
    a: In![T; N, H],
    b: In![T; N, H],
    a_log: In![f32; H],
    dt_bias: In![f32; H],
    log_decay: Out![f32; N, H],
    beta: Out![f32; N, H],
) {
    metal! {
        uint index = thread_position_in_grid.x;
        if (index >= uint(N * H)) { return; }
        uint head = index % H;
        float step = float(a[index]) + dt_bias[head];
        // softplus is max(x, 0) + log1p(exp(-|x|)), and Metal has no log1p: this one is Kahan's.
        float small = exp(-abs(step));
        float sum = 1.0f + small;
        float log1p = sum == 1.0f ? small : log(sum) * small / (sum - 1.0f);
        log_decay[index] = -exp(a_log[head]) * (max(step, 0.0f) + log1p);
        beta[index] = 1.0f / (1.0f + exp(-float(b[index])));
    }
}

/// d_b = d_beta beta (1 - beta); with l the log decay and x = a + dt_bias, d_a = -exp(a_log) sigmoid(x) d_l; d_dt_bias is
/// the sum of d_a over tokens, d_a_log that of l d_l.
#[differentiable(backward_of = fused_gates, stages = [gates_gradients])]
pub fn fused_gates_backward<T: Float>(
    a: In![T; N, H],
    a_log: In![f32; H],
    dt_bias: In![f32; H],
    log_decay: In![f32; N, H],
    beta: In![f32; N, H],
    d_log_decay: In![f32; N, H],
    d_beta: In![f32; N, H],
    d_a: Out![T; N, H],
    d_b: Out![T; N, H],
    d_a_log: Out![f32; H],
    d_dt_bias: Out![f32; H],
) {
    let gradients = gates_gradients(
        stages,
        GatesGradientsInputs {
            a,
            a_log,
            dt_bias,
            log_decay,
            beta,
            log_decay_cotangent: d_log_decay,
            beta_cotangent: d_beta,
        },
    )?;
    let total = |parts: &Tensor<_>, wanted| if wanted { parts.sum(&[0]).map(Some) } else { Ok(None) };
    Ok(Outputs {
        d_a_log: total(&gradients.a_log_parts, wants_d_a_log)?,
        d_dt_bias: total(&gradients.dt_bias_parts, wants_d_dt_bias)?,
        d_a: Some(gradients.a_gradient),
        d_b: Some(gradients.b_gradient),
    })
}

/// The gradients of `a` and `b`, and those of the two vectors in parts, each of 32 tokens in order: their sum is the same in
/// every run.
#[stage(
    grid = (64 * ceil_div(H * ceil_div(N, 32), 64), 1, 1),
    threads = (64, 1, 1),
    cases = [(N = 1, H = 1), (N = 7, H = 3), (N = 67, H = 5)],
)]
fn gates_gradients<T: Float>(
    a: In![T; N, H],
    a_log: In![f32; H],
    dt_bias: In![f32; H],
    log_decay: In![f32; N, H],
    beta: In![f32; N, H],
    log_decay_cotangent: In![f32; N, H],
    beta_cotangent: In![f32; N, H],
    a_gradient: Out![T; N, H],
    b_gradient: Out![T; N, H],
    a_log_parts: Out![f32; ceil_div(N, 32), H],
    dt_bias_parts: Out![f32; ceil_div(N, 32), H],
) {
    metal! {
        uint index = thread_position_in_grid.x;
        uint head = index % H;
        uint part = index / H;
        uint start = part * 32u;
        if (start >= uint(N)) { return; }
        float rate = -exp(a_log[head]);
        float a_log_sum = 0.0f;
        float dt_bias_sum = 0.0f;
        for (uint token = start; token < min(start + 32u, uint(N)); ++token) {
            uint at = token * H + head;
            float slope = log_decay_cotangent[at];
            float step_slope = rate * slope / (1.0f + exp(-(float(a[at]) + dt_bias[head])));
            float share = beta[at];
            a_log_sum += log_decay[at] * slope;
            dt_bias_sum += step_slope;
            a_gradient[at] = T(step_slope);
            b_gradient[at] = T(beta_cotangent[at] * share * (1.0f - share));
        }
        a_log_parts[index] = a_log_sum;
        dt_bias_parts[index] = dt_bias_sum;
    }
}

/// Computes the same gates from differentiable operations: the fallback.
fn gates_by_operations<M: Graph>(inputs: FusedGatesInputs<'_, M>) -> Result<FusedGatesOutputs<M>> {
    let FusedGatesInputs { a, b, a_log, dt_bias } = inputs;
    let rate = a_log.exp()?.negative()?;
    let step = a.cast(Dtype::F32)?.add(dt_bias)?.softplus()?;
    Ok(FusedGatesOutputs { log_decay: step.multiply(&rate)?, beta: b.cast(Dtype::F32)?.sigmoid()? })
}
