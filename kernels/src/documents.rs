//! Rows that hold several documents, or padding.

use cotangent::{Error, Indices, Mask, Result};

/// Where the documents of each row lie: known on the host, before the graph.
///
/// - Attention: a query sees only keys of its own document; padding sees nothing, and its output is 0.
/// - Convolution: a token sees only inputs of its own document; padding is 0 and has no gradient.
/// - Delta rule: a document begins with a state of zero; padding leaves the state as it is, its output is 0, and nothing of it
///   has a gradient.
///
/// The first document of a row goes on from the window or the state that a call passes.
#[derive(Debug, Clone)]
pub struct Documents {
    first_keys: Indices,
    counts: Option<Mask>,
    starts: Option<Mask>,
    shape: [i32; 2],
}

/// The place of a token in its row.
#[derive(Clone, Copy)]
struct Place {
    first_key: i32,
    counts: bool,
    starts: bool,
}

impl Documents {
    /// For each row the lengths of its documents, one behind the other from the first of `keys` on, padding behind the last;
    /// the last of `tokens` stands at the last key.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are more tokens than keys, a length is negative, or a row is longer than `keys`.
    pub fn new(documents: &[Vec<i32>], tokens: i32, keys: i32) -> Result<Self> {
        let padding = Place { first_key: keys, counts: false, starts: false };
        let mut rows = Vec::with_capacity(documents.len());
        for lengths in documents {
            check_lengths(lengths, keys)?;
            let mut row: Vec<Place> = Vec::with_capacity(keys as usize);
            for length in lengths {
                let first_key = row.len() as i32;
                let of = |key: i32| Place { first_key, counts: true, starts: key == 0 && first_key > 0 };
                row.extend((0..*length).map(of));
            }
            row.resize(keys as usize, padding);
            rows.push(row);
        }
        Documents::from_places(&rows, tokens, keys)
    }

    /// One document in each row, as long as `lengths` says, and padding behind it.
    ///
    /// # Errors
    /// As [`Documents::new`].
    pub fn from_lengths(lengths: &[i32], tokens: i32, keys: i32) -> Result<Self> {
        let documents: Vec<Vec<i32>> = lengths.iter().map(|length| vec![*length]).collect();
        Documents::new(&documents, tokens, keys)
    }

    /// One document in each row, behind as much padding as `pads` says: the form of a batch of prompts.
    ///
    /// # Errors
    /// As [`Documents::new`].
    pub fn behind_padding(pads: &[i32], tokens: i32, keys: i32) -> Result<Self> {
        let mut rows = Vec::with_capacity(pads.len());
        for pad in pads {
            check_lengths(&[*pad], keys)?;
            let of = |key: i32| match key < *pad {
                true => Place { first_key: keys, counts: false, starts: false },
                false => Place { first_key: *pad, counts: true, starts: false },
            };
            rows.push((0..keys).map(of).collect());
        }
        Documents::from_places(&rows, tokens, keys)
    }

    fn from_places(rows: &[Vec<Place>], tokens: i32, keys: i32) -> Result<Self> {
        if tokens > keys {
            return Err(error(format!("{tokens} tokens"), format!("at most {keys}, one a key")));
        }
        let places: Vec<Place> = rows.iter().flat_map(|row| &row[(keys - tokens) as usize..]).copied().collect();
        let shape = [rows.len() as i32, tokens];
        let first_keys: Vec<i32> = places.iter().map(|place| place.first_key).collect();
        let mask = |of: fn(&Place) -> bool| Mask::from_slice(&places.iter().map(of).collect::<Vec<_>>(), &shape);
        let (pads, parts) = (places.iter().any(|place| !place.counts), places.iter().any(|place| place.starts));
        Ok(Documents {
            first_keys: Indices::from_slice(&first_keys, &shape)?,
            counts: pads.then(|| mask(|place| place.counts)).transpose()?,
            starts: parts.then(|| mask(|place| place.starts)).transpose()?,
            shape,
        })
    }

    /// One document in each row, and no padding.
    pub(crate) fn whole(rows: i32, tokens: i32) -> Result<Self> {
        let shape = [rows, tokens];
        Ok(Documents { first_keys: Indices::zeros(&shape)?, counts: None, starts: None, shape })
    }

    /// The first key that each token sees, `[B, T]`; behind all keys if it is padding.
    pub(crate) fn first_keys(&self) -> &Indices {
        &self.first_keys
    }

    /// `[B, T]`: false for padding. Without padding there is none.
    pub(crate) fn counts(&self) -> Option<&Mask> {
        self.counts.as_ref()
    }

    /// `[B, T]`: true for the first token of each document but the first of a row. Without such there is none.
    pub(crate) fn starts(&self) -> Option<&Mask> {
        self.starts.as_ref()
    }

    /// Checks that the documents have the rows and tokens of `shape`.
    pub(crate) fn check(&self, operation: &'static str, shape: [i32; 2]) -> Result<()> {
        if self.shape == shape {
            return Ok(());
        }
        let found = format!("documents in {:?} rows and tokens", self.shape);
        Err(Error::Shape { operation, found, expected: format!("{shape:?}") })
    }
}

fn check_lengths(lengths: &[i32], keys: i32) -> Result<()> {
    let total: i64 = lengths.iter().map(|length| i64::from(*length)).sum();
    if lengths.iter().any(|length| *length < 0) || total > i64::from(keys) {
        return Err(error(format!("documents of {lengths:?} tokens"), format!("{keys} in all, none negative")));
    }
    Ok(())
}

fn error(found: String, expected: String) -> Error {
    Error::Shape { operation: "Documents", found, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_keys(documents: &Documents) -> Vec<i32> {
        documents.first_keys().to_stored(&mut cotangent::Session::new().unwrap()).unwrap().to_vec().unwrap()
    }

    #[test]
    fn tokens_see_their_document_alone() {
        for (documents, expected, pads, parts) in [
            (Documents::new(&[vec![5]], 5, 5), vec![0, 0, 0, 0, 0], false, false),
            (Documents::new(&[vec![2, 2]], 5, 5), vec![0, 0, 2, 2, 5], true, true),
            (Documents::new(&[vec![3, 0, 1], vec![]], 2, 4), vec![0, 3, 4, 4], true, true),
            (Documents::new(&[vec![1, 3]], 2, 4), vec![1, 1], false, false),
            (Documents::behind_padding(&[0, 2], 3, 3), vec![0, 0, 0, 3, 3, 2], true, false),
        ] {
            let documents = documents.unwrap();
            assert_eq!(first_keys(&documents), expected, "{documents:?}");
            assert_eq!((documents.counts().is_some(), documents.starts().is_some()), (pads, parts), "{documents:?}");
        }
    }

    #[test]
    fn documents_that_do_not_fit_are_refused() {
        for (documents, tokens, keys) in [(vec![vec![3, 3]], 5, 5), (vec![vec![-1]], 5, 5), (vec![vec![1]], 6, 5)] {
            assert!(matches!(Documents::new(&documents, tokens, keys), Err(Error::Shape { .. })), "{documents:?}");
        }
        assert!(matches!(Documents::behind_padding(&[4], 3, 3), Err(Error::Shape { .. })));
    }
}
