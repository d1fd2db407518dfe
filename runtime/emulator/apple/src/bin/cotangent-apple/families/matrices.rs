//! Kernels of attention, of the gated delta rule, and of quantized and plain matrices by vectors.

use cotangent_emulator::{Bound, BoundLaunch, Dtype};

use crate::case::{Case, F32, FLOATS, INTEGERS, Type, input, launch, output, scalar};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for ty in FLOATS {
        cases.extend(gated_delta(ty));
        cases.push(attention(ty));
        cases.extend(quantized(ty));
        cases.extend(vectors(ty));
    }
    cases
}

/// `float`, `float16_t`, `bfloat16_t`: how newer kernels of the library call types.
fn long_name(ty: Type) -> &'static str {
    match ty.dtype {
        Dtype::F16 => "float16_t",
        Dtype::BF16 => "bfloat16_t",
        _ => "float",
    }
}

fn gated_delta(ty: Type) -> Vec<Case> {
    const HEADS: usize = 16;
    const D: usize = 128;
    let case = |form: &str, template: &str, size: usize, headers, constants: Vec<(u32, i64)>, launches| Case {
        family: "gated delta",
        function: form.to_owned(),
        kernel: format!("{form}_{}_128_128_16_16_{size}", long_name(ty)),
        headers,
        instance: format!("{template}<{}, 128, 128, 16, 16, {size}>", ty.metal),
        constants,
        launches,
    };
    let buffers = |t: usize| -> Vec<Bound<'static>> {
        vec![
            input(0, ty, t * HEADS * D, (-0.2, 0.2)),
            input(1, ty, t * HEADS * D, (-0.1, 0.1)),
            input(2, ty, t * HEADS * D, (-1.0, 1.0)),
            input(3, F32, HEADS * D * D, (-0.5, 0.5)),
            input(4, ty, t * HEADS, (0.5, 0.99)),
            input(5, ty, t * HEADS, (0.1, 0.9)),
            output(6, ty.dtype, t * HEADS * D),
            output(7, Dtype::F32, HEADS * D * D),
            scalar(8, Dtype::I32, t as f64),
        ]
    };
    let both = |t: usize| launch([32, D, HEADS], [32, 4, 1], buffers(t));
    let headers: &[&str] = &["gated_delta_update"];
    vec![
        case("seq_gated_delta", "gated_delta_seq", 4, headers, vec![(200, 0)], vec![both(1), both(5)]),
        case("gated_delta_fused_chunk", "gated_delta_fused_chunk", 8, headers, Vec::new(), chunks(&buffers)),
    ]
}

