//! Tests with small kernels like this project's: compiled by clang in C++ for OpenCL, lowered and run, they give the emulator's
//! results for their sources. They need LLVM 19 and clang; if one is missing, each test says so and passes.

use std::path::Path;

use cotangent_apple::lower::Options;
use cotangent_apple::{Failure, Llvm, Workshop, own_module};
use cotangent_emulator::{
    Buffer, Dtype, Emulator, FindingKind, KernelText, Launch, Run, Source, StaticCheck, TemplateValue,
};

/// A launch of one threadgroup: `x` are 64 elements, `w` are 3 in `constant` memory, `n` is a scalar.
fn launch(dtype: Dtype) -> Launch<'static> {
    let values = |count: usize, step: f64| (0..count).map(move |n| 1.0 + step * n as f64);
    let inputs = vec![
        Buffer::from_values(dtype, [64], values(64, 0.037)),
        Buffer::from_values(Dtype::F32, [3], values(3, 0.11)),
        Buffer::from_values(Dtype::I32, Vec::new(), [3.0]),
    ];
    Launch { grid: [64, 1, 1], threadgroup: [64, 1, 1], inputs, output_shapes: vec![vec![64]], ..Launch::default() }
}

fn kernel(dtype: Dtype, header: &str, body: &str) -> KernelText {
    KernelText::new("k", format!("uint i = thread_position_in_grid.x;\n{body}"))
        .header(Source::new("k.h", header))
        .template("T", TemplateValue::Dtype(dtype))
        .template("TIMES", TemplateValue::Int(2))
        .template("TWICE", TemplateValue::Bool(true))
        .input("x", dtype)
        .input("w", Dtype::F32)
        .input("n", Dtype::I32)
        .output("y", dtype)
}

/// The results of the source, and of clang's code for it, with or without contraction; `None` without the tools.
fn both(kernel: &KernelText, launch: &Launch<'_>, contract: bool) -> Option<Result<[Run; 2], Failure>> {
    let (Some(llvm), Some(clang)) = (Llvm::find(), StaticCheck::find()) else {
        println!("skipped: {}, and clang++", Llvm::MISSING);
        return None;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("own");
    let emulator = Emulator::with_cache(&folder).unwrap();
    let workshop = Workshop::new(llvm, &emulator, &folder).unwrap();
    let shapes: Vec<&[usize]> = launch.inputs.iter().map(|buffer| buffer.shape.as_slice()).collect();
    let options = Options { contract, ..Options::default() };
    let compiled = own_module(&clang, kernel, &shapes).and_then(|module| workshop.kernel("k", &module, &options));
    Some(compiled.map(|compiled| {
        let text = emulator.run(kernel, launch).unwrap();
        [text, emulator.run_compiled(&compiled.object, kernel, launch).unwrap()]
    }))
}

const BODIES: [(&str, &str); 6] = [
    ("arithmetic, constants and scalars", "y[i] = T(float(x[i]) * w[i % 3] + n * TIMES + (TWICE ? 0.5f : 1.0));"),
    ("the type's own arithmetic", "T a = x[i] * x[63 - i]; a += x[i] * 3; y[i] = a / x[0] - T(i << 33);"),
    (
        "threadgroup memory and sums of lanes",
        "threadgroup float s[64]; s[i] = float(x[i]); threadgroup_barrier(mem_flags::mem_threadgroup);
         y[i] = T(simd_sum(s[63 - i]) + simd_max(float(x[i])) + simd_shuffle_xor(s[i], ushort(5)));",
    ),
    ("functions and vectors", "float4 v = float4(float(x[i]), 2, w[0], w[1]); y[i] = T(dot2(v.xy, v.zw) + exp(-v.x) * log(v.y) + clamp(v.w, 0.5f, 1.0f));"),
    (
        "matrices",
        "threadgroup T s[256]; for (uint k = i; k < 256u; k += 64u) s[k] = T(0.125f * (k % 9u));
         threadgroup_barrier(mem_flags::mem_threadgroup);
         tile<T, 16, 16> a; right_tile<T, 16, 16> b; tile<float, 16, 16> c(0.5f); tile_load(a, s, 16); tile_load_right(b, s, 16);
         tile_multiply_accumulate(c, a, b); float sum = 0; tile_for_each(c, row, column, value) { sum += value * (row + column); }
         y[i] = T(sum);",
    ),
    ("helpers of address spaces", "threadgroup float s[64]; s[i] = 1; y[i] = T(first(x) + first(s + i) + second(w));"),
];
const HEADER: &str = "
inline float dot2(float2 a, float2 b) { return a.x * b.x + a.y * b.y; }
template <typename U> inline float first(const device U* p) { return float(p[0]); }
inline float first(threadgroup float* p) { return p[0]; }
inline float second(const constant float* p) { return p[1]; }
";

#[test]
fn compiled_sources_give_the_same_bits() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        for (name, body) in BODIES {
            let Some(runs) = both(&kernel(dtype, HEADER, body), &launch(dtype), false) else { return };
            let [text, compiled] = runs.unwrap_or_else(|failure| panic!("{name}: {failure}"));
            assert_eq!((&text.findings, &compiled.findings), (&Vec::new(), &Vec::new()), "{name}");
            assert_eq!(text.outputs, compiled.outputs, "{name} of {dtype}");
        }
    }
}

