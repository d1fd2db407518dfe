//! The layout of rotary embeddings in a head: the lanes that rotate together, and the position that a frequency
//! follows.

use cotangent::{Error, Graph, Result, Tensor};

/// The two lanes of a head that the frequency `f` of `F` rotates. Lanes from `2 F` on are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairing {
    /// Lanes `f` and `f + F`, as in GPT-NeoX and Qwen.
    #[default]
    HalfSplit,
    /// Lanes `2 f` and `2 f + 1`, as in the paper (Su et al., "RoFormer", 2021) and GPT-J.
    EvenOdd,
}

/// The one of a token's three positions, in time, height and width, that a frequency follows. The numbers say how many
/// frequencies follow each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AxisChoice {
    /// Frequencies take turns: height at 1, 4, 7 .., width at 2, 5, 8 .., as far as their sections go, else time
    /// (Qwen3-VL, Qwen3.5).
    Interleaved([usize; 3]),
    /// One section follows the other (Qwen2-VL).
    Sectioned([usize; 3]),
}

impl AxisChoice {
    /// The axis of each of `count` frequencies: 0 time, 1 height, 2 width.
    ///
    /// # Errors
    /// Sections one after the other that are not `count` frequencies.
    pub fn axes(self, count: usize) -> Result<Vec<i32>> {
        match self {
            AxisChoice::Interleaved(section) => Ok((0..count).map(|frequency| turn_of(frequency, section)).collect()),
            AxisChoice::Sectioned(section) if section.iter().sum::<usize>() == count => {
                Ok((0..3).zip(section).flat_map(|(axis, length)| std::iter::repeat_n(axis, length)).collect())
            }
            AxisChoice::Sectioned(section) => Err(Error::Shape {
                operation: "AxisChoice::axes",
                found: format!("sections of {section:?} frequencies"),
                expected: format!("{count} in all"),
            }),
        }
    }
}

fn turn_of(frequency: usize, section: [usize; 3]) -> i32 {
    let axis = frequency % 3;
    if axis != 0 && frequency < 3 * section[axis] { axis as i32 } else { 0 }
}

/// The parts of a head, for the fallback: the two lanes of each pair, and the lanes that are copied.
pub(crate) struct Pairs<M: Graph> {
    /// `[.., F]`
    pub(crate) first: Tensor<M>,
    /// `[.., F]`
    pub(crate) second: Tensor<M>,
    /// `[.., D - 2 F]`
    pub(crate) passing: Tensor<M>,
}

impl<M: Graph> Pairs<M> {
    /// The `count` pairs of heads `[.., D]`.
    pub(crate) fn new(x: &Tensor<M>, count: i32, even_odd: bool) -> Result<Self> {
        let parts = x.split(&[2 * count, x.dimension(-1) - 2 * count], -1)?;
        let (first, second) = pairs_of(&parts[0], even_odd)?;
        Ok(Pairs { first, second, passing: parts[1].clone() })
    }

    /// The heads again.
    pub(crate) fn join(&self, even_odd: bool) -> Result<Tensor<M>> {
        if !even_odd {
            return Tensor::concatenate(&[&self.first, &self.second, &self.passing], -1);
        }
        let mut shape = self.first.shape().to_vec();
        if let Some(last) = shape.last_mut() {
            *last *= 2;
        }
        let rotated = Tensor::stack(&[&self.first, &self.second], -1)?.reshape(&shape)?;
        Tensor::concatenate(&[&rotated, &self.passing], -1)
    }
}

/// `[.., 2 F]` as the first and the second lanes of its pairs, `[.., F]` each.
pub(crate) fn pairs_of<M: Graph>(rotated: &Tensor<M>, even_odd: bool) -> Result<(Tensor<M>, Tensor<M>)> {
    let count = rotated.dimension(-1) / 2;
    if !even_odd {
        return Ok((rotated.slice(-1, 0, count)?, rotated.slice(-1, count, 2 * count)?));
    }
    let mut shape = rotated.shape().to_vec();
    shape.pop();
    shape.extend([count, 2]);
    let pairs = rotated.reshape(&shape)?;
    let member = |index| pairs.slice(-1, index, index + 1)?.squeeze(-1);
    Ok((member(0)?, member(1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_section_takes_turns() {
        let axes = AxisChoice::Interleaved([11, 11, 10]).axes(32).unwrap();
        assert_eq!(axes[..6], [0, 1, 2, 0, 1, 2]);
        assert_eq!(axes[30..], [0, 1]);
        for (axis, count) in [(0, 11), (1, 11), (2, 10)] {
            assert_eq!(axes.iter().filter(|found| **found == axis).count(), count);
        }
    }

    #[test]
    fn sections_lie_one_after_the_other_and_leave_nothing_out() {
        assert_eq!(AxisChoice::Sectioned([2, 1, 3]).axes(6).unwrap(), [0, 0, 1, 2, 2, 2]);
        let error = AxisChoice::Sectioned([2, 1, 3]).axes(7).unwrap_err().to_string();
        assert!(error.contains("sections of [2, 1, 3] frequencies") && error.contains("7 in all"), "{error}");
    }
}
