//! Trees of tensors with names: models, their parts, caches.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{Error, Result};
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

    /// The tensors that stand in it directly: others may not have their names beside it.
    #[doc(hidden)]
    const LEAVES: &'static crate::__private::Leaves = &crate::__private::Leaves::NONE;

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
config!(crate::Dtype, std::time::Duration);
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
    const LEAVES: &'static crate::__private::Leaves = P::LEAVES;

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
    const LEAVES: &'static crate::__private::Leaves = P::LEAVES;

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

impl<P: Parameters, const N: usize> Parameters for [P; N] {
    type Mode = P::Mode;
    type In<M: Mode> = [P::In<M>; N];

    fn visit<'a>(&'a self, path: &mut Path, visitor: &mut dyn FnMut(&Path, &'a Tensor<P::Mode>)) {
        for (index, element) in self.iter().enumerate() {
            path.push_index(index);
            element.visit(path, visitor);
            path.pop();
        }
    }

    fn convert<M: Mode>(
        &self,
        path: &mut Path,
        convert: &mut dyn FnMut(&Path, &Tensor<P::Mode>) -> Result<Tensor<M>>,
    ) -> Result<Self::In<M>> {
        let mut converted = Vec::with_capacity(N);
        for (index, element) in self.iter().enumerate() {
            path.push_index(index);
            let element = element.convert(path, convert);
            path.pop();
            converted.push(element?);
        }
        let length = |converted: Vec<_>| Error::Other(format!("an array of {N} became one of {}", converted.len()));
        converted.try_into().map_err(length)
    }
}

/// Holds no tensor; only says in which mode a tree is.
impl<M: Mode> Parameters for PhantomData<M> {
    type Mode = M;
    type In<N: Mode> = PhantomData<N>;

    fn visit<'a>(&'a self, _: &mut Path, _: &mut dyn FnMut(&Path, &'a Tensor<M>)) {}

    fn convert<N: Mode>(
        &self,
        _: &mut Path,
        _: &mut dyn FnMut(&Path, &Tensor<M>) -> Result<Tensor<N>>,
    ) -> Result<PhantomData<N>> {
        Ok(PhantomData)
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
