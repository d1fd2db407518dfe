//! The expansion of whole kernels, a snapshot for each artefact.

use proc_macro2::TokenStream;

/// A fused scaling whose backward is a launch as well.
const FORWARD: (&str, &str) = (
    "backward = scale_backward, fallback = scale_by_operations, fallback_on = [cuda], grid = (B * N, 1, 1),
     threads = (256, 1, 1), requires = [N <= 256, (B * N) % 2 == 0], cases = [(B = 2, N = 7)]",
    "/// Multiplies rows by their weights.
     pub fn scale<T: Float>(
         x: In![T; B, N],
         w: In![T; N],
         #[nodiff] floor: Option<In![f32; B]>,
         #[values(0..B)] rows: In![i32; B],
         by: f32,
         y: Out![T; B, N],
         #[saved] scaled: Out![T; N],
     ) {
         metal! {
             uint i = thread_position_in_grid.x;
             if (i < uint(N)) { scaled[i] = T(by) * w[i]; }
             uint row = rows[i / N];
             // gone
             y[i] = x[row * N + i % N] * T(by) * w[i % N];
             if (HAS_floor) { y[i] = max(y[i], T(floor[row])); }
         }
     }",
);

const BACKWARD: (&str, &str) = (
    "backward_of = scale, grid = (N, 1, 1), threads = (min(N, 256), 1, 1), init = 0.0",
    "pub fn scale_backward<T: Float>(
         x: In![T; B, N],
         scaled: In![T; N],
         by: f32,
         d_y: In![T; B, N],
         d_x: Out![T; B, N],
         d_w: Out![T; N],
     ) {
         metal! {
             uint n = thread_position_in_grid.x;
             for (uint b = 0; b < uint(B); ++b) {
                 d_x[b * N + n] = d_y[b * N + n] * scaled[n];
                 if (WANTS_d_w) { d_w[n] += d_y[b * N + n] * x[b * N + n] * T(by); }
             }
         }
     }",
);

const RUST: (&str, &str) = (
    "fallback = other::moments_by_operations, stages = [sums], cases = [(B = 3, N = 4, K = 2)]",
    "pub fn moments<const K: usize>(x: In![f32; B, N], mean: Out![f32; B, K], count: Out![i32; B]) {
         let mean = sums(stages, x, K)?;
         Ok(Outputs { mean, count: counts(B, N)? })
     }",
);

const INFERENCE_ONLY: (&str, &str) = (
    "inference_only = \"needs a {cache}\", crate = crate::runtime, cases = [(N = 3)]",
    "pub(crate) fn decode(x: In![f32; N], y: Out![f32; N]) { Ok(Outputs { y: x.clone() }) }",
);

const STAGE: (&str, &str) = (
    "grid = (ceil_div(N, 4), 1, 1), threads = (32, 1, 1), cases = [(N = 3)]",
    "fn doubled(x: In![f32; N], y: Out![f32; N]) {
         metal! { uint i = thread_position_in_grid.x; y[i] = 2.0f * x[i]; }
     }",
);

/// A mistake in every place at once: what still comes out.
const BROKEN: (&str, &str) =
    ("fallbak = f", "pub fn broken(x: In![f32; N], y: Out![f32; N, M]) { Ok(Outputs { y: x.clone() }) }");

fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap()
}

fn differentiable((options, item): (&str, &str)) -> TokenStream {
    cotangent_macros_core::differentiable(tokens(options), tokens(item))
}

fn formatted(expansion: TokenStream) -> String {
    match syn::parse2(expansion.clone()) {
        Ok(file) => prettyplease::unparse(&file),
        Err(error) => panic!("the expansion is no Rust: {error}\n{expansion}"),
    }
}

fn snapshot(name: &str, description: (&str, &str), content: String) {
    insta::with_settings!({
        description => format!("#[differentiable({})]\n{}", description.0, description.1),
        omit_expression => true,
        prepend_module_to_snapshot => false,
    }, { insta::assert_snapshot!(name, content) });
}

#[test]
fn rust() {
    snapshot("forward.rust", FORWARD, formatted(differentiable(FORWARD)));
    snapshot("backward.rust", BACKWARD, formatted(differentiable(BACKWARD)));
    snapshot("rust_body.rust", RUST, formatted(differentiable(RUST)));
    snapshot("inference_only.rust", INFERENCE_ONLY, formatted(differentiable(INFERENCE_ONLY)));
    snapshot("broken.rust", BROKEN, formatted(differentiable(BROKEN)));
    snapshot("stage.rust", STAGE, formatted(cotangent_macros_core::stage(tokens(STAGE.0), tokens(STAGE.1))));
}

#[test]
fn metal() {
    for (name, kernel) in [("forward.metal", FORWARD), ("backward.metal", BACKWARD)] {
        let plan = cotangent_macros_core::plan(tokens(kernel.0), tokens(kernel.1));
        let plan = plan.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        snapshot(name, kernel, plan.texts.expect("a launch").metal);
    }
}

#[test]
fn parameters() {
    let tree = "#[derive(Parameters)] pub struct Block<M: Mode = Stored> {
        #[parameters(rename = \"self_attn\")] attention: Attention<M>,
        #[parameters(flatten)] rest: Vec<Rest<M>>,
        #[config] heads: usize,
    }";
    snapshot("parameters.rust", ("", tree), formatted(cotangent_macros_core::parameters(tokens(tree))));
}

#[test]
fn nothing_in_an_expansion_depends_on_the_machine() {
    for kernel in [FORWARD, BACKWARD, RUST] {
        let (first, second) = (differentiable(kernel).to_string(), differentiable(kernel).to_string());
        assert_eq!(first, second);
        assert!(!first.contains(env!("CARGO_MANIFEST_DIR")));
    }
}
