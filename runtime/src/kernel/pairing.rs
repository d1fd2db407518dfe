//! The proof that a backward belongs to its forward, made by the compiler.
//!
//! The expansion of a backward calls these functions in constants, one for each port, with the caret on that port. They
//! compare two signatures and panic with a message that names both sides. Nothing here runs in a program.

use super::signature::{ConstantKind, DtypeParameter, Extent, Port, PortDtype, PortRole, ScalarKind, Signature};
use crate::Dtype;

/// A message put together at compile time.
struct Message {
    bytes: [u8; CAPACITY],
    length: usize,
}

const CAPACITY: usize = 1024;

impl Message {
    const fn new(text: &str) -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }.push(text)
    }

    const fn push(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        let mut index = 0;
        while index < text.len() && self.length < CAPACITY {
            self.bytes[self.length] = text[index];
            self.length += 1;
            index += 1;
        }
        self
    }

    const fn push_name(self, name: &str) -> Self {
        self.push("`").push(name).push("`")
    }

    /// "`name` of `kernel`".
    const fn push_port(self, port: &str, kernel: &Signature) -> Self {
        self.push_name(port).push(" of ").push_name(kernel.name)
    }

    #[track_caller]
    const fn fail(self) -> ! {
        let (text, _) = self.bytes.split_at(self.length);
        match core::str::from_utf8(text) {
            Ok(text) => panic!("{}", text),
            Err(_) => panic!("a backward does not fit its forward"),
        }
    }
}

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

/// Whether `text` is `d_` and then `name`.
const fn is_derivative_of(text: &str, name: &str) -> bool {
    match strip_derivative(text) {
        Some(rest) => same_text(rest, name),
        None => false,
    }
}

const fn strip_derivative(text: &str) -> Option<&str> {
    match text.as_bytes() {
        [b'd', b'_', ..] => Some(text.split_at(2).1),
        _ => None,
    }
}

