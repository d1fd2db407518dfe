//! The arguments of one call of a check beyond its sizes: scalars, ranges of values, patterns, layouts, wanted
//! gradients.

use std::fmt;

use crate::kernel::value::ScalarValue;

/// The largest scalar with which a function is as smooth as without: a sine bends by a ten-thousandth over a step of 0.01.
const LARGE: u32 = 3;

/// The differences of a call from the plain one, whose inputs are uniform over their ranges, lie in rows and all have
/// gradients.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Draw {
    /// Scalars that are not what they are in the plain call.
    pub(super) scalars: Vec<(&'static str, ScalarValue)>,
    /// Float inputs with values of another kind.
    pub(super) floats: Vec<(&'static str, Floats)>,
    pub(super) indices: Pattern,
    pub(super) masks: Pattern,
    pub(super) layout: MemoryLayout,
    /// The number of this draw among several of its kind.
    pub(super) turn: usize,
    /// The inputs whose gradients are wanted; all of them if there is nothing here.
    pub(super) wanted: Option<Vec<&'static str>>,
}

/// The values that a float input gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Floats {
    /// Values of either sign, from a ten-thousandth to a tenth.
    NearZero,
    /// Positive values, from a ten-thousandth to a tenth.
    NearZeroPositive,
    /// Half of them of either sign between 1 and 40, where exponentials saturate and do not overflow; the others as always.
    Far,
    /// Half of them positive between 1 and 40, as in [`Far`](Floats::Far); the others as always.
    FarPositive,
    /// Half of them exactly at points where a slope may change; the others as always.
    Kinks(Vec<f32>),
}

/// The values that indices and masks take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pattern {
    #[default]
    Random,
    /// The smallest index everywhere; false everywhere.
    Low,
    /// The largest index everywhere; true everywhere.
    High,
    /// Each index several times, in turn; every other row false.
    Repeated,
}

/// The layout in memory of the inputs of a `strided` launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum MemoryLayout {
    #[default]
    Rows,
    /// The first axis innermost: columns instead of rows.
    Transposed,
    /// A part of larger rows.
    Padded,
    /// Every other element of rows.
    Stepped,
    /// Each input in another way.
    Mixed,
}

impl MemoryLayout {
    /// Returns the layout of one input, by its number.
    pub(super) fn of(self, number: usize) -> MemoryLayout {
        match self {
            MemoryLayout::Mixed => {
                [MemoryLayout::Rows, MemoryLayout::Padded, MemoryLayout::Transposed, MemoryLayout::Stepped][number % 4]
            }
            other => other,
        }
    }
}

impl Draw {
    /// Returns whether differences of single precision can be taken: inputs are those of the plain call, and no scalar
    /// is so large that the function may bend within their step, which is wide.
    pub(super) fn suits_single_precision(&self) -> bool {
        let is_small = |value: &ScalarValue| match value {
            ScalarValue::F32(value) => value.abs() <= LARGE as f32,
            ScalarValue::I32(value) => value.unsigned_abs() <= LARGE,
            ScalarValue::U32(value) => *value <= LARGE,
            ScalarValue::Bool(_) => true,
        };
        self.floats.is_empty() && self.scalars.iter().all(|(_, value)| is_small(value))
    }

    /// Returns whether some values lie far outside the range that is declared.
    pub(super) fn is_far(&self) -> bool {
        self.floats.iter().any(|(_, floats)| matches!(floats, Floats::Far | Floats::FarPositive))
    }

    /// The points where slopes may change, for the input that has some.
    pub(super) fn kinks(&self, name: &str) -> Option<&[f32]> {
        self.floats.iter().find_map(|(input, floats)| match floats {
            Floats::Kinks(points) if *input == name => Some(points.as_slice()),
            _ => None,
        })
    }

    pub(super) fn wants(&self, name: &str) -> bool {
        self.wanted.as_ref().is_none_or(|wanted| wanted.contains(&name))
    }
}

impl fmt::Display for Draw {
    /// `, `scale` = 0, only the gradient of `x` wanted`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.scalars {
            match value {
                ScalarValue::F32(value) => write!(f, ", `{name}` = {value}")?,
                ScalarValue::I32(value) => write!(f, ", `{name}` = {value}")?,
                ScalarValue::U32(value) => write!(f, ", `{name}` = {value}")?,
                ScalarValue::Bool(value) => write!(f, ", `{name}` = {value}")?,
            }
        }
        for (name, floats) in &self.floats {
            let kind = match floats {
                Floats::NearZero => "near zero",
                Floats::NearZeroPositive => "near zero and positive",
                Floats::Far => "far from zero",
                Floats::FarPositive => "far from zero and positive",
                Floats::Kinks(_) => "at kinks",
            };
            write!(f, ", `{name}` {kind}")?;
        }
        f.write_str(match self.indices {
            Pattern::Random => "",
            Pattern::Low => ", the smallest index everywhere",
            Pattern::High => ", the largest index everywhere",
            Pattern::Repeated => ", repeated indices",
        })?;
        f.write_str(match self.masks {
            Pattern::Random => "",
            Pattern::Low => ", masks false",
            Pattern::High => ", masks true",
            Pattern::Repeated => ", masks false for every other row",
        })?;
        f.write_str(match self.layout {
            MemoryLayout::Rows => "",
            MemoryLayout::Transposed => ", transposed inputs",
            MemoryLayout::Padded => ", padded inputs",
            MemoryLayout::Stepped => ", inputs with a step",
            MemoryLayout::Mixed => ", inputs of several layouts",
        })?;
        if self.turn > 0 {
            write!(f, ", draw {}", self.turn + 1)?;
        }
        match self.wanted.as_deref() {
            None => Ok(()),
            Some([]) => f.write_str(", no gradient wanted"),
            Some(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                write!(f, ", only gradients of {} wanted", names.join(" and "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_says_how_it_differs_from_the_plain_call() {
        assert_eq!(Draw::default().to_string(), "");
        let draw = Draw {
            scalars: vec![("scale", ScalarValue::F32(0.0))],
            floats: vec![("x", Floats::Far)],
            masks: Pattern::Low,
            layout: MemoryLayout::Padded,
            wanted: Some(vec!["x", "w"]),
            ..Draw::default()
        };
        let expected =
            ", `scale` = 0, `x` far from zero, masks false, padded inputs, only gradients of `x` and `w` wanted";
        assert_eq!(draw.to_string(), expected);
        assert!(draw.wants("w") && !draw.wants("bias"));
    }

    #[test]
    fn differences_in_single_precision_are_not_taken_of_what_is_steep() {
        let suits = |scalar| Draw { scalars: vec![("scale", scalar)], ..Draw::default() }.suits_single_precision();
        assert!(Draw::default().suits_single_precision());
        assert!(suits(ScalarValue::F32(-1.5)) && suits(ScalarValue::I32(-1)) && suits(ScalarValue::U32(3)));
        assert!(!suits(ScalarValue::F32(24.0)) && !suits(ScalarValue::I32(20)) && !suits(ScalarValue::U32(20)));
    }
}
