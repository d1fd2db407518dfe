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

/// Two arrays whose sizes the launch gives, beside one of the function's own.
const SHARED: &str = "\
kernel void k(device const float* x, device float* y, threadgroup float* s [[threadgroup(1)]],
              threadgroup half4& last [[threadgroup(0)]], uint i [[thread_position_in_grid]],
              uint t [[thread_index_in_threadgroup]], uint n [[threads_per_threadgroup]]) {
  threadgroup float first[1];
  s[t] = x[i];
  if (t == 0) first[0] = x[i];
  if (t == n - 1) last = half4(x[i]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  y[i] = s[n - 1 - t] + 1000 * first[0] + 100000 * float(last.w);
}";

fn run_shared(text: &str, threadgroup_memory: &[(u32, usize)]) -> Result<BoundRun, Error> {
    let function = FunctionText { source: Source::new("k.metal", text), name: "k".into(), ..FunctionText::default() };
    let buffers = vec![Bound::read(0, "x", Dtype::F32, (0..32).map(f64::from)), Bound::written(1, "y", Dtype::F32, 32)];
    let threadgroup_memory = threadgroup_memory.to_vec();
    let launch = BoundLaunch {
        grid: [32, 1, 1],
        threadgroup: [16, 1, 1],
        buffers,
        threadgroup_memory,
        ..BoundLaunch::default()
    };
    Emulator::global().unwrap().run_function(&function, &launch)
}

#[test]
fn the_launch_gives_the_sizes_of_threadgroup_parameters() {
    let run = run_shared(SHARED, &[(0, 16), (1, 64)]).unwrap();
    assert!(run.findings.is_empty(), "{:?}", run.findings);
    let group = |i: u32| i / 16 * 16;
    let expected = (0..32).map(|i| f64::from(group(i) * 2 + 15 - i + 1000 * group(i) + 100_000 * (group(i) + 15)));
    assert_eq!(Dtype::F32.decode(run.buffer(1).unwrap()), expected.collect::<Vec<_>>());

    let barrier = "  threadgroup_barrier(mem_flags::mem_threadgroup);\n";
    for (text, bytes, kind, subject) in [
        (SHARED.to_owned(), 48, FindingKind::OutOfBounds, "s"),
        (SHARED.replace("  s[t] = x[i];\n", ""), 64, FindingKind::UninitialisedRead, "s"),
        (SHARED.replace(barrier, ""), 64, FindingKind::DataRace, "s"),
    ] {
        let run = run_shared(&text, &[(0, 16), (1, bytes)]).unwrap();
        let found = run.findings.iter().any(|f| (f.kind, f.subject.as_deref()) == (kind, Some(subject)));
        assert!(found, "{kind:?}: {:?}", run.findings);
    }
    for (sizes, expected) in [
        (&[(1, 64)][..], "`k` takes `[[threadgroup(0)]]`, which has no size"),
        (&[(0, 8), (1, 64)], "`[[threadgroup(0)]]` has 8 bytes; Metal takes multiples of 16, up to 32768"),
        (&[(0, 16), (1, 1 << 40)], "`[[threadgroup(1)]]` has 1099511627776 bytes"),
        (&[(0, 16), (1, 64), (0, 16)], "two sizes for number 0"),
    ] {
        let error = run_shared(SHARED, sizes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
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
        ("kernel void k(threadgroup float* s [[threadgroup(0)]]) {}", "k", "which has no size"),
        ("#include \"missing.h\"\nkernel void k() {}", "k", "missing.h"),
        ("#include \"/etc/hostname\"\nkernel void k() {}", "k", "lies in none of the folders given"),
        ("kernel void k() { goto end; end: return; }", "k", "`goto` cannot be used"),
    ] {
        let error = refused(text, name);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// Runs `y[i] = ..` of a source in which `x` and `y` are one memory.
fn shared(statement: &str) -> BoundRun {
    let text = format!(
        "kernel void k(device const float* x, device float* y, uint i [[thread_position_in_grid]]) {{ {statement} }}"
    );
    let function = FunctionText { source: Source::new("k.metal", text), name: "k".into(), ..FunctionText::default() };
    let y = Bound { index: 1, name: "y".into(), dtype: Dtype::F32, memory: Memory::SameAs(0) };
    let buffers = vec![Bound::read(0, "x", Dtype::F32, (0..8).map(f64::from)), y];
    let launch = BoundLaunch { grid: [8, 1, 1], threadgroup: [8, 1, 1], buffers, ..BoundLaunch::default() };
    Emulator::global().unwrap().run_function(&function, &launch).unwrap()
}

#[test]
fn memory_that_an_input_shares_with_an_output_is_read_before_it_is_written() {
    let run = shared("y[i] = 2 * x[i];");
    assert!(run.findings.is_empty(), "{:?}", run.findings);
    assert_eq!(Dtype::F32.decode(run.buffer(0).unwrap()), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0]);

    let run = shared("y[i] = 2; y[i] = x[i] + 1;");
    let [finding] = &run.findings[..] else { panic!("{:?}", run.findings) };
    assert_eq!((finding.kind, finding.subject.as_deref()), (FindingKind::SharedMemory, Some("x` and `y")));

    let run = shared("y[i] = x[7 - i];");
    assert!(run.findings.iter().any(|finding| finding.kind == FindingKind::DataRace), "{:?}", run.findings);
}
