//! Texts as other programs write them: moved pointers, references, casts, macros, enums, names in upper case.

use cotangent::differentiable;

#[differentiable(inference_only = "decoding", grid = (D, B, 1), threads = (32, 1, 1), cases = [(B = 3, D = 9)], strided)]
#[allow(clippy::too_many_arguments)]
#[rustfmt::skip]
pub fn scan_rows(
    X: In![f32; B, D], A_log: In![f32; D], codes: In![u8; B, D], Y: Out![f32; B, D], first: Out![u16; B], last: Out![i64; B],
) {
    metal! {
        #define SQUARE(v) ((v) * (v))
        #define STORE(i, v) Y[i] = v
        enum class Step : int { Add, Multiply };
        uint row = thread_position_in_grid.y; //!< the row
        uint i = thread_position_in_grid.x;
        X += row * D;
        Y += row * D;
        const device uchar* own = codes + row * D;
        Step step = Step::Multiply;
        float v = step == Step::Multiply ? X[i] - -A_log[i] : 0.0f;
        { float X = v; v = SQUARE(X) + own[i]; }
        STORE(i, v);
        device ushort& begin = first[row];
        if (i == 0) { begin = 1; last[row] = 2; }
    }
}

pub fn main() {}
