use cotangent::differentiable;

/// Twenty-nine ports, and the three shapes that its dimensions come from.
#[differentiable(
    inference_only = "no gradient of this is needed",
    grid = (N, 1, 1),
    threads = (32, 1, 1),
    cases = [(N = 3, K = 3, L = 3)],
)]
pub fn sums(
    x00: In![f32; N], x01: In![f32; K], x02: In![f32; L], x03: In![f32; N], x04: In![f32; N], x05:
    In![f32; N], x06: In![f32; N], x07: In![f32; N], x08: In![f32; N], x09: In![f32; N], x10:
    In![f32; N], x11: In![f32; N], x12: In![f32; N], x13: In![f32; N], x14: In![f32; N], x15:
    In![f32; N], x16: In![f32; N], x17: In![f32; N], x18: In![f32; N], x19: In![f32; N], x20:
    In![f32; N], x21: In![f32; N], x22: In![f32; N], x23: In![f32; N], x24: In![f32; N], x25:
    In![f32; N], x26: In![f32; N], x27: In![f32; N],
    y: Out![f32; N],
) {
    metal! {
        uint i = thread_position_in_grid.x;
        if (i >= uint(N) || i >= uint(K) || i >= uint(L)) return;
        y[i] = x00[i] + x01[i] + x02[i] + x03[i] + x04[i] + x05[i] + x06[i] + x07[i] + x08[i] +
        x09[i] + x10[i] + x11[i] + x12[i] + x13[i] + x14[i] + x15[i] + x16[i] + x17[i] + x18[i] +
        x19[i] + x20[i] + x21[i] + x22[i] + x23[i] + x24[i] + x25[i] + x26[i] + x27[i];
    }
}

fn main() {}
