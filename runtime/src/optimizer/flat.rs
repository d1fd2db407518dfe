//! Parameters side by side in one array, so that an operation on all of them is one operation.

use std::ops::Range;

use mlx_rs::{Array, Dtype as MlxDtype};

use crate::dtype::Dtype;
use crate::error::{Context as _, Result};
use crate::transform::Gradients;
use crate::{Backend, backend};

const OPERATION: &str = "flatten";

/// Every parameter begins at a multiple of this many elements: NVIDIA's products of matrices are chosen for operands that
/// lie at multiples of 256 bytes, which is this much in half precision.
const ALIGNMENT: usize = 128;

/// Which parameters lie in one flat array, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pieces: Vec<Piece>,
    /// Elements, with the gaps before pieces.
    size: usize,
}

/// One parameter's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) shape: Vec<i32>,
    start: usize,
}

impl Piece {
    fn size(&self) -> usize {
        self.shape.iter().map(|length| *length as usize).product()
    }

    fn range(&self) -> Range<usize> {
        self.start..self.start + self.size()
    }
}

impl Layout {
    /// The parameter alone.
    pub(super) fn of_one(name: &str, shape: &[i32]) -> Self {
        let mut layout = Layout::default();
        layout.push(name, shape);
        layout
    }

    fn next_start(&self) -> usize {
        self.size.next_multiple_of(ALIGNMENT)
    }

    pub(super) fn push(&mut self, name: &str, shape: &[i32]) {
        let piece = Piece { name: name.to_owned(), shape: shape.to_vec(), start: self.next_start() };
        self.size = piece.range().end;
        self.pieces.push(piece);
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// One array of the pieces' arrays, with zeros in the gaps: a copy of each, but for a piece alone, which is only seen
    /// in another shape.
    pub(super) fn join(&self, mut array: impl FnMut(&Piece) -> Result<Array>) -> Result<Array> {
        let mut arrays = Vec::with_capacity(self.pieces.len());
        let mut end = 0;
        for piece in &self.pieces {
            let found = array(piece)?.reshape(&[piece.size() as i32]).during(OPERATION)?;
            if piece.start > end {
                let zero = Array::from_f32(0.0).as_dtype(found.dtype()).during(OPERATION)?;
                arrays.push(mlx_rs::ops::broadcast_to(zero, &[(piece.start - end) as i32]).during(OPERATION)?);
            }
            arrays.push(found);
            end = piece.range().end;
        }
        match arrays.len() {
            1 => Ok(arrays.remove(0)),
            _ => mlx_rs::ops::concatenate(&arrays, 0).during(OPERATION),
        }
    }

    /// The pieces of a flat array, in order: they share its memory, and nothing is computed for them.
    pub(super) fn part(&self, flat: &Array) -> Result<Vec<Array>> {
        let shaped = |(piece, array): (&Piece, &Array)| array.reshape(&piece.shape).during(OPERATION);
        if let [piece] = self.pieces.as_slice() {
            return Ok(vec![shaped((piece, flat))?]);
        }
        // Where a piece begins or a gap does.
        let mut cuts = Vec::new();
        let mut of_pieces = Vec::new();
        for piece in &self.pieces {
            let Range { start, end } = piece.range();
            if cuts.last().is_some_and(|last| *last < start) {
                cuts.push(start);
            }
            of_pieces.push(cuts.len());
            cuts.push(end);
        }
        // The last ends where the array does.
        cuts.pop();
        let cuts: Vec<i32> = cuts.into_iter().map(|cut| cut as i32).collect();
        let arrays = flat.split_at_indices(&cuts, 0).during(OPERATION)?;
        self.pieces.iter().zip(of_pieces.into_iter().map(|index| &arrays[index])).map(shaped).collect()
    }

    /// The gradients of these parameters, in float32.
    pub(super) fn gradient(&self, gradients: &Gradients) -> Result<Array> {
        let flat = self.join(|piece| {
            let gradient = gradients.get(&piece.name).expect("a layout is made of gradients that are there");
            Ok(gradient.array().clone())
        })?;
        flat.as_dtype(MlxDtype::Float32).during(OPERATION)
    }
}

/// Elements of a flat array of more than one parameter, at most. On a GPU it bounds what a step needs beside the state, on
/// a CPU what is computed at once stays in its cache.
fn most_elements() -> Result<usize> {
    Ok(match backend()? {
        Backend::Metal | Backend::Cuda => 16 << 20,
        Backend::Cpu | Backend::Emulated => 64 << 10,
    })
}

/// The layouts that hold all `gradients`, in name order; `dtype` is a parameter's by name. Dtypes do not mix in a layout:
/// neither those of gradients nor those of parameters.
pub(super) fn layouts(gradients: &Gradients, dtype: impl Fn(&str) -> Dtype) -> Result<Vec<Layout>> {
    let most = most_elements()?;
    let mut layouts: Vec<((Dtype, Dtype), Layout)> = Vec::new();
    for (name, gradient) in gradients.iter() {
        let dtypes = (dtype(name), gradient.dtype());
        let open = layouts.iter_mut().rev().find(|(of, _)| *of == dtypes);
        match open {
            Some((_, layout)) if layout.next_start() + gradient.size() <= most => layout.push(name, gradient.shape()),
            _ => layouts.push((dtypes, Layout::of_one(name, gradient.shape()))),
        }
    }
    Ok(layouts.into_iter().map(|(_, layout)| layout).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the array's elements lie, in bytes.
    fn address(array: &Array) -> usize {
        crate::ffi::evaluate("address", [array]).unwrap();
        // SAFETY: a live array that has been computed.
        unsafe { mlx_sys::mlx_array_data_float32(array.as_ptr()) as usize }
    }

    #[test]
    fn parts_lie_aligned_in_the_flat_array_itself() {
        crate::ffi::initialise();
        let shapes: [&[i32]; 6] = [&[2, 3], &[128], &[], &[2, 64], &[0, 2], &[5, 60]];
        let mut layout = Layout::default();
        let mut arrays = Vec::new();
        for (index, shape) in shapes.into_iter().enumerate() {
            layout.push(&index.to_string(), shape);
            let size = shape.iter().product::<i32>();
            let values: Vec<f32> = (0..size).map(|value| (100 * index as i32 + value) as f32).collect();
            arrays.push(Array::from_slice(&values, shape));
        }
        let flat = layout.join(|piece| Ok(arrays[piece.name.parse::<usize>().unwrap()].clone())).unwrap();
        assert_eq!(flat.size(), layout.size());
        for ((part, whole), piece) in layout.part(&flat).unwrap().iter().zip(&arrays).zip(layout.pieces()) {
            assert_eq!(part.shape(), piece.shape);
            if piece.size() > 0 {
                let offset = address(part) - address(&flat);
                assert_eq!((offset / 4, offset % (ALIGNMENT * 4)), (piece.start, 0), "{piece:?}");
                let bytes = |array| crate::ffi::array_to_bytes(array).unwrap();
                assert_eq!(bytes(part), bytes(whole));
            }
        }
    }

    #[test]
    fn a_parameter_alone_is_not_copied() {
        crate::ffi::initialise();
        let array = Array::from_slice(&[1.0_f32, 2.0, 3.0, 4.0], &[2, 2]);
        let layout = Layout::of_one("weight", &[2, 2]);
        let flat = layout.join(|_| Ok(array.clone())).unwrap();
        assert_eq!((flat.shape(), address(&flat)), (&[4] as &[i32], address(&array)));
        assert_eq!(address(&layout.part(&flat).unwrap()[0]), address(&array));
    }
}
