//! The proof that a backward belongs to its forward, made by the compiler.
//!
//! The expansion of a backward calls these functions in constants, one for each port, with the caret on that port. They
//! compare two signatures and panic with a message that names both sides. Nothing here runs in a program.

mod compare;
mod message;
mod values;

use super::signature::{Port, PortRole, Signature};
use compare::{
    contains, dtype_text, find, has_derivative, is_derivative_of, is_first_of_its_dtype, is_float, is_stand_in,
    same_class, same_shape, strip_derivative,
};
use message::Message;

pub(crate) use compare::same_text;
pub use values::{assert_constant, assert_scalar};

/// Compares the shape, dtype and presence of a backward's port with those of the forward's port that it corresponds to.
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

/// Asserts that every differentiable input of the forward has its gradient.
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

/// Asserts that every output that the caller sees has its cotangent, or is named in `ignores(..)`.
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

/// Asserts that every residual is read.
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
