//! MLX's rules for a kernel's parameters: `write_signature` in its `metal_kernel`.

use crate::names::ATTRIBUTES;
use crate::{KernelText, Port};

/// One parameter of the generated function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument<'k> {
    /// An input.
    Input {
        /// The input.
        port: &'k Port,
        /// The number among the inputs.
        index: usize,
        /// Whether it is a reference: the input has no dimensions.
        scalar: bool,
        /// Whether it is in `constant` memory.
        small: bool,
    },
    /// `NAME_shape`
    Shape {
        /// The input.
        port: &'k Port,
        /// The number among the inputs.
        index: usize,
    },
    /// `NAME_strides`
    Strides {
        /// The input.
        port: &'k Port,
        /// The number among the inputs.
        index: usize,
    },
    /// `NAME_ndim`
    Ndim {
        /// The input.
        port: &'k Port,
        /// The number among the inputs.
        index: usize,
    },
    /// An output.
    Output {
        /// The output.
        port: &'k Port,
        /// The number among the outputs.
        index: usize,
    },
    /// An attribute of the thread.
    Attribute {
        /// The name of the attribute.
        name: &'static str,
        /// The type of the attribute.
        ty: &'static str,
    },
}

impl Argument<'_> {
    /// Returns whether Metal binds a buffer for it.
    pub fn is_buffer(&self) -> bool {
        !matches!(self, Argument::Attribute { .. })
    }
}

/// Inputs of fewer elements than this are in `constant` memory.
const DEVICE_FROM: usize = 8;

/// The parameters in order, for inputs of these shapes.
pub fn arguments<'k>(kernel: &'k KernelText, shapes: &[&[usize]]) -> Vec<Argument<'k>> {
    let body = &kernel.body.text;
    let mut arguments = Vec::new();
    for (index, (port, shape)) in kernel.inputs.iter().zip(shapes).enumerate() {
        let small = shape.iter().product::<usize>() < DEVICE_FROM;
        arguments.push(Argument::Input { port, index, scalar: shape.is_empty(), small });
        if !shape.is_empty() {
            let mentioned = |suffix: &str| body.contains(&format!("{}_{suffix}", port.name));
            if mentioned("shape") {
                arguments.push(Argument::Shape { port, index });
            }
            if mentioned("strides") {
                arguments.push(Argument::Strides { port, index });
            }
            if mentioned("ndim") {
                arguments.push(Argument::Ndim { port, index });
            }
        }
    }
    arguments.extend(kernel.outputs.iter().enumerate().map(|(index, port)| Argument::Output { port, index }));
    let attributes = ATTRIBUTES.iter().filter(|(name, _)| body.contains(name));
    arguments.extend(attributes.map(|&(name, ty)| Argument::Attribute { name, ty }));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dtype;

    #[test]
    fn parameters_follow_from_substrings_of_the_body() {
        let kernel = KernelText::new("k", "// max_x_shape, threads_per_grid")
            .input("x", Dtype::F32)
            .input("s", Dtype::I32)
            .output("y", Dtype::F32);
        let names: Vec<String> = arguments(&kernel, &[&[7], &[]])
            .iter()
            .map(|a| match a {
                Argument::Input { port, scalar, small, .. } => format!("{} scalar={scalar} small={small}", port.name),
                Argument::Output { port, .. } => port.name.clone(),
                Argument::Shape { port, .. } => format!("{}_shape", port.name),
                Argument::Attribute { name, .. } => (*name).to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            names,
            ["x scalar=false small=true", "x_shape", "s scalar=true small=true", "y", "threads_per_grid"]
        );
    }
}
