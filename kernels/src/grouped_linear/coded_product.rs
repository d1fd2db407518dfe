//! The product of rows with matrices of packed codes, decoded as their blocks are loaded.

use cotangent::{CodeFormat, CodeMode, Graph, Packed, Result, Tensor, differentiable, stage};

use super::adapter::{Adapter, add_by_operations, gradients_of_factor};
use super::blocks::{BLOCKS, Blocks, DENSE, PRODUCT};
use super::product::{expert_products, input_gradient};
use super::shares::SHARES;
use super::weight_gradient::expert_gradients;

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
/// `[E, N, K * BITS / 32]`, scales and biases `[E, N, K / GROUP]`. Codes, scales and biases have no gradient. `RANK` and the
/// adapters are those of [`grouped_product`](super::grouped_product).
#[differentiable(
    backward = grouped_coded_product_backward,
    fallback = grouped_coded_product_by_operations,
    stages = [coded_products, expert_products],
    expensive,
    requires = [
        R <= 67108864, R * GROUP * G >= 8, E * N * G >= 8, R * N >= 8, R * RANK >= 8, E * N * RANK >= 8,
        E * RANK * RANK >= 8, GROUP >= 32, GROUP % 32 == 0, BITS >= 4, BITS <= 8, BITS % 4 == 0, ROWS >= 32, ROWS % 32 == 0, COLUMNS >= 32, COLUMNS % 32 == 0,
        DEPTH >= 32, DEPTH % 32 == 0,
    ],
    cases = [
        (R = 2, G = 1, E = 2, N = 5, RANK = 4, GROUP = 32, BITS = 4, ROWS = 32, COLUMNS = 32, DEPTH = 32),
        (R = 5, G = 1, E = 2, N = 33, RANK = 18, GROUP = 64, BITS = 8, ROWS = 64, COLUMNS = 32, DEPTH = 32),
    ],
)]
pub fn grouped_coded_product<
    T: Float,
    const GROUP: usize,
    const BITS: usize,
    const RANK: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    x: In![T; R, GROUP * G],
    #[values(0..4294967296)] codes: In![u32; E, N, GROUP * G * BITS / 32],
    #[nodiff] scales: In![T; E, N, G],
    #[nodiff] biases: In![T; E, N, G],
    lora_a: Option<In![T; E, RANK, GROUP * G]>,
    lora_b: Option<In![T; E, N, RANK]>,
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    scale: f32,
    y: Out![T; R, N],
) {
    let adapter = Adapter::new(lora_a, lora_b, counts, scale);
    let low = adapter.as_ref().map(|adapter| adapter.rows(stages, x)).transpose()?;
    let inputs = CodedProductsInputs {
        x,
        codes,
        scales,
        biases,
        low: low.as_ref(),
        factors: adapter.as_ref().map(|adapter| adapter.b),
        counts,
        group: GROUP,
        bits: BITS,
        rank: RANK,
        rows: ROWS,
        columns: COLUMNS,
        depth: DEPTH,
    };
    Ok(Outputs { y: coded_products(stages, inputs)? })
}

/// The gradients are those of [`grouped_product`](super::grouped_product), except that of the matrices.
#[differentiable(
    backward_of = grouped_coded_product,
    stages = [coded_input_gradient, expert_products, input_gradient, expert_gradients],
)]
pub fn grouped_coded_product_backward<
    T: Float,
    const GROUP: usize,
    const BITS: usize,
    const RANK: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    x: In![T; R, GROUP * G],
    codes: In![u32; E, N, GROUP * G * BITS / 32],
    scales: In![T; E, N, G],
    biases: In![T; E, N, G],
    lora_a: Option<In![T; E, RANK, GROUP * G]>,
    lora_b: Option<In![T; E, N, RANK]>,
    counts: In![i32; E],
    d_y: In![T; R, N],
    scale: f32,
    d_x: Out![T; R, GROUP * G],
    d_lora_a: Option<Out![T; E, RANK, GROUP * G]>,
    d_lora_b: Option<Out![T; E, N, RANK]>,
) {
    let adapter = Adapter::new(lora_a, lora_b, counts, scale);
    let d_low = adapter.as_ref().map(|adapter| adapter.cotangent(stages, d_y)).transpose()?;
    let Blocks { rows, columns, depth } = Blocks::new(cotangent::backend()?, d_y.dtype(), GROUP as i32 * G).for_codes();
    let inputs = CodedInputGradientInputs {
        cotangent: d_y,
        codes,
        scales,
        biases,
        low: d_low.as_ref(),
        factors: adapter.as_ref().map(|adapter| adapter.a),
        counts,
        group: GROUP,
        bits: BITS,
        rank: RANK,
        rows,
        columns,
        depth,
    };
    let d_x = if wants_d_x { Some(coded_input_gradient(stages, inputs)?) } else { None };
    let d_lora_a =
        if wants_d_lora_a { gradients_of_factor(stages, lora_a, (Some(x), d_low.as_ref()), counts)? } else { None };
    let d_lora_b = if wants_d_lora_b {
        let low = adapter.as_ref().map(|adapter| adapter.rows(stages, x)).transpose()?;
        gradients_of_factor(stages, lora_b, (low.as_ref(), Some(d_y)), counts)?
    } else {
        None
    };
    Ok(Outputs { d_x, d_lora_a, d_lora_b })
}

