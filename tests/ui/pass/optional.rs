use cotangent::{Graph, Mask, Result, Tensor, differentiable};

#[differentiable(
    backward = scaled_backward,
    fallback = by_operations,
    grid = (N, 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 7)],
)]
pub fn scaled(x: In![f32; N], w: Option<In![f32; N]>, keep: Option<In![bool; N]>, y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        float value = x[i];
        if (HAS_w) { value *= w[i]; }
        if (HAS_keep) { value = keep[i] ? value : 0.0f; }
        y[i] = value;
    }
}

#[differentiable(backward_of = scaled)]
pub fn scaled_backward(
    x: In![f32; N],
    w: Option<In![f32; N]>,
    keep: Option<In![bool; N]>,
    d_y: In![f32; N],
    d_x: Out![f32; N],
    d_w: Option<Out![f32; N]>,
) {
    let kept = if let Some(keep) = keep { d_y.select(keep, 0.0)? } else { d_y.clone() };
    let d_x = if let Some(w) = w { kept.multiply(w)? } else { kept.clone() };
    let d_w = if wants_d_w { Some(kept.multiply(x)?) } else { None };
    Ok(Outputs { d_x: Some(d_x), d_w })
}

fn by_operations<M: Graph>(x: &Tensor<M>, w: Option<&Tensor<M>>, keep: Option<&Mask>) -> Result<Tensor<M>> {
    let scaled = if let Some(w) = w { x.multiply(w)? } else { x.clone() };
    if let Some(keep) = keep { scaled.select(keep, 0.0) } else { Ok(scaled) }
}

/// A model that leaves one out and passes the other.
pub fn forward<M: Graph>(x: &Tensor<M>, w: &Tensor<M>) -> Result<Tensor<M>> {
    scaled(x, Some(w), None)
}

pub fn main() {}
