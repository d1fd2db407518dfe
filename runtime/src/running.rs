//! The graph that runs on this thread. There is at most one, for all sessions together.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::repeat::{Repeats, Repetition};
use crate::transform::TrainableLeaves;

/// The facts about a graph while it runs.
struct Graph {
    operation: &'static str,
    /// Whether its functions are those of a training graph.
    training: bool,
    /// The names of the tensors that train in it.
    trains: BTreeMap<Identity, String>,
    /// The first mistake that an operation could not return itself.
    refused: Option<Error>,
    repeats: Repeats,
    /// The results that were computed again and have to be compared.
    repetitions: Vec<Repetition>,
}

thread_local! {
    // A graph never leaves its thread.
    static GRAPH: RefCell<Option<Graph>> = const { RefCell::new(None) };
}

fn with_graph<T>(look: impl FnOnce(&mut Graph) -> T) -> Option<T> {
    GRAPH.with_borrow_mut(|graph| graph.as_mut().map(look))
}

/// A graph runs on this thread until this is dropped.
pub(crate) struct Running<'a> {
    operation: &'static str,
    /// The session's, which the graph has meanwhile.
    repeats: &'a mut Repeats,
}

impl<'a> Running<'a> {
    /// Begins a graph of the driver `operation`.
    ///
    /// # Errors
    /// [`Error::Refused`] if one runs already.
    pub(crate) fn enter(operation: &'static str, repeats: &'a mut Repeats, training: bool) -> Result<Self> {
        outside(operation, "used")?;
        let graph = Graph {
            operation,
            training,
            trains: BTreeMap::new(),
            refused: None,
            repeats: std::mem::take(repeats),
            repetitions: Vec::new(),
        };
        GRAPH.set(Some(graph));
        Ok(Running { operation, repeats })
    }

    /// Says which tensors train.
    pub(crate) fn train<'l>(&self, leaves: impl IntoIterator<Item = &'l TrainableLeaves>) {
        with_graph(|graph| {
            graph.repeats.step();
            for leaves in leaves {
                graph.trains.extend(leaves.identities.iter().copied().zip(leaves.names.iter().cloned()));
            }
        });
    }

    /// Makes this graph compare everything that runs again.
    pub(crate) fn compare_all(&self) {
        with_graph(|graph| graph.repeats.always = true);
    }

    /// The result of the driver, unless an operation has refused something that it could not say itself.
    pub(crate) fn finish<T>(self, result: Result<T>) -> Result<T> {
        match with_graph(|graph| graph.refused.take()).flatten() {
            Some(refused) => Err(refused),
            None => result,
        }
    }

    /// Compares what was run again: waits for it.
    ///
    /// # Errors
    /// [`Error::Refused`] if something else was computed.
    pub(crate) fn compare(&self, repetitions: &[Repetition]) -> Result<()> {
        Repetition::compare(self.operation, repetitions)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(graph) = GRAPH.take() {
            *self.repeats = graph.repeats;
            self.repeats.always = false;
        }
    }
}

/// Checks that no graph runs, on behalf of `operation`, by which a session is `used` or `opened`.
///
/// # Errors
/// [`Error::Refused`] if one does.
pub(crate) fn outside(operation: &'static str, done: &str) -> Result<()> {
    match with_graph(|graph| graph.operation) {
        None => Ok(()),
        Some(running) => Err(Error::Refused {
            operation,
            message: format!(
                "a session was {done} while a graph runs, that of `{running}`, in which there are no values yet and of \
                 whose gradients no gradient can be taken: use it before, and read what the driver returns"
            ),
            code: "C07",
        }),
    }
}

/// Returns whether a training graph runs.
pub(crate) fn is_training() -> bool {
    with_graph(|graph| graph.training).unwrap_or(false)
}

/// Returns whether the tensor trains in the graph that runs.
pub(crate) fn trains(identity: Identity) -> bool {
    with_graph(|graph| graph.trains.contains_key(&identity)).unwrap_or(false)
}

/// Checks that `operation` may read a tensor.
///
/// # Errors
/// [`Error::Refused`] if it trains in the graph that runs.
pub(crate) fn refuse_reading(operation: &'static str, identity: Identity) -> Result<()> {
    let found = with_graph(|graph| Some((graph.operation, graph.trains.get(&identity)?.clone()))).flatten();
    match found {
        None => Ok(()),
        Some((running, name)) => Err(Error::Refused {
            operation,
            message: format!(
                "the value of `{name}` was read while the graph of `{running}` runs, in which it trains: what is read is a \
                 constant, and the gradient of `{name}` would be wrong; compute with the tensor that the function gets"
            ),
            code: "C07",
        }),
    }
}

/// Makes the driver fail with `error`, for operations that return no result. Does nothing outside a graph.
pub(crate) fn refuse(error: Error) {
    with_graph(|graph| {
        graph.refused.get_or_insert(error);
    });
}

/// Returns whether what runs again under this key is compared in this step.
pub(crate) fn compares(key: impl FnOnce() -> String) -> bool {
    with_graph(|graph| graph.repeats.is_due(key)).unwrap_or(false)
}

/// Keeps something that was run again for the driver, which compares it at its end.
pub(crate) fn repeated(repetition: Repetition) {
    with_graph(|graph| graph.repetitions.push(repetition));
}

/// Returns what was run again since the last call.
pub(crate) fn take_repetitions() -> Vec<Repetition> {
    with_graph(|graph| std::mem::take(&mut graph.repetitions)).unwrap_or_default()
}
