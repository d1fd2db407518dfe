//! One launch of a kernel: its data, its sizes, the order in which threads run.

use std::borrow::Cow;

use crate::{Dtype, Finding};

/// An input's data.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer<'a> {
    /// The element type, which must be the port's.
    pub dtype: Dtype,
    /// The extents; empty for a scalar.
    pub shape: Vec<usize>,
    /// The strides in elements, one for each dimension; `None` means row-contiguous.
    pub strides: Option<Vec<i64>>,
    /// The elements, little-endian. A row-contiguous buffer has as many as `shape` says; another holds all of the
    /// memory that it spans, gaps included.
    pub bytes: Cow<'a, [u8]>,
    /// The element of `bytes` that the index 0 leads to; it is not the first one where strides are negative.
    pub first: usize,
}

impl<'a> Buffer<'a> {
    /// A row-contiguous buffer over existing bytes.
    pub fn new(dtype: Dtype, shape: impl Into<Vec<usize>>, bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Buffer { dtype, shape: shape.into(), strides: None, bytes: bytes.into(), first: 0 }
    }

    /// A row-contiguous buffer of `values`, rounded to `dtype`.
    pub fn from_values(dtype: Dtype, shape: impl Into<Vec<usize>>, values: impl IntoIterator<Item = f64>) -> Self {
        let bytes: Vec<u8> = values.into_iter().flat_map(|v| dtype.encode(v)).collect();
        Buffer::new(dtype, shape, bytes)
    }

    /// The buffer with these strides, in elements: its bytes are all of the memory that it lies in.
    pub fn strided(mut self, strides: impl Into<Vec<i64>>) -> Self {
        self.strides = Some(strides.into());
        self
    }

    /// Returns whether elements lie row by row, nothing between them.
    pub fn is_row_contiguous(&self) -> bool {
        let Some(strides) = &self.strides else { return true };
        let plain = contiguous_strides(&self.shape);
        let mut axes = self.shape.iter().zip(strides.iter().zip(&plain));
        self.size() <= 1 || axes.all(|(&extent, (stride, plain))| extent == 1 || stride == plain)
    }

    /// Number of elements its shape names.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns the strides in elements, one for each dimension.
    pub fn element_strides(&self) -> Vec<i64> {
        self.strides.clone().unwrap_or_else(|| contiguous_strides(&self.shape))
    }
}

fn contiguous_strides(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as i64;
    }
    strides
}

/// The order in which threads run between two synchronisation points. A correct kernel computes the same in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Ascending threadgroups, simdgroups, lanes.
    #[default]
    Forward,
    /// Threads run in descending order.
    Reversed,
    /// A new permutation after each synchronisation point; the same for the same seed.
    Random(u64),
}

/// Whether memory accesses are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checks {
    /// Every access is checked before it happens; findings are reported.
    #[default]
    On,
    /// No findings except for divergence and Metal's limits; a kernel that leaves its buffers or divides an integer by
    /// zero may end the process. For kernels known to be clean: two to fifteen times as fast.
    Off,
}

/// One launch of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Launch<'a> {
    /// Total threads along x, y, z, as in MLX. Threadgroups at the edges shrink to fit.
    pub grid: [u32; 3],
    /// Threads of a threadgroup along x, y, z.
    pub threadgroup: [u32; 3],
    /// One for each input port.
    pub inputs: Vec<Buffer<'a>>,
    /// The shapes of the outputs, one for each output port.
    pub output_shapes: Vec<Vec<usize>>,
    /// The order of threads.
    pub schedule: Schedule,
    /// Whether accesses to memory are checked.
    pub checks: Checks,
    /// Turns of loops that a thread may make before it counts as endless, a barrier or an operation of its simdgroup
    /// counting for 32 turns and half a turn for each thread of the threadgroup; `None` means 2^22.
    pub turns: Option<u32>,
    /// Cores to use; `None` means all. Results and findings do not depend on it.
    pub workers: Option<usize>,
}

/// The results of a launch.
#[derive(Clone, Debug)]
pub struct Run {
    /// The bytes of each output, row-contiguous, little-endian.
    pub outputs: Vec<Vec<u8>>,
    /// The defects found, in the order of their places in the kernel; they are the same for the same launch.
    pub findings: Vec<Finding>,
    /// Notes on what may be intended and may be wrong, such as a float too large for `half`.
    pub notes: Vec<Finding>,
    /// The number of threads that ran.
    pub threads: u64,
}

impl Run {
    /// Returns whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}
