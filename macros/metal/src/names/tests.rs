//! Tests of what the names of types and attributes mean.

use super::*;

#[test]
fn types_know_their_sizes() {
    for (name, size) in [
        ("float", Some(4)),
        ("half4", Some(8)),
        ("float3", Some(16)),
        ("packed_float3", Some(12)),
        ("float5", None),
        ("x", None),
        ("", None),
    ] {
        assert_eq!(size_of(name), size, "{name}");
    }
    assert!(is_type("float4x4") && is_type("simdgroup_float8x8") && !is_type("float4x5"));
}

#[test]
fn misspelled_attributes_are_recognised() {
    assert_eq!(nearest_attribute("thread_postion_in_grid"), Some("thread_position_in_grid"));
    assert_eq!(nearest_attribute("threads_per_treadgroup"), Some("threads_per_threadgroup"));
    assert_eq!(nearest_attribute("position"), None);
}