#[test]
fn threads_make_the_same_object_at_the_same_time() {
    let (Some(llvm), Some(clang)) = (Llvm::find(), StaticCheck::find()) else {
        println!("skipped: {}, and clang++", Llvm::MISSING);
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let emulator = Emulator::with_cache(folder.path()).unwrap();
    let shapes: [&[usize]; 3] = [&[64], &[3], &[]];
    let module = own_module(&clang, &kernel(Dtype::F32, HEADER, BODIES[0].1), &shapes).unwrap();
    let start = std::sync::Barrier::new(3);
    let make = || {
        start.wait();
        let workshop = Workshop::new(llvm.clone(), &emulator, folder.path()).unwrap();
        workshop.kernel("k", &module, &Options::default()).unwrap().object.path
    };
    let made = std::thread::scope(|scope| [(); 3].map(|()| scope.spawn(make)).map(|thread| thread.join().unwrap()));
    assert!(made[0].exists() && made.iter().all(|path| *path == made[0]), "{made:?}");
    let drafts = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("draft-");
    let inside = [folder.path(), made[0].parent().unwrap()].map(|folder| std::fs::read_dir(folder).unwrap());
    assert_eq!(inside.into_iter().flatten().flatten().filter(drafts).count(), 0);
}

#[test]
fn contraction_is_an_option() {
    // `(1 + e) (1 + e) - (1 + 2 e)`
    let body = "T a = x[0] + T(E), c = x[0] + T(2.0f * E); y[i] = a * a - c;";
    for (dtype, e) in [(Dtype::F32, "0x1p-13f"), (Dtype::F16, "0x1p-10f"), (Dtype::BF16, "0x1p-7f")] {
        let kernel = kernel(dtype, "", &body.replace('E', e));
        for (contract, nothing) in [(false, true), (true, false)] {
            let Some(runs) = both(&kernel, &launch(dtype), contract) else { return };
            let [_, compiled] = runs.unwrap_or_else(|failure| panic!("{failure}"));
            let value = dtype.decode(&compiled.outputs[0])[0];
            assert_eq!(value == 0.0, nothing, "{dtype}, contracted: {contract}: {value}");
        }
    }
}

#[test]
fn defects_are_found_in_what_clang_made() {
    for (body, found) in [
        ("y[i] = x[i + 1];", FindingKind::OutOfBounds),
        ("threadgroup T s[64]; s[i] = x[i]; y[i] = s[63 - i];", FindingKind::DataRace),
        ("y[i] = x[(i + uint(n)) * 2147483649u];", FindingKind::WrappedIndex),
        ("float2 v = *(const device float2*)(x + 1); y[i] = v.x;", FindingKind::Misaligned),
    ] {
        let Some(runs) = both(&kernel(Dtype::F32, "", body), &launch(Dtype::F32), false) else { return };
        let [_, compiled] = runs.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(compiled.findings.iter().any(|finding| finding.kind == found), "{body}: {:?}", compiled.findings);
    }
}

#[test]
fn what_is_refused_is_refused_by_name() {
    for (body, reason) in [
        ("thread T* p = (thread T*)y; p[0] = T(1);", "k.metal:2: "),
        ("y[i] = T(simd_broadcast_first(float(x[i])));", "simd_broadcast_first"),
    ] {
        let Some(runs) = both(&kernel(Dtype::F32, "", body), &launch(Dtype::F32), false) else { return };
        let Err(failure) = runs else { panic!("{body}") };
        assert!(failure.to_string().contains(reason), "{failure}");
    }
}
