//! What a call must fit: shapes, dtypes, constants; and what runs where.

use cotangent::kernel::{Kernel, kernels};
use cotangent::{
    Backend, Constant, Dtype, Graph, Infer, Mask, Result, Session, Stored, Tensor, backend, differentiable, stage,
};

/// Every kind of name a signature can bind.
#[differentiable(fallback = window_by_operations, cases = [(B = 2, S = 7, D = 3, W = 2, FLIP = 0)])]
pub fn window<T: F32 + BF16, const W: usize, const FLIP: bool>(
    x: In![T; B, S, D],
    weight: In![T; D],
    #[nodiff] bias: In![f32; D],
    keep: In![bool; B, S, 1],
    tail: In![T; B, S / 2, D],
    by: f32,
    y: Out![T; B, S - W, D],
) {
    Ok(Outputs { y: window_by_operations(WindowInputs { x, weight, bias, keep, tail, by, w: W, flip: FLIP })? })
}

fn window_by_operations<M: Graph>(inputs: WindowInputs<'_, M>) -> Result<Tensor<M>> {
    let WindowInputs { x, weight, bias, keep, tail, by, w, flip } = inputs;
    let biased = x.multiply(weight)?.add(&bias.cast(x.dtype())?)?.multiply(by)?;
    let kept = biased.select(keep, if flip { 1.0 } else { 0.0 })?;
    let kept = kept.add(&tail.sum_keep(&[1])?)?;
    kept.slice(1, 0, x.dimension(1) - w as i32)
}

/// The arguments of one call, right unless changed.
#[derive(Clone)]
struct Arguments {
    x: (Dtype, Vec<i32>),
    weight: (Dtype, Vec<i32>),
    bias: Vec<i32>,
    keep: Vec<i32>,
    tail: Vec<i32>,
    w: usize,
}

fn right() -> Arguments {
    Arguments {
        x: (Dtype::F32, vec![2, 7, 3]),
        weight: (Dtype::F32, vec![3]),
        bias: vec![3],
        keep: vec![2, 7, 1],
        tail: vec![2, 3, 3],
        w: 2,
    }
}

fn call(arguments: &Arguments) -> Result<Tensor<Stored>> {
    let ones = |shape: &[i32], dtype| -> Result<Tensor<Stored>> {
        let count = shape.iter().product::<i32>() as usize;
        Tensor::from_slice(&vec![1.0_f32; count], shape)?.cast(dtype)
    };
    let keep = vec![true; arguments.keep.iter().product::<i32>() as usize];
    let host = (
        Constant::from_stored(&ones(&arguments.bias, Dtype::F32)?)?,
        Mask::from_slice(&keep, &arguments.keep)?,
        arguments.w,
    );
    let tensors = vec![
        ones(&arguments.x.1, arguments.x.0)?,
        ones(&arguments.weight.1, arguments.weight.0)?,
        ones(&arguments.tail, arguments.x.0)?,
    ];
    Session::new()?.infer(&tensors, &Vec::<Tensor<Stored>>::new(), &host, |tensors, _, (bias, keep, w)| {
        let [x, weight, tail] = &tensors[..] else { panic!("three tensors") };
        window(WindowInputs { x, weight, bias, keep, tail, by: 2.0, w: *w, flip: false })
    })
}

#[test]
fn a_call_that_fits_gives_the_declared_shape_and_dtype() {
    for dtype in [Dtype::F32, Dtype::BF16] {
        let y = call(&Arguments { x: (dtype, vec![2, 7, 3]), weight: (dtype, vec![3]), ..right() }).unwrap();
        assert_eq!((y.shape(), y.dtype()), (&[2, 5, 3][..], dtype));
        // The value is (1 * 1 + 1) * 2, and three rows of the tail.
        assert!(y.to_vec::<f32>().unwrap().iter().all(|value| *value == 7.0));
    }
}

#[test]
fn a_call_that_does_not_fit_is_refused_with_kernel_port_and_both_sides() {
    for (arguments, message) in [
        (
            Arguments { x: (Dtype::F32, vec![2, 7]), ..right() },
            "kernel `window`, port `x`: found shape [2, 7], expected [B, S, D], which has 3 axes",
        ),
        (
            Arguments { weight: (Dtype::F32, vec![4]), ..right() },
            "kernel `window`, port `weight`: found shape [4], expected [D] = [3]",
        ),
        (
            Arguments { tail: vec![2, 4, 3], ..right() },
            "kernel `window`, port `tail`: found shape [2, 4, 3], expected [B, S / 2, D] = [2, 3, 3]",
        ),
        (
            Arguments { keep: vec![2, 7, 2], ..right() },
            "kernel `window`, port `keep`: found shape [2, 7, 2], expected [B, S, 1] = [2, 7, 1]",
        ),
        (
            Arguments { weight: (Dtype::BF16, vec![3]), ..right() },
            "kernel `window`, port `weight`: found bfloat16, expected float32, which `T` is in an earlier port",
        ),
        (
            Arguments { x: (Dtype::F16, vec![2, 7, 3]), ..right() },
            "kernel `window`, port `x`: found float16, expected one of float32, bfloat16",
        ),
        (
            Arguments { w: usize::MAX, ..right() },
            "kernel `window`: found 9223372036854775807 for the template constant `W`, which is 32 bits wide",
        ),
    ] {
        assert_eq!(call(&arguments).unwrap_err().to_string(), message);
    }
}

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn negated(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = -x[i];
    }
}

#[differentiable(backward = negate_backward, stages = [negated], cases = [(N = 3)])]
pub fn negate(x: In![f32; N], y: Out![f32; N]) {
    Ok(Outputs { y: negated(stages, x)? })
}

#[differentiable(backward_of = negate, stages = [negated])]
pub fn negate_backward(d_y: In![f32; N], d_x: Out![f32; N]) {
    Ok(Outputs { d_x: Some(negated(stages, d_y)?) })
}

#[test]
fn a_kernel_without_fallback_says_so_where_nothing_can_launch_it() {
    if backend().unwrap() != Backend::Cpu {
        return;
    }
    let x = vec![Tensor::from_slice(&[1.0_f32, 2.0, 3.0], &[3]).unwrap()];
    let run: fn(&Vec<Tensor<Infer>>, &Vec<Tensor<Infer>>, &()) -> Result<Tensor<Infer>> = |x, _, ()| negate(&x[0]);
    let error = Session::new().unwrap().infer(&x, &x, &(), run).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kernel `negate`: it launches GPU code and has no fallback, so it cannot run on the cpu backend"
    );
}

#[test]
fn the_registry_knows_every_declaration_and_what_it_launches() {
    let names: Vec<&str> = kernels().iter().map(|kernel| kernel.signature.name).collect();
    assert_eq!(names, ["negate", "negate_backward", "negated", "window"]);
    assert_eq!(negate::declaration().launches().len(), 2);
    assert!(window::declaration().is_portable() && !negate::declaration().is_portable());
    let file = negate::declaration().file;
    assert!(file.ends_with("kernel_binding.rs"), "{file}");
}