/// [`expert_products`] with the matrices of codes.
#[stage(
    requires = [R <= 67108864, R * GROUP * G >= 8, E * N * G >= 8, R * N >= 8, R * RANK >= 8, E * N * RANK >= 8],
    grid = (128 * ceil_div(N, COLUMNS) * (ceil_div(R, ROWS) + E), 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS, CODES, DENSE, PRODUCT],
    cases = [
        (R = 2, G = 1, E = 2, N = 5, RANK = 4, GROUP = 32, BITS = 4, ROWS = 32, COLUMNS = 32, DEPTH = 32),
        (R = 35, G = 3, E = 3, N = 34, RANK = 8, GROUP = 32, BITS = 8, ROWS = 32, COLUMNS = 32, DEPTH = 32),
        (R = 5, G = 1, E = 2, N = 33, RANK = 18, GROUP = 64, BITS = 4, ROWS = 64, COLUMNS = 32, DEPTH = 32),
    ],
)]
pub(super) fn coded_products<
    T: Float,
    const GROUP: usize,
    const BITS: usize,
    const RANK: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    x: In![T; R, GROUP * G],
    #[values(0..4294967296)] codes: In![u32; E, N, GROUP * G * BITS / 32],
    #[nodiff] scales: In![T; E, N, G],
    #[nodiff] biases: In![T; E, N, G],
    low: Option<In![T; R, RANK]>,
    factors: Option<In![T; E, N, RANK]>,
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    y: Out![T; R, N],
) {
    metal! {
        threadgroup T memory[2 * (ROWS + COLUMNS) * (DEPTH + 16 / sizeof(T))];
        constexpr int OWN_RANK = HAS_low ? (HAS_factors ? RANK : 0) : 0;
        LowRank<T, OWN_RANK> of_low = {x, scales};
        if (OWN_RANK > 0) {
            of_low.rows = low;
            of_low.factors = factors;
        }
        multiply_rows<T, false, ROWS, COLUMNS, DEPTH>(
            memory, x, Codes<T, GROUP, BITS>{codes, scales, biases}, of_low, counts, y, E, R, GROUP * G, N,
            int(threadgroup_position_in_grid.x), thread_index_in_threadgroup, int(thread_index_in_simdgroup),
            int(simdgroup_index_in_threadgroup));
    }
}

/// d_x = d_y W_e + d_l F_e for the rows of e, as [`coded_products`] with the matrices transposed.
#[stage(
    requires = [R <= 67108864, R * N >= 8, E * N * G >= 8, R * RANK >= 8],
    grid = (128 * ceil_div(GROUP * G, COLUMNS) * (ceil_div(R, ROWS) + E), 1, 1),
    threads = (128, 1, 1),
    headers = [SHARES, BLOCKS, CODES, DENSE, PRODUCT],
    cases = [(R = 40, G = 3, E = 3, N = 21, RANK = 18, GROUP = 32, BITS = 8, ROWS = 32, COLUMNS = 64, DEPTH = 32)],
)]
pub(super) fn coded_input_gradient<
    T: Float,
    const GROUP: usize,
    const BITS: usize,
    const RANK: usize,
    const ROWS: usize,
    const COLUMNS: usize,
    const DEPTH: usize,
>(
    cotangent: In![T; R, N],
    #[values(0..4294967296)] codes: In![u32; E, N, GROUP * G * BITS / 32],
    scales: In![T; E, N, G],
    biases: In![T; E, N, G],
    low: Option<In![T; R, RANK]>,
    factors: Option<In![T; E, RANK, GROUP * G]>,
    #[values(0..ceil_div(2 * R, E) + 1)] counts: In![i32; E],
    gradient: Out![T; R, GROUP * G],
) {
    metal! {
        threadgroup T memory[2 * (ROWS * (DEPTH + 16 / sizeof(T)) + DEPTH * (COLUMNS + 16 / sizeof(T)))];
        constexpr int OWN_RANK = HAS_low ? (HAS_factors ? RANK : 0) : 0;
        LowRank<T, OWN_RANK> of_low = {cotangent, scales};
        if (OWN_RANK > 0) {
            of_low.rows = low;
            of_low.factors = factors;
        }
        multiply_rows<T, true, ROWS, COLUMNS, DEPTH>(
            memory, cotangent, Codes<T, GROUP, BITS>{codes, scales, biases}, of_low, counts, gradient, E, R, N, GROUP * G,
            int(threadgroup_position_in_grid.x), thread_index_in_threadgroup, int(thread_index_in_simdgroup),
            int(simdgroup_index_in_threadgroup));
    }
}

/// Computes the same products with MLX's operations and decoded matrices: the fallback.
#[allow(clippy::too_many_arguments, reason = "the arguments are those of the kernel")]
fn grouped_coded_product_by_operations<M: Graph>(inputs: GroupedCodedProductInputs<'_, M>) -> Result<Tensor<M>> {
    let GroupedCodedProductInputs { x, codes, scales, biases, lora_a, lora_b, counts, scale, group, bits, .. } = inputs;
    let format = CodeFormat::new(CodeMode::Affine, Some(group), Some(bits))?;
    let matrices = Packed::from_parts(codes, scales, Some(biases), format, x.dtype())?.decode(x.dtype())?;
    let y = x.grouped_matmul(&matrices.to_tensor().swap_axes(1, 2)?, counts)?;
    add_by_operations(y, x, (lora_a, lora_b), counts, scale)
}
