//! Tests of encoding a long text window by window.

use proptest::prelude::*;

use super::*;
use crate::data::windows::Windows;

fn pieces() -> impl Strategy<Value = String> {
    let pieces = [
        "a town and its harbour ",
        "\n\n",
        "1234567890",
        "<|im_end|>\n<|im_start|>user\n",
        "<|im_start|>",
        "界界界",
        "e\u{301}\u{323}",
        "🚀👩\u{200d}🚀",
        "   ",
        "aaaaaaaaaaaaaaaa",
        "don't ",
        "!!!??\r\n",
        "\t",
        "हिन्दी",
        "<think>\n\n</think>\n\n",
    ];
    prop::collection::vec((prop::sample::select(pieces.to_vec()), 1usize..40), 1..40)
        .prop_map(|pieces| pieces.into_iter().map(|(piece, times)| piece.repeat(times)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn windows_give_the_tokens_of_the_whole_text(text in pieces(), size in 300usize..900) {
        let tokenizer = Tokenizer::load(&data()).unwrap();
        let whole = tokenizer.encode_with_offsets(&text).unwrap();
        let mut longest = 0;
        let windows = Windows { size, overlap: size / 4 }.encode(&text, |part| {
            longest = longest.max(part.len());
            tokenizer.encode_with_offsets(part)
        });
        prop_assert_eq!(windows.unwrap(), whole);
        prop_assert!(text.len() <= size || longest < text.len() || longest <= 4 * size, "{longest} of {}", text.len());
    }
}
