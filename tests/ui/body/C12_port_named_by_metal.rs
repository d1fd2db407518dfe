use cotangent::stage;

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn scaled(x: In![f32; N], kernel: In![f32; N], x_shape: f32, y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = x_shape * kernel[i] * x[i];
    }
}

fn main() {}
