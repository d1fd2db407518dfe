use cotangent::differentiable;

#[differentiable(inference_only = "a table", grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7)])]
pub fn reversed(x: In![f32; N], y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        threadgroup float row[N];
        row[i] = x[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        y[i] = row[N - 1 - int(i)];
    }
}

fn main() {}
