//! A crate of kernels, as small as one can be: one gate with its gradient. Three programs use it or show more.
//!
//! `cargo test -p cotangent-examples` runs the test that the declaration brings, and `cargo xtask mutate softsign_gate` makes
//! mistakes in the gradient that this test must find.
//!
//! # A kernel with its gradient
//!
//! `cargo run -p cotangent-examples --example silu_gate`
//!
//! ```no_run
#![doc = include_str!("../silu_gate.rs")]
//! ```
//!
//! # A toy that learns with a kernel of its own
//!
//! `cargo run -p cotangent-examples --example learn`
//!
//! ```no_run
#![doc = include_str!("../learn.rs")]
//! ```
//!
//! # LoRA through the library
//!
//! `cargo run -p cotangent-examples --example lora`
//!
//! ```no_run
#![doc = include_str!("../lora.rs")]
//! ```

use cotangent::kernel::Declaration;
use cotangent::{Graph, Result, Tensor, differentiable};

/// `y = x g / (1 + |g|)`, element by element: a gate between -1 and 1 that needs no exponential (softsign; Bergstra et al.,
/// "Quadratic Polynomials Learn Better Image Features", 2009). `x`, `gate` and `y` are of one shape and dtype.
#[differentiable(
    backward = softsign_gate_backward,
    fallback = by_operations,
    grid = (N, 1, 1),
    threads = (256, 1, 1),
    cases = [(N = 7), (N = 300)],
)]
pub fn softsign_gate<T: Float>(x: In![T; N], gate: In![T; N], y: Out![T; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        float g = float(gate[i]);
        y[i] = T(float(x[i]) * g / (1.0f + fabs(g)));
    }
}

/// `d_x = d_y g / (1 + |g|)` and `d_gate = d_y x / (1 + |g|)^2`, each where it is wanted.
#[differentiable(backward_of = softsign_gate, grid = (N, 1, 1), threads = (256, 1, 1))]
pub fn softsign_gate_backward<T: Float>(
    x: In![T; N],
    gate: In![T; N],
    d_y: In![T; N],
    d_x: Out![T; N],
    d_gate: Out![T; N],
) {
    metal! {
        uint i = thread_position_in_grid.x;
        float g = float(gate[i]);
        float slope = 1.0f / (1.0f + fabs(g));
        float d = float(d_y[i]);
        if (WANTS_d_x) { d_x[i] = T(d * g * slope); }
        if (WANTS_d_gate) { d_gate[i] = T(d * float(x[i]) * slope * slope); }
    }
}

/// The same function of differentiable operations: it runs on the CPU, and the kernel is compared with it.
fn by_operations<M: Graph>(x: &Tensor<M>, gate: &Tensor<M>) -> Result<Tensor<M>> {
    // |g| is the sum of two parts, each of which has a gradient.
    let magnitude = gate.maximum(0.0)?.subtract(&gate.minimum(0.0)?)?;
    x.multiply(gate)?.divide(&magnitude.add(1.0)?)
}

/// All kernels that a program links, those of this crate among them: the linker drops a crate that nothing refers to.
pub fn kernels() -> Vec<&'static Declaration> {
    cotangent::kernel::kernels()
}
