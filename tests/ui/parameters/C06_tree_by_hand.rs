use std::any::Any;

use cotangent::parameters::{Leaf, Path};
use cotangent::{Mode, Parameters, Result, Tensor};

struct Linear<M: Mode> {
    weight: Tensor<M>,
    bias: Tensor<M>,
}

/// Written by hand, a tree could leave a parameter out: only the derive may write one.
impl<M: Mode> Parameters for Linear<M> {
    type Mode = M;
    type In<N: Mode> = Linear<N>;

    fn leaves<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, Leaf<'a, M>)) {
        self.weight.leaves(path, visitor);
    }

    fn map<N: Mode>(
        &self,
        path: &mut Path,
        map: &mut dyn FnMut(&Path, Leaf<'_, M>) -> Result<Tensor<N>>,
    ) -> Result<Linear<N>> {
        Ok(Linear { weight: self.weight.map(path, map)?, bias: self.bias.map(path, map)? })
    }

    fn nodes(&mut self, _: &mut Path, _: &mut dyn FnMut(&Path, &mut dyn Any)) {}
}

fn main() {}
