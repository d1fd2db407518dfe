//! Checks that each parameter that trains has one name, and each name one parameter.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::mode::Stored;
use crate::parameters::{Parameters, Path};

use super::gradient::{Trainable, TrainableLeaves};

/// Names that a message shows.
const SHOWN: usize = 3;

/// One leaf of a tree.
pub(crate) struct Leaf {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) identity: Identity,
}

/// Every leaf of a tree whose names begin with `prefix`.
pub(crate) fn leaves<P: Parameters<Mode = Stored>>(tree: &P, prefix: &Path) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    tree.visit(&mut prefix.clone(), &mut |path, tensor| {
        leaves.push(Leaf { name: path.to_string(), dtype: tensor.dtype(), identity: tensor.identity() });
    });
    leaves
}

/// The names of a tree.
pub(crate) fn leaf_names<P: Parameters<Mode = Stored>>(tree: &P) -> Vec<String> {
    leaves(tree, &Path::root()).into_iter().map(|leaf| leaf.name).collect()
}

/// The first names, and how many more there are.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "none".to_owned(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}

/// Returns the error that a selection trains none of the parameters.
pub(crate) fn nothing_trains<'a>(operation: &'static str, names: impl Iterator<Item = &'a str>) -> Error {
    Error::Refused {
        operation,
        message: format!(
            "the selection picks none of the parameters ({}), so nothing would train: pick one, or compute the loss without \
             gradients with `evaluate` or `evaluate_stack`",
            list(names)
        ),
        code: "C20",
    }
}

/// Checks what is to train against the leaves that are there; `all` gives the names of all, for a message.
///
/// # Errors
/// [`Error::Refused`] if nothing trains, a name belongs to no parameter, or a name and a tensor do not belong to each other alone.
pub(crate) fn check(
    operation: &'static str,
    leaves: &[&TrainableLeaves],
    trainable: &Trainable,
    all: impl FnOnce() -> Vec<String>,
) -> Result<()> {
    if trainable.is_empty() {
        return Err(nothing_trains(operation, all().iter().map(String::as_str)));
    }
    let identified = || leaves.iter().flat_map(|leaves| leaves.identified());
    check_one_tensor_a_name(operation, identified())?;
    check_one_name_a_tensor(operation, identified())?;
    let known: std::collections::BTreeSet<&str> = identified().map(|(name, _)| name).collect();
    match trainable.names().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => Err(Error::Refused {
            operation,
            message: format!(
                "`{name}` is to train, and no parameter has that name ({}): correct the selection, or let the parts of a \
                 stack call their parameters as the tree does",
                list(all().iter().map(String::as_str))
            ),
            code: "C21",
        }),
    }
}

/// Checks that leaves of one name are one tensor, as a tied weight is in two parts.
///
/// # Errors
/// [`Error::Refused`] for the first two that are not.
pub(crate) fn check_one_tensor_a_name<'a>(
    operation: &'static str,
    leaves: impl Iterator<Item = (&'a str, Identity)>,
) -> Result<()> {
    let mut known = BTreeMap::new();
    for (name, identity) in leaves {
        if *known.entry(name).or_insert(identity) != identity {
            return Err(Error::Refused {
                operation,
                message: format!(
                    "two different tensors are called `{name}`, so their gradients would be added and one weight written \
                     over the other: give one of them another name"
                ),
                code: "C21",
            });
        }
    }
    Ok(())
}

/// Checks that no tensor trains under two names.
///
/// # Errors
/// [`Error::Refused`] for the first that does.
pub(crate) fn check_one_name_a_tensor<'a>(
    operation: &'static str,
    leaves: impl Iterator<Item = (&'a str, Identity)>,
) -> Result<()> {
    let mut known: BTreeMap<Identity, &str> = BTreeMap::new();
    for (name, identity) in leaves {
        match known.entry(identity) {
            Entry::Vacant(free) => {
                free.insert(name);
            }
            Entry::Occupied(other) if *other.get() == name => {}
            Entry::Occupied(other) => {
                return Err(Error::Refused {
                    operation,
                    message: format!(
                        "one tensor trains as `{}` and as `{name}`, and would be two after the first step: show a tied \
                         weight under one name, or copy it",
                        other.get()
                    ),
                    code: "C21",
                });
            }
        }
    }
    Ok(())
}
