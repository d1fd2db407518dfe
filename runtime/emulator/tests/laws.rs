//! Properties that hold for every kernel and launch.

use cotangent_emulator::{Buffer, Checks, Dtype, Emulator, Error, FindingKind, KernelText, Launch, Run, Schedule};
use cotangent_metal::Source;
use cotangent_metal::left_out::{LEFT_OUT, NOT_MODELLED};
use proptest::prelude::*;

fn run(kernel: &KernelText, launch: &Launch<'_>) -> Run {
    Emulator::global().and_then(|e| e.run(kernel, launch)).unwrap_or_else(|e| panic!("{e}"))
}

/// Sums rows of 100 through lanes, threadgroup memory and barriers, with a ragged last threadgroup.
fn row_sums() -> KernelText {
    let body = "
        uint i = thread_position_in_threadgroup.x;
        uint row = threadgroup_position_in_grid.x;
        threadgroup float partial[4];
        float sum = simd_sum(i < 100 ? x[row * 100 + i] : 0.0);
        if (thread_index_in_simdgroup == 0) partial[simdgroup_index_in_threadgroup] = sum;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (i == 0) y[row] = partial[0] + partial[1] + partial[2] + partial[3];";
    KernelText::new("row_sums", body).input("x", Dtype::F32).output("y", Dtype::F32)
}

fn rows(rows: usize, values: impl Fn(usize) -> f64) -> Launch<'static> {
    Launch {
        grid: [rows as u32 * 128, 1, 1],
        threadgroup: [128, 1, 1],
        inputs: vec![Buffer::from_values(Dtype::F32, [rows, 100], (0..rows * 100).map(values))],
        output_shapes: vec![vec![rows]],
        ..Launch::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn schedule_and_cores_change_no_bit(seed: u64, workers in 1usize..4, n in 1usize..20, scale in -4f64..4.0) {
        let launch = rows(n, |i| (i as f64 * 0.7).sin() * scale);
        let forward = run(&row_sums(), &launch);
        prop_assert!(forward.is_clean());
        for schedule in [Schedule::Reversed, Schedule::Random(seed)] {
            for checks in [Checks::On, Checks::Off] {
                let other = run(&row_sums(), &Launch { schedule, checks, workers: Some(workers), ..launch.clone() });
                prop_assert!(other.is_clean());
                prop_assert_eq!(&other.outputs, &forward.outputs);
            }
        }
    }

    #[test]
    fn narrow_floats_round_as_ieee_says(bits in prop::collection::vec(any::<u32>(), 64)) {
        let body = "uint i = thread_position_in_grid.x;
            h[i] = half(x[i]);
            b[i] = bfloat(x[i]);
            back[i] = float(h[i]) == float(half(float(h[i]))) || isnan(x[i]);";
        let kernel = KernelText::new("narrow", body)
            .input("x", Dtype::F32)
            .output("h", Dtype::F16)
            .output("b", Dtype::BF16)
            .output("back", Dtype::Bool);
        let bytes: Vec<u8> = bits.iter().flat_map(|b| b.to_le_bytes()).collect();
        let result = run(&kernel, &Launch {
            grid: [64, 1, 1],
            threadgroup: [64, 1, 1],
            inputs: vec![Buffer::new(Dtype::F32, [64], bytes)],
            output_shapes: vec![vec![64]; 3],
            checks: Checks::Off,
            ..Launch::default()
        });
        for (i, &bits) in bits.iter().enumerate() {
            let value = f32::from_bits(bits);
            let at = |o: usize| u16::from_le_bytes([result.outputs[o][2 * i], result.outputs[o][2 * i + 1]]);
            if value.is_nan() {
                prop_assert!(half::f16::from_bits(at(0)).is_nan() && half::bf16::from_bits(at(1)).is_nan());
            } else {
                prop_assert_eq!(at(0), half::f16::from_f32(value).to_bits(), "{:e}", value);
                prop_assert_eq!(at(1), half::bf16::from_f32(value).to_bits(), "{:e}", value);
            }
            prop_assert_eq!(result.outputs[2][i], 1);
        }
    }
}

