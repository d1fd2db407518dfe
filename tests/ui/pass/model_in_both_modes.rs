//! One model trains and generates: a layer with a cache, generic over the mode.

use cotangent::{Graph, Indices, Infer, Mode, Parameters, Result, Tensor, Train};

#[derive(Parameters)]
struct Layer<M: Mode> {
    table: Tensor<M>,
    mix: Tensor<M>,
    #[config]
    scale: f32,
}

impl<M: Graph> Layer<M> {
    fn forward(&self, tokens: &Indices, seen: Option<&mut Tensor<M>>) -> Result<Tensor<M>> {
        let mut hidden = self.table.take_rows(tokens)?.multiply(self.scale)?;
        if let Some(seen) = seen {
            hidden = hidden.add(&*seen)?;
            *seen = hidden.clone();
        }
        hidden.matmul(&self.mix)
    }
}

fn train(layer: &Layer<Train>, tokens: &Indices) -> Result<Tensor<Train>> {
    layer.forward(tokens, None)?.square()?.sum_all()
}

fn generate(layer: &Layer<Infer>, tokens: &Indices, seen: &mut Tensor<Infer>) -> Result<Indices> {
    layer.forward(tokens, Some(seen))?.argmax(-1)
}

pub fn main() {
    let _ = (train, generate);
}
