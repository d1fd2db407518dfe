//! The product of rows with matrices of packed codes, decoded as their blocks are loaded.

use cotangent::{CodeFormat, CodeMode, Graph, Packed, Result, Tensor, differentiable, stage};

use super::blocks::{BLOCKS, Blocks, PRODUCT};
use super::shares::SHARES;

/// Matrices of codes of `BITS` bits, 4 or 8, that share a scale and a bias in groups of `GROUP` columns.
///
/// A thread has runs of 32 columns of a row, which are `BITS` words of one group. It loads the words of the next block before
/// the products of the current block, and decodes them after these.
const CODES: &str = "
template <typename T, int GROUP, int BITS> struct Codes { const device uint* words; const device T* scales; const device T* biases; };
template <typename T, int GROUP, int BITS>
inline Codes<T, GROUP, BITS> of_expert(Codes<T, GROUP, BITS> weight, int expert, int inner, int outer) {
  ulong before = ulong(expert) * ulong(inner) * ulong(outer);
  return Codes<T, GROUP, BITS>{weight.words + before / 32 * BITS, weight.scales + before / GROUP, weight.biases + before / GROUP};
}

template <int BITS, int RUNS> struct Runs { uint4 words[RUNS * BITS / 4]; float scales[RUNS]; float biases[RUNS]; };
template <int COLUMNS, int DEPTH> constexpr int runs_of_thread() { return (COLUMNS * DEPTH / 32 + 127) / 128; }

template <bool TRANSPOSED, int COLUMNS, int DEPTH, typename T, int GROUP, int BITS>
inline Runs<BITS, runs_of_thread<COLUMNS, DEPTH>()> ask_part(
    threadgroup T* to, Codes<T, GROUP, BITS> weight, int k, int start, int inner, int outer, uint index) {
  constexpr int RUNS = runs_of_thread<COLUMNS, DEPTH>();
  constexpr int RUNS_OF_ROW = (TRANSPOSED ? COLUMNS : DEPTH) / 32;
  int width = TRANSPOSED ? outer : inner;
  int height = TRANSPOSED ? inner : outer;
  Runs<BITS, RUNS> runs;
  #pragma unroll
  for (int r = 0; r < RUNS; ++r) {
    int run = int(index) + 128 * r;
    int row = (TRANSPOSED ? k : start) + run / RUNS_OF_ROW;
    int column = (TRANSPOSED ? start : k) + run % RUNS_OF_ROW * 32;
    bool there = run < COLUMNS * DEPTH / 32 && row < height && column < width;
    ulong at = there ? ulong(row) * ulong(width) + ulong(column) : 0ul;
    const device uint4* words = (const device uint4*)(weight.words + at / 32 * BITS);
    #pragma unroll
    for (int i = 0; i < BITS / 4; ++i) { runs.words[r * (BITS / 4) + i] = words[i]; }
    // Groups beyond the matrix are zeros.
    runs.scales[r] = there ? float(weight.scales[at / GROUP]) : 0.0f;
    runs.biases[r] = there ? float(weight.biases[at / GROUP]) : 0.0f;
  }
  return runs;
}

template <bool TRANSPOSED, int COLUMNS, int DEPTH, typename T, int BITS, int RUNS>
inline void put_part(threadgroup T* to, Runs<BITS, RUNS> runs, uint index) {
  constexpr int RUNS_OF_ROW = (TRANSPOSED ? COLUMNS : DEPTH) / 32;
  constexpr int STRIDE = (TRANSPOSED ? COLUMNS : DEPTH) + padding<T>();
  #pragma unroll
  for (int r = 0; r < RUNS; ++r) {
    int run = int(index) + 128 * r;
    if (run < COLUMNS * DEPTH / 32) {
      threadgroup vec<T, 4>* fours = (threadgroup vec<T, 4>*)(to + (run / RUNS_OF_ROW * STRIDE + run % RUNS_OF_ROW * 32));
      float scale = runs.scales[r];
      float bias = runs.biases[r];
      #pragma unroll
      for (int i = 0; i < 8; ++i) {
        uint word = runs.words[r * (BITS / 4) + i * BITS / 32][i * BITS / 8 % 4] >> (i * BITS % 8 * 4);
        constexpr uint LAST = (1u << BITS) - 1u;
        fours[i] = vec<T, 4>(
            T(scale * float(word & LAST) + bias), T(scale * float(word >> BITS & LAST) + bias),
            T(scale * float(word >> 2 * BITS & LAST) + bias), T(scale * float(word >> 3 * BITS & LAST) + bias));
      }
    }
  }
}
";

