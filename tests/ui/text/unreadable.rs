use cotangent::stage;

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn not_there(x: In![f32; N], y: Out![f32; N]) {
    metal_file!("not_there.metal")
}

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn unbalanced(x: In![f32; N], y: Out![f32; N]) {
    metal_file!("unbalanced.metal")
}

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn no_path(x: In![f32; N], y: Out![f32; N]) {
    metal_file!(PATH)
}

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn absolute(x: In![f32; N], y: Out![f32; N]) {
    metal_file!("/texts/scaled.metal")
}

fn main() {}
