//! Generated code names everything by its full path.
#![no_implicit_prelude]

use ::cotangent::{Graph, Result, Tensor, differentiable, stage};
use ::std::option::Option::{None, Some};
use ::std::result::Result::Ok;

#[stage(grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 3)])]
fn scaled(
    x: In![f32; N],
    by: f32,
    kept: Option<In![bool; N]>,
    a: In![f32; N],
    b: Option<In![f32; N]>,
    y: Out![f32; N],
) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = x[i] * by + a[i];
        if (HAS_b) { y[i] += b[i]; }
        if (HAS_kept) { y[i] = kept[i] ? y[i] : 0.0f; }
    }
}

#[differentiable(backward = times_backward, fallback = by_operations, stages = [scaled], cases = [(N = 3, K = 2)])]
pub fn times<const K: usize>(x: In![f32; N], y: Out![f32; N], z: Out![f32; N]) {
    Ok(Outputs {
        y: scaled(stages, ScaledInputs { x, by: K as f32 - 1.0, kept: None, a: x, b: None })?,
        z: x.square()?,
    })
}

#[differentiable(backward_of = times)]
pub fn times_backward<const K: usize>(x: In![f32; N], d_y: In![f32; N], d_z: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(d_y.multiply(K as f32)?.add(&d_z.multiply(x)?.multiply(2.0)?)?) })
}

#[differentiable(inference_only = "it samples", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 3)])]
pub fn halved(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = 0.5f * x[i];
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>, k: usize) -> Result<TimesOutputs<M>> {
    Ok(TimesOutputs { y: x.multiply(k as f32)?, z: x.square()? })
}

pub fn main() {}
