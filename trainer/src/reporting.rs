//! The output of a run: log lines, a progress bar, JSON lines.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use cotangent_models::checkpoint::{CheckpointError, write_atomically};

use crate::training::{Event, Losses, RoutingReport, StepReport, TrainingState};

const GIGABYTE: f64 = 1e9;

/// Turns the events of a run into lines and a bar.
pub struct Reporter {
    bar: ProgressBar,
    /// Whether lines are printed; the bar and the JSON lines do not depend on it.
    verbose: bool,
    json: Option<File>,
}

impl Reporter {
    /// Creates a reporter for a run of `iterations`, `done` of which are done. The bar appears if standard error is a
    /// terminal.
    pub fn new(iterations: usize, done: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(iterations as u64), ProgressDrawTarget::stderr_with_hz(10));
        let template = "{bar:24} {pos}/{len}  {msg}  {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(done as u64);
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(500));
        Reporter { bar, verbose: true, json: None }
    }

    /// Prints no lines.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.verbose = false;
        self
    }

    /// Writes a line of JSON for each report and each validation to `file`: after the lines that are there of the run that
    /// goes on from `state`, or to an empty file. What a killed run wrote after its last save is taken out.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn with_json(mut self, file: &Path, state: Option<&TrainingState>) -> Result<Self, CheckpointError> {
        let io_error = |source| CheckpointError::Io { file: file.to_owned(), source };
        let kept = match state.map(|state| (state, fs::read_to_string(file))) {
            None => String::new(),
            Some((_, Err(error))) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Some((state, text)) => lines_up_to(&text.map_err(io_error)?, state.iteration, state.validated),
        };
        write_atomically(file, |out| out.write_all(kept.as_bytes()))?;
        self.json = Some(File::options().append(true).open(file).map_err(io_error)?);
        Ok(self)
    }

    /// Shows an event. What cannot be written is not worth ending a run for.
    pub fn show(&mut self, event: &Event) {
        if let Event::Step(report) = event {
            self.bar.set_message(bar_message(report));
            self.bar.set_position(report.iteration as u64);
        }
        if self.verbose
            && let Some(line) = log_line(event)
        {
            self.print(&line);
        }
        if let (Some(file), Some(line)) = (&mut self.json, json_line(event)) {
            let _ = writeln!(file, "{line}");
        }
    }

    /// Prints a line above the bar.
    pub fn print(&self, line: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(io::stdout(), "{line}");
        });
    }

    /// Takes the bar away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

fn bar_message(report: &StepReport) -> String {
    format!(
        "loss {:.3}  {:.0} tokens/s  peak {:.2} GB",
        report.losses.loss,
        report.tokens_per_second,
        report.peak_memory as f64 / GIGABYTE
    )
}

/// The line of an event, in the form of mlx-lm up to 0.31, which other programs parse.
fn log_line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Step(_) => return None,
        Event::Trained(report) => format!(
            "Iter {}: Train loss {:.3}, Learning Rate {}, It/sec {:.3}, Tokens/sec {:.3}, Trained Tokens {}, Peak mem \
             {:.3} GB{}{}",
            report.iteration,
            report.losses.loss,
            c_exponent(report.learning_rate),
            report.iterations_per_second,
            report.tokens_per_second,
            report.trained_tokens,
            report.peak_memory as f64 / GIGABYTE,
            mtp_text(&report.losses),
            routing_text(report.routing)
        ),
        // mlx-lm counts the validation before the first step as the first iteration's.
        Event::Validated { iteration, losses, seconds } => {
            let (loss, mtp) = (losses.loss, mtp_text(losses));
            format!("Iter {}: Val loss {loss:.3}, Val took {seconds:.3}s{mtp}", (*iteration).max(1))
        }
        Event::Skipped { iteration, loss, gradient_norm } => format!(
            "Iter {iteration}: Skipped: the norm of the gradients is {gradient_norm} (loss {loss:.3}); no weight changed"
        ),
        Event::Saved(saved) => format!(
            "Iter {}: Saved adapter weights to {} and {}.",
            saved.iteration,
            saved.adapters.display(),
            saved.numbered.display()
        ),
        Event::NotSaved { iteration, reason } => {
            format!("Iter {iteration}: Not saved, the next save tries again: {reason}")
        }
    })
}

