//! Tests of the JSON reader.

use proptest::prelude::*;

use super::*;
use crate::data::json::{Json as Read, JsonFault, Number};

#[test]
fn integers_keep_their_digits_and_floats_are_floats() {
    for (text, expected) in [
        ("0", Number::Integer(0)),
        ("-0", Number::Integer(0)),
        ("-9223372036854775808", Number::Integer(i64::MIN)),
        ("18446744073709551616", Number::Digits("18446744073709551616".into())),
        ("-123456789012345678901234567890123456789012345", {
            Number::Digits("-123456789012345678901234567890123456789012345".into())
        }),
        ("-0.0", Number::Float(-0.0)),
        ("2.50", Number::Float(2.5)),
        ("3e2", Number::Float(300.0)),
    ] {
        assert_eq!(Read::parse(text), Ok(Read::Number(expected)), "{text}");
    }
}

#[test]
fn what_is_not_json_is_named_with_its_place() {
    let deep = "[".repeat(200);
    for (text, at, fault, expected) in [
        ("", 0, JsonFault::Unfinished, "the text ends, expected a value"),
        (r#"{"a": 1"#, 7, JsonFault::Unfinished, "the text ends, expected `,` or `}`"),
        (r#"{"a": "b"#, 8, JsonFault::Unfinished, "the text ends within a string"),
        (r#"["\u00"#, 6, JsonFault::Unfinished, "the text ends within a string"),
        ("[tru", 1, JsonFault::Unfinished, "the text ends within `tru`"),
        ("{} x", 3, JsonFault::Trailing, "found more text after the value"),
        (r#"{"a": 1, "b": 2, "a": 3}"#, 17, JsonFault::Other, "the key `a` stands twice in one object"),
        (r#"{"a": {"\u0062": 1, "b": 1}}"#, 20, JsonFault::Other, "the key `b` stands twice in one object"),
        (r#"["\udc00"]"#, 2, JsonFault::Other, "`\\udc00` is half of a surrogate pair, which alone is no character"),
        (
            r#"["\ud83d\u0041"]"#,
            2,
            JsonFault::Other,
            "`\\ud83d` is half of a surrogate pair, which alone is no character",
        ),
        ("{'a': 1}", 1, JsonFault::Other, "found `'`, expected a key in double quotes (JSON has double quotes)"),
        ("[NaN]", 1, JsonFault::Other, "`NaN`, which Python writes, is not JSON"),
        ("[-Infinity]", 2, JsonFault::Other, "`-Infinity`, which Python writes, is not JSON"),
        ("[True]", 1, JsonFault::Other, "`True` is Python, not JSON"),
        ("[1, ]", 4, JsonFault::Other, "a comma stands before the closing bracket"),
        ("[01]", 3, JsonFault::Other, "a number begins with 0"),
        ("[1.]", 3, JsonFault::Other, "found `]`, expected a digit"),
        ("[1e999]", 1, JsonFault::Other, "a number is too large for a float"),
        ("[\"a\nb\"]", 3, JsonFault::Other, "a line break within a string, expected `\\n`"),
        ("[\"a\tb\"]", 3, JsonFault::Other, "a control character within a string, expected `\\u0009`"),
        (r#"["\x"]"#, 2, JsonFault::Other, "`\\x` is no escape of JSON"),
        (deep.as_str(), 128, JsonFault::Other, "lists and objects are nested deeper than 128 levels"),
    ] {
        let error = Read::parse(text).unwrap_err();
        assert_eq!((error.at, error.fault, error.message.as_str()), (at, fault, expected), "{text}");
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(Json::from),
        "\\PC{0,6}|[\\x00-\\x20\"\\\\é🚀]{0,6}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec(("\\PC{0,3}", inner), 0..4)
                .prop_map(|pairs| Json::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_serde_json_writes_is_read_as_it_was(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        prop_assert_eq!(Read::parse(&text), Ok(Read::from(value)));
    }

    #[test]
    fn it_is_as_strict_as_serde_json_with_damaged_text(value in any_json(), at in any::<prop::sample::Index>(), byte in 0u8..128) {
        let mut bytes = serde_json::to_vec(&value).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes) && let Ok(read) = Read::parse(&text) {
            prop_assert!(serde_json::from_str::<Json>(&text).is_ok(), "{text:?} is read as {read:?}");
        }
    }
}