/// [`grouped_packed_linear`](super::grouped_packed_linear) on a GPU, of affine codes of 4 and 8 bits: words
/// `[E, N, K * BITS / 32]`, scales and biases `[E, N, K / GROUP]`. Codes, scales and biases have no gradient.
#[differentiable(
    backward = grouped_coded_product_backward,
    fallback = grouped_coded_product_by_operations,
    expensive,
    requires = [
        R <= 67108864, R * GROUP * G >= 8, E * N * G >= 8, R * N >= 8, GROUP >= 32, GROUP % 32 == 0, BITS >= 4, BITS <= 8,
        BITS % 4 == 0, ROWS >= 32, ROWS % 32 == 0, COLUMNS >= 32, COLUMNS % 32 == 0, DEPTH >= 32, DEPTH % 32 == 0,
    ],
    grid = (128 * ceil_div(N, COLUMNS) * (ceil_div(R, ROWS) + E), 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS, CODES, PRODUCT],
    cases = [
        (R = 2, G = 1, E = 2, N = 5, GROUP = 32, BITS = 4, ROWS = 32, COLUMNS = 32, DEPTH = 32),
        (R = 35, G = 3, E = 3, N = 34, GROUP = 32, BITS = 8, ROWS = 32, COLUMNS = 32, DEPTH = 32),
        (R = 5, G = 1, E = 2, N = 33, GROUP = 64, BITS = 4, ROWS = 64, COLUMNS = 32, DEPTH = 32),
    ],
)]
pub fn grouped_coded_product<
    T: Float,
    const GROUP: usize,
    const BITS: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    x: In![T; R, GROUP * G],
    #[values(0..4294967296)] codes: In![u32; E, N, GROUP * G * BITS / 32],
    #[nodiff] scales: In![T; E, N, G],
    #[nodiff] biases: In![T; E, N, G],
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    y: Out![T; R, N],
) {
    metal! {
        threadgroup T memory[2 * (ROWS + COLUMNS) * (DEPTH + 16 / sizeof(T))];
        multiply_rows<T, false, ROWS, COLUMNS, DEPTH>(
            memory, x, Codes<T, GROUP, BITS>{codes, scales, biases}, counts, y, E, R, GROUP * G, N,
            int(threadgroup_position_in_grid.x), thread_index_in_threadgroup, int(thread_index_in_simdgroup),
            int(simdgroup_index_in_threadgroup));
    }
}

/// d_x = d_y W_e for the rows of e.
#[differentiable(backward_of = grouped_coded_product, stages = [coded_input_gradient])]
pub fn grouped_coded_product_backward<
    T: Float,
    const GROUP: usize,
    const BITS: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    codes: In![u32; E, N, GROUP * G * BITS / 32],
    scales: In![T; E, N, G],
    biases: In![T; E, N, G],
    counts: In![i32; E],
    d_y: In![T; R, N],
    d_x: Out![T; R, GROUP * G],
) {
    let inputs = GROUP as i32 * G;
    let Blocks { rows, columns, depth } = Blocks::new(cotangent::backend()?, d_y.dtype(), inputs).for_codes();
    let d_x = coded_input_gradient(
        stages,
        CodedInputGradientInputs {
            cotangent: d_y,
            codes,
            scales,
            biases,
            counts,
            group: GROUP,
            bits: BITS,
            rows,
            columns,
            depth,
        },
    )?;
    Ok(Outputs { d_x: Some(d_x) })
}

/// d_x, as the product with the matrices transposed.
#[stage(
    requires = [R <= 67108864, R * N >= 8, E * N * G >= 8],
    grid = (128 * ceil_div(GROUP * G, COLUMNS) * (ceil_div(R, ROWS) + E), 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS, CODES, PRODUCT],
    cases = [(R = 40, G = 3, E = 3, N = 21, GROUP = 32, BITS = 8, ROWS = 32, COLUMNS = 64, DEPTH = 32)],
)]
pub(super) fn coded_input_gradient<
    T: Float,
    const GROUP: usize,
    const BITS: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    cotangent: In![T; R, N],
    #[values(0..4294967296)] codes: In![u32; E, N, GROUP * G * BITS / 32],
    scales: In![T; E, N, G],
    biases: In![T; E, N, G],
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    gradient: Out![T; R, GROUP * G],
) {
    metal! {
        threadgroup T memory[2 * (ROWS * (DEPTH + 16 / sizeof(T)) + DEPTH * (COLUMNS + 16 / sizeof(T)))];
        multiply_rows<T, true, ROWS, COLUMNS, DEPTH>(
            memory, cotangent, Codes<T, GROUP, BITS>{codes, scales, biases}, counts, gradient, E, R, N, GROUP * G,
            int(threadgroup_position_in_grid.x), thread_index_in_threadgroup, int(thread_index_in_simdgroup),
            int(simdgroup_index_in_threadgroup));
    }
}

/// Computes the same products with MLX's operations and decoded matrices: the fallback.
#[allow(clippy::too_many_arguments, reason = "the arguments are those of the kernel")]
fn grouped_coded_product_by_operations<M: Graph>(inputs: GroupedCodedProductInputs<'_, M>) -> Result<Tensor<M>> {
    let GroupedCodedProductInputs { x, codes, scales, biases, counts, group, bits, .. } = inputs;
    let format = CodeFormat::new(CodeMode::Affine, Some(group), Some(bits))?;
    let matrices = Packed::from_parts(codes, scales, Some(biases), format, x.dtype())?.decode(x.dtype())?;
    x.grouped_matmul(&matrices.to_tensor().swap_axes(1, 2)?, counts)
}
