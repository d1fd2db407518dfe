//! Comparisons in constant code.

use crate::Dtype;
use crate::kernel::signature::{DtypeParameter, Extent, Port, PortDtype, Signature};

pub(crate) const fn same_text(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// Returns whether `text` is `d_` followed by `name`.
pub(super) const fn is_derivative_of(text: &str, name: &str) -> bool {
    match strip_derivative(text) {
        Some(rest) => same_text(rest, name),
        None => false,
    }
}

pub(super) const fn strip_derivative(text: &str) -> Option<&str> {
    match text.as_bytes() {
        [b'd', b'_', ..] => Some(text.split_at(2).1),
        _ => None,
    }
}

pub(super) const fn find(ports: &'static [Port], name: &str) -> Option<&'static Port> {
    let mut index = 0;
    while index < ports.len() {
        if same_text(ports[index].name, name) {
            return Some(&ports[index]);
        }
        index += 1;
    }
    None
}

pub(super) const fn contains(names: &[&str], name: &str) -> bool {
    let mut index = 0;
    while index < names.len() {
        if same_text(names[index], name) {
            return true;
        }
        index += 1;
    }
    false
}

pub(super) const fn is_stand_in(signature: &Signature) -> bool {
    signature.name.is_empty()
}

/// The dtype as its author writes it.
pub(super) const fn dtype_text(dtype: PortDtype) -> &'static str {
    match dtype {
        PortDtype::Parameter(name) => name,
        PortDtype::Fixed(Dtype::Bool) => "bool",
        PortDtype::Fixed(Dtype::I8) => "i8",
        PortDtype::Fixed(Dtype::U8) => "u8",
        PortDtype::Fixed(Dtype::I16) => "i16",
        PortDtype::Fixed(Dtype::U16) => "u16",
        PortDtype::Fixed(Dtype::I32) => "i32",
        PortDtype::Fixed(Dtype::U32) => "u32",
        PortDtype::Fixed(Dtype::I64) => "i64",
        PortDtype::Fixed(Dtype::U64) => "u64",
        PortDtype::Fixed(Dtype::F16) => "f16",
        PortDtype::Fixed(Dtype::BF16) => "bf16",
        PortDtype::Fixed(Dtype::F32) => "f32",
    }
}

pub(super) const fn is_float(signature: &Signature, dtype: PortDtype) -> bool {
    let fixed = match dtype {
        PortDtype::Fixed(fixed) => fixed,
        PortDtype::Parameter(name) => match find_class(signature.dtypes, name) {
            Some([first, ..]) => *first,
            _ => return false,
        },
    };
    matches!(fixed, Dtype::F16 | Dtype::BF16 | Dtype::F32)
}

pub(super) const fn find_class(parameters: &'static [DtypeParameter], name: &str) -> Option<&'static [Dtype]> {
    let mut index = 0;
    while index < parameters.len() {
        if same_text(parameters[index].name, name) {
            return Some(parameters[index].class);
        }
        index += 1;
    }
    None
}

pub(super) const fn same_class(forward: &Signature, backward: &Signature, dtype: PortDtype) -> bool {
    let PortDtype::Parameter(name) = dtype else { return true };
    match (find_class(forward.dtypes, name), find_class(backward.dtypes, name)) {
        (Some(left), Some(right)) => {
            if left.len() != right.len() {
                return false;
            }
            let mut index = 0;
            while index < left.len() {
                let mut other = 0;
                while other < right.len() && left[index] as u8 != right[other] as u8 {
                    other += 1;
                }
                if other == right.len() {
                    return false;
                }
                index += 1;
            }
            true
        }
        _ => false,
    }
}

/// Returns whether no port before `port` has its dtype parameter: what is wrong with that is said once.
pub(super) const fn is_first_of_its_dtype(signature: &Signature, port: &Port) -> bool {
    let PortDtype::Parameter(name) = port.dtype else { return true };
    match find_dtype(signature.inputs, name) {
        Some(first) => same_text(first.name, port.name),
        None => match find_dtype(signature.outputs, name) {
            Some(first) => same_text(first.name, port.name),
            None => true,
        },
    }
}

pub(super) const fn find_dtype(ports: &'static [Port], name: &str) -> Option<&'static Port> {
    let mut index = 0;
    while index < ports.len() {
        if let PortDtype::Parameter(found) = ports[index].dtype
            && same_text(found, name)
        {
            return Some(&ports[index]);
        }
        index += 1;
    }
    None
}

pub(super) const fn same_shape(left: &[Extent], right: &[Extent]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if !same_text(left[index].text, right[index].text) {
            return false;
        }
        index += 1;
    }
    true
}

pub(super) const fn has_derivative(ports: &[Port], name: &str) -> bool {
    let mut index = 0;
    while index < ports.len() {
        if is_derivative_of(ports[index].name, name) {
            return true;
        }
        index += 1;
    }
    false
}
