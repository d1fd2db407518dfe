//! Members that are null because another row has them.
//!
//! Arrow, in which data sets are kept and which writes many JSON-lines files, gives all objects of a column the same
//! members, and null to those that an object did not have. So nulls among objects of equal keys are left out; where
//! objects differ in their keys, Arrow did not write them, and a null is meant.

use super::json::{Json, Members};

/// Removes the nulls of `objects` if Arrow may have written them, and returns how many these were.
pub(super) fn remove(objects: &mut [&mut Members]) -> usize {
    if !alike(&objects.iter().map(|members| &**members).collect::<Vec<_>>()) {
        return 0;
    }
    objects.iter_mut().map(|members| remove_from(members)).sum()
}

/// Returns whether all of `objects` have the same keys, and so have the objects within them at the same place.
fn alike(objects: &[&Members]) -> bool {
    let Some((first, others)) = objects.split_first() else { return true };
    let same_keys = |other: &&Members| other.len() == first.len() && other.keys().all(|key| first.contains_key(key));
    others.iter().all(same_keys)
        && first.keys().all(|key| {
            let mut within = Vec::new();
            objects.iter().filter_map(|members| members.get(key)).for_each(|value| collect(value, &mut within));
            alike(&within)
        })
}

/// Returns the objects at the place of `value`: itself, or the items of a list.
fn collect<'a>(value: &'a Json, objects: &mut Vec<&'a Members>) {
    match value {
        Json::Object(members) => objects.push(members),
        Json::Array(items) => items.iter().for_each(|item| collect(item, objects)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn remove_from(members: &mut Members) -> usize {
    let before = members.len();
    members.retain(|_, value| *value != Json::Null);
    before - members.len() + members.values_mut().map(remove_within).sum::<usize>()
}

fn remove_within(value: &mut Json) -> usize {
    match value {
        Json::Object(members) => remove_from(members),
        Json::Array(items) => items.iter_mut().map(remove_within).sum(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => 0,
    }
}
