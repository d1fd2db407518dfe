//! Whole kernel functions of `.metal` files: how they are found, what they are given, what is refused by name.

use cotangent_emulator::{
    Bound, BoundLaunch, BoundRun, Dtype, Emulator, Error, FindingKind, FunctionText, Memory, Source,
};

/// A header beside the file: a helper with threadgroup memory, and one with a collective's name.
const HEADER: &str = "\
template <typename T> T reversed(T value, uint lane, uint count) {
  threadgroup T held[64];
  held[lane] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  return held[count - 1 - lane];
}
struct pair {
  float a, b;
  pair(float a, float b) thread : a(a), b(b) {}
  pair(float a, float b) threadgroup : a(a), b(b) {}
};
inline pair simd_sum(pair p) {
  return pair(metal::simd_sum(p.a), metal::simd_sum(p.b));
}
";

/// A file as MLX writes them.
const FILE: &str = "\
#include <metal_stdlib>
#include \"parts/helpers.h\"
using namespace metal;
#define instantiate_kernel(name, func, ...) \\
  template [[host_name(name)]] [[kernel]] decltype(func<__VA_ARGS__>) func<__VA_ARGS__>;

constant bool doubled [[function_constant(3)]];
struct Sizes {
  int count;
  float scale;
};

template <typename T, int N>
[[kernel]] void turn(
    const device T* x [[buffer(0)]],
    device T* y [[buffer(2)]],
    constant Sizes& sizes [[buffer(4)]],
    const device T* bias [[buffer(5), function_constant(doubled)]],
    uint i [[thread_position_in_grid]],
    ushort lane [[thread_index_in_threadgroup]]) {
  constexpr const uniform<int> times = make_uniform(N);
  T value = reversed(x[i], lane, sizes.count);
  y[i] = T(value * sizes.scale * times) + (doubled ? bias[0] : T(0));
}
instantiate_kernel(\"turn_float\", turn, float, 2)
instantiate_kernel(\"turn_half\", turn, half, 1)

kernel void sums(device const float* x, device float* y, uint2 at [[thread_position_in_grid]]) {
  y[at.x] = simd_sum(pair(x[at.x], 1)).a;
}
";

fn run(name: &str, dtype: Dtype, constants: &[(u32, i64)]) -> Result<BoundRun, Error> {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("functions");
    std::fs::create_dir_all(folder.join("parts")).unwrap();
    std::fs::write(folder.join("parts/helpers.h"), HEADER).unwrap();
    let function = FunctionText {
        source: Source::new("turn.metal", FILE),
        folders: vec![folder],
        name: name.into(),
        constants: constants.to_vec(),
    };
    let mut sizes = 64i32.to_le_bytes().to_vec();
    sizes.extend(0.5f32.to_le_bytes());
    let output = if name == "sums" { 1 } else { 2 };
    let sizes = Bound { index: 4, name: "sizes".into(), dtype: Dtype::I32, memory: Memory::Read(sizes.into()) };
    let buffers = vec![
        Bound::read(0, "x", dtype, (0..64).map(f64::from)),
        Bound::written(output, "y", dtype, 64),
        sizes,
        Bound::read(5, "bias", dtype, [100.0]),
    ];
    let launch = BoundLaunch { grid: [64, 1, 1], threadgroup: [64, 1, 1], buffers, ..BoundLaunch::default() };
    Emulator::global().unwrap().run_function(&function, &launch)
}

#[test]
fn instances_run_under_their_names_on_the_host() {
    for (name, dtype, doubled, first) in [
        ("turn_float", Dtype::F32, 0, 63.0),
        ("turn_float", Dtype::F32, 1, 163.0),
        ("turn_half", Dtype::F16, 0, 31.5),
        ("sums", Dtype::F32, 0, 496.0),
    ] {
        let run = run(name, dtype, &[(3, doubled)]).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(run.findings.is_empty(), "{name}: {:?}", run.findings);
        let (_, bytes) = &run.buffers[0];
        assert_eq!(dtype.decode(bytes)[0], first, "{name} with {doubled}");
    }
}

#[test]
fn findings_name_the_file_that_is_included() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("racing");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("racing.h"), HEADER.replace("  threadgroup_barrier(mem_flags::mem_threadgroup);\n", ""))
        .unwrap();
    let text = "#include \"racing.h\"\nkernel void k(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {\n\
                \x20 y[i] = reversed(x[i], i, 64);\n}";
    let function = FunctionText {
        source: Source::new("k.metal", text),
        folders: vec![folder],
        name: "k".into(),
        constants: Vec::new(),
    };
    let buffers = vec![Bound::read(0, "x", Dtype::F32, (0..64).map(f64::from)), Bound::written(1, "y", Dtype::F32, 64)];
    let launch = BoundLaunch { grid: [64, 1, 1], threadgroup: [64, 1, 1], buffers, ..BoundLaunch::default() };
    let run = Emulator::global().unwrap().run_function(&function, &launch).unwrap();
    let [finding] = &run.findings[..] else { panic!("{:?}", run.findings) };
    assert_eq!((finding.kind, finding.subject.as_deref()), (FindingKind::DataRace, Some("held")));
    let places = [finding.at(), finding.other_at()].map(|at| at.map(|at| (at.file.ends_with("racing.h"), at.line)));
    assert!(places.contains(&Some((true, 3))) && places.contains(&Some((true, 4))), "{finding}");
}

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    let refused = |text: &str, name: &str| {
        let function =
            FunctionText { source: Source::new("k.metal", text), name: name.into(), ..FunctionText::default() };
        let launch = BoundLaunch { grid: [1, 1, 1], threadgroup: [1, 1, 1], ..BoundLaunch::default() };
        Emulator::global().unwrap().run_function(&function, &launch).unwrap_err().to_string()
    };
    for (text, name, expected) in [
        ("kernel void k(device float* y) {}", "other", "no kernel function is called `other`; the file has `k`"),
        ("kernel void k(texture2d<float> t [[texture(0)]]) {}", "k", "`[[texture]]` is not modelled"),
        ("kernel void k(threadgroup float* s [[threadgroup(0)]]) {}", "k", "`[[threadgroup]]` is not modelled"),
        ("#include \"missing.h\"\nkernel void k() {}", "k", "missing.h"),
        ("#include \"/etc/hostname\"\nkernel void k() {}", "k", "lies in none of the folders given"),
        ("kernel void k() { goto end; end: return; }", "k", "`goto` cannot be used"),
    ] {
        let error = refused(text, name);
        assert!(error.contains(expected), "{text}: {error}");
    }
}
