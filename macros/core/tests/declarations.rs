//! What declarations are refused for, and what is let through: a table for each kind, without a compiler.

use cotangent_macros_core::diagnostics::Diagnostic;

/// The mistakes in an inference-only kernel of `N` elements with these ports around a text.
fn declared(ports: &str, text: &str) -> Vec<String> {
    let options = "inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]";
    plan(options, &format!("pub fn k({ports}) {{ metal! {{ {text} }} }}"))
}

fn plan(options: &str, item: &str) -> Vec<String> {
    let result = cotangent_macros_core::plan(options.parse().unwrap(), item.parse().unwrap());
    result.err().unwrap_or_default().iter().map(Diagnostic::text).collect()
}

#[test]
fn one_cause_is_one_error() {
    const TEXT: &str = "{ metal! { uint i = thread_position_in_grid.x; y[i] = x[i]; } }";
    let options = "inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]";
    let pointwise = "pub fn k(x: In![f32; N], y: Out![f32; N]) TEXT";
    for (options, item, expected) in [
        (options, "pub fn k(x: In![T; N], y: Out![T; N]) TEXT", "`T` is no dtype"),
        (options, "pub fn k(x: In![f32; n], y: Out![f32; n]) TEXT", "`n` is not a dimension"),
        (options, "pub fn k(x: In![f32; -1], y: Out![f32; N]) TEXT", "an axis of `x` has the length -1"),
        (options, "pub fn k<N: Float>(x: In![N; 3], y: Out![N; N]) TEXT", "`N` is a dtype, not a length"),
        (options, "pub fn k(x: In![f32; N], x: Out![f32; N]) TEXT", "the name `x` is used twice"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32; N]) { }", "kernel `k` has no body"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32; N]) { metal! { } }", "the text of `k` is empty"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32; N]);", "expected curly braces"),
        (
            options,
            "pub fn k(#[values(3..1)] x: In![i32; N], y: Out![f32; N]) TEXT",
            "no value of `x` lies in this range",
        ),
        (options, "pub fn k(#[values(1.0..-1.0)] x: In![f32; N], y: Out![f32; N]) TEXT", "no value of `x` lies in"),
        (
            options,
            "pub fn k(x: In![f32; N], s: f32, y: Out![f32; N]) TEXT",
            "the body of `k` never reads its scalar `s`",
        ),
        ("", pointwise, "kernel `k` has no gradient route [C01]"),
        (options, "pub fn k(#[values(0..Q)] x: In![i32; N], y: Out![f32; N]) TEXT", "`Q` is no dimension or constant"),
        (options, "pub fn k(#[values(0..2)] x: In![bool; N], y: Out![f32; N]) TEXT", "`x` is true or false"),
        (
            "backward_of = \"f\", grid = (N, 1, 1), threads = (64, 1, 1)",
            "pub fn k(d_y: In![f32; N], d_x: Out![f32; N]) { metal! { d_x[0] = d_y[0]; } }",
            "expected a path",
        ),
        (
            "inference_only = \"t\", grid = (N, M, 1), threads = (64, 1, 1), cases = [(N = 100001, M = 100001)]",
            "pub fn k(x: In![f32; N, M], y: Out![f32; N, M]) TEXT",
            "at this case port `x` of `k` has more than 2^31 - 1 elements",
        ),
        (
            "fallback = k, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]",
            pointwise,
            "`k` would be its own fallback",
        ),
        (options, "pub fn k<T>(x: In![T; N], y: Out![T; N]) where T: Float TEXT", "a kernel has no `where` clause"),
        (options, "pub fn k(x: In![f32; [N, 2]], y: Out![f32; N]) TEXT", "a shape has no brackets of its own"),
        ("extents = [P = N]", "pub fn k(x: In![f32; N], y: Out![f32; P]) TEXT", "unknown option `extents`"),
        (
            "inference_only = \"t\", grid = (Q, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]",
            pointwise,
            "`Q` is no dimension or constant of `k`",
        ),
        (
            "fallback = f, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) { Ok(Outputs { y: x.square()? }) }",
            "options `grid`, `threads` are for launches, and this kernel has a Rust body",
        ),
        (
            "fallback = f, stages = [first], cases = [(N = 7)]",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) { Ok(Outputs { y: x.square()? }) }",
            "the body of `k` never calls its stage `first`",
        ),
        (
            "backward_of = k",
            "pub fn k(d_y: In![f32; N], d_x: Out![f32; N]) { Ok(Outputs { d_x: Some(d_y.clone()) }) }",
            "`k` would be the backward of itself [C16]",
        ),
    ] {
        let found = plan(options, &item.replace("TEXT", TEXT));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{item}\nexpected {expected}\nfound {found:#?}");
    }
}

