//! Programs that would silently train wrong end in an error that names the operation; right ones run.

#[path = "../common/mod.rs"]
mod common;

mod names;
mod repetitions;
mod results;
mod running;
mod tower;

use cotangent::{Cut, Error, Gradients, Parameters, Result, Session, Stored, Tensor, Train, Trainable, value_and_grad};

use common::{Pair, pair};

/// `left = [1, 2, 3]`, `right = [4, 5, 6]`.
fn example() -> Pair<Stored> {
    pair(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0])
}

/// Gradients of all parameters, and the cuts.
fn run<P: Parameters<Mode = Stored>, B>(
    parameters: &P,
    batch: &B,
    loss: fn(&P::In<Train>, &B) -> Result<Tensor<Train>>,
) -> Result<(Gradients, Vec<Cut>)> {
    let trainable = Trainable::new(parameters, |_| true)?;
    let mut session = Session::new()?;
    let (result, cuts) = session.record_cuts(|session| value_and_grad(session, parameters, &trainable, batch, loss));
    Ok((result?.1, cuts))
}

fn values(gradients: &Gradients, name: &str) -> Vec<f32> {
    gradients.get(name).unwrap().to_vec().unwrap()
}

/// Checks that a result is an error of `operation` with this code, whose message has all of `words`.
#[track_caller]
fn refused<T>(result: Result<T>, operation: &str, code: &str, words: &[&str]) {
    let error = result.err().expect("this would train wrong");
    let text = error.to_string();
    assert!(matches!(error, Error::Refused { .. } | Error::MixedTraces { .. }), "{text}");
    assert!(text.starts_with(&format!("`{operation}`: ")) && text.ends_with(&format!("[{code}]")), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}
