use std::sync::{Arc, Mutex};

use cotangent::{Config, Mode, Parameters, Stored, Tensor};

/// A weight that no gradient would reach.
#[derive(Clone)]
struct Hidden {
    weight: Arc<Mutex<Tensor<Stored>>>,
}

impl Config for Hidden {}

#[derive(Parameters)]
struct Linear<M: Mode> {
    weight: Tensor<M>,
    #[config]
    hidden: Hidden,
}

fn main() {}