#[test]
fn help_is_about_what_was_meant() {
    let options = "inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]";
    for (item, expected) in [
        (
            "pub fn k(x: In![f32; N], y: Out![f32; N]) { uint i = thread_position_in_grid.x; y[i] = x[i]; }",
            "help: write the source of a launch in `metal! { .. }`",
        ),
        ("pub struct K { x: f32 }", "help: declare a kernel as `pub fn name("),
        ("pub fn k(x: In![half; N], y: Out![f32; N]) { metal! { y[0] = x[0]; } }", "help: write `f16`:"),
        ("pub fn k(x: In![F; N], y: Out![f32; N]) { metal! { y[0] = x[0]; } }", "declare a parameter: `<F: Float>`"),
    ] {
        let found = plan(options, item);
        assert!(found.len() == 1 && found[0].contains(expected), "{item}\nexpected {expected}\nfound {found:#?}");
    }
}

#[test]
fn cases_give_constants_values_that_they_can_have() {
    let with = |constant: &str, case: &str, text: &str| {
        let options =
            format!("inference_only = \"t\", grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 7, {case})]");
        let item = format!(
            "pub fn k<const {constant}>(x: In![f32; N], y: Out![f32; N]) {{ metal! {{ y[0] = x[0]; {text} }} }}"
        );
        plan(&options, &item)
    };
    for (constant, case, text, expected) in [
        ("Q: usize", "Q = -1", "", "`Q` is -1, and a constant of type `usize` has no such value"),
        ("Q: bool", "Q = 3", "", "`Q` is 3, and a constant of type `bool` has no such value"),
        ("Q: usize", "Q = 9001", "threadgroup float s[Q];", "at this case `k` uses 36004 bytes of threadgroup memory"),
    ] {
        let found = with(constant, case, text);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{case}: {found:?}");
    }
    for (constant, case, text) in
        [("Q: i32", "Q = -1", ""), ("Q: bool", "Q = true", ""), ("Q: usize", "Q = 8192", "threadgroup float s[Q];")]
    {
        assert_eq!(with(constant, case, text), Vec::<String>::new(), "{case}");
    }
}

#[test]
fn sizes_have_32_bits() {
    let sized = |case: &str, ports: &str| {
        let options = format!("inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [({case})]");
        plan(&options, &format!("pub fn k({ports}) {{ metal! {{ y[0] = x[0]; }} }}"))
    };
    for (case, ports, expected) in [
        ("N = 9223372036854775807", "x: In![f32; N], y: Out![f32; N]", "`N` is 9223372036854775807, and sizes"),
        ("N = 2147483648", "x: In![f32; N], y: Out![f32; N]", "`N` is 2147483648, and sizes"),
        ("N = 2147483647", "x: In![f32; N], y: Out![f32; 4 * N]", "at this case port `y` of `k` has no shape"),
        ("N = -7", "x: In![f32; N], y: Out![f32; N]", "`N` is -7, and no axis is that short"),
        ("N = 99999999999999999999", "x: In![f32; N], y: Out![f32; N]", "number too large"),
    ] {
        let found = sized(case, ports);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{case}: {found:?}");
    }
}

#[test]
fn what_stands_beside_the_attribute_is_kept_or_refused() {
    let with = |attribute: &str, qualifier: &str| {
        let item = format!(
            "{attribute} pub {qualifier} fn k(x: In![f32; N], y: Out![f32; N]) {{ metal! {{ y[0] = x[0]; }} }}"
        );
        plan("inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]", &item)
    };
    for attribute in ["#[allow(clippy::all)]", "#[rustfmt::skip]", "#[inline]", "#[must_use]", "#[expect(unused)]"] {
        assert_eq!(with(attribute, ""), Vec::<String>::new(), "{attribute}");
    }
    for (attribute, qualifier) in
        [("", "unsafe"), ("", "async"), ("", "extern \"C\""), ("#[no_mangle]", ""), ("#[test]", "")]
    {
        assert_eq!(with(attribute, qualifier).len(), 1, "{attribute} {qualifier}");
    }
}

