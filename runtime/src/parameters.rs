//! Trees of tensors with names: models, their parts, caches.

use std::fmt;

use crate::error::Result;
use crate::mode::Mode;
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
pub trait Parameters: Sized + crate::__private::DerivedParameters {
    /// The mode of all leaves.
    type Mode: Mode;

    /// The same tree in another mode.
    type In<N: Mode>: Parameters<Mode = N>;

    /// Shows every leaf with its name, in a fixed order.
    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<Self::Mode>));

    /// The same tree with every leaf converted, in the order of [`visit`](Self::visit).
    ///
    /// # Errors
    /// What `convert` returns.
    fn convert<N: Mode>(
        &self,
        path: &mut Path,
        convert: &mut dyn FnMut(&Path, &Tensor<Self::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>>;
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

/// Plain data that a field of a [`Parameters`] tree may hold when it is marked `#[config]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no plain data, so it cannot be `#[config]`",
    label = "expected a number, a bool, a string, or a vector, option or array of these",
    note = "tensors that train are fields without `#[config]`; tables and other constants come with the batch"
)]
pub trait Config: Clone + Send + Sync + 'static {}

macro_rules! config {
    ($($type:ty),*) => { $(impl Config for $type {})* };
}
config!(bool, i32, i64, u8, u32, u64, usize, f32, f64, String);
impl<T: Config> Config for Vec<T> {}
impl<T: Config> Config for Option<T> {}
impl<T: Config, const N: usize> Config for [T; N] {}

impl<M: Mode> Parameters for Tensor<M> {
    type Mode = M;
    type In<N: Mode> = Tensor<N>;

    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<M>)) {
        visitor(path, self);
    }

    fn convert<N: Mode>(
        &self,
        path: &mut Path,
        convert: &mut dyn FnMut(&Path, &Tensor<M>) -> Result<Tensor<N>>,
    ) -> Result<Tensor<N>> {
        convert(path, self)
    }
}

impl<P: Parameters> Parameters for Option<P> {
    type Mode = P::Mode;
    type In<N: Mode> = Option<P::In<N>>;

    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<P::Mode>)) {
        if let Some(inner) = self {
            inner.visit(path, visitor);
        }
    }

    fn convert<N: Mode>(
        &self,
        path: &mut Path,
        convert: &mut dyn FnMut(&Path, &Tensor<P::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>> {
        self.as_ref().map(|inner| inner.convert(path, convert)).transpose()
    }
}

impl<P: Parameters> Parameters for Vec<P> {
    type Mode = P::Mode;
    type In<N: Mode> = Vec<P::In<N>>;

    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<P::Mode>)) {
        for (index, element) in self.iter().enumerate() {
            path.push_index(index);
            element.visit(path, visitor);
            path.pop();
        }
    }

    fn convert<N: Mode>(
        &self,
        path: &mut Path,
        convert: &mut dyn FnMut(&Path, &Tensor<P::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>> {
        let mut converted = Vec::with_capacity(self.len());
        for (index, element) in self.iter().enumerate() {
            path.push_index(index);
            let element = element.convert(path, convert);
            path.pop();
            converted.push(element?);
        }
        Ok(converted)
    }
}

impl<P: Parameters> Parameters for Box<P> {
    type Mode = P::Mode;
    type In<N: Mode> = Box<P::In<N>>;

    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<P::Mode>)) {
        (**self).visit(path, visitor);
    }

    fn convert<N: Mode>(
        &self,
        path: &mut Path,
        convert: &mut dyn FnMut(&Path, &Tensor<P::Mode>) -> Result<Tensor<N>>,
    ) -> Result<Self::In<N>> {
        (**self).convert(path, convert).map(Box::new)
    }
}

macro_rules! tuple {
    ($($name:ident $index:tt),*) => {
        impl<M: Mode, $($name: Parameters<Mode = M>),*> Parameters for ($($name,)*) {
            type Mode = M;
            type In<N: Mode> = ($($name::In<N>,)*);

            fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<M>)) {
                $(path.push_index($index); self.$index.visit(path, visitor); path.pop();)*
            }

            fn convert<N: Mode>(
                &self,
                path: &mut Path,
                convert: &mut dyn FnMut(&Path, &Tensor<M>) -> Result<Tensor<N>>,
            ) -> Result<Self::In<N>> {
                Ok(($({
                    path.push_index($index);
                    let converted = self.$index.convert(path, convert);
                    path.pop();
                    converted?
                },)*))
            }
        }

        impl<$($name: crate::__private::DerivedParameters),*> crate::__private::DerivedParameters for ($($name,)*) {}
    };
}
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);

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
