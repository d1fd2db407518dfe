//! The tokens that hidden states predict.

use cotangent::{Error, Indices, Result};

/// The label of a row that does not count.
pub const IGNORED: i32 = -100;

/// The labels that lie `places` further on in their rows of `width` labels: what each place predicts. The last places of a row
/// get [`IGNORED`].
pub fn labels_after(labels: &[i32], width: usize, places: usize) -> Vec<i32> {
    let of_row = |row: &[i32]| {
        let after = row.iter().skip(places).copied().chain(std::iter::repeat(IGNORED));
        after.take(row.len()).collect::<Vec<_>>()
    };
    labels.chunks(width).flat_map(of_row).collect()
}

/// The tokens that rows of hidden states predict, known on the host before the graph is built.
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
    /// Creates labels from one label a row, or [`IGNORED`]. The label of a row is the token that it predicts:
    /// [`labels_after`] shifts tokens accordingly.
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

    /// Every place has the label that lies `places` further on in its own document; the last places of a document and padding have
    /// none. With the tokens themselves as `labels` and 1 as `places`, each place has the next token of its document.
    ///
    /// `labels` are those of all rows, each as long as the others; `documents` are for each row the lengths of its
    /// documents, one behind the other, before the padding.
    ///
    /// # Errors
    /// [`Error::Shape`] if the rows are not of one length or shorter than their documents, and as [`Labels::from_slice`].
    pub fn in_documents(labels: &[i32], documents: &[Vec<usize>], places: usize) -> Result<Self> {
        let length = labels.len() / documents.len().max(1);
        let longest = documents.iter().map(|lengths| lengths.iter().sum()).max().unwrap_or(0);
        if length * documents.len() != labels.len() || longest > length {
            return Err(Error::Shape {
                operation: "Labels::in_documents",
                found: format!("{} labels in {} rows", labels.len(), documents.len()),
                expected: format!("rows of one length, at least the {longest} tokens of their documents"),
            });
        }
        let mut after = vec![IGNORED; labels.len()];
        for (row, lengths) in documents.iter().enumerate() {
            let mut start = row * length;
            for document in lengths {
                let end = start + document;
                if *document > places {
                    after[start..end - places].copy_from_slice(&labels[start + places..end]);
                }
                start = end;
            }
        }
        Labels::from_slice(&after)
    }

    /// Returns the number of rows that count.
    pub fn count(&self) -> usize {
        self.counted.len()
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows as usize
    }

    pub(super) fn counted(&self) -> &[Counted] {
        &self.counted
    }

    /// Returns for each row its place among the rows that count, or the place after the last: `[rows]`.
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
    fn labels_after_some_places_are_those_of_the_same_row() {
        assert_eq!(labels_after(&[1, 2, 3, IGNORED, 5, 6], 3, 1), [2, 3, IGNORED, 5, 6, IGNORED]);
        assert_eq!(labels_after(&[1, 2, 3, IGNORED, 5, 6], 3, 2), [3, IGNORED, IGNORED, 6, IGNORED, IGNORED]);
        assert_eq!(labels_after(&[1, 2], 1, 2), [IGNORED, IGNORED], "rows shorter than that have none");
    }

    #[test]
    fn the_next_token_is_one_of_the_same_document() {
        let tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0];
        let labels = Labels::in_documents(&tokens, &[vec![3, 1], vec![2, 0, 3]], 1).unwrap();
        let expected = [2, 3, IGNORED, IGNORED, IGNORED, 7, IGNORED, 9, 0, IGNORED];
        assert_eq!(labels, Labels::from_slice(&expected).unwrap());
        assert_eq!(Labels::in_documents(&tokens, &[vec![6], vec![1]], 1).map(drop).map_err(|_| ()), Err(()));
        assert_eq!(Labels::in_documents(&tokens, &[vec![1], vec![1], vec![1]], 1).map(drop).map_err(|_| ()), Err(()));
    }

    #[test]
    fn another_negative_label_is_an_error() {
        assert!(matches!(Labels::from_slice(&[3, -1]), Err(Error::IndexOutOfRange { index: -1, .. })));
    }
}
