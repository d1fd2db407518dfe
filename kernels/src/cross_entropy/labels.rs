//! What the hidden states shall predict.

use cotangent::{Error, Indices, Result};

/// The label of a row that does not count.
pub const IGNORED: i32 = -100;

/// What each row of hidden states shall predict: known on the host, before the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    rows: i32,
    counted: Vec<Counted>,
}

/// A row that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) row: i32,
    pub(super) label: i32,
}

impl Labels {
    /// One label a row, or [`IGNORED`]. The label of a row is the token it shall predict: shift them before.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for another negative label.
    pub fn from_slice(labels: &[i32]) -> Result<Self> {
        let operation = "Labels::from_slice";
        let rows = i32::try_from(labels.len()).map_err(|_| Error::Shape {
            operation,
            found: format!("{} labels", labels.len()),
            expected: format!("at most {}", i32::MAX),
        })?;
        if let Some(&label) = labels.iter().find(|&&label| label < 0 && label != IGNORED) {
            return Err(Error::IndexOutOfRange { operation, index: label.into(), length: i32::MAX.into() });
        }
        let counted = (0..rows)
            .zip(labels)
            .filter(|&(_, &label)| label != IGNORED)
            .map(|(row, &label)| Counted { row, label })
            .collect();
        Ok(Labels { rows, counted })
    }

    /// How many rows count.
    pub fn count(&self) -> usize {
        self.counted.len()
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    pub(super) fn counted(&self) -> &[Counted] {
        &self.counted
    }

    /// For each row its place among those that count, or the place after the last: `[rows]`.
    pub(super) fn places(&self) -> Result<Indices> {
        let mut places = vec![self.counted.len() as i32; self.rows()];
        for (place, counted) in (0..).zip(&self.counted) {
            places[counted.row as usize] = place;
        }
        Indices::from_slice(&places, &[self.rows])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_labels_do_not_count() {
        let labels = Labels::from_slice(&[IGNORED, 7, IGNORED, 0]).unwrap();
        assert_eq!((labels.rows(), labels.count()), (4, 2));
        assert_eq!(labels.counted(), [Counted { row: 1, label: 7 }, Counted { row: 3, label: 0 }]);
        let mut session = cotangent::Session::new().unwrap();
        assert_eq!(labels.places().unwrap().to_stored(&mut session).unwrap().to_vec::<i32>().unwrap(), [2, 0, 2, 1]);
    }

    #[test]
    fn another_negative_label_is_an_error() {
        assert!(matches!(Labels::from_slice(&[3, -1]), Err(Error::IndexOutOfRange { index: -1, .. })));
    }
}
