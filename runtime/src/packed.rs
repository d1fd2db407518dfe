//! Matrices quantized by MLX: packed codes with a scale for each group of a row.

use std::ffi::CStr;
use std::fmt;

use mlx_rs::Array;

use crate::constant::{Constant, Indices};
use crate::dtype::Dtype;
use crate::error::{Context as _, Error, Result};
use crate::ffi::{self, Codes};
use crate::mode::{Graph, Held, Infer, Stored};
use crate::parameters::Frozen;
use crate::tensor::{Origin, Tensor};

/// The meaning of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CodeMode {
    /// `code * scale + bias`, with a float scale and bias for each group.
    Affine,
    /// A float of 4 bits (e2m1) times a power of two for each group of 32.
    Mxfp4,
    /// A float of 8 bits (e4m3) times a power of two for each group of 32.
    Mxfp8,
    /// A float of 4 bits (e2m1) times a float of 8 bits (e4m3) for each group of 16.
    Nvfp4,
}

impl CodeMode {
    /// All modes.
    pub const ALL: [CodeMode; 4] = [CodeMode::Affine, CodeMode::Mxfp4, CodeMode::Mxfp8, CodeMode::Nvfp4];

    /// Returns MLX's name of the mode, as in `config.json`.
    pub fn name(self) -> &'static str {
        self.c_name().to_str().unwrap_or_default()
    }

    fn c_name(self) -> &'static CStr {
        match self {
            CodeMode::Affine => c"affine",
            CodeMode::Mxfp4 => c"mxfp4",
            CodeMode::Mxfp8 => c"mxfp8",
            CodeMode::Nvfp4 => c"nvfp4",
        }
    }
}

/// The format of the codes of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeFormat {
    mode: CodeMode,
    group_size: usize,
    bits: usize,
}

impl CodeFormat {
    /// Creates a format; MLX's defaults of the mode replace what is not given.
    ///
    /// # Errors
    /// [`Error::Other`] if the mode has no such groups or codes.
    pub fn new(mode: CodeMode, group_size: Option<usize>, bits: Option<usize>) -> Result<Self> {
        let (groups, widths): (&[usize], &[usize]) = match mode {
            CodeMode::Affine => (&[64, 32, 128], &[4, 2, 3, 5, 6, 8]),
            CodeMode::Mxfp4 => (&[32], &[4]),
            CodeMode::Mxfp8 => (&[32], &[8]),
            CodeMode::Nvfp4 => (&[16], &[4]),
        };
        let format = CodeFormat { mode, group_size: group_size.unwrap_or(groups[0]), bits: bits.unwrap_or(widths[0]) };
        let refuse = |found: String, known: &[usize]| {
            let mut known = known.to_vec();
            known.sort_unstable();
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            Err(Error::Other(format!("the mode `{}` has no {found}, only {}", mode.name(), known.join(", "))))
        };
        if !widths.contains(&format.bits) {
            return refuse(format!("codes of {} bits", format.bits), widths);
        }
        if !groups.contains(&format.group_size) {
            return refuse(format!("groups of {}", format.group_size), groups);
        }
        Ok(format)
    }

    /// Checks that MLX has affine codes of `bits` bits in groups of `group_size`. On CUDA it returns numbers without a
    /// meaning for others.
    pub(crate) fn require_affine(group_size: i32, bits: i32) -> Result<()> {
        let size = |number: i32| Some(usize::try_from(number).unwrap_or(0));
        CodeFormat::new(CodeMode::Affine, size(group_size), size(bits)).map(drop)
    }

    /// The meaning of a code.
    pub fn mode(self) -> CodeMode {
        self.mode
    }

    /// Columns that share a scale.
    pub fn group_size(self) -> usize {
        self.group_size
    }

    /// Bits of a code.
    pub fn bits(self) -> usize {
        self.bits
    }

    /// Words of 32 bits that hold a row of `columns` codes.
    pub fn words(self, columns: usize) -> usize {
        columns * self.bits / 32
    }

    /// Returns whether every group has a bias beside its scale.
    pub fn has_biases(self) -> bool {
        self.mode == CodeMode::Affine
    }

    /// The dtype of the scales in a model that computes in `dtype`.
    pub fn dtype_of_scales(self, dtype: Dtype) -> Dtype {
        if self.has_biases() { dtype } else { Dtype::U8 }
    }
}

impl fmt::Display for CodeFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "codes of {} bits in groups of {} ({})", self.bits, self.group_size, self.mode.name())
    }
}

/// A matrix of packed codes that never trains, `[rows, columns]`, or several of one shape, `[matrices, rows, columns]`.
/// Cloning shares the memory.
#[derive(Clone)]
pub struct Packed {
    words: Array,
    scales: Array,
    biases: Option<Array>,
    format: CodeFormat,
    dtype: Dtype,
}

