use cotangent::{Result, Tensor, Train};

fn loss(x: &Tensor<Train>) -> Result<Tensor<Train>> {
    if x.greater(0.0)? { x.square() } else { x.abs() }
}

fn main() {}
