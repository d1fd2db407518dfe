//! Vectors: how many lanes a type has, and the names of their components.

#[cfg(feature = "tokens")]
use crate::names::{SCALARS, is_vector};

/// Returns whether a vector of `lanes` lanes has the component, or the components, that `member` names.
pub(crate) fn has_lanes(lanes: usize, member: &str) -> bool {
    let all_in = |letters: &str| member.chars().all(|letter| letters[..lanes].contains(letter));
    lanes > 1 && (1..=4).contains(&member.len()) && (all_in("xyzw") || all_in("rgba"))
}

/// Returns the number of lanes of a type: that of a vector, 1 for a number, `None` for any other type.
#[cfg(feature = "tokens")]
pub(crate) fn lanes(name: &str) -> Option<usize> {
    if SCALARS.iter().any(|(known, _)| *known == name) {
        return Some(1);
    }
    let unpacked = name.strip_prefix("packed_").unwrap_or(name);
    let digit = unpacked.chars().last().filter(|_| is_vector(unpacked))?;
    digit.to_digit(10).map(|digit| digit as usize)
}

#[cfg(all(test, feature = "tokens"))]
mod tests {
    use super::*;

    #[test]
    fn lanes_have_names() {
        for (ty, expected) in
            [("uint", Some(1)), ("half2", Some(2)), ("packed_float3", Some(3)), ("float2x2", None), ("vec", None)]
        {
            assert_eq!(lanes(ty), expected, "{ty}");
        }
        for (count, member, expected) in
            [(2, "y", true), (2, "z", false), (4, "wzyx", true), (3, "rgb", true), (4, "xg", false), (1, "x", false)]
        {
            assert_eq!(has_lanes(count, member), expected, "{count} {member}");
        }
    }
}
