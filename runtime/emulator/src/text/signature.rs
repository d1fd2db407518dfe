//! MLX's rules for a kernel's parameters: `write_signature` in its `metal_kernel`.

use crate::{KernelText, Port};

/// Attributes that MLX declares when their name occurs in the body, with their types.
pub(super) const ATTRIBUTES: [(&str, &str); 20] = [
    ("dispatch_quadgroups_per_threadgroup", "uint"),
    ("dispatch_simdgroups_per_threadgroup", "uint"),
    ("dispatch_threads_per_threadgroup", "uint3"),
    ("grid_origin", "uint3"),
    ("grid_size", "uint3"),
    ("quadgroup_index_in_threadgroup", "uint"),
    ("quadgroups_per_threadgroup", "uint"),
    ("simdgroup_index_in_threadgroup", "uint"),
    ("simdgroups_per_threadgroup", "uint"),
    ("thread_execution_width", "uint"),
    ("thread_index_in_quadgroup", "uint"),
    ("thread_index_in_simdgroup", "uint"),
    ("thread_index_in_threadgroup", "uint"),
    ("thread_position_in_grid", "uint3"),
    ("thread_position_in_threadgroup", "uint3"),
    ("threadgroup_position_in_grid", "uint3"),
    ("threadgroups_per_grid", "uint3"),
    ("threads_per_grid", "uint3"),
    ("threads_per_simdgroup", "uint"),
    ("threads_per_threadgroup", "uint3"),
];

/// One parameter of the generated function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Argument<'k> {
    /// Its number among the inputs, and whether it is a reference (0-d) and small (in `constant`).
    Input { port: &'k Port, index: usize, scalar: bool, small: bool },
    /// `NAME_shape`
    Shape { port: &'k Port, index: usize },
    /// `NAME_strides`
    Strides { port: &'k Port, index: usize },
    /// `NAME_ndim`
    Ndim { port: &'k Port, index: usize },
    /// Its number among the outputs.
    Output { port: &'k Port, index: usize },
    /// Name and type.
    Attribute { name: &'static str, ty: &'static str },
}

impl Argument<'_> {
    /// Whether Metal binds a buffer for it.
    pub fn is_buffer(&self) -> bool {
        !matches!(self, Argument::Attribute { .. })
    }
}

/// Inputs of fewer elements than this are in `constant` memory.
const DEVICE_FROM: usize = 8;

/// The parameters in order, for inputs of these shapes.
pub(crate) fn arguments<'k>(kernel: &'k KernelText, shapes: &[&[usize]]) -> Vec<Argument<'k>> {
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