/// One simdgroup for each eight columns of values.
fn chunks(buffers: &dyn Fn(usize) -> Vec<Bound<'static>>) -> Vec<BoundLaunch<'static>> {
    [8, 11].into_iter().map(|t| launch([32, 16, 16], [32, 4, 1], buffers(t))).collect()
}

fn attention(ty: Type) -> Case {
    let constants = vec![(20, 0), (21, 0), (22, 0), (23, 0), (24, 0), (25, 0), (26, 0)];
    Case {
        family: "attention",
        function: "sdpa_vector".into(),
        kernel: format!("sdpa_vector_{}_64_64", long_name(ty)),
        headers: &["sdpa_vector"],
        instance: format!("sdpa_vector<{}, 64, 64>", ty.metal),
        constants,
        launches: [7, 45]
            .into_iter()
            .map(|n: usize| {
                let (heads, groups, d) = (4, 2, 64);
                let size = |index, value: usize| scalar(index, Dtype::U64, value as f64);
                let buffers = vec![
                    input(0, ty, heads * d, (-1.0, 1.0)),
                    input(1, ty, groups * n * d, (-1.0, 1.0)),
                    input(2, ty, groups * n * d, (-1.0, 1.0)),
                    output(3, ty.dtype, heads * d),
                    scalar(4, Dtype::I32, (heads / groups) as f64),
                    scalar(5, Dtype::I32, n as f64),
                    size(6, n * d),
                    size(7, d),
                    size(8, n * d),
                    size(9, d),
                    scalar(10, Dtype::F32, 0.125),
                ];
                launch([1024 * heads, 1, 1], [1024, 1, 1], buffers)
            })
            .collect(),
    }
}

fn quantized(ty: Type) -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in [3, 4, 8] {
        let name = long_name(ty);
        let case = |form: &str, rest: &str, instance: String, launches| Case {
            family: "quantized",
            function: format!("{form} of {bits} bits"),
            kernel: format!("{form}_{name}_gs_64_b_{bits}{rest}"),
            headers: &["steel/gemm/gemm", "quantized_utils", "quantized"],
            instance,
            constants: Vec::new(),
            launches,
        };
        let types = format!("{}, 64, {bits}", ty.metal);
        let quantize = |groups: usize| {
            let n = groups * 64;
            let buffers = vec![
                input(0, ty, n, (-2.0, 2.0)),
                output(1, Dtype::U8, n * bits / 8),
                output(2, ty.dtype, groups),
                output(3, ty.dtype, groups),
            ];
            launch([n / 2, 1, 1], [64, 1, 1], buffers)
        };
        cases.push(case("affine_quantize", "", format!("affine_quantize<{types}>"), vec![quantize(1), quantize(13)]));
        let dequantize = |groups: usize| {
            let n = groups * 64;
            let buffers = vec![
                input(0, INTEGERS[0], n * bits / 8, (0.0, 256.0)),
                input(1, ty, groups, (-0.1, 0.1)),
                input(2, ty, groups, (-1.0, 1.0)),
                output(3, ty.dtype, n),
            ];
            let together = if bits == 3 { 8 } else { 8 / bits };
            launch([n / together, 1, 1], [64, 1, 1], buffers)
        };
        let instance = format!("affine_dequantize<{types}>");
        cases.push(case("affine_dequantize", "", instance, vec![dequantize(1), dequantize(13)]));
        let product = |rows: usize, columns: usize| {
            let words = columns * bits / 32;
            let none = |index| Bound::read(index, "unused", Dtype::I64, [0.0]);
            let mut buffers = vec![
                input(0, INTEGERS[2], rows * words, (0.0, 4294967295.0)),
                input(1, ty, rows * columns / 64, (-0.1, 0.1)),
                input(2, ty, rows * columns / 64, (-1.0, 1.0)),
                input(3, ty, columns, (-1.0, 1.0)),
                output(4, ty.dtype, rows),
                scalar(5, Dtype::I32, columns as f64),
                scalar(6, Dtype::I32, rows as f64),
                scalar(7, Dtype::I32, 0.0),
                scalar(10, Dtype::I32, 0.0),
            ];
            buffers.extend([8, 9, 11, 12, 13, 14].map(none));
            launch([32, rows.div_ceil(8) * 2, 1], [32, 2, 1], buffers)
        };
        cases.push(case(
            "affine_qmv_fast",
            "_batch_0_pr_0_hgs_0_r_4",
            format!("affine_qmv_fast<{types}, false, false, false, 4>"),
            vec![product(8, 512), product(24, 1024)],
        ));
        cases.push(case(
            "affine_qmv",
            "_batch_0_pr_0_hgs_0_r_4",
            format!("affine_qmv<{types}, false, false, false, 4>"),
            vec![product(5, 192), product(13, 704)],
        ));
    }
    cases
}

fn vectors(ty: Type) -> Vec<Case> {
    let mut cases = Vec::new();
    for (form, m) in [("gemv", 4), ("gemv", 1)] {
        let shape = format!("bm1_bn8_sm1_sn32_tm{m}_tn4_nc0_axpby0");
        cases.push(Case {
            family: "gemv",
            function: format!("{form} of {m} rows a thread"),
            kernel: format!("{form}_{}_{shape}", ty.library),
            headers: &["steel/utils", "gemv"],
            instance: format!("{form}<{}, 1, 8, 1, 32, {m}, 4, false, false>", ty.metal),
            constants: Vec::new(),
            launches: [(9usize, 37usize), (21, 301)]
                .into_iter()
                .map(|(rows, columns)| {
                    let one = |index, value: usize| scalar(index, Dtype::I32, value as f64);
                    let none = |index| Bound::read(index, "unused", Dtype::I64, [0.0]);
                    let mut buffers = vec![
                        input(0, ty, rows * columns, (-1.0, 1.0)),
                        input(1, ty, columns, (-1.0, 1.0)),
                        input(2, ty, rows, (-1.0, 1.0)),
                        output(3, ty.dtype, rows),
                        one(4, columns),
                        one(5, rows),
                        one(6, columns),
                        scalar(7, Dtype::F32, 1.0),
                        scalar(8, Dtype::F32, 0.0),
                        one(9, 1),
                        one(10, 1),
                        one(14, 1),
                    ];
                    buffers.extend([11, 12, 13].map(none));
                    launch([32 * rows.div_ceil(m), 8, 1], [32, 8, 1], buffers)
                })
                .collect(),
        });
    }
    cases
}