/// Returns the loss of multi-token prediction as text for the end of a line, after what programs parse.
fn mtp_text(losses: &Losses) -> String {
    losses.mtp_loss.map_or_else(String::new, |loss| format!(", MTP loss {loss:.3}"))
}

/// Returns the report on the routers as text for the end of a line.
fn routing_text(routing: Option<RoutingReport>) -> String {
    routing.map_or_else(String::new, |RoutingReport { loss, busiest, idlest }| {
        let (busiest, idlest) = (100.0 * busiest, 100.0 * idlest);
        format!(", Router loss {loss:.3} (the busiest expert has {busiest:.1}% of the tokens, the idlest {idlest:.1}%)")
    })
}

/// The event as a JSON object, with the keys of mlx-lm's callbacks.
fn json_line(event: &Event) -> Option<serde_json::Value> {
    match event {
        Event::Trained(report) => Some(with_routing(
            report.routing,
            with_mtp(
                &report.losses,
                "train_mtp_loss",
                json!({
                    "iteration": report.iteration,
                    "train_loss": report.losses.loss,
                    "learning_rate": report.learning_rate,
                    "iterations_per_second": report.iterations_per_second,
                    "tokens_per_second": report.tokens_per_second,
                    "trained_tokens": report.trained_tokens,
                    "peak_memory": report.peak_memory as f64 / GIGABYTE,
                }),
            ),
        )),
        Event::Validated { iteration, losses, seconds } => {
            let line = json!({ "iteration": (*iteration).max(1), "val_loss": losses.loss, "val_time": seconds });
            Some(with_mtp(losses, "val_mtp_loss", line))
        }
        Event::Skipped { iteration, loss, gradient_norm } => {
            // JSON has no infinities, so such numbers become null.
            Some(json!({ "iteration": iteration, "skipped": true, "loss": loss, "gradient_norm": gradient_norm }))
        }
        Event::Step(_) | Event::Saved(_) | Event::NotSaved { .. } => None,
    }
}

/// Adds the loss of multi-token prediction under `key`, if there is one.
fn with_mtp(losses: &Losses, key: &str, mut line: serde_json::Value) -> serde_json::Value {
    if let Some(loss) = losses.mtp_loss {
        line[key] = json!(loss);
    }
    line
}

/// Adds what the routers did, if that is known.
fn with_routing(routing: Option<RoutingReport>, mut line: serde_json::Value) -> serde_json::Value {
    if let Some(RoutingReport { loss, busiest, idlest }) = routing {
        line["train_router_loss"] = json!(loss);
        line["busiest_expert"] = json!(busiest);
        line["idlest_expert"] = json!(idlest);
    }
    line
}

/// The lines of a log up to iteration `last`, whose validation is among them if it is `validated`, and those of no
/// iteration. What is no JSON, as a line that was cut, is left out.
fn lines_up_to(log: &str, last: usize, validated: bool) -> String {
    let mut kept = String::new();
    for line in log.lines() {
        let Ok(json) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let is_kept = json["iteration"].as_u64().is_none_or(|iteration| {
            // The validation before the first iteration is written as that iteration's.
            let repeated = !validated && iteration as usize == last && json.get("val_loss").is_some();
            iteration as usize <= last && !(repeated && (last > 1 || kept.contains("\"val_loss\"")))
        });
        if is_kept {
            kept = kept + line + "\n";
        }
    }
    kept
}

