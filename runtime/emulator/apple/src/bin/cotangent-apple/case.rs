//! A kernel of the library beside its text, with the launches in which the two are compared.

use cotangent_emulator::{Bound, BoundLaunch, Dtype};

/// A kernel of the library, its instance in MLX's text, and its launches.
pub struct Case {
    /// The group of functions that it is counted in.
    pub family: &'static str,
    /// The function that it is an instance of, whatever its types.
    pub function: String,
    /// The name in the library.
    pub kernel: String,
    /// Headers below `mlx/backend/metal/kernels`, in order, without `.h`; empty if the package has no text of it.
    pub headers: &'static [&'static str],
    /// The instance: `unary_v<float, float, Exp, 1>`.
    pub instance: String,
    /// Values of function constants.
    pub constants: Vec<(u32, i64)>,
    /// One launch for each size.
    pub launches: Vec<BoundLaunch<'static>>,
}

impl Case {
    /// The text that makes the instance.
    pub fn text(&self) -> String {
        let mut text = String::from("#include \"mlx/backend/metal/kernels/utils.h\"\n");
        for header in self.headers {
            text += &format!("#include \"mlx/backend/metal/kernels/{header}.h\"\n");
        }
        let function = self.instance.split('<').next().unwrap_or_default();
        let arguments = self.instance[function.len()..].trim_start_matches('<');
        let arguments = arguments.strip_suffix('>').unwrap_or(arguments);
        text + &format!("instantiate_kernel(\"{}\", {function}, {arguments})\n", self.kernel)
    }
}

/// An element type by its name in MLX's library and in Metal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Type {
    pub library: &'static str,
    pub metal: &'static str,
    pub dtype: Dtype,
}

const fn named(library: &'static str, metal: &'static str, dtype: Dtype) -> Type {
    Type { library, metal, dtype }
}

pub const BOOL: Type = named("bool_", "bool", Dtype::Bool);
pub const F32: Type = named("float32", "float", Dtype::F32);
pub const FLOATS: [Type; 3] = [named("float16", "half", Dtype::F16), named("bfloat16", "bfloat16_t", Dtype::BF16), F32];
pub const INTEGERS: [Type; 8] = [
    named("uint8", "uint8_t", Dtype::U8),
    named("uint16", "uint16_t", Dtype::U16),
    named("uint32", "uint32_t", Dtype::U32),
    named("uint64", "uint64_t", Dtype::U64),
    named("int8", "int8_t", Dtype::I8),
    named("int16", "int16_t", Dtype::I16),
    named("int32", "int32_t", Dtype::I32),
    named("int64", "int64_t", Dtype::I64),
];

/// Floats and integers, and `bool`.
pub fn all_types() -> Vec<Type> {
    [&FLOATS[..], &INTEGERS, &[BOOL]].concat()
}

/// `count` numbers between `low` and `high`, the same for the same seed; whole ones for integers.
pub fn numbers(dtype: Dtype, count: usize, (low, high): (f64, f64), seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (high - low) * ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let value = |value: f64| match dtype {
        Dtype::Bool => f64::from(u8::from(value > (low + high) / 2.0)),
        _ if dtype.is_float() => value,
        _ => value.floor(),
    };
    (0..count).map(|_| value(next())).collect()
}

/// Numbers that the function reads.
pub fn input(index: u32, ty: Type, count: usize, range: (f64, f64)) -> Bound<'static> {
    let seed = u64::from(index) + 10 * count as u64;
    Bound::read(index, &format!("in{index}"), ty.dtype, numbers(ty.dtype, count, range, seed))
}

/// One number.
pub fn scalar(index: u32, dtype: Dtype, value: f64) -> Bound<'static> {
    Bound::read(index, &format!("in{index}"), dtype, [value])
}

/// Memory that the function writes.
pub fn output(index: u32, dtype: Dtype, count: usize) -> Bound<'static> {
    Bound::written(index, &format!("out{index}"), dtype, count)
}

/// A launch over a grid of threads.
pub fn launch(grid: [usize; 3], threadgroup: [usize; 3], buffers: Vec<Bound<'static>>) -> BoundLaunch<'static> {
    let extents = |extents: [usize; 3]| extents.map(|n| n as u32);
    BoundLaunch { grid: extents(grid), threadgroup: extents(threadgroup), buffers, ..BoundLaunch::default() }
}
