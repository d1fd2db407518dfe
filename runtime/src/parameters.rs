//! Trees of tensors with names: models, their parts, caches.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use mlx_rs::Array;

use crate::error::{Error, Result};
use crate::mode::{Held, Mode, Stored};
use crate::tensor::Tensor;

/// A tree whose leaves are tensors of one mode. Derive it:
///
/// ```
/// use cotangent::{Mode, Parameters, Tensor};
///
/// #[derive(Parameters)]
/// struct Linear<M: Mode> {
///     weight: Tensor<M>,
///     bias: Option<Tensor<M>>,
///     #[config]
///     rows: usize,
/// }
/// ```
///
/// Every field is such a tree itself, or `#[config]` of plain data. So a tensor cannot hide from the gradient.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no tree of parameters",
    label = "holds what a gradient could not reach, or is plain data",
    note = "derive it: `#[derive(Parameters)]`, generic over the mode; mark plain data `#[config]`"
)]
pub trait Parameters: Sized + 'static {
    /// The mode of all leaves.
    type Mode: Mode;

    /// The type of the same tree in another mode.
    // The bound is on the other tree, which leads back to this one, so that a tree written by hand is one error and not two.
    type In<N: Mode>: Parameters<Mode = N, In<Self::Mode> = Self> + crate::__private::DerivedParameters;

    /// The names of the tree's own tensors, which other tensors beside the tree may not have.
    #[doc(hidden)]
    const LEAVES: &'static crate::__private::Leaves = &crate::__private::Leaves::NONE;

    /// Shows every leaf with its name, in a fixed order.
    fn leaves<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, Leaf<'a, Self::Mode>));

    /// Returns the same tree with every leaf replaced by what `map` makes of it, in the order of
    /// [`leaves`](Self::leaves).
    ///
    /// # Errors
    /// What `map` returns.
    fn map<N: Mode>(
        &self,
        path: &mut Path,
        map: &mut dyn FnMut(&Path, Leaf<'_, Self::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>>;

    /// Shows every struct and enum of the tree, an outer one before those in it, as a value that can be downcast: the way to
    /// find all layers of one type and their names.
    fn nodes(&mut self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &mut dyn Any));

    /// Shows the leaves that may train, in the order of [`leaves`](Self::leaves).
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<Self::Mode>)) {
        self.leaves(path, &mut |path, leaf| {
            if !leaf.is_frozen {
                visitor(path, leaf.tensor);
            }
        });
    }

    /// Returns the same tree with every leaf that may train converted, in the order of [`visit`](Self::visit). Frozen
    /// leaves are shared.
    ///
    /// # Errors
    /// What `convert` returns; [`Error::Parameter`] if a frozen leaf has no values yet.
    fn convert<N: Mode>(
        &self,
        path: &mut Path,
        convert: &mut dyn FnMut(&Path, &Tensor<Self::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>> {
        self.map(path, &mut |path, leaf| {
            if !leaf.is_frozen {
                return convert(path, leaf.tensor);
            }
            leaf.tensor.shared().ok_or_else(|| Error::Parameter {
                name: path.to_string(),
                message: format!("is frozen and has no values to share in mode `{}`", N::NAME),
            })
        })
    }
}

/// A tensor of a tree, as a walk over the tree meets it.
#[derive(Debug)]
pub struct Leaf<'a, M: Mode> {
    /// The tensor.
    pub tensor: &'a Tensor<M>,
    /// Whether it is the content of a [`Frozen`] field, which never trains.
    pub is_frozen: bool,
}

/// A leaf that never trains and that no optimizer sees: packed codes of a quantized weight, its scales and biases.
pub struct Frozen<M: Mode> {
    tensor: Tensor<M>,
}

impl<M: Mode> Frozen<M> {
    /// The tensor as a leaf that never trains.
    pub fn new(tensor: Tensor<M>) -> Self {
        Frozen { tensor }
    }
}

impl Frozen<Stored> {
    /// The tensor, to be read, saved or counted.
    pub fn tensor(&self) -> &Tensor<Stored> {
        &self.tensor
    }
}

impl<M: Held> Frozen<M> {
    pub(crate) fn array(&self) -> &Array {
        self.tensor.array()
    }
}

impl<M: Mode> Clone for Frozen<M> {
    fn clone(&self) -> Self {
        Frozen { tensor: self.tensor.clone() }
    }
}

impl<M: Mode> fmt::Debug for Frozen<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frozen").field(&self.tensor).finish()
    }
}

/// The name of a place in a tree: segments with dots between, such as `layers.3.mlp.up_proj.weight`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path {
    name: String,
    ends: Vec<usize>,
}

