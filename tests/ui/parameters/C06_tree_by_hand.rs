use cotangent::parameters::Path;
use cotangent::{Mode, Parameters, Result, Tensor};

struct Linear<M: Mode> {
    weight: Tensor<M>,
    bias: Tensor<M>,
}

/// Written by hand, a tree could leave a parameter out: only the derive may write one.
impl<M: Mode> Parameters for Linear<M> {
    type Mode = M;
    type In<N: Mode> = Linear<N>;

    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<M>)) {
        self.weight.visit(path, visitor);
    }

    fn convert<N: Mode>(
        &self,
        path: &mut Path,
        convert: &mut dyn FnMut(&Path, &Tensor<M>) -> Result<Tensor<N>>,
    ) -> Result<Linear<N>> {
        Ok(Linear { weight: self.weight.convert(path, convert)?, bias: self.bias.convert(path, convert)? })
    }
}

fn main() {}
