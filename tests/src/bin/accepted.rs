//! Programs that must compile and run, by name: those of `ui/pass`, and those of `ui/run`, which check themselves that
//! a driver ends in their error.
//!
//! One program has them all, as building and linking each by itself takes a second.

#![allow(clippy::all, clippy::pedantic, dead_code, missing_docs, reason = "they are what people write, tidy or not")]

use std::process::{ExitCode, Termination};

#[path = "../../ui/pass/argument_passed.rs"]
mod argument_passed;
#[path = "../../ui/run/C20_loss_of_nothing.rs"]
mod c20_loss_of_nothing;
#[path = "../../ui/run/C22_mask_drawn_inside.rs"]
mod c22_mask_drawn_inside;
#[path = "../../ui/pass/detached_with_a_reason.rs"]
mod detached_with_a_reason;
#[path = "../../ui/pass/dropout_by_key.rs"]
mod dropout_by_key;
#[path = "../../ui/pass/explicit_arguments.rs"]
mod explicit_arguments;
#[path = "../../ui/pass/ignored_output.rs"]
mod ignored_output;
#[path = "../../ui/pass/index_gathers.rs"]
mod index_gathers;
#[path = "../../ui/pass/inference_only.rs"]
mod inference_only;
#[path = "../../ui/pass/initialised_sum.rs"]
mod initialised_sum;
#[path = "../../ui/pass/launch.rs"]
mod launch;
#[path = "../../ui/pass/model_in_both_modes.rs"]
mod model_in_both_modes;
#[path = "../../ui/pass/named_sizes.rs"]
mod named_sizes;
#[path = "../../ui/pass/optional.rs"]
mod optional;
#[path = "../../ui/pass/pair_of_rust_bodies.rs"]
mod pair_of_rust_bodies;
#[path = "../../ui/pass/parameters.rs"]
mod parameters;
#[path = "../../ui/pass/requirements.rs"]
mod requirements;
#[path = "../../ui/pass/residual.rs"]
mod residual;
#[path = "../../ui/pass/routed_by_its_own_values.rs"]
mod routed_by_its_own_values;
#[path = "../../ui/pass/stages.rs"]
mod stages;
#[path = "../../ui/pass/text_in_a_file.rs"]
mod text_in_a_file;
#[path = "../../ui/pass/text_of_another.rs"]
mod text_of_another;
#[path = "../../ui/pass/toy_trains.rs"]
mod toy_trains;
#[path = "../../ui/pass/types_of_the_signature.rs"]
mod types_of_the_signature;
#[path = "../../ui/pass/value_read_outside.rs"]
mod value_read_outside;
#[path = "../../ui/pass/weight_in_the_tree.rs"]
mod weight_in_the_tree;
#[path = "../../ui/pass/without_a_prelude.rs"]
mod without_a_prelude;

/// A program's name and what it does.
const PROGRAMS: &[(&str, fn() -> ExitCode)] = &[
    ("pass/argument_passed", || argument_passed::main().report()),
    ("pass/detached_with_a_reason", || detached_with_a_reason::main().report()),
    ("pass/dropout_by_key", || dropout_by_key::main().report()),
    ("pass/explicit_arguments", || explicit_arguments::main().report()),
    ("pass/ignored_output", || ignored_output::main().report()),
    ("pass/index_gathers", || index_gathers::main().report()),
    ("pass/inference_only", || inference_only::main().report()),
    ("pass/initialised_sum", || initialised_sum::main().report()),
    ("pass/launch", || launch::main().report()),
    ("pass/model_in_both_modes", || model_in_both_modes::main().report()),
    ("pass/named_sizes", || named_sizes::main().report()),
    ("pass/optional", || optional::main().report()),
    ("pass/pair_of_rust_bodies", || pair_of_rust_bodies::main().report()),
    ("pass/parameters", || parameters::main().report()),
    ("pass/requirements", || requirements::main().report()),
    ("pass/residual", || residual::main().report()),
    ("pass/routed_by_its_own_values", || routed_by_its_own_values::main().report()),
    ("pass/stages", || stages::main().report()),
    ("pass/text_in_a_file", || text_in_a_file::main().report()),
    ("pass/text_of_another", || text_of_another::main().report()),
    ("pass/toy_trains", || toy_trains::main().report()),
    ("pass/types_of_the_signature", || types_of_the_signature::main().report()),
    ("pass/value_read_outside", || value_read_outside::main().report()),
    ("pass/weight_in_the_tree", || weight_in_the_tree::main().report()),
    ("pass/without_a_prelude", || without_a_prelude::main().report()),
    ("run/C20_loss_of_nothing", || c20_loss_of_nothing::main().report()),
    ("run/C22_mask_drawn_inside", || c22_mask_drawn_inside::main().report()),
];

/// Runs the program of the name that is given; prints all names if none is.
fn main() -> ExitCode {
    let Some(wanted) = std::env::args().nth(1) else {
        PROGRAMS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let Some((_, program)) = PROGRAMS.iter().find(|(name, _)| *name == wanted) else {
        eprintln!("error: no program is called `{wanted}`");
        return ExitCode::FAILURE;
    };
    program()
}
