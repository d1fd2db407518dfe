//! Rows that hold several documents, or end in padding.

use cotangent::{Error, Indices, Result};

/// The positions in each row at which the documents of its queries begin, known on the host before the graph is built.
///
/// Queries see keys of their own document only; those behind the last document see nothing, and their output is 0.
#[derive(Debug, Clone)]
pub struct Segments {
    first_keys: Indices,
    shape: [i32; 2],
}

impl Segments {
    /// Creates segments from the lengths of each row's documents, which follow each other from the first of `keys` on.
    /// The last of `queries` is at the position of the last key.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more queries than keys, a length is negative, or a row is longer than `keys`.
    pub fn new(documents: &[Vec<i32>], queries: i32, keys: i32) -> Result<Self> {
        let error = |found: String, expected: String| Error::Shape { operation: "Segments::new", found, expected };
        if queries > keys {
            return Err(error(format!("{queries} queries"), format!("at most {keys}, one a key")));
        }
        let mut first_keys = Vec::with_capacity(documents.len() * queries.max(0) as usize);
        for lengths in documents {
            let total: i64 = lengths.iter().map(|length| i64::from(*length)).sum();
            if lengths.iter().any(|length| *length < 0) || total > i64::from(keys) {
                return Err(error(format!("documents of {lengths:?} tokens"), format!("{keys} in all, none negative")));
            }
            let mut row = Vec::with_capacity(keys as usize);
            for length in lengths {
                row.extend(std::iter::repeat_n(row.len() as i32, *length as usize));
            }
            row.resize(keys as usize, keys);
            first_keys.extend_from_slice(&row[(keys - queries) as usize..]);
        }
        let shape = [documents.len() as i32, queries];
        Ok(Segments { first_keys: Indices::from_slice(&first_keys, &shape)?, shape })
    }

    /// Creates segments of one document a row, with these numbers of tokens, followed by padding.
    ///
    /// # Errors
    /// As [`Segments::new`].
    pub fn of_lengths(lengths: &[i32], queries: i32, keys: i32) -> Result<Self> {
        let documents: Vec<Vec<i32>> = lengths.iter().map(|length| vec![*length]).collect();
        Segments::new(&documents, queries, keys)
    }

    /// Creates segments of one document in each row, without padding.
    pub(super) fn whole(rows: i32, queries: i32) -> Result<Self> {
        let shape = [rows, queries];
        Ok(Segments { first_keys: Indices::zeros(&shape)?, shape })
    }

    /// Creates segments from the first keys that a kernel was given.
    pub(super) fn of_first_keys(first_keys: &Indices, shape: [i32; 2]) -> Self {
        Segments { first_keys: first_keys.clone(), shape }
    }

    /// The first key that each query sees, `[B, T]`; behind all keys if it sees none.
    pub(super) fn first_keys(&self) -> &Indices {
        &self.first_keys
    }

    /// Rows and queries.
    pub(super) fn shape(&self) -> [i32; 2] {
        self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_keys(documents: &[Vec<i32>], queries: i32, keys: i32) -> Vec<i32> {
        let segments = Segments::new(documents, queries, keys).unwrap();
        segments.first_keys().to_stored(&mut cotangent::Session::new().unwrap()).unwrap().to_vec().unwrap()
    }

    #[test]
    fn queries_begin_where_their_document_does() {
        for (documents, queries, keys, expected) in [
            (vec![vec![5]], 5, 5, vec![0, 0, 0, 0, 0]),
            (vec![vec![2, 2]], 5, 5, vec![0, 0, 2, 2, 5]),
            (vec![vec![3, 0, 1], vec![]], 2, 4, vec![0, 3, 4, 4]),
        ] {
            assert_eq!(first_keys(&documents, queries, keys), expected, "{documents:?}");
        }
    }

    #[test]
    fn documents_that_do_not_fit_are_refused() {
        for (documents, queries, keys) in [(vec![vec![3, 3]], 5, 5), (vec![vec![-1]], 5, 5), (vec![vec![1]], 6, 5)] {
            assert!(matches!(Segments::new(&documents, queries, keys), Err(Error::Shape { .. })), "{documents:?}");
        }
    }
}
