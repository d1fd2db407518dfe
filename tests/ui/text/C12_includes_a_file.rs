use cotangent::stage;

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn scaled(x: In![f32; N], y: Out![f32; N]) {
    metal_file!("C12_includes_a_file.metal")
}

fn main() {}
