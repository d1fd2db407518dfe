//! Scalars and template constants of a backward against those of its forward.

use super::compare::{is_stand_in, same_text};
use super::message::Message;
use crate::kernel::signature::{ConstantKind, ScalarKind, Signature};

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
