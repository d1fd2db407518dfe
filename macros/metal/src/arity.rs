//! The number of arguments that Metal's functions take.

use std::ops::RangeInclusive;

use crate::names::{is_collective, is_function};

/// Collective functions without arguments, without their prefix.
const OF_NONE: &[&str] = &["active_threads_mask", "is_first"];
/// Functions of two arguments.
const OF_TWO: &[&str] = &[
    "absdiff",
    "addsat",
    "atan2",
    "copysign",
    "cross",
    "distance",
    "distance_squared",
    "divide",
    "dot",
    "fdim",
    "fmax",
    "fmin",
    "fmod",
    "hadd",
    "isordered",
    "isunordered",
    "ldexp",
    "max",
    "min",
    "mul24",
    "mulhi",
    "pow",
    "powr",
    "reflect",
    "rhadd",
    "rotate",
    "step",
    "subsat",
];
/// Functions of three arguments.
const OF_THREE: &[&str] = &[
    "clamp",
    "extract_bits",
    "fma",
    "fmax3",
    "fmedian3",
    "fmin3",
    "mad24",
    "madhi",
    "madsat",
    "max3",
    "median3",
    "min3",
    "mix",
    "refract",
    "select",
    "smoothstep",
];
/// Functions of four arguments.
const OF_FOUR: &[&str] = &["insert_bits"];

/// Returns how many arguments a function takes, where that is known.
pub(crate) fn arguments_of(function: &str) -> Option<RangeInclusive<usize>> {
    let exactly = |count: usize| Some(count..=count);
    match function {
        // The second argument is the scope.
        "threadgroup_barrier" | "simdgroup_barrier" => return Some(1..=2),
        "atomic_load_explicit" => return exactly(2),
        "atomic_store_explicit" | "atomic_exchange_explicit" => return exactly(3),
        // `bfloat` and `half` are types, whose constructors also take vectors; the others are namespaces.
        "bfloat" | "half" | "fast" | "precise" => return None,
        _ if function.starts_with("atomic_fetch_") => return exactly(3),
        _ => {}
    }
    if let Some(operation) = function.strip_prefix("simd_").or_else(|| function.strip_prefix("quad_")) {
        return match operation {
            _ if !is_collective(function) => None,
            _ if OF_NONE.contains(&operation) => exactly(0),
            "broadcast" => exactly(2),
            // The last argument is the width in which lanes move.
            _ if operation.starts_with("shuffle_and_fill_") => Some(3..=4),
            _ if operation.starts_with("shuffle") => exactly(2),
            _ => exactly(1),
        };
    }
    let several = [(2, OF_TWO), (3, OF_THREE), (4, OF_FOUR)].into_iter().find(|(_, known)| known.contains(&function));
    match several {
        Some((count, _)) => exactly(count),
        None if is_function(function) => exactly(1),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_take_what_the_specification_says() {
        for (function, expected) in [
            ("exp", Some(1..=1)),
            ("as_type", Some(1..=1)),
            ("fma", Some(3..=3)),
            ("simd_sum", Some(1..=1)),
            ("simd_is_first", Some(0..=0)),
            ("quad_shuffle_xor", Some(2..=2)),
            ("threadgroup_barrier", Some(1..=2)),
            ("atomic_fetch_add_explicit", Some(3..=3)),
            ("half", None),
            ("simd_vote", None),
            ("own", None),
        ] {
            assert_eq!(arguments_of(function), expected, "{function}");
        }
        assert!([OF_TWO, OF_THREE, OF_FOUR].concat().iter().all(|function| is_function(function)));
    }
}