impl Packed {
    /// The matrix that frozen leaves hold: words `[rows, columns * bits / 32]`, scales and biases `[rows, columns / group
    /// size]`; of several matrices each has an axis in front. It counts as a matrix of `dtype`.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Dtype`] unless the leaves fit each other and the format.
    pub fn new<M: Held>(
        words: &Frozen<M>,
        scales: &Frozen<M>,
        biases: Option<&Frozen<M>>,
        format: CodeFormat,
        dtype: Dtype,
    ) -> Result<Self> {
        let biases = biases.map(|biases| biases.array().clone());
        let (words, scales) = (words.array().clone(), scales.array().clone());
        Packed { words, scales, biases, format, dtype }.checked("Packed::new")
    }

    /// The same of values that are in a graph already.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_parts(
        words: &Indices,
        scales: &Constant,
        biases: Option<&Constant>,
        format: CodeFormat,
        dtype: Dtype,
    ) -> Result<Self> {
        let biases = biases.map(|biases| biases.array().clone());
        let (words, scales) = (words.array().clone(), scales.array().clone());
        Packed { words, scales, biases, format, dtype }.checked("Packed::from_parts")
    }

    fn checked(self, operation: &'static str) -> Result<Self> {
        let (format, packed) = (self.format, self);
        let of_words = Dtype::from_mlx(packed.words.dtype());
        let of_scales = Dtype::from_mlx(packed.scales.dtype());
        if of_words != Dtype::U32 || of_scales.is_float() != format.has_biases() {
            let (found, expected) = (format!("{of_words} and {of_scales}"), format!("words and scales of {format}"));
            return Err(Error::Dtype { operation, found, expected });
        }
        let (words, scales) = (packed.words.shape(), packed.scales.shape());
        let fits = matches!(words.len(), 2 | 3)
            && words.split_last().map(|(_, outer)| outer) == scales.split_last().map(|(_, outer)| outer)
            && words[words.len() - 1] as usize == format.words(scales[scales.len() - 1] as usize * format.group_size)
            && packed.biases.as_ref().map(|biases| biases.shape()) == format.has_biases().then_some(scales);
        if !fits {
            let biases = packed.biases.as_ref().map(|biases| biases.shape());
            return Err(Error::Shape {
                operation,
                found: format!("words {words:?}, scales {scales:?}, biases {biases:?}"),
                expected: format!("those of {format}"),
            });
        }
        Ok(packed)
    }

    /// The format of the matrix's codes.
    pub fn format(&self) -> CodeFormat {
        self.format
    }

    /// The dtype of the model that it is a part of.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The number of matrices, if they have an axis.
    pub fn matrices(&self) -> Option<i32> {
        let shape = self.scales.shape();
        (shape.len() == 3).then(|| shape[0])
    }

    /// The number of rows of a matrix.
    pub fn rows(&self) -> i32 {
        let shape = self.scales.shape();
        shape[shape.len() - 2]
    }

    /// The rows of all matrices as those of one.
    ///
    /// # Errors
    /// [`Error::Mlx`] if MLX refuses.
    pub fn flat(&self) -> Result<Self> {
        self.map(|part| part.reshape(&[-1, part.dim(-1)]).during("Packed::flat"))
    }

    /// The words, and scales and biases as they are stored, for a kernel that decodes them itself.
    ///
    /// # Errors
    /// [`Error::Dtype`] unless scales are floats and there are biases, as in the mode [`CodeMode::Affine`].
    pub fn parts(&self) -> Result<(Indices, Constant, Constant)> {
        let Some(biases) = &self.biases else {
            let (found, expected) = (self.format.to_string(), "affine codes".to_owned());
            return Err(Error::Dtype { operation: "Packed::parts", found, expected });
        };
        let [scales, biases] = [&self.scales, biases].map(|part| Constant::from_array(part.clone()));
        Ok((Indices::from_device_words(self.words.clone()), scales, biases))
    }

    /// The words and the scales as they are stored.
    pub(crate) fn arrays(&self) -> [&Array; 2] {
        [&self.words, &self.scales]
    }

    /// The biases as they are stored, if the mode has any.
    pub(crate) fn array_of_biases(&self) -> Option<&Array> {
        self.biases.as_ref()
    }

    /// The number of columns.
    pub fn columns(&self) -> i32 {
        self.scales.shape().last().map_or(0, |groups| groups * self.format.group_size as i32)
    }

    /// Applies the same function to words, scales and biases.
    fn map(&self, function: impl Fn(&Array) -> Result<Array>) -> Result<Self> {
        Ok(Packed {
            words: function(&self.words)?,
            scales: function(&self.scales)?,
            biases: self.biases.as_ref().map(function).transpose()?,
            ..self.clone()
        })
    }

    /// The rows that `indices` `[..shape]` name, `[..shape, columns]` once decoded; of several matrices, the matrices.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] if there is no such row.
    pub fn take_rows(&self, indices: &Indices) -> Result<Self> {
        indices.check("Packed::take_rows", self.matrices().unwrap_or_else(|| self.rows()))?;
        self.map(|part| part.take_axis(indices.array(), 0).during("Packed::take_rows"))
    }

    /// Rows from `start` up to, and without, `end`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are no such rows.
    pub fn slice(&self, start: i32, end: i32) -> Result<Self> {
        let operation = "Packed::slice";
        if self.matrices().is_some() || start < 0 || start > end || end > self.rows() {
            let (found, expected) = (format!("{start} to {end} of {self:?}"), "rows of a matrix".to_owned());
            return Err(Error::Shape { operation, found, expected });
        }
        self.map(|part| ffi::slice(operation, part, &[start, 0], &[end, part.shape()[1]]))
    }

    /// The same matrix, decoded only after `others` are computed.
    ///
    /// # Errors
    /// [`Error::Mlx`] if MLX refuses.
    pub fn after(&self, others: &[&Tensor<Infer>]) -> Result<Self> {
        let others: Vec<&Array> = others.iter().map(|other| other.array()).collect();
        let words = ffi::depends("Packed::after", &[&self.words], &others)?.swap_remove(0);
        Ok(Packed { words, ..self.clone() })
    }

    /// Returns the numbers that the codes stand for, in `dtype`.
    ///
    /// # Errors
    /// [`Error::Mlx`] if MLX refuses.
    pub fn decode(&self, dtype: Dtype) -> Result<Constant> {
        let operation = "Packed::decode";
        self.with_codes(operation, dtype, |codes| ffi::dequantize(operation, codes, dtype.to_mlx()))
            .map(Constant::from_array)
    }

    /// Hands out the parts with float scales in `dtype`: MLX computes in the dtype of the scales.
    fn with_codes<R>(
        &self,
        operation: &'static str,
        dtype: Dtype,
        function: impl FnOnce(&Codes<'_>) -> Result<R>,
    ) -> Result<R> {
        let cast = |part: &Array| match self.format.has_biases() {
            true => part.as_dtype(dtype.to_mlx()).during(operation),
            false => Ok(part.clone()),
        };
        let (scales, biases) = (cast(&self.scales)?, self.biases.as_ref().map(cast).transpose()?);
        function(&Codes {
            words: &self.words,
            scales: &scales,
            biases: biases.as_ref(),
            group_size: self.format.group_size as i32,
            bits: self.format.bits as i32,
            mode: self.format.mode.c_name(),
        })
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(matrices) = self.matrices() {
            write!(f, "{matrices} times ")?;
        }
        write!(f, "Packed({} x {}, {})", self.rows(), self.columns(), self.format)
    }
}

