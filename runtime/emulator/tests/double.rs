//! A kernel whose floats are doubles: the same source, compiled with `float` as `double`.

use cotangent_emulator::{Buffer, Checks, Dtype, Emulator, Error, KernelText, Launch, TemplateValue};

/// The results of `body` for `x`, an element a thread, in one threadgroup.
fn run(header: &str, body: &str, x: &[f64]) -> Result<Vec<f64>, Error> {
    let kernel = KernelText::new("k", body)
        .header(cotangent_emulator::Source::new("header.metal", header))
        .input("x", Dtype::F64)
        .output("y", Dtype::F64)
        .template("T", TemplateValue::Dtype(Dtype::F64));
    let size = x.len();
    let launch = Launch {
        grid: [size as u32, 1, 1],
        threadgroup: [size as u32, 1, 1],
        inputs: vec![Buffer::from_values(Dtype::F64, [size], x.iter().copied())],
        output_shapes: vec![vec![size]],
        ..Launch::default()
    };
    let run = Emulator::global()?.run(&kernel, &launch)?;
    assert!(run.is_clean(), "{}", run.findings[0]);
    Ok(Dtype::F64.decode(&run.outputs[0]))
}

#[test]
fn every_place_of_a_float_holds_a_double() {
    let third = 1.0_f64 / 3.0;
    let x: Vec<f64> = (0..32).map(|i| third + f64::from(i)).collect();
    let sum: f64 = x.iter().sum();
    let at = "uint i = thread_position_in_grid.x; ";
    type Expected<'a> = &'a dyn Fn(f64) -> f64;
    let table: [(&str, &str, Expected<'_>); 15] = [
        ("a local", "float v = x[i]; y[i] = v * v;", &|x| x * x),
        ("a cast", "y[i] = float(x[i]) + (float)i - T(i);", &|x| x),
        ("literals", "y[i] = x[i] * 0.1f + 1e-3 + 2f;", &|x| x * 0.1 + 1e-3 + 2.0),
        ("a mixed maximum", "y[i] = max(x[i], 0.5f) + clamp(x[i], 0.25f, 3.0f);", &|x| x.max(0.5) + x.clamp(0.25, 3.0)),
        ("exp", "y[i] = exp(-x[i]);", &|x| (-x).exp()),
        ("more of the library", "y[i] = precise::tanh(0.1f * x[i]) + pow(x[i], 1.5f);", &|x| {
            (0.1 * x).tanh() + x.powf(1.5)
        }),
        ("rsqrt", "y[i] = rsqrt(x[i]);", &|x| 1.0 / x.sqrt()),
        ("bits of the library's own", "y[i] = fabs(-x[i]) + (isfinite(x[i]) ? 1 : 0) + copysign(2.0f, -x[i]);", &|x| {
            x - 1.0
        }),
        ("infinity", "y[i] = x[i] < INFINITY && -INFINITY < x[i] ? x[i] : 0;", &|x| x),
        ("a vector", "y[i] = ((const device float4*)x)[i / 4][i % 4] * float2(2, 3).x;", &|x| 2.0 * x),
        (
            "threadgroup memory",
            "threadgroup float s[32]; s[i] = x[i]; threadgroup_barrier(mem_flags::mem_threadgroup); y[i] = s[i];",
            &|x| x,
        ),
        ("a sum of lanes", "y[i] = simd_sum(x[i]) + x[i];", &|x| sum + x),
        (
            "a matrix",
            "tile<float, 16, 16> a(1.0f), b(2.0f), c(0.0f); tile_multiply_accumulate(c, a, b); y[i] = x[i] + c.at[0] - 32;",
            &|x| x,
        ),
        ("half", "half h = half(0.5f); y[i] = x[i] * float(h);", &|x| 0.5 * x),
        ("a function of the header", "y[i] = twice(x[i]);", &|x| 2.0 * x),
    ];
    for (what, body, expected) in table {
        let found = run("inline float twice(float v) { return 2.0f * v; }", &[at, body].concat(), &x)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        for (x, found) in x.iter().zip(found) {
            let expected = expected(*x);
            assert!(
                (found - expected).abs() <= 1e-14 * expected.abs().max(1.0),
                "{what}: {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn a_tile_that_is_loaded_is_no_finding_where_nothing_is_watched() {
    let body = "tile<float, 16, 16> loaded, product(0.0f); tile_load(loaded, x, 16); \
                tile_multiply_accumulate(product, loaded, loaded); tile_store(product, y, 16);";
    let kernel = KernelText::new("square", body).input("x", Dtype::F64).output("y", Dtype::F64);
    let identity = (0..256).map(|i| f64::from(u8::from(i % 17 == 0)) / 3.0);
    for checks in [Checks::On, Checks::Off] {
        let launch = Launch {
            grid: [32, 1, 1],
            threadgroup: [32, 1, 1],
            inputs: vec![Buffer::from_values(Dtype::F64, [256], identity.clone())],
            output_shapes: vec![vec![256]],
            checks,
            ..Launch::default()
        };
        let run = Emulator::global().unwrap().run(&kernel, &launch).unwrap();
        assert!(run.is_clean(), "{checks:?}: {}", run.findings[0]);
        assert!((Dtype::F64.decode(&run.outputs[0])[17] - 1.0 / 9.0).abs() < 1e-15);
    }
}

#[test]
fn a_source_that_looks_at_the_bits_of_a_float_does_not_compile() {
    for body in ["y[0] = as_type<uint>(x[0]) >> 31;", "y[0] = as_type<float>(0x3f800000u);"] {
        assert!(matches!(run("", body, &[1.0]), Err(Error::Compile { .. })), "{body}");
    }
}
