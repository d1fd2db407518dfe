//! The placement of an input in its memory: the elements that its shape and strides lead to. Elements between them do
//! not belong to it.

use crate::Buffer;

/// The elements of a buffer that is not row-contiguous.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// Whether some index leads to each element of the memory.
    reached: Vec<bool>,
    /// The element of the memory that the index 0 leads to.
    first: usize,
    shape: Vec<usize>,
    strides: Vec<i64>,
}

impl Placement {
    /// `None` if elements lie row by row, nothing between them.
    pub fn new(buffer: &Buffer<'_>) -> Option<Self> {
        let strides = buffer.strides.clone().filter(|_| !buffer.is_row_contiguous())?;
        let size = buffer.dtype.size();
        let mut reached = vec![false; buffer.bytes.len() / size];
        let (first, shape) = (buffer.first, buffer.shape.clone());
        let mut index = vec![0usize; shape.len()];
        for _ in 0..buffer.size() {
            let offset: i64 = index.iter().zip(&strides).map(|(&i, stride)| i as i64 * stride).sum();
            let place = usize::try_from(first as i64 + offset).ok();
            if let Some(found) = place.and_then(|place| reached.get_mut(place)) {
                *found = true;
            }
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                if index[axis] < shape[axis] {
                    break;
                }
                index[axis] = 0;
            }
        }
        Some(Placement { reached, first, shape, strides })
    }

    /// Returns whether there is any element that no index leads to.
    pub fn has_gaps(&self) -> bool {
        self.reached.contains(&false)
    }

    /// The first of these elements that no index leads to, counted from the one of index 0.
    pub fn gap(&self, elements: std::ops::Range<usize>) -> Option<i64> {
        let mut elements = elements;
        let gap = elements.find(|&element| self.reached.get(element) == Some(&false))?;
        Some(gap as i64 - self.first as i64)
    }
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shape {:?} with strides {:?}", self.shape, self.strides)
    }
}