impl Path {
    /// The tree itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path from its name.
    pub fn new(name: &str) -> Self {
        let mut path = Path::root();
        for segment in name.split('.').filter(|segment| !segment.is_empty()) {
            path.push(segment);
        }
        path
    }

    /// Goes one segment down.
    pub fn push(&mut self, segment: &str) {
        self.ends.push(self.name.len());
        if !self.name.is_empty() {
            self.name.push('.');
        }
        self.name.push_str(segment);
    }

    /// Goes down to an element of a list.
    pub fn push_index(&mut self, index: usize) {
        self.push(&index.to_string());
    }

    /// Goes one segment up; the root stays where it is.
    pub fn pop(&mut self) {
        if let Some(end) = self.ends.pop() {
            self.name.truncate(end);
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Plain data that a field of a [`Parameters`] tree may hold when it is marked `#[config]`. Derive it for types of your own:
///
/// ```
/// use cotangent::{Config, Mode, Parameters, Tensor};
///
/// #[derive(Clone, Copy, Config)]
/// enum Activation {
///     Silu,
///     Clipped { at: f32 },
/// }
///
/// #[derive(Parameters)]
/// struct Layer<M: Mode> {
///     weight: Tensor<M>,
///     #[config]
///     activation: Activation,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no plain data, so it cannot be `#[config]`",
    label = "expected a number, a bool, a string, a type that derives `Config`, or a vector, option or array of these",
    note = "write `#[derive(Clone, Config)]` on a struct or enum of plain data",
    note = "tensors that train are fields without `#[config]`; tables and other constants come with the batch"
)]
pub trait Config: Clone + Send + 'static + crate::__private::DerivedConfig {}

macro_rules! config {
    ($($type:ty),*) => { $(
        impl Config for $type {}
        impl crate::__private::DerivedConfig for $type {}
    )* };
}
config!(bool, char, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64, String, std::path::PathBuf);
config!(crate::Dtype, crate::CodeMode, crate::CodeFormat, std::time::Duration);
impl<T: Config> Config for Vec<T> {}
impl<T: Config> crate::__private::DerivedConfig for Vec<T> {}
impl<T: Config> Config for Option<T> {}
impl<T: Config> crate::__private::DerivedConfig for Option<T> {}
impl<T: Config> Config for Box<T> {}
impl<T: Config> crate::__private::DerivedConfig for Box<T> {}
impl<T: Config, const N: usize> Config for [T; N] {}
impl<T: Config, const N: usize> crate::__private::DerivedConfig for [T; N] {}
impl<T: Send + 'static> Config for PhantomData<T> {}
impl<T: Send + 'static> crate::__private::DerivedConfig for PhantomData<T> {}

macro_rules! leaf {
    ($type:ident, $is_frozen:literal, |$leaf:ident| $tensor:expr, $new:expr) => {
        impl<M: Mode> Parameters for $type<M> {
            type Mode = M;
            type In<N: Mode> = $type<N>;

            fn leaves<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, Leaf<'a, M>)) {
                let $leaf = self;
                visitor(path, Leaf { tensor: $tensor, is_frozen: $is_frozen });
            }

            fn map<N: Mode>(
                &self,
                path: &mut Path,
                map: &mut dyn FnMut(&Path, Leaf<'_, M>) -> Result<Tensor<N>>,
            ) -> Result<$type<N>> {
                let $leaf = self;
                map(path, Leaf { tensor: $tensor, is_frozen: $is_frozen }).map($new)
            }

            fn nodes(&mut self, _: &mut Path, _: &mut dyn FnMut(&Path, &mut dyn Any)) {}
        }
    };
}
leaf!(Tensor, false, |leaf| leaf, std::convert::identity);
leaf!(Frozen, true, |leaf| &leaf.tensor, Frozen::new);

impl<P: Parameters> Parameters for Option<P> {
    type Mode = P::Mode;
    type In<N: Mode> = Option<P::In<N>>;
    const LEAVES: &'static crate::__private::Leaves = P::LEAVES;

    fn leaves<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, Leaf<'a, P::Mode>)) {
        if let Some(inner) = self {
            inner.leaves(path, visitor);
        }
    }

    fn map<N: Mode>(
        &self,
        path: &mut Path,
        map: &mut dyn FnMut(&Path, Leaf<'_, P::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>> {
        self.as_ref().map(|inner| inner.map(path, map)).transpose()
    }

    fn nodes(&mut self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &mut dyn Any)) {
        if let Some(inner) = self {
            inner.nodes(path, visitor);
        }
    }
}

impl<P: Parameters> Parameters for Vec<P> {
    type Mode = P::Mode;
    type In<N: Mode> = Vec<P::In<N>>;