const fn find(ports: &'static [Port], name: &str) -> Option<&'static Port> {
    let mut index = 0;
    while index < ports.len() {
        if same_text(ports[index].name, name) {
            return Some(&ports[index]);
        }
        index += 1;
    }
    None
}

const fn contains(names: &[&str], name: &str) -> bool {
    let mut index = 0;
    while index < names.len() {
        if same_text(names[index], name) {
            return true;
        }
        index += 1;
    }
    false
}

const fn is_stand_in(signature: &Signature) -> bool {
    signature.name.is_empty()
}

/// The dtype as its author writes it.
const fn dtype_text(dtype: PortDtype) -> &'static str {
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

const fn is_float(signature: &Signature, dtype: PortDtype) -> bool {
    let fixed = match dtype {
        PortDtype::Fixed(fixed) => fixed,
        PortDtype::Parameter(name) => match find_class(signature.dtypes, name) {
            Some([first, ..]) => *first,
            _ => return false,
        },
    };
    matches!(fixed, Dtype::F16 | Dtype::BF16 | Dtype::F32)
}

const fn find_class(parameters: &'static [DtypeParameter], name: &str) -> Option<&'static [Dtype]> {
    let mut index = 0;
    while index < parameters.len() {
        if same_text(parameters[index].name, name) {
            return Some(parameters[index].class);
        }
        index += 1;
    }
    None
}

const fn same_class(forward: &Signature, backward: &Signature, dtype: PortDtype) -> bool {
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

/// Whether no port before `port` has its dtype parameter: what is wrong with that is said once.
const fn is_first_of_its_dtype(signature: &Signature, port: &Port) -> bool {
    let PortDtype::Parameter(name) = port.dtype else { return true };
    match find_dtype(signature.inputs, name) {
        Some(first) => same_text(first.name, port.name),
        None => match find_dtype(signature.outputs, name) {
            Some(first) => same_text(first.name, port.name),
            None => true,
        },
    }
}

const fn find_dtype(ports: &'static [Port], name: &str) -> Option<&'static Port> {
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

const fn same_shape(left: &[Extent], right: &[Extent]) -> bool {
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

/// Shape, dtype and presence of a backward's port against those of the forward's port it stands for.
#[track_caller]
const fn assert_fits(forward: &Signature, backward: &Signature, expected: &Port, found: &Port) {
    if found.optional != expected.optional {
        let code = match (is_derivative_of(found.name, expected.name), found.role) {
            (true, PortRole::Output) => " [C02], see `cotangent::errors::C02`",
            (true, _) => " [C05], see `cotangent::errors::C05`",
            (false, _) => " [C15], see `cotangent::errors::C15`",
        };
        if expected.optional {
            Message::new("")
                .push_port(expected.name, forward)
                .push(" is optional, so ")
                .push_port(found.name, backward)
                .push(" must be as well: write `Option<..>` around its type")
                .push(code)
                .fail();
        }
        Message::new("")
            .push_port(found.name, backward)
            .push(" is optional, but ")
            .push_port(expected.name, forward)
            .push(" is always there: remove `Option`")
            .push(code)
            .fail();
    }
    if !same_text(dtype_text(expected.dtype), dtype_text(found.dtype)) {
        Message::new("")
            .push_port(found.name, backward)
            .push(" has dtype ")
            .push_name(dtype_text(found.dtype))
            .push(", but ")
            .push_port(expected.name, forward)
            .push(" has dtype ")
            .push_name(dtype_text(expected.dtype))
            .push(" [C04], see `cotangent::errors::C04`")
            .fail();
    }
    if !same_class(forward, backward, expected.dtype) && is_first_of_its_dtype(backward, found) {
        Message::new("dtype ")
            .push_name(dtype_text(expected.dtype))
            .push(" stands for other types in ")
            .push_name(backward.name)
            .push(" than in ")
            .push_name(forward.name)
            .push(" [C04], see `cotangent::errors::C04`")
            .fail();
    }
    if !same_shape(expected.shape, found.shape) {
        Message::new("")
            .push_port(found.name, backward)
            .push(" has shape ")
            .push(found.shape_text)
            .push(", but ")
            .push_port(expected.name, forward)
            .push(" has shape ")
            .push(expected.shape_text)
            .push(" [C03], see `cotangent::errors::C03`")
            .fail();
    }
}

/// An input of a backward is a primal, an output or residual of the forward, or the cotangent of an output.
#[track_caller]
pub const fn assert_input(forward: &Signature, backward: &Signature, index: usize) {
    if is_stand_in(forward) || is_stand_in(backward) {
        return;
    }
    let found = &backward.inputs[index];
    if let Some(primal) = find(forward.inputs, found.name) {
        return assert_fits(forward, backward, primal, found);
    }
    if let Some(output) = find(forward.outputs, found.name) {
        return assert_fits(forward, backward, output, found);
    }
    let Some(name) = strip_derivative(found.name) else {
        Message::new("")
            .push_name(backward.name)
            .push(" reads ")
            .push_name(found.name)
            .push(", but ")
            .push_name(forward.name)
            .push(" neither takes nor writes a port of that name; mark what it should keep `#[saved]` [C15], see `cotangent::errors::C15`")
            .fail()
    };
    match find(forward.outputs, name) {
        None => Message::new("")
            .push_name(found.name)
            .push(" would be the cotangent of ")
            .push_name(name)
            .push(", which is no output of ")
            .push_name(forward.name)
            .push(" [C05], see `cotangent::errors::C05`")
            .fail(),
        Some(output) if matches!(output.role, PortRole::Saved) => Message::new("")
            .push_name(found.name)
            .push(" would be the cotangent of ")
            .push_port(name, forward)
            .push(", a residual, which has none [C05], see `cotangent::errors::C05`")
            .fail(),
        Some(output) => assert_fits(forward, backward, output, found),
    }
}

/// An output of a backward is the gradient of a differentiable input.
#[track_caller]
pub const fn assert_gradient(forward: &Signature, backward: &Signature, index: usize) {
    if is_stand_in(forward) || is_stand_in(backward) {
        return;
    }
    let found = &backward.outputs[index];
    let Some(name) = strip_derivative(found.name) else { return };
    let Some(primal) = find(forward.inputs, name) else {
        Message::new("")
            .push_port(found.name, backward)
            .push(" is one gradient too many: ")
            .push_name(forward.name)
            .push(" has no input ")
            .push_name(name)
            .push(" [C02], see `cotangent::errors::C02`")
            .fail()
    };
    if !matches!(primal.role, PortRole::Differentiable) {
        Message::new("")
            .push_port(found.name, backward)
            .push(" is one gradient too many: ")
            .push_port(name, forward)
            .push(" is not differentiable [C02], see `cotangent::errors::C02`")
            .fail();
    }
    assert_fits(forward, backward, primal, found)
}

/// Every differentiable input of the forward has its gradient.
#[track_caller]
pub const fn assert_every_gradient(forward: &Signature, backward: &Signature) {
    if is_stand_in(forward) || is_stand_in(backward) {
        return;
    }
    let mut index = 0;
    while index < forward.inputs.len() {
        let primal = &forward.inputs[index];
        if matches!(primal.role, PortRole::Differentiable) && !has_derivative(backward.outputs, primal.name) {
            Message::new("")
                .push_name(backward.name)
                .push(" has no gradient for ")
                .push_port(primal.name, forward)
                .push(": add the output `d_")
                .push(primal.name)
                .push("`, or mark the input `#[nodiff]` [C02], see `cotangent::errors::C02`")
                .fail();
        }
        index += 1;
    }
}

/// Every output that the caller sees has its cotangent, or is ignored aloud.
#[track_caller]
pub const fn assert_every_cotangent(forward: &Signature, backward: &Signature) {
    if is_stand_in(forward) || is_stand_in(backward) {
        return;
    }
    let mut index = 0;
    while index < backward.ignores.len() {
        let name = backward.ignores[index];
        if has_derivative(backward.inputs, name) {
            Message::new("")
                .push_name(backward.name)
                .push(" ignores ")
                .push_name(name)
                .push(" and takes its cotangent: do one of the two [C05], see `cotangent::errors::C05`")
                .fail();
        }
        if find(forward.outputs, name).is_none() {
            Message::new("")
                .push_name(backward.name)
                .push(" ignores ")
                .push_name(name)
                .push(", which is no output of ")
                .push_name(forward.name)
                .push(" [C05], see `cotangent::errors::C05`")
                .fail();
        }
        index += 1;
    }
    let mut index = 0;
    while index < forward.outputs.len() {
        let output = &forward.outputs[index];
        if matches!(output.role, PortRole::Output)
            && is_float(forward, output.dtype)
            && !has_derivative(backward.inputs, output.name)
            && !contains(backward.ignores, output.name)
        {
            Message::new("")
                .push_name(backward.name)
                .push(" does not take the cotangent of ")
                .push_port(output.name, forward)
                .push(": add the input `d_")
                .push(output.name)
                .push("`, or say `ignores(")
                .push(output.name)
                .push(")` [C05], see `cotangent::errors::C05`")
                .fail();
        }
        index += 1;
    }
}

/// Every residual is read.
#[track_caller]
pub const fn assert_every_residual(forward: &Signature, backward: &Signature) {
    if is_stand_in(forward) || is_stand_in(backward) {
        return;
    }
    let mut index = 0;
    while index < forward.outputs.len() {
        let output = &forward.outputs[index];
        if matches!(output.role, PortRole::Saved) && find(backward.inputs, output.name).is_none() {
            Message::new("")
                .push_name(backward.name)
                .push(" never reads ")
                .push_port(output.name, forward)
                .push(", a residual kept for it: add the input, or remove the residual [C15], see `cotangent::errors::C15`")
                .fail();
        }
        index += 1;
    }
}

const fn has_derivative(ports: &[Port], name: &str) -> bool {
    let mut index = 0;
    while index < ports.len() {
        if is_derivative_of(ports[index].name, name) {
            return true;
        }
        index += 1;
    }
    false
}

/// A scalar of a backward is one of its forward.
#[track_caller]
pub const fn assert_scalar(forward: &Signature, backward: &Signature, index: usize) {
    if is_stand_in(forward) || is_stand_in(backward) {
        return;
    }
    let found = &backward.scalars[index];
    let mut candidate = 0;
    while candidate < forward.scalars.len() {
        let expected = &forward.scalars[candidate];
        if same_text(expected.name, found.name) {
            if expected.kind as u8 == found.kind as u8 {
                return;
            }
            Message::new("scalar ")
                .push_port(found.name, backward)
                .push(" is ")
                .push_name(scalar_text(found.kind))
                .push(", but that of ")
                .push_name(forward.name)
                .push(" is ")
                .push_name(scalar_text(expected.kind))
                .fail();
        }
        candidate += 1;
    }
    Message::new("scalar ").push_port(found.name, backward).push(" is none of ").push_name(forward.name).fail()
}

const fn scalar_text(kind: ScalarKind) -> &'static str {
    match kind {
        ScalarKind::F32 => "f32",
        ScalarKind::I32 => "i32",
        ScalarKind::U32 => "u32",
        ScalarKind::Bool => "bool",
    }
}

/// A template constant of a backward that no shape binds is a constant or dimension of its forward.
#[track_caller]
pub const fn assert_constant(forward: &Signature, backward: &Signature, index: usize) {
    if is_stand_in(forward) || is_stand_in(backward) {
        return;
    }
    let found = &backward.constants[index];
    if found.bound.is_some() {
        return;
    }
    let is_bool = matches!(found.kind, ConstantKind::Bool);
    let mut candidate = 0;
    while candidate < forward.constants.len() {
        let expected = &forward.constants[candidate];
        if same_text(expected.name, found.name) && matches!(expected.kind, ConstantKind::Bool) == is_bool {
            return;
        }
        candidate += 1;
    }
    let mut candidate = 0;
    while candidate < forward.dimensions.len() {
        if same_text(forward.dimensions[candidate].name, found.name) && !is_bool {
            return;
        }
        candidate += 1;
    }
    Message::new("template constant ")
        .push_port(found.name, backward)
        .push(" is neither a constant of that type nor a dimension of ")
        .push_name(forward.name)
        .fail()
}
