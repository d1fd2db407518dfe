//! Parameters side by side in one array, so that an operation on all of them is one operation.

use std::ops::Range;
use std::sync::Arc;

use mlx_rs::Array;

use crate::dtype::Dtype;
use crate::error::{Context as _, Result};

const OPERATION: &str = "flatten";

/// Every parameter begins at a multiple of this many elements: NVIDIA's products of matrices are chosen for operands that
/// lie at multiples of 256 bytes, which is this much in half precision.
const ALIGNMENT: usize = 128;

/// The parameters that lie in one flat array, and their places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct FlatLayout {
    pieces: Vec<Piece>,
    /// Elements, with the gaps before pieces.
    size: usize,
}

/// One parameter's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) shape: Vec<i32>,
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

impl FlatLayout {
    /// The parameter alone.
    pub(crate) fn from_one(name: &str, shape: &[i32]) -> Self {
        let mut layout = FlatLayout::default();
        layout.push(name, shape);
        layout
    }

    pub(crate) fn next_start(&self) -> usize {
        self.size.next_multiple_of(ALIGNMENT)
    }

    pub(crate) fn push(&mut self, name: &str, shape: &[i32]) {
        let piece = Piece { name: name.to_owned(), shape: shape.to_vec(), start: self.next_start() };
        self.size = piece.range().end;
        self.pieces.push(piece);
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Joins the pieces' arrays to one, with zeros in the gaps. Each array is copied, but a single piece is only
    /// reshaped.
    pub(crate) fn join(&self, mut array: impl FnMut(&Piece) -> Result<Array>) -> Result<Array> {
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
    pub(crate) fn part(&self, flat: &Array) -> Result<Vec<Array>> {
        let shaped = |(piece, array): (&Piece, &Array)| array.reshape(&piece.shape).during(OPERATION);
        if let [piece] = self.pieces.as_slice() {
            return Ok(vec![shaped((piece, flat))?]);
        }
        // The array is cut where a piece or a gap begins.
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
        // The last cut is the end of the array, which needs none.
        cuts.pop();
        let cuts: Vec<i32> = cuts.into_iter().map(|cut| cut as i32).collect();
        let arrays = flat.split_at_indices(&cuts, 0).during(OPERATION)?;
        self.pieces.iter().zip(of_pieces.into_iter().map(|index| &arrays[index])).map(shaped).collect()
    }
}

/// One of the arrays that [`Flat`] was parted into, and all of them.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    flat: Flat,
    index: usize,
}

/// Arrays that lie side by side in one.
#[derive(Debug, Clone)]
pub(crate) struct Flat {
    array: Array,
    /// The layout, which belongs to this array alone: equal layouts of other arrays are other allocations.
    layout: Arc<FlatLayout>,
}

impl Flat {
    pub(crate) fn new(array: Array, layout: FlatLayout) -> Self {
        Flat { array, layout: Arc::new(layout) }
    }

    /// The pieces, in order, and their places.
    pub(crate) fn parts(&self) -> Result<Vec<(Array, Place)>> {
        let place = |(index, array)| (array, Place { flat: self.clone(), index });
        Ok(self.layout.part(&self.array)?.into_iter().enumerate().map(place).collect())
    }

    /// The array in which `layout` has all its pieces, if these are their places.
    pub(crate) fn whole<'a>(
        layout: &FlatLayout,
        mut place: impl FnMut(&Piece) -> Option<&'a Place>,
    ) -> Option<&'a Array> {
        let first = place(layout.pieces.first()?)?;
        let together =
            layout.pieces.iter().enumerate().all(|(index, piece)| {
                place(piece).is_some_and(|place| place.index == index && place.flat.is(&first.flat))
            });
        (together && *first.flat.layout == *layout).then_some(&first.flat.array)
    }

    /// Returns whether both are one array.
    fn is(&self, other: &Flat) -> bool {
        Arc::ptr_eq(&self.layout, &other.layout)
    }
}

/// Arrays in another dtype: those that lie side by side are cast by one operation. Nothing is evaluated.
#[derive(Debug, Default)]
pub(crate) struct Casts {
    /// The flat arrays that have been cast, to what, and the parts of the results.
    done: Vec<(Flat, Dtype, Vec<Array>)>,
}

impl Casts {
    /// The array in `dtype`; `place` is where it lies, if it lies beside others.
    pub(crate) fn cast(&mut self, array: &Array, place: Option<&Place>, dtype: Dtype) -> Result<Array> {
        const OPERATION: &str = "cast";
        let cast = |array: &Array| array.as_dtype(dtype.to_mlx()).during(OPERATION);
        let Some(place) = place.filter(|_| array.dtype() != dtype.to_mlx()) else { return cast(array) };
        if let Some((.., parts)) = self.done.iter().find(|(flat, to, _)| *to == dtype && place.flat.is(flat)) {
            return Ok(parts[place.index].clone());
        }
        let parts = place.flat.layout.part(&cast(&place.flat.array)?)?;
        let part = parts[place.index].clone();
        self.done.push((place.flat.clone(), dtype, parts));
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The place of the array's elements, in bytes.
    fn address(array: &Array) -> usize {
        crate::ffi::evaluate("address", [array]).unwrap();
        // SAFETY: a live array that has been computed.
        unsafe { mlx_sys::mlx_array_data_float32(array.as_ptr()) as usize }
    }

    #[test]
    fn parts_lie_aligned_in_the_flat_array_itself() {
        crate::ffi::initialise();
        let shapes: [&[i32]; 6] = [&[2, 3], &[128], &[], &[2, 64], &[0, 2], &[5, 60]];
        let mut layout = FlatLayout::default();
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
        let layout = FlatLayout::from_one("weight", &[2, 2]);
        let flat = layout.join(|_| Ok(array.clone())).unwrap();
        assert_eq!((flat.shape(), address(&flat)), (&[4] as &[i32], address(&array)));
        assert_eq!(address(&layout.part(&flat).unwrap()[0]), address(&array));
    }
}