#[test]
fn a_mistake_that_hides_others_is_reported_alone() {
    const BODY: &str = "{ metal! { uint i = thread_position_in_grid.x; y[i] = x[i]; } }";
    let options = "fallback = f, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]";
    for (options, item, expected) in [
        (options, "pub fn k(x: In![f32, N], y: Out![f32; N]) BODY", "expected `dtype; extent"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32]) BODY", "expected `dtype; extent"),
        (options, "pub fn k(x: &[f32], y: Out![f32; N]) BODY", "this is neither a port nor a scalar"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32; N]) { metal!(include_str!(\"k.metal\")) }", "this is a macro"),
        (options, "pub fn k(x: In![f32; N], y: Out![f32; N]) { metal!(\"y[0] = x[0];\") }", "this is a string"),
        (
            "fallbak = f, grid = (N, 1, 1), threads = (1, 1, 1), cases = [(N = 7)]",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) BODY",
            "unknown option `fallbak`\nhelp: write `fallback`",
        ),
        (
            "backward_off = f, grid = (N, 1, 1), threads = (1, 1, 1)",
            "pub fn k(x: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N]) BODY",
            "unknown option `backward_off`\nhelp: write `backward_of`",
        ),
        (
            "fallback = |x| x, grid = (N, 1, 1), threads = (1, 1, 1), cases = [(N = 7)]",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) BODY",
            "expected a path",
        ),
        (
            "fallback = f, grid = (N, 1), threads = (1, 1, 1), cases = [(N = 7)]",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) BODY",
            "expected three extents",
        ),
        (
            "fallback = f, grid = (N, 1, 1), threads = (1, 1, 1), cases = (N = 7)",
            "pub fn k(x: In![f32; N], y: Out![f32; N]) BODY",
            "expected square brackets",
        ),
    ] {
        let found = plan(options, &item.replace("BODY", BODY));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{item}\nexpected {expected}\nfound {found:#?}");
    }
}

#[test]
fn a_residual_is_for_a_backward() {
    let item = "pub fn k(x: In![f32; N], y: Out![f32; N], #[saved] r: Out![f32; N]) { Ok(Outputs { y: x.clone(), r: x.clone() }) }";
    let found = plan("fallback = f, cases = [(N = 7)]", item);
    assert!(found.len() == 1 && found[0].contains("[C15]"), "{found:?}");
    assert_eq!(plan("backward = b, fallback = f, cases = [(N = 7)]", item), Vec::<String>::new());
}

#[test]
fn every_width_of_integers_is_a_dtype() {
    for dtype in ["i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"] {
        let ports = format!("x: In![{dtype}; N], y: Out![{dtype}; N], z: Out![{dtype}; N]");
        assert_eq!(declared(&ports, "y[0] = x[0]; z[0] = x[1];"), Vec::<String>::new(), "{dtype}");
    }
    // A class of one dtype needs no input.
    let item = "pub fn k<T: BF16, U: U16>(x: In![f32; N], y: Out![T; N]) { metal! { y[0] = T(U(x[0])); } }";
    let options = "inference_only = \"t\", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]";
    assert_eq!(plan(options, item), Vec::<String>::new());
}

#[test]
fn the_outputs_of_a_stage_alone_may_have_a_dtype_that_no_input_settles() {
    const TEXT: &str = "{ metal! { y[0] = T(x[0]); } }";
    let options = "grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)]";
    let of_a_kernel = format!("inference_only = \"t\", {options}");
    for (ports, of_a_stage, of_a_kernel_is) in [
        ("x: In![f32; N], y: Out![T; N]", None, Some("dtype `T` stands in no input, so nothing says what it is")),
        ("x: In![T; N], y: Out![T; N]", None, None),
        (
            "x: In![f32; N], y: Out![f32; N]",
            Some("dtype `T` stands in no port"),
            Some("dtype `T` stands in no input, so nothing says what it is"),
        ),
        (
            "x: In![f32; N], z: Option<In![T; N]>, y: Out![T; N]",
            Some("dtype `T` stands in no input but the optional `z`"),
            Some("dtype `T` stands in no input but the optional `z`"),
        ),
    ] {
        let item = format!("fn k<T: Float>({ports}) {TEXT}");
        let stage = cotangent_macros_core::plan_stage(options.parse().unwrap(), item.parse().unwrap());
        let stage = stage.err().unwrap_or_default().iter().map(Diagnostic::text).collect();
        for (found, expected) in [(stage, of_a_stage), (plan(&of_a_kernel, &item), of_a_kernel_is)] {
            match expected {
                Some(expected) => {
                    assert!(matches!(&found[..], [one] if one.starts_with(expected)), "{ports}: {found:?}")
                }
                None => assert!(found.is_empty(), "{ports}: {found:?}"),
            }
        }
    }
}

#[test]
fn each_size_is_made_of_what_stands_before_it() {
    let plan = |dims: &str, text: &str| {
        let options = format!(
            "inference_only = \"t\", dims = [{dims}], grid = (HALVES, 1, 1), threads = (64, 1, 1), requires = [HALVES > 1],
             cases = [(N = 7, C = 16)]"
        );
        let ports = "pub fn k<const C: usize>(x: In![f32; N], w: In![f32; C], y: Out![f32; HALVES])";
        plan(&options, &format!("{ports} {{ metal! {{ {text} }} }}"))
    };
    const TEXT: &str = "y[0] = x[0] + w[0] + HALVES;";
    for (dims, text, expected) in [
        ("HALVES = N / 2", TEXT, ""),
        ("HALVES = N / 2, ROWS = HALVES * C", "y[ROWS] = x[0] + w[0];", ""),
        ("HALVES = N / 2, ROOM = C / 2", "threadgroup float s[ROOM]; s[0] = x[0]; y[0] = w[0] + s[0];", ""),
        (
            "HALVES = N / 2",
            "threadgroup float s[HALVES]; s[0] = x[0]; y[0] = w[0] + s[0];",
            "the array `s` of `k` is as long as `HALVES`",
        ),
        (
            "HALVES = N / 2, ROOM = C * 1024",
            "threadgroup float s[ROOM]; s[0] = x[0]; y[0] = w[0] + s[0];",
            "at this case `k` uses 65536 bytes",
        ),
        (
            "HALVES = N / 2",
            "int HALVES = 2; y[HALVES] = x[0] + w[0];",
            "the local `HALVES` has the name of the size `HALVES`",
        ),
        ("HALVES = HALVES + 1", TEXT, "`HALVES` is made of itself"),
        ("HALVES = ROWS, ROWS = N / 2", TEXT, "`HALVES` is made of `ROWS`, which stands behind it"),
        ("HALVES = N / 2, HALVES = N", TEXT, "the name `HALVES` is used twice"),
        ("HALVES = N / 2, C = N", TEXT, "the name `C` is used twice"),
        ("HALVES = Q / 2", TEXT, "`HALVES` is made of `Q`, which is no constant"),
        ("HALVES = N / 2, INFINITY = N", TEXT, "`INFINITY` is a word of Metal"),
        ("HALVES = N / 2, rows = N", TEXT, "`rows` is no name of a size"),
        ("HALVES = N / 2, ROWS", TEXT, "expected `=`"),
    ] {
        let found = plan(dims, text);
        match expected {
            "" => assert!(found.is_empty(), "{dims}: {found:?}"),
            _ => assert!(found.len() == 1 && found[0].starts_with(expected), "{dims}: {found:?}"),
        }
    }
}

#[test]
fn names_of_metal_are_taken() {
    for name in ["and", "or", "not", "xor_eq", "device", "kernel", "float4", "x_shape", "NAN", "M_PI_F", "assert"] {
        let ports = format!("x: In![f32; N], {name}: In![f32; N], y: Out![f32; N]");
        let found = declared(&ports, &format!("y[0] = x[0] + {name}[0];"));
        assert!(found.len() == 1 && found[0].starts_with(&format!("`{name}` is")), "{name}: {found:?}");
    }
    for name in ["NAN", "INFINITY", "FLT_MAX", "HUGE_VALF", "UINT_MAX", "METAL_FUNC"] {
        let options =
            format!("inference_only = \"t\", grid = ({name}, 1, 1), threads = (64, 1, 1), cases = [({name} = 7)]");
        let item = format!("pub fn k(x: In![f32; {name}], y: Out![f32; {name}]) {{ metal! {{ y[0] = x[0]; }} }}");
        let found = plan(&options, &item);
        assert!(found.len() == 1 && found[0].contains("is a word of Metal"), "{name}: {found:?}");
    }
}

#[test]
fn ports_may_be_written_in_upper_case() {
    let ports = "X: In![f32; N], A_log: In![f32; N], B: In![u8; N], Y: Out![f32; N]";
    assert_eq!(declared(ports, "Y[0] = X[0] * exp(A_log[0]) + B[0];"), Vec::<String>::new());
    // The generated argument of a constant changes its name if a port has that name.
    let item = "pub fn k<const OUT: usize, const bits: i32>(x: In![f32; OUT], y: Out![f32; bits], out: Out![f32; 1]) {
                    metal! { y[0] = x[bits]; out[0] = x[OUT - 1]; }
                }";
    let options = "inference_only = \"t\", grid = (OUT, 1, 1), threads = (64, 1, 1), cases = [(OUT = 7, bits = 2)]";
    assert_eq!(plan(options, item), Vec::<String>::new());
    let found = declared("N: In![f32; N], y: Out![f32; N]", "y[0] = N[0];");
    assert!(
        found.len() == 1 && found[0].starts_with("`N` is the name of this parameter and of a dimension"),
        "{found:?}"
    );
}