#[test]
fn every_half_survives_the_way_to_float_and_back() {
    let kernel = KernelText::new("halves", "uint i = thread_position_in_grid.x; y[i] = x[i]; z[i] = half(y[i]);")
        .input("x", Dtype::F16)
        .output("y", Dtype::F32)
        .output("z", Dtype::F16);
    let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let result = run(
        &kernel,
        &Launch {
            grid: [1 << 16, 1, 1],
            threadgroup: [256, 1, 1],
            inputs: vec![Buffer::new(Dtype::F16, [1 << 16], bytes.clone())],
            output_shapes: vec![vec![1 << 16]; 2],
            checks: Checks::Off,
            ..Launch::default()
        },
    );
    let floats = Dtype::F32.decode(&result.outputs[0]);
    for (i, (value, back)) in floats.iter().zip(result.outputs[1].chunks_exact(2)).enumerate() {
        let half = half::f16::from_bits(i as u16);
        assert!(*value == half.to_f64() || half.is_nan(), "{i:#06x}: {value}");
        assert!(back == &bytes[2 * i..2 * i + 2] || half.is_nan(), "{i:#06x}");
    }
}

#[test]
fn findings_do_not_depend_on_the_number_of_cores() {
    let mut kernel = row_sums();
    kernel.body.text = kernel.body.text.replace("threadgroup_barrier(mem_flags::mem_threadgroup);", "");
    let launch = rows(13, |i| i as f64);
    let one = run(&kernel, &Launch { workers: Some(1), ..launch.clone() });
    assert!(one.findings.iter().any(|f| f.kind == FindingKind::DataRace));
    for _ in 0..3 {
        assert_eq!(run(&kernel, &Launch { workers: Some(3), ..launch.clone() }).findings, one.findings);
    }
}

#[test]
fn a_wild_access_stops_one_thread_and_nothing_else() {
    let kernel = KernelText::new("wild", "uint i = thread_position_in_grid.x; if (i == 7) y[1 << 30] = 1; y[i] = i;")
        .output("y", Dtype::F32);
    let launch =
        Launch { grid: [64, 1, 1], threadgroup: [32, 1, 1], output_shapes: vec![vec![64]], ..Launch::default() };
    let result = run(&kernel, &launch);
    let kinds: Vec<FindingKind> = result.findings.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, [FindingKind::OutOfBounds]);
    let values = Dtype::F32.decode(&result.outputs[0]);
    assert!(values.iter().enumerate().all(|(i, v)| if i == 7 { v.is_nan() } else { *v == i as f64 }));
}

#[test]
fn a_race_names_both_sides_and_what_to_do() {
    let body = "uint i = thread_position_in_grid.x;\nthreadgroup float s[32];\ns[i] = i;\ny[i] = s[31 - i];";
    let kernel = KernelText::new("race", body).output("y", Dtype::F32);
    let launch =
        Launch { grid: [32, 1, 1], threadgroup: [32, 1, 1], output_shapes: vec![vec![32]], ..Launch::default() };
    let text = run(&kernel, &launch).findings[0].to_string();
    assert_eq!(
        text,
        "data race: element 16 of `s` in threadgroup memory is touched by two threads, and nothing orders the read and \
         the write\n    at race.metal:3: write by thread (16, 0, 0) of threadgroup (0, 0, 0)\n   and race.metal:4: read \
         by thread (15, 0, 0) of threadgroup (0, 0, 0)\n  help: put \
         `simdgroup_barrier(mem_flags::mem_threadgroup)` or `threadgroup_barrier(mem_flags::mem_threadgroup)` between \
         them\n  seen 16 times"
    );
}

