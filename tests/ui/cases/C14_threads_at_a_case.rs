use cotangent::stage;

#[stage(grid = (N / 2, 1, 1), threads = (N, 1, 1), cases = [(N = 65), (N = 1), (N = 2048)])]
fn halves(x: In![f32; N], y: Out![f32; N / 2]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = x[2 * i] + x[2 * i + 1];
    }
}

fn main() {}