    fn leaves<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, Leaf<'a, P::Mode>)) {
        for (index, element) in self.iter().enumerate() {
            path.push_index(index);
            element.leaves(path, visitor);
            path.pop();
        }
    }

    fn map<N: Mode>(
        &self,
        path: &mut Path,
        map: &mut dyn FnMut(&Path, Leaf<'_, P::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>> {
        let mut mapped = Vec::with_capacity(self.len());
        for (index, element) in self.iter().enumerate() {
            path.push_index(index);
            let element = element.map(path, map);
            path.pop();
            mapped.push(element?);
        }
        Ok(mapped)
    }

    fn nodes(&mut self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &mut dyn Any)) {
        for (index, element) in self.iter_mut().enumerate() {
            path.push_index(index);
            element.nodes(path, visitor);
            path.pop();
        }
    }
}

impl<P: Parameters> Parameters for Box<P> {
    type Mode = P::Mode;
    type In<N: Mode> = Box<P::In<N>>;
    const LEAVES: &'static crate::__private::Leaves = P::LEAVES;

    fn leaves<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, Leaf<'a, P::Mode>)) {
        (**self).leaves(path, visitor);
    }

    fn map<N: Mode>(
        &self,
        path: &mut Path,
        map: &mut dyn FnMut(&Path, Leaf<'_, P::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>> {
        (**self).map(path, map).map(Box::new)
    }

    fn nodes(&mut self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &mut dyn Any)) {
        (**self).nodes(path, visitor);
    }
}

impl<P: Parameters, const N: usize> Parameters for [P; N] {
    type Mode = P::Mode;
    type In<M: Mode> = [P::In<M>; N];

    fn leaves<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, Leaf<'a, P::Mode>)) {
        for (index, element) in self.iter().enumerate() {
            path.push_index(index);
            element.leaves(path, visitor);
            path.pop();
        }
    }

    fn map<M: Mode>(
        &self,
        path: &mut Path,
        map: &mut dyn FnMut(&Path, Leaf<'_, P::Mode>) -> Result<Tensor<M>>,
    ) -> Result<Self::In<M>> {
        let mut mapped = Vec::with_capacity(N);
        for (index, element) in self.iter().enumerate() {
            path.push_index(index);
            let element = element.map(path, map);
            path.pop();
            mapped.push(element?);
        }
        let length = |mapped: Vec<_>| Error::Other(format!("an array of {N} became one of {}", mapped.len()));
        mapped.try_into().map_err(length)
    }

    fn nodes(&mut self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &mut dyn Any)) {
        for (index, element) in self.iter_mut().enumerate() {
            path.push_index(index);
            element.nodes(path, visitor);
            path.pop();
        }
    }
}

/// Holds no tensor; only says in which mode a tree is.
impl<M: Mode> Parameters for PhantomData<M> {
    type Mode = M;
    type In<N: Mode> = PhantomData<N>;

    fn leaves<'a>(&'a self, _: &mut Path, _: &mut dyn FnMut(&Path, Leaf<'a, M>)) {}

    fn map<N: Mode>(
        &self,
        _: &mut Path,
        _: &mut dyn FnMut(&Path, Leaf<'_, M>) -> Result<Tensor<N>>,
    ) -> Result<PhantomData<N>> {
        Ok(PhantomData)
    }

    fn nodes(&mut self, _: &mut Path, _: &mut dyn FnMut(&Path, &mut dyn Any)) {}
}

macro_rules! tuple {
    ($($name:ident $index:tt),*) => {
        impl<M: Mode, $($name: Parameters<Mode = M>),*> Parameters for ($($name,)*) {
            type Mode = M;
            type In<N: Mode> = ($($name::In<N>,)*);

            fn leaves<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, Leaf<'a, M>)) {
                $(path.push_index($index); self.$index.leaves(path, visitor); path.pop();)*
            }

            fn map<N: Mode>(
                &self,
                path: &mut Path,
                map: &mut dyn FnMut(&Path, Leaf<'_, M>) -> Result<Tensor<N>>,
            ) -> Result<Self::In<N>> {
                Ok(($({
                    path.push_index($index);
                    let mapped = self.$index.map(path, map);
                    path.pop();
                    mapped?
                },)*))
            }

            fn nodes(&mut self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &mut dyn Any)) {
                $(path.push_index($index); self.$index.nodes(path, visitor); path.pop();)*
            }
        }

        impl<$($name),*> crate::__private::DerivedParameters for ($($name,)*) {}
    };
}
tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_down_and_up_again() {
        let mut path = Path::root();
        path.push("layers");
        path.push_index(3);
        path.push("mlp");
        assert_eq!(path.as_str(), "layers.3.mlp");
        path.pop();
        assert_eq!(path, Path::new("layers.3"));
        path.pop();
        path.pop();
        path.pop();
        assert_eq!(path.as_str(), "");
    }
}
