//! Binds the names of a signature to the shapes and dtypes of a call, and checks everything else against them.

use super::declaration::Declaration;
use super::signature::{ConstantKind, Port, PortDtype, Signature};
use super::value::PortValue;
use crate::{Dtype, Error, Result};

/// The names of a signature with their values in one call.
#[derive(Debug, Clone, Default)]
pub(super) struct Symbols {
    values: Vec<(&'static str, i64)>,
    dtypes: Vec<(&'static str, Dtype)>,
}

impl Symbols {
    /// The value of a dimension or template constant.
    pub(super) fn value(&self, name: &str) -> Option<i64> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Returns the dtype that a dtype parameter stands for.
    pub(super) fn dtype(&self, name: &str) -> Option<Dtype> {
        self.dtypes.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype)
    }

    /// The dtype of a port.
    pub(super) fn port_dtype(&self, port: &Port) -> Option<Dtype> {
        match port.dtype {
            PortDtype::Fixed(dtype) => Some(dtype),
            PortDtype::Parameter(name) => self.dtype(name),
        }
    }

    /// The shape of a port.
    pub(super) fn port_shape(&self, port: &Port) -> Option<Vec<i32>> {
        let value_of = |name: &str| self.value(name);
        port.shape
            .iter()
            .map(|extent| i32::try_from(extent.value.evaluate(&value_of)?).ok().filter(|extent| *extent >= 0))
            .collect()
    }
}

/// Binds `signature` to the inputs of a call. `constants` are the template constants that no shape binds, `dtypes` the dtype
/// parameters that no input settles.
///
/// # Errors
/// [`Error::Kernel`], naming kernel and port, where an input's rank, extent or dtype is not what the signature says.
pub(super) fn bind(
    signature: &Signature,
    inputs: &[PortValue],
    constants: &[(&'static str, i64)],
    dtypes: &[(&'static str, Dtype)],
) -> Result<Symbols> {
    let kernel = signature.name;
    if inputs.len() != signature.inputs.len() {
        let message = format!("found {} inputs, expected {}", inputs.len(), signature.inputs.len());
        return Err(Error::Kernel { kernel, port: None, message });
    }
    for (port, input) in present(signature, inputs) {
        if input.shape().len() != port.shape.len() {
            let message = format!(
                "found shape {:?}, expected {}, which has {}",
                input.shape(),
                port.shape_text,
                match port.shape.len() {
                    1 => "1 axis".to_owned(),
                    axes => format!("{axes} axes"),
                }
            );
            return Err(Error::Kernel { kernel, port: Some(port.name), message });
        }
    }
    // A class of one dtype needs no input that settles it.
    let settled = signature.dtypes.iter().filter_map(|parameter| match parameter.class {
        [only] => Some((parameter.name, *only)),
        _ => None,
    });
    let dtypes = settled.chain(dtypes.iter().copied()).collect();
    let mut symbols = Symbols { values: constants.to_vec(), dtypes };
    let bound = signature.dimensions.iter().map(|dimension| (dimension.name, Some(dimension.bound)));
    for (name, bound) in bound.chain(signature.constants.iter().map(|constant| (constant.name, constant.bound))) {
        if let Some(bound) = bound {
            let extent = inputs.get(bound.input).and_then(|input| input.shape().get(bound.axis));
            symbols.values.push((name, i64::from(extent.copied().unwrap_or_default())));
        }
    }
    check_constants(signature, &symbols)?;
    check_free_dtypes(signature, &symbols)?;
    for (port, input) in present(signature, inputs) {
        check_dtype(signature, port, input.dtype(), &mut symbols)?;
    }
    for (port, input) in present(signature, inputs) {
        check_shape(signature, port, input.shape(), &symbols)?;
    }
    Ok(symbols)
}

/// The ports that a call has, with what they carry. Optional ones bind nothing, so their absence leaves nothing open.
fn present<'a>(signature: &Signature, inputs: &'a [PortValue]) -> impl Iterator<Item = (&'static Port, &'a PortValue)> {
    signature.inputs.iter().zip(inputs).filter(|(port, input)| !(port.optional && input.is_absent()))
}

fn check_constants(signature: &Signature, symbols: &Symbols) -> Result<()> {
    for constant in signature.constants {
        let value = symbols.value(constant.name);
        let fits = value.is_some_and(|value| match constant.kind {
            ConstantKind::Bool => value == 0 || value == 1,
            ConstantKind::Usize => (0..=i64::from(i32::MAX)).contains(&value),
            ConstantKind::I32 => i32::try_from(value).is_ok(),
        });
        if !fits {
            let found = value.map_or("nothing".to_owned(), |value| value.to_string());
            let message = format!("found {found} for the template constant `{}`, which is 32 bits wide", constant.name);
            return Err(Error::Kernel { kernel: signature.name, port: None, message });
        }
    }
    Ok(())
}

fn check_free_dtypes(signature: &Signature, symbols: &Symbols) -> Result<()> {
    for parameter in signature.free_dtypes() {
        let found = symbols.dtype(parameter.name);
        if !found.is_some_and(|found| parameter.class.contains(&found)) {
            let found = found.map_or("nothing".to_owned(), |found| found.to_string());
            let message =
                format!("found {found} for the dtype `{}`, expected {}", parameter.name, one_of(parameter.class));
            return Err(Error::Kernel { kernel: signature.name, port: None, message });
        }
    }
    Ok(())
}

fn one_of(class: &[Dtype]) -> String {
    let names: Vec<String> = class.iter().map(Dtype::to_string).collect();
    format!("one of {}", names.join(", "))
}

/// Checks a dtype, and binds a parameter that had none yet.
fn check_dtype(signature: &Signature, port: &Port, found: Dtype, symbols: &mut Symbols) -> Result<()> {
    let fail = |message| Err(Error::Kernel { kernel: signature.name, port: Some(port.name), message });
    match port.dtype {
        PortDtype::Fixed(expected) if found == expected => Ok(()),
        PortDtype::Fixed(expected) => fail(format!("found {found}, expected {expected}")),
        PortDtype::Parameter(name) => match symbols.dtype(name) {
            Some(bound) if bound == found => Ok(()),
            Some(bound) => fail(format!("found {found}, expected {bound}, which `{name}` is in an earlier port")),
            None => {
                let class = signature.dtypes.iter().find(|parameter| parameter.name == name);
                let class = class.map_or(&[][..], |parameter| parameter.class);
                if !class.contains(&found) {
                    return fail(format!("found {found}, expected {}", one_of(class)));
                }
                symbols.dtypes.push((name, found));
                Ok(())
            }
        },
    }
}

fn check_shape(signature: &Signature, port: &Port, found: &[i32], symbols: &Symbols) -> Result<()> {
    let expected = symbols.port_shape(port);
    if expected.as_deref() == Some(found) {
        return Ok(());
    }
    let expected = match expected {
        Some(shape) => format!("{} = {shape:?}", port.shape_text),
        None => format!("{}, which has no value here", port.shape_text),
    };
    let message = format!("found shape {found:?}, expected {expected}");
    Err(Error::Kernel { kernel: signature.name, port: Some(port.name), message })
}

/// Checks what a body or fallback returned against the signature.
///
/// # Errors
/// [`Error::Kernel`], naming kernel and port.
pub(super) fn check_outputs(
    declaration: &Declaration,
    ports: &[&'static Port],
    outputs: &[Option<PortValue>],
    symbols: &Symbols,
) -> Result<()> {
    let signature = declaration.signature;
    if ports.len() != outputs.len() {
        let message = format!("found {} outputs, expected {}", outputs.len(), ports.len());
        return Err(Error::Kernel { kernel: signature.name, port: None, message });
    }
    for (port, output) in ports.iter().zip(outputs) {
        let Some(output) = output else { continue };
        check_shape(signature, port, output.shape(), symbols)?;
        if symbols.port_dtype(port) != Some(output.dtype()) {
            let expected = symbols.port_dtype(port).map_or("nothing".to_owned(), |dtype| dtype.to_string());
            let message = format!("found {}, expected {expected}", output.dtype());
            return Err(Error::Kernel { kernel: signature.name, port: Some(port.name), message });
        }
    }
    Ok(())
}
