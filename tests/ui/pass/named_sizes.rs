use cotangent::{Graph, Result, Tensor, differentiable, stage};

#[differentiable(
    fallback = by_operations,
    stages = [blocks],
    dims = [BLOCKS = ceil_div(N, 4), ROWS = 2 * BLOCKS],
    requires = [ROWS <= 64],
    cases = [(N = 7), (N = 16)],
)]
pub fn spread(x: In![f32; N], y: Out![f32; ROWS, 4]) {
    let blocks = blocks(stages, x)?;
    Ok(Outputs { y: blocks.reshape(&[ROWS, 4])? })
}

#[stage(
    dims = [WIDTH = 4, BLOCKS = ceil_div(N, WIDTH)],
    grid = (BLOCKS * WIDTH, 1, 1),
    threads = (WIDTH, 1, 1),
    cases = [(N = 7), (N = 16)],
)]
fn blocks(x: In![f32; N], y: Out![f32; BLOCKS, 2, WIDTH]) {
    metal! {
        threadgroup float part[WIDTH];
        uint lane = thread_position_in_threadgroup.x;
        uint block = threadgroup_position_in_grid.x;
        uint i = block * WIDTH + lane;
        part[lane] = i < uint(N) ? x[i] : 0.0f;
        threadgroup_barrier(mem_flags::mem_threadgroup);
        if (block < uint(BLOCKS)) {
            y[block * 2 * WIDTH + lane] = part[lane];
            y[block * 2 * WIDTH + WIDTH + lane] = -part[lane];
        }
    }
}

fn by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    let length = x.dimension(0);
    let blocks = (length + 3) / 4;
    let padded = x.pad(0, 0, blocks * 4 - length)?.reshape(&[blocks, 1, 4])?;
    Tensor::concatenate(&[&padded, &padded.multiply(-1.0)?], 1)?.reshape(&[2 * blocks, 4])
}

pub fn main() {
    cotangent::kernel::check::assert_declared::<spread>();
}