#[test]
fn what_does_not_fit_is_refused_before_it_runs() {
    let kernel = KernelText::new("k", "y[0] = x[0];").input("x", Dtype::F32).output("y", Dtype::F32);
    let good = Launch {
        grid: [1, 1, 1],
        threadgroup: [1, 1, 1],
        inputs: vec![Buffer::from_values(Dtype::F32, [2], [1.0, 2.0])],
        output_shapes: vec![vec![1]],
        ..Launch::default()
    };
    assert!(run(&kernel, &good).is_clean());
    let cases: [(&str, Launch<'_>); 6] = [
        ("0 inputs given, 1 expected", Launch { inputs: vec![], ..good.clone() }),
        ("0 output shapes given, 1 expected", Launch { output_shapes: vec![], ..good.clone() }),
        (
            "input `x` is f16, expected f32",
            Launch { inputs: vec![Buffer::from_values(Dtype::F16, [2], [1.0, 2.0])], ..good.clone() },
        ),
        (
            "input `x` has 8 bytes, expected 12",
            Launch { inputs: vec![Buffer::from_values(Dtype::F32, [3], [1.0, 2.0])], ..good.clone() },
        ),
        ("must not contain 0", Launch { grid: [0, 1, 1], ..good.clone() }),
        ("more than 2^32 threads", Launch { grid: [1 << 31, 4, 1], ..good.clone() }),
    ];
    for (expected, launch) in cases {
        let error = Emulator::global().and_then(|e| e.run(&kernel, &launch)).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn text_that_is_not_metal_names_its_own_line() {
    for (body, expected) in [
        ("\n  float a = missing;", "k.metal:2:"),
        ("#line 40 \"lib.rs\"\nfloat a = missing;", "lib.rs:40:"),
        (
            "float big[20000];\nfor (int i = 0; i < 20000; ++i) big[i] = i;\ny[0] = big[thread_position_in_grid.x];",
            "frame size",
        ),
        ("\n\ndouble d = 1;", "k.metal:3: `double`"),
        ("float4x4 m;", "k.metal:1: `float4x4` is not modelled"),
    ] {
        let kernel = KernelText::new("k", body).output("y", Dtype::F32);
        let launch = Launch { grid: [1; 3], threadgroup: [1; 3], output_shapes: vec![vec![1]], ..Launch::default() };
        let error = Emulator::global().and_then(|e| e.run(&kernel, &launch)).expect_err(body);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(matches!(error, Error::Compile { .. } | Error::Source(_)));
    }
}

#[test]
fn what_is_not_modelled_is_refused_by_name() {
    let words = LEFT_OUT.iter().chain(NOT_MODELLED).filter(|(word, _)| !["static", "register"].contains(word));
    let refused = words.map(|(word, help)| {
        let body = if *word == "std" { "y[0] = std::exp(1.0f);".to_owned() } else { format!("{word} a(1);") };
        (body, format!("`{word}` cannot be used in a kernel here"), *help)
    });
    let matrices = ["float", "half"].into_iter().flat_map(|scalar| {
        (2..=4).flat_map(move |rows| (2..=4).map(move |columns| format!("{scalar}{rows}x{columns}")))
    });
    let matrices = matrices.map(|name| (format!("{name} a;"), format!("`{name}` is not modelled"), "use vectors"));
    for (body, message, help) in refused.chain(matrices) {
        let kernel = KernelText::new("k", &body).output("y", Dtype::F32);
        let launch = Launch { grid: [1; 3], threadgroup: [1; 3], output_shapes: vec![vec![1]], ..Launch::default() };
        let error = Emulator::global().and_then(|e| e.run(&kernel, &launch)).expect_err(&body).to_string();
        assert!(error.contains(&message) && error.contains(help), "{body}: {error}");
    }
}

#[test]
fn functions_of_other_languages_are_refused_unless_the_kernel_has_its_own() {
    let run = |header: &str, body: &str| {
        let kernel = KernelText::new("k", body).header(Source::new("h.metal", header)).output("y", Dtype::F32);
        let launch = Launch { grid: [1; 3], threadgroup: [1; 3], output_shapes: vec![vec![1]], ..Launch::default() };
        Emulator::global().and_then(|e| e.run(&kernel, &launch)).map(|run| Dtype::F32.decode(&run.outputs[0]))
    };
    let error = run("", "y[0] = 1.0f;\ny[0] = expf(0.0f);").expect_err("refused").to_string();
    assert!(error.contains(":2: Metal has no function `expf`") && error.contains("help: write `exp`"), "{error}");
    let own = run("float lerp(float a, float b) { return a + b; }", "y[0] = lerp(1.0f, 2.0f);");
    assert_eq!(own.unwrap_or_else(|error| panic!("{error}")), [3.0]);
}

#[test]
fn a_compiled_kernel_is_found_again_in_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let kernel = KernelText::new("again", "y[0] = 41 + 1;").output("y", Dtype::F32);
    let launch = Launch { grid: [1; 3], threadgroup: [1; 3], output_shapes: vec![vec![1]], ..Launch::default() };
    let objects = || {
        let files = std::fs::read_dir(folder.path()).expect("the folder").filter_map(Result::ok);
        let mut objects: Vec<_> =
            files.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "so")).collect();
        objects.sort();
        objects.into_iter().map(|p| (p.metadata().and_then(|m| m.modified()).expect("a time"), p)).collect::<Vec<_>>()
    };
    let mut seen = Vec::new();
    for round in 0..2 {
        let emulator = Emulator::with_cache(folder.path()).unwrap_or_else(|e| panic!("{e}"));
        let result = emulator.run(&kernel, &launch).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(Dtype::F32.decode(&result.outputs[0]), [42.0]);
        if round == 0 {
            seen = objects();
        }
        assert_eq!(objects(), seen);
        assert_eq!(seen.len(), 1);
    }
}
