//! Kernel source for CUDA.

use cotangent_metal::{CudaGrid, CudaText, Dtype, Error, KernelText, Source, TemplateValue, cuda_text};

fn kernel() -> KernelText {
    let body = "
        uint row = threadgroup_position_in_grid.x;
        threadgroup float partial[N];
        float sum = simd_sum(weighted(x[row * x_shape[1] + thread_index_in_threadgroup], scale));
        if (thread_index_in_simdgroup == 0) partial[simdgroup_index_in_threadgroup] = sum * 0.5;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (thread_index_in_threadgroup == 0) y[row] = static_cast<T>(partial[0] + partial[1] + offsets[1]);";
    let header = "constant constexpr float offsets[2] = {0.5, 1.0};\ntemplate <typename T>\nfloat weighted(T x, float by) { return x * by; }";
    KernelText::new("weighted row-sums", body)
        .header(Source::new("weighted.metal", header))
        .input("x", Dtype::F16)
        .input("scale", Dtype::F32)
        .output("y", Dtype::BF16)
        .template("T", TemplateValue::Dtype(Dtype::BF16))
        .template("N", TemplateValue::Int(2))
}

fn text(grid: u32) -> Result<CudaText, Error> {
    cuda_text(&kernel(), &[&[8, 64], &[]], grid_of(grid, 64))
}

fn grid_of(grid: u32, threadgroup: u32) -> CudaGrid {
    CudaGrid::new([grid, 1, 1], [threadgroup, 1, 1]).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn the_source_is_one_call_with_metal_arguments() {
    let text = text(512).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(
        text.source,
        "metal::kernel_weighted_row_sums::metal_kernel_body<metal::bfloat, 2>((const metal::half*)x, (const \
         int*)x_shape.data(), *(const float*)scale, (metal::bfloat*)y, \
         metal::attribute_simdgroup_index_in_threadgroup(), metal::attribute_thread_index_in_simdgroup(), \
         metal::attribute_thread_index_in_threadgroup(), metal::attribute_threadgroup_position_in_grid());\n"
    );
}

#[test]
fn words_of_metal_become_words_of_cuda_on_the_same_lines() {
    let header = text(512).unwrap_or_else(|e| panic!("{e}")).header;
    for expected in [
        "#line 1 \"weighted.metal\"\n__constant__ constexpr float offsets[2] = {0.5f, 1.0f};\ntemplate <typename T>\n\
         __device__ float weighted(T x, float by)",
        "__shared__ ",
        "sum * 0.5f;",
    ] {
        assert!(header.contains(expected), "{expected}:\n{}", &header[header.len() - 2000..]);
    }
}

#[test]
fn what_cuda_cannot_do_is_refused() {
    let ragged = text(500).expect_err("threads meet in a ragged threadgroup").to_string();
    assert!(ragged.contains("CUDA has whole ones only"), "{ragged}");
    let raw =
        KernelText::new("raw", "\nsimdgroup_matrix<float, 8, 8> m;\nsimdgroup_store(m, y, 8);").output("y", Dtype::F32);
    let raw = cuda_text(&raw, &[], grid_of(32, 32)).expect_err("no counterpart").to_string();
    assert!(raw.starts_with("raw.metal:2: `simdgroup_matrix` has no counterpart"), "{raw}");
}

#[test]
fn threads_beyond_a_ragged_grid_do_nothing_where_none_meet() {
    let kernel = KernelText::new("plain", "y[thread_position_in_grid.x] = 1;").output("y", Dtype::F32);
    let text = |threads| cuda_text(&kernel, &[], grid_of(threads, 64)).unwrap_or_else(|e| panic!("{e}"));
    assert!(text(70).source.contains("if (at_.x >= end_.x") && text(70).reads_grid, "{}", text(70).source);
    assert_eq!(text(70), text(6400 + 1), "a text must not depend on the number of threads");
    assert_eq!(text(70).name("plain"), text(6401).name("plain"));
    let whole = text(128);
    assert!(!whole.source.contains("return") && !whole.reads_grid, "{}", whole.source);
    assert_ne!(text(70).name("plain"), whole.name("plain"), "MLX keeps compiled kernels by name");
}

#[test]
fn the_size_of_the_grid_comes_with_the_launch() {
    let kernel = KernelText::new("sizes", "y[0] = threads_per_grid.x;").output("y", Dtype::F32);
    let text = cuda_text(&kernel, &[], grid_of(64, 64)).unwrap_or_else(|e| panic!("{e}"));
    assert!(text.reads_grid && text.source.contains("metal::uint3(threads_of_grid_[0]"), "{}", text.source);
}

#[test]
fn launches_beyond_the_limits_of_cuda_are_named() {
    for (grid, threadgroup, expected) in [
        ([2048, 1, 1], [2048, 1, 1], "a threadgroup of 2048 threads, where CUDA takes 1 to 1024"),
        ([1, 1, 128], [1, 1, 128], "a threadgroup of 128 threads along z, where CUDA takes 64"),
        ([32, 65_536, 1], [32, 1, 1], "65536 threadgroups along y, where CUDA takes 65535"),
        ([32, 1, 131_072], [32, 1, 1], "131072 threadgroups along z, where CUDA takes 65535"),
    ] {
        assert_eq!(CudaGrid::new(grid, threadgroup), Err(expected.to_owned()));
    }
    for (grid, threadgroup, ragged) in [
        ([u32::MAX, 1, 1], [1024, 1, 1], true),
        ([1 << 31, 131_070, 1], [32, 2, 1], false),
        ([48, 1, 1], [48, 1, 1], true),
    ] {
        assert_eq!(CudaGrid::new(grid, threadgroup), Ok(CudaGrid { ragged }), "{grid:?}");
    }
}
