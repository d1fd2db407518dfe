//! The macros never panic: they turn every token stream into items or errors that parse.

use proc_macro2::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};
use proptest::prelude::*;

const KERNEL: (&str, &str) = (
    "backward = b, fallback = f, grid = (B * N, 1, 1), threads = (256, 1, 1), init = 0.0, cases = [(B = 2, N = 7)]",
    "/// Text.
     pub fn scale<T: Float, const K: usize>(x: In![T; B, N], #[nodiff] w: Option<In![f32; N / K]>, by: f32,
         y: Out![T; B, ceil_div(N, 2)], #[saved] s: Out![T; N]) {
         metal! { uint i = thread_position_in_grid.x; threadgroup float part[32]; y[i] += x[i] * by; s[i] = HAS_w ? w[i] : 0; }
     }",
);

const BACKWARD: (&str, &str) = (
    "backward_of = scale, ignores(z), stages = [part], crate = crate::runtime",
    "pub fn scale_backward<T: Float>(x: Option<In![T; B, N]>, s: In![T; N], by: f32, d_y: In![T; B, N],
         d_x: Option<Out![T; B, N]>) {
         let d_x = if wants_d_x { Some(part(stages, x, s, d_y, by)?) } else { None };
         Ok(Outputs { d_x })
     }",
);

const TREE: &str =
    "#[derive(Parameters)] struct Block<M: Mode> { #[parameters(rename = \"x\")] a: A<M>, #[config] n: usize }";

/// Words that mean something to the macros, so that random streams reach further than the first error.
const WORDS: &[&str] = &[
    "fn",
    "pub",
    "struct",
    "enum",
    "metal",
    "cuda",
    "In",
    "Out",
    "f32",
    "bf16",
    "T",
    "Float",
    "Option",
    "const",
    "usize",
    "B",
    "N",
    "x",
    "y",
    "d_y",
    "backward",
    "backward_of",
    "fallback",
    "grid",
    "threads",
    "cases",
    "stages",
    "crate",
    "init",
    "ceil_div",
    "Ok",
    "Outputs",
    "threadgroup",
    "float",
    "double",
    "M",
    "Mode",
    "for",
    "if",
    "self",
];

fn token() -> impl Strategy<Value = TokenTree> {
    prop_oneof![
        proptest::sample::select(WORDS).prop_map(|word| TokenTree::Ident(Ident::new(word, Span::call_site()))),
        proptest::sample::select(&["type", "N", "x"][..])
            .prop_map(|word| TokenTree::Ident(Ident::new_raw(word, Span::call_site()))),
        proptest::sample::select("=,;:<>!#[]+-*/%&.|?'".chars().filter(|c| !"[]'".contains(*c)).collect::<Vec<_>>())
            .prop_flat_map(|character| any::<bool>().prop_map(move |joint| {
                TokenTree::Punct(Punct::new(character, if joint { Spacing::Joint } else { Spacing::Alone }))
            })),
        any::<i64>().prop_map(|value| TokenTree::Literal(Literal::u64_unsuffixed(value.unsigned_abs()))),
        any::<f32>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| TokenTree::Literal(Literal::f32_unsuffixed(value.abs()))),
        "[a-z ]{0,6}".prop_map(|text| TokenTree::Literal(Literal::string(&text))),
    ]
}

fn stream() -> impl Strategy<Value = TokenStream> {
    let leaf = token().prop_map(TokenStream::from);
    leaf.prop_recursive(4, 48, 8, |inner| {
        (proptest::collection::vec(inner, 0..8), 0..4_u8).prop_map(|(parts, delimiter)| {
            let stream: TokenStream = parts.into_iter().collect();
            let delimiter = match delimiter {
                0 => Delimiter::Parenthesis,
                1 => Delimiter::Brace,
                2 => Delimiter::Bracket,
                _ => return stream,
            };
            TokenTree::Group(Group::new(delimiter, stream)).into()
        })
    })
}

/// Replaces the token at a position of the flattened stream.
fn mutate(tokens: TokenStream, position: &mut usize, change: &Change) -> TokenStream {
    let mut mutated = TokenStream::new();
    for token in tokens {
        let hit = *position == 0;
        *position = position.wrapping_sub(1);
        let token = match token {
            TokenTree::Group(group) => {
                let inner = mutate(group.stream(), position, change);
                TokenTree::Group(Group::new(group.delimiter(), inner))
            }
            other => other,
        };
        match (hit, change) {
            (true, Change::Remove) => {}
            (true, Change::Double) => mutated.extend([token.clone(), token]),
            (true, Change::Replace(other)) => mutated.extend([other.clone()]),
            (false, _) => mutated.extend([token]),
        }
    }
    mutated
}

#[derive(Debug, Clone)]
enum Change {
    Remove,
    Double,
    Replace(TokenTree),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![Just(Change::Remove), Just(Change::Double), token().prop_map(Change::Replace)]
}

fn expands_to_rust(expansion: TokenStream) {
    if let Err(error) = syn::parse2::<syn::File>(expansion.clone()) {
        panic!("the expansion is no Rust: {error}\n{expansion}");
    }
}

fn parse(text: &str) -> TokenStream {
    text.parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
    ))]

    #[test]
    fn mutated_kernels_never_panic(position in 0..220_usize, second in 0..220_usize, one in change(), two in change()) {
        let (mut options, mut item) = (parse(KERNEL.0), parse(KERNEL.1));
        options = mutate(options, &mut { position }, &one);
        item = mutate(mutate(item, &mut { position }, &one), &mut { second }, &two);
        let whole = cotangent_macros_core::differentiable(parse(KERNEL.0), item.clone());
        let options_too = cotangent_macros_core::differentiable(options.clone(), item.clone());
        // An item that is not Rust never reaches a macro, so its expansion need not be Rust either.
        if syn::parse2::<syn::ItemFn>(item.clone()).is_ok() {
            expands_to_rust(whole);
            expands_to_rust(options_too);
        }
        cotangent_macros_core::stage(options, item);
    }

    #[test]
    fn mutated_backwards_never_panic(position in 0..120_usize, second in 0..120_usize, one in change(), two in change()) {
        let options = mutate(parse(BACKWARD.0), &mut { position }, &one);
        let item = mutate(mutate(parse(BACKWARD.1), &mut { position }, &one), &mut { second }, &two);
        if syn::parse2::<syn::ItemFn>(item.clone()).is_ok() {
            expands_to_rust(cotangent_macros_core::differentiable(parse(BACKWARD.0), item.clone()));
        }
        expands_to_rust(cotangent_macros_core::differentiable(options, parse(BACKWARD.1)));
    }

    #[test]
    fn random_streams_never_panic(options in stream(), item in stream()) {
        cotangent_macros_core::differentiable(options.clone(), item.clone());
        cotangent_macros_core::stage(options.clone(), parse(KERNEL.1));
        expands_to_rust(cotangent_macros_core::differentiable(options, parse(KERNEL.1)));
        cotangent_macros_core::parameters(item);
    }

    #[test]
    fn mutated_trees_never_panic(position in 0..60_usize, one in change()) {
        cotangent_macros_core::parameters(mutate(parse(TREE), &mut { position }, &one));
    }
}
