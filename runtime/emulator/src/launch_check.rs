//! Checks that a launch fits its kernel, before anything is compiled.

use cotangent_metal::left_out::NOT_MODELLED;
use cotangent_metal::names::is_reserved;

use crate::{Dtype, Error, KernelText, Launch};

/// The most bytes of one buffer: its shadow takes twenty times as many.
pub(crate) const BUFFER_BYTES: usize = 1 << 30;

/// # Errors
/// [`Error::Source`] with what was found and what was expected.
pub(crate) fn check_launch(kernel: &KernelText, launch: &Launch<'_>) -> Result<(), Error> {
    find_misfit(kernel, launch).map_or(Ok(()), |what| Err(Error::misfit(&kernel.name, what)))
}

fn find_misfit(kernel: &KernelText, launch: &Launch<'_>) -> Option<String> {
    bad_name(kernel)
        .or_else(|| bad_count("inputs", launch.inputs.len(), kernel.inputs.len()))
        .or_else(|| bad_count("output shapes", launch.output_shapes.len(), kernel.outputs.len()))
        .or_else(|| bad_input(kernel, launch))
        .or_else(|| {
            let mut outputs = kernel.outputs.iter().zip(&launch.output_shapes);
            outputs.find_map(|(port, shape)| {
                too_large(shape, port.dtype).map(|why| format!("output `{}`: {why}", port.name))
            })
        })
        .or_else(|| bad_grid(launch))
}

fn bad_name(kernel: &KernelText) -> Option<String> {
    let ports = || kernel.inputs.iter().chain(&kernel.outputs).map(|port| port.name.as_str());
    let names: Vec<&str> = ports().chain(kernel.template.iter().map(|(name, _)| name.as_str())).collect();
    names.iter().enumerate().find_map(|(i, name)| {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Some(format!("`{name}` is no name: use letters, digits and `_`"));
        }
        if is_reserved(name) || NOT_MODELLED.iter().any(|(word, _)| word == name) {
            return Some(format!("`{name}` means something to Metal; use another name"));
        }
        names[..i].contains(name).then(|| format!("`{name}` is the name of two ports or template parameters"))
    })
}

fn bad_count(what: &str, given: usize, expected: usize) -> Option<String> {
    (given != expected).then(|| format!("{given} {what} given, {expected} expected"))
}

fn bad_input(kernel: &KernelText, launch: &Launch<'_>) -> Option<String> {
    kernel.inputs.iter().zip(&launch.inputs).find_map(|(port, buffer)| {
        if buffer.dtype != port.dtype {
            return Some(format!("input `{}` is {}, expected {}", port.name, buffer.dtype, port.dtype));
        }
        if let Some(why) = too_large(&buffer.shape, port.dtype) {
            return Some(format!("input `{}`: {why}", port.name));
        }
        let size = port.dtype.size();
        let (given, needed) = (buffer.bytes.len(), buffer.size() * size);
        if given % size != 0 || (buffer.strides.is_none() && given != needed) {
            let (name, shape) = (&port.name, &buffer.shape);
            return Some(format!("input `{name}` has {given} bytes, expected {needed} for shape {shape:?}"));
        }
        let strides = buffer.strides.as_ref()?;
        if strides.len() != buffer.shape.len() {
            return Some(format!("input `{}` has another number of strides than dimensions", port.name));
        }
        (buffer.first > given / size).then(|| format!("input `{}` begins behind its {given} bytes", port.name))
    })
}

fn too_large(shape: &[usize], dtype: Dtype) -> Option<String> {
    let bytes = shape.iter().try_fold(dtype.size(), |bytes, &extent| bytes.checked_mul(extent));
    let fits = bytes.is_some_and(|bytes| bytes <= BUFFER_BYTES);
    (!fits)
        .then(|| format!("shape {shape:?} of {dtype} takes more than the {} MiB of a buffer here", BUFFER_BYTES >> 20))
}

fn bad_grid(launch: &Launch<'_>) -> Option<String> {
    let (grid, threadgroup) = (launch.grid, launch.threadgroup);
    if grid.contains(&0) || threadgroup.contains(&0) {
        return Some(format!("grid {grid:?} and threadgroup {threadgroup:?} must not contain 0"));
    }
    let threads = grid.iter().map(|&extent| u64::from(extent)).try_fold(1u64, u64::checked_mul);
    let fits = threads.is_some_and(|threads| threads <= u64::from(u32::MAX));
    (!fits).then(|| format!("grid {grid:?} has more than 2^32 threads"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, TemplateValue};

    #[test]
    fn what_does_not_fit_is_named() {
        let kernel = |input: &str, template: &str| {
            KernelText::new("k", "")
                .input(input, Dtype::F32)
                .output("y", Dtype::F32)
                .template(template, TemplateValue::Int(1))
        };
        let launch = |grid, elements: usize, output: &[usize]| Launch {
            grid: [grid, 1, 1],
            threadgroup: [32, 1, 1],
            inputs: vec![Buffer::from_values(Dtype::F32, [4], vec![0.0; elements])],
            output_shapes: vec![output.to_vec()],
            ..Launch::default()
        };
        let none = Launch { inputs: vec![], ..launch(1, 4, &[4]) };
        for (kernel, launch, expected) in [
            (kernel("x y", "N"), launch(1, 4, &[4]), "`x y` is no name"),
            (kernel("1x", "N"), launch(1, 4, &[4]), "`1x` is no name"),
            (kernel("thread", "N"), launch(1, 4, &[4]), "`thread` means something to Metal"),
            (kernel("float4", "N"), launch(1, 4, &[4]), "`float4` means something to Metal"),
            (kernel("y", "N"), launch(1, 4, &[4]), "`y` is the name of two ports"),
            (kernel("x", "x"), launch(1, 4, &[4]), "`x` is the name of two ports"),
            (kernel("x", "N"), none, "0 inputs given, 1 expected"),
            (kernel("x", "N"), launch(1, 3, &[4]), "input `x` has 12 bytes, expected 16"),
            (
                kernel("x", "N"),
                launch(1, 4, &[usize::MAX, 2]),
                "output `y`: shape [18446744073709551615, 2] of f32 takes",
            ),
            (kernel("x", "N"), launch(1, 4, &[1 << 40]), "takes more than the 1024 MiB"),
            (kernel("x", "N"), launch(0, 4, &[4]), "must not contain 0"),
        ] {
            let found = find_misfit(&kernel, &launch).unwrap_or_default();
            assert!(found.contains(expected), "expected `{expected}`, found `{found}`");
        }
        assert_eq!(find_misfit(&kernel("x", "N"), &launch(1, 4, &[4])), None);
    }
}
