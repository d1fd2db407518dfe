//! The state that flows from one stage of a stack to the next: a tree of tensors, between two graphs.

use std::rc::Rc;

use mlx_rs::Array;

use crate::error::{Error, Result};
use crate::mode::Train;
use crate::parameters::{Parameters, Path};
use crate::tensor::{Origin, Tensor, TraceId};

/// The tree that a stage returned, outside its graph.
pub(super) struct Carried<T> {
    /// The tree, whose tensors belong to no graph.
    tree: Rc<T>,
    /// The tree's tensors, in visiting order.
    pub(super) arrays: Vec<Array>,
    /// The origin of each of these tensors.
    origins: Vec<Origin>,
}

impl<T: Parameters<Mode = Train, In<Train> = T>> Carried<T> {
    /// Takes a tree out of the graph `trace`, which `name` computed.
    ///
    /// # Errors
    /// [`Error::Refused`] if one of its tensors comes from another graph.
    pub(super) fn leave(operation: &'static str, trace: TraceId, output: &T, name: &str) -> Result<Self> {
        let (mut arrays, mut origins) = (Vec::new(), Vec::new());
        let tree = output.convert::<Train>(&mut Path::root(), &mut |path, tensor| {
            let dot = if path.as_str().is_empty() { "" } else { "." };
            let what = || format!("the hidden state{dot}{path} after `{name}`");
            origins.push(tensor.origin());
            let array = tensor.clone().leave(trace, operation, what)?;
            arrays.push(array.clone());
            Ok(Tensor::from_parts(array, Origin::HOST))
        })?;
        Ok(Carried { tree: Rc::new(tree), arrays, origins })
    }

    /// Returns the same tree of other tensors, which are asked for their gradients, or are not.
    pub(super) fn asked(&self, arrays: Vec<Array>, needs_gradient: bool) -> Self {
        let origins = self.origins.iter().map(|origin| Origin { needs_gradient, ..*origin }).collect();
        Carried { tree: self.tree.clone(), arrays, origins }
    }

    /// The tree in the graph `trace`.
    ///
    /// # Errors
    /// [`Error::Other`] if the tree converts other leaves than before.
    pub(super) fn enter(&self, trace: TraceId) -> Result<T> {
        let mut leaves = self.arrays.iter().zip(&self.origins);
        self.tree.convert::<Train>(&mut Path::root(), &mut |_, _| {
            let (array, origin) = leaves.next().ok_or_else(changed)?;
            Ok(Tensor::from_parts(array.clone(), Origin { trace: Some(trace), ..*origin }))
        })
    }
}

fn changed() -> Error {
    Error::Other("a hidden state converts other leaves than before".into())
}
