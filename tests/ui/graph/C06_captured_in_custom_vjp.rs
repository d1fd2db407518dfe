use cotangent::{Result, Tensor, Train, custom_vjp};

fn scale(x: &Tensor<Train>, weight: &Tensor<Train>) -> Result<Vec<Tensor<Train>>> {
    custom_vjp(
        "scale",
        &[x],
        &(),
        |inputs, _| Ok(vec![inputs[0].multiply(weight)?]),
        |_, cotangents, _, _| Ok(vec![cotangents[0].clone()]),
    )
}

fn main() {}
