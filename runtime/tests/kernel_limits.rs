//! Limits of Metal that depend on the sizes of a call.

use cotangent::{Backend, Dtype, Infer, Result, Session, Stored, Tensor, backend, differentiable};

#[differentiable(
    inference_only = "tests its memory",
    grid = (32, 1, 1),
    threads = (32, 1, 1),
    cases = [(D = 3)],
)]
pub fn reversed<T: F32 + BF16, const D: usize>(x: In![T; D], y: Out![T; D]) {
    metal! {
        constexpr int COPIES = 4;
        threadgroup T shared[COPIES][D];
        uint lane = thread_index_in_threadgroup;
        for (int i = lane; i < D; i += 32) { shared[0][i] = x[i]; }
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (int i = lane; i < D; i += 32) { y[i] = shared[0][D - 1 - i]; }
    }
}

type One = Vec<Tensor<Infer>>;

fn call(count: i32, dtype: Dtype) -> Result<Tensor<Stored>> {
    let values: Vec<f32> = (0..count).map(|index| (index % 8) as f32).collect();
    let x = vec![Tensor::<Stored>::from_slice(&values, &[count])?.cast(dtype)?];
    let run: fn(&One, &One, &()) -> Result<Tensor<Infer>> = |x, _, ()| reversed(&x[0]);
    Session::new()?.infer(&x, &x, &(), run)
}

#[test]
fn threadgroup_memory_is_counted_before_a_compiler_counts_it() {
    if !matches!(backend().unwrap(), Backend::Metal | Backend::Emulated) {
        return;
    }
    for dtype in [Dtype::F32, Dtype::BF16] {
        assert_eq!(call(3, dtype).unwrap().to_vec::<f32>().unwrap(), [2.0, 1.0, 0.0], "{dtype}");
    }
    call(2048, Dtype::F32).unwrap();
    for (count, dtype, bytes) in [(2049, Dtype::F32, 32784), (4097, Dtype::BF16, 32776)] {
        let error = call(count, dtype).unwrap_err();
        let expected = format!(
            "kernel `reversed`: it takes {bytes} bytes of threadgroup memory at these sizes, Metal allows 32768 [C14]"
        );
        assert_eq!(error.to_string(), expected);
    }
}
