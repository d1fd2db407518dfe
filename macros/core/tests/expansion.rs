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
    "grid = (B * 32, 1, 1), threads = (32, 1, 1), cases = [(B = 2, N = 3)]",
    "fn row_sums<Sum: Float>(x: In![f32; B, N], y: Out![Sum; B]) {
         metal! {
             constexpr int LANES = 32;
             threadgroup float partial[LANES];
             uint lane = thread_index_in_simdgroup;
             uint row = threadgroup_position_in_grid.x;
             partial[lane] = 0.0f;
             for (uint i = lane; i < uint(N); i += LANES) { partial[lane] += x[row * N + i]; }
             threadgroup_barrier(mem_flags::mem_threadgroup);
             float sum = simd_sum(partial[lane]);
             if (lane == 0) { y[row] = Sum(sum); }
         }
     }",
);

/// A mistake in every place at once: what still comes out.
const BROKEN: (&str, &str) =
    ("by = f", "pub fn broken(x: In![f32; N], y: Out![f32; N, M]) { Ok(Outputs { y: x.clone() }) }");

fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap()
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

/// A kernel with every option of a launch and a text of its own for each target.
const ATOMIC: (&str, &str) = (
    "inference_only = \"counts\", grid = (B * N, 1, 1), threads = (min(B * N, 256), 1, 1), init = 0.0, atomic,
     nondeterministic, strided, headers = [SHARED, texts::MORE], untested = \"slow\", cases = [(B = 2, N = 7, WIDE = 1)]",
    "pub fn histogram<T: F32 + BF16, const WIDE: bool>(
         x: In![T; B, N],
         #[values(0..8)] bins: In![u32; B, N],
         counts: Out![f32; 8],
     ) {
         metal! {
             uint i = thread_position_in_grid.x;
             atomic_fetch_add_explicit(&counts[bins[i]], WIDE ? shared(float(x[i])) : 1.0f, memory_order_relaxed);
         }
         cuda! {
             int i = blockIdx.x * blockDim.x + threadIdx.x;
             if (i < B * N) atomicAdd(&counts[bins[i]], WIDE ? float(x[i]) : 1.0f);
         }
     }",
);

/// The artefacts of a declaration.
enum Artefact {
    Rust,
    Metal,
    Cuda,
    Plan,
}

use Artefact::{Cuda, Metal, Plan, Rust};

impl Artefact {
    fn extension(&self) -> &'static str {
        match self {
            Rust => "rust",
            Metal => "metal",
            Cuda => "cuda",
            Plan => "plan",
        }
    }
}

/// Every declaration that is looked at, with what is worth looking at.
const DECLARATIONS: &[(&str, (&str, &str), &[Artefact])] = &[
    ("forward", FORWARD, &[Rust, Metal, Plan]),
    ("backward", BACKWARD, &[Rust, Metal, Plan]),
    ("rust_body", RUST, &[Rust, Plan]),
    ("inference_only", INFERENCE_ONLY, &[Rust, Plan]),
    ("stage", STAGE, &[Rust, Metal, Plan]),
    ("atomic", ATOMIC, &[Rust, Metal, Cuda, Plan]),
    ("broken", BROKEN, &[Rust]),
];

fn is_stage(name: &str) -> bool {
    name == "stage"
}

fn expand(name: &str, (options, item): (&str, &str)) -> TokenStream {
    let expand = if is_stage(name) { cotangent_macros_core::stage } else { cotangent_macros_core::differentiable };
    expand(tokens(options), tokens(item))
}

fn plan(name: &str, (options, item): (&str, &str)) -> cotangent_macros_core::plan::Plan {
    let plan = if is_stage(name) { cotangent_macros_core::plan_stage } else { cotangent_macros_core::plan };
    plan(tokens(options), tokens(item)).unwrap_or_else(|mistakes| panic!("{name}: {mistakes:?}"))
}

#[test]
fn every_artefact_is_as_recorded() {
    for (name, declaration, artefacts) in DECLARATIONS {
        for artefact in *artefacts {
            let content = match artefact {
                Rust => formatted(expand(name, *declaration)),
                Metal => plan(name, *declaration).texts.expect("a launch").metal,
                Cuda => plan(name, *declaration).texts.and_then(|texts| texts.cuda).expect("a text for CUDA"),
                Plan => plan(name, *declaration).to_string(),
            };
            snapshot(&format!("{name}.{}", artefact.extension()), *declaration, content);
        }
    }
}

#[test]
fn every_snapshot_is_of_something() {
    let mut expected = vec!["parameters.rust.snap".to_owned()];
    for (name, _, artefacts) in DECLARATIONS {
        expected.extend(artefacts.iter().map(|artefact| format!("{name}.{}.snap", artefact.extension())));
    }
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(expected.contains(&name), "`{name}` is of nothing any more: remove it");
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
    for (name, declaration, _) in DECLARATIONS {
        let (first, second) = (expand(name, *declaration).to_string(), expand(name, *declaration).to_string());
        assert_eq!(first, second);
        assert!(!first.contains(env!("CARGO_MANIFEST_DIR")));
    }
}