impl<M: Graph> Tensor<M> {
    /// `x W^T` with the codes as they lie, `[n, columns]` to `[n, rows]`; or, if `transposed` is false, `x W`, `[n, rows]`
    /// to `[n, columns]`. The gradient of `x` is MLX's own; codes have none.
    ///
    /// MLX's sum is as long as a row, in the dtype of `x`: on a CPU, products of 16 bits are wrong by several percent.
    ///
    /// # Errors
    /// [`Error::Shape`] if the last axis of `x` does not fit.
    pub fn multiply_codes(&self, matrix: &Packed, transposed: bool) -> Result<Tensor<M>> {
        let operation = "multiply_codes";
        let inner = if transposed { matrix.columns() } else { matrix.rows() };
        if matrix.matrices().is_some() || self.rank() != 2 || self.dimension(1) != inner {
            let found = format!("{:?} and {matrix:?}", self.shape());
            return Err(Error::Shape { operation, found, expected: format!("[n, {inner}]") });
        }
        let array = matrix.with_codes(operation, self.dtype(), |codes| {
            ffi::quantized_matmul(operation, self.array(), codes, transposed)
        })?;
        Ok(Tensor::from_parts(array, self.origin()))
    }
}

impl Tensor<Stored> {
    /// The matrix in packed codes: words, scales and, in the mode `affine`, biases of its dtype.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the columns are no multiple of the group size.
    pub fn quantize(&self, format: CodeFormat) -> Result<Vec<Tensor<Stored>>> {
        let (group_size, bits) = (format.group_size as i32, format.bits as i32);
        let parts = ffi::quantize("quantize", self.array(), group_size, bits, format.mode.c_name())?;
        ffi::evaluate("quantize", &parts)?;
        Ok(parts.into_iter().map(|part| Tensor::from_parts(part, Origin::HOST)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_codes_that_mlx_does_not_have_are_refused() {
        for group_size in [32, 64, 128] {
            for bits in [2, 3, 4, 5, 6, 8] {
                CodeFormat::require_affine(group_size, bits).unwrap();
            }
        }
        for (group_size, bits) in [(160, 4), (4, 4), (0, 4), (-32, 4), (32, 7), (32, 1), (32, 0)] {
            let error = CodeFormat::require_affine(group_size, bits).unwrap_err().to_string();
            assert!(error.starts_with("the mode `affine` has no "), "{error}");
        }
    }
}