/// `1.000e-05`, as C and Python print it.
fn c_exponent(value: f64) -> String {
    let text = format!("{value:.3e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Saved;

    fn report() -> StepReport {
        StepReport {
            iteration: 10,
            losses: Losses { loss: 2.6624, mtp_loss: None },
            routing: None,
            learning_rate: 1e-5,
            iterations_per_second: 0.49,
            tokens_per_second: 161.374,
            trained_tokens: 3290,
            peak_memory: 9_707_000_000,
        }
    }

    #[test]
    fn lines_have_the_form_that_programs_parse() {
        let saved = Saved {
            iteration: 100,
            adapters: "adapters/adapters.safetensors".into(),
            numbered: "adapters/0000100_adapters.safetensors".into(),
        };
        for (event, expected) in [
            (
                Event::Trained(report()),
                "Iter 10: Train loss 2.662, Learning Rate 1.000e-05, It/sec 0.490, Tokens/sec 161.374, Trained Tokens \
                 3290, Peak mem 9.707 GB",
            ),
            (
                Event::Validated { iteration: 0, losses: Losses { loss: 2.9361, mtp_loss: None }, seconds: 5.265 },
                "Iter 1: Val loss 2.936, Val took 5.265s",
            ),
            (
                Event::Validated {
                    iteration: 9,
                    losses: Losses { loss: 2.9361, mtp_loss: Some(3.25) },
                    seconds: 5.265,
                },
                "Iter 9: Val loss 2.936, Val took 5.265s, MTP loss 3.250",
            ),
            (
                Event::Saved(saved),
                "Iter 100: Saved adapter weights to adapters/adapters.safetensors and \
                 adapters/0000100_adapters.safetensors.",
            ),
            (
                Event::Skipped { iteration: 7, loss: f64::NAN, gradient_norm: f32::INFINITY },
                "Iter 7: Skipped: the norm of the gradients is inf (loss NaN); no weight changed",
            ),
        ] {
            assert_eq!(log_line(&event).as_deref(), Some(expected));
        }
        assert_eq!(log_line(&Event::Step(report())), None);
    }

    #[test]
    fn a_log_goes_on_after_the_last_iteration_that_was_saved() {
        let log = "{\"iteration\":1,\"val_loss\":3}\n{\"iteration\":10,\"train_loss\":2}\n{\"note\":\"mine\"}\n\
                   {\"iteration\":11,\"skipped\":true}\n{\"iteration\":20,\"tra";
        let kept = "{\"iteration\":1,\"val_loss\":3}\n{\"iteration\":10,\"train_loss\":2}\n{\"note\":\"mine\"}\n";
        assert_eq!(lines_up_to(log, 10, true), kept);
        assert_eq!(lines_up_to("", 10, true), "");
        // A run that was killed before it saved repeats its validation.
        let again = kept.to_owned() + "{\"iteration\":10,\"val_loss\":2}\n";
        assert_eq!(lines_up_to(&again, 10, false), kept);
        assert_eq!(lines_up_to(&again, 10, true), again);
        let first = "{\"iteration\":1,\"val_loss\":3}\n";
        assert_eq!(lines_up_to(&first.repeat(2), 1, false), first);
    }

    #[test]
    fn exponents_have_a_sign_and_two_digits() {
        for (value, expected) in [(1e-5, "1.000e-05"), (0.5, "5.000e-01"), (2.0, "2.000e+00"), (0.0, "0.000e+00")] {
            assert_eq!(c_exponent(value), expected);
        }
    }

    #[test]
    fn json_lines_are_json_even_where_a_loss_is_none() {
        let line = json_line(&Event::Skipped { iteration: 7, loss: f64::NAN, gradient_norm: f32::INFINITY }).unwrap();
        let expected = json!({ "iteration": 7, "skipped": true, "loss": null, "gradient_norm": null });
        assert_eq!(line, expected);
        let line = json_line(&Event::Trained(report())).unwrap();
        assert_eq!(line["peak_memory"], 9.707);
        assert_eq!(line["train_loss"], 2.6624);
        let routing = Some(RoutingReport { loss: 2.25, busiest: 0.5, idlest: 0.125 });
        let event = Event::Trained(StepReport { routing, ..report() });
        let line = json_line(&event).unwrap();
        assert_eq!((&line["train_router_loss"], &line["idlest_expert"]), (&json!(2.25), &json!(0.125)));
        let text = log_line(&event).unwrap();
        assert!(
            text.ends_with(", Router loss 2.250 (the busiest expert has 50.0% of the tokens, the idlest 12.5%)"),
            "{text}"
        );
    }
}
