//! A data set in numbers.

use std::collections::BTreeMap;
use std::io::{self, Write};

use cotangent_models::quoting::quoted_path;

use crate::data::dropped::Part;
use crate::data::{ChatFormat, Dataset, Order};
use crate::numbers::{counted, grouped, percent};

use super::{Paint, Shade, histogram};

/// The most batches that are described one by one.
const BATCHES: usize = 3;

/// Writes what belongs to all data of a checkpoint: its files, the text around an answer, and how tokens are marked.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_format(out: &mut impl Write, paint: Paint, format: &ChatFormat) -> io::Result<()> {
    let markers = format.markers();
    let given = format!("{}{}", markers.header(), markers.supplied());
    let tokenizer = quoted_path(format.tokenizer().file());
    writeln!(out, "  {:<10}{}", "template", quoted_path(format.template().file()))?;
    writeln!(
        out,
        "  {:<10}{tokenizer}, {} tokens",
        "tokenizer",
        grouped(format.tokenizer().largest_id() as usize + 1)
    )?;
    writeln!(out, "  {:<10}given before it {:?}, learned after it {:?}", "answer", given, markers.end())?;
    let marks = match paint {
        Paint::Marks => format!("{} is learned, the rest is given", paint.one("text", Shade::Learned { even: true })),
        Paint::Colors => paint.pieces([
            ("given", Shade::Faint),
            (" ", Shade::Plain),
            ("learned", Shade::Learned { even: true }),
            (" token by token", Shade::Learned { even: false }),
            (" ", Shade::Plain),
            ("lost beyond the cut", Shade::Lost),
        ]),
    };
    writeln!(out, "  {:<10}{marks}\n", "marks")
}

/// The way in which a run takes batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// Examples in a batch.
    pub batch_size: usize,
    /// Batches in an iteration.
    pub accumulation: usize,
    /// The order in which the run visits the examples.
    pub order: Order,
}

/// Writes counts, lengths, what the template and the cut lose, and the batches of the first epoch. `lines` has the line of
/// each example of `dataset`.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_summary(
    out: &mut impl Write,
    paint: Paint,
    title: &str,
    dataset: &Dataset,
    lines: &[usize],
    options: BatchOptions,
) -> io::Result<()> {
    let mut row = |name: &str, text: &str, shade: Shade| writeln!(out, "  {name:<10}{}", paint.one(text, shade));
    let report = &dataset.report;
    let total: usize = report.lengths.iter().sum();
    let kept: usize = dataset.examples.iter().map(|example| example.tokens.len()).sum();

    row(&paint.one(title, Shade::Strong), "", Shade::Plain)?;
    let skipped = match dataset.skipped {
        0 => String::new(),
        skipped => format!("; {} have nothing to learn and are left out", grouped(skipped)),
    };
    let examples = counted(dataset.examples.len(), "example");
    row("rows", &format!("{} give {examples}{skipped}", grouped(report.rows)), Shade::Plain)?;
    let learned = dataset.targets();
    row(
        "tokens",
        &format!("{}, of which {} are learned ({})", grouped(kept), grouped(learned), percent(learned, kept)),
        Shade::Plain,
    )?;

    let mut sorted = report.lengths.clone();
    sorted.sort_unstable();
    let at = |share: f64| sorted.get(((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    if let (Some(shortest), Some(middle), Some(most), Some(longest)) =
        (sorted.first(), at(0.5), at(0.95), sorted.last())
    {
        let text = match shortest == longest {
            true => format!("all of {}", counted(*longest, "token")),
            false => format!(
                "{} to {} tokens; half are at most {}, 95 % at most {}",
                grouped(*shortest),
                grouped(*longest),
                grouped(middle),
                grouped(most)
            ),
        };
        row("lengths", &text, Shade::Plain)?;
    }
    for bar in histogram::bars(&report.lengths) {
        row("", &bar, Shade::Plain)?;
    }

    let limit = grouped(dataset.max_seq_length());
    if report.cut.count == 0 {
        row("cut", &format!("none: no example is longer than {limit} tokens"), Shade::Plain)?;
    } else {
        let text = format!(
            "{} of {} at {limit} tokens, first in line {}: {} of {} tokens are lost, {} of {} end-of-turn marks",
            grouped(report.cut.count),
            counted(report.lengths.len(), "example"),
            report.cut.first_line,
            grouped(lost_tokens(dataset)),
            grouped(total),
            grouped(report.lost_ends.count),
            grouped(report.ends)
        );
        row("cut", &text, Shade::Warning)?;
    }
    for part in Part::ALL {
        let count = report.parts.get(&part).copied().unwrap_or(0);
        let (name, all) = (part.name(), grouped(count));
        match report.dropped.get(&part) {
            Some((tally, first)) => {
                let place = first.message.map(|message| format!(", `messages[{message}]`")).unwrap_or_default();
                let lost = grouped(tally.count);
                let text =
                    format!("leaves out or changes {lost} of {all} {name}, first in line {}{place}", tally.first_line);
                row("template", &text, Shade::Warning)?;
            }
            None if count > 0 => row("template", &format!("writes all of {all} {name}"), Shade::Plain)?,
            None => {}
        }
    }
    for note in report.notes() {
        // The note begins with the file's name, which is printed above.
        let note = note.split_once(": ").map_or(note.as_str(), |(_, note)| note);
        row("note", note.lines().next().unwrap_or_default(), Shade::Plain)?;
    }
    write_batches(&mut row, dataset, lines, options)?;
    writeln!(out)
}

/// Tokens beyond the cut.
fn lost_tokens(dataset: &Dataset) -> usize {
    dataset.report.lengths.iter().map(|length| length.saturating_sub(dataset.max_seq_length())).sum()
}

fn write_batches(
    row: &mut impl FnMut(&str, &str, Shade) -> io::Result<()>,
    dataset: &Dataset,
    lines: &[usize],
    options: BatchOptions,
) -> io::Result<()> {
    let BatchOptions { batch_size, accumulation, order } = options;
    let plan = dataset.plan_epoch(batch_size, order);
    let (mut places, mut tokens, mut widths) = (0, 0, BTreeMap::<usize, usize>::new());
    let mut first = Vec::new();
    for (number, indices) in plan.iter().enumerate() {
        let batch = dataset.batch(indices);
        let size = batch.rows * batch.width;
        places += size;
        tokens += batch.tokens();
        *widths.entry(batch.width).or_default() += 1;
        if number < BATCHES {
            let rows: Vec<String> = indices.iter().take(8).map(|index| lines[*index].to_string()).collect();
            first.push(format!(
                "{}. {} x {}: {} learned, {} padding; lines {}{}",
                number + 1,
                batch.rows,
                batch.width,
                grouped(batch.targets),
                percent(size - batch.tokens(), size),
                rows.join(", "),
                if indices.len() > rows.len() { ", .." } else { "" }
            ));
        }
    }
    let iterations = match accumulation {
        1 => String::new(),
        steps => format!(", {} of {steps} batches", counted(plan.len().div_ceil(steps), "iteration")),
    };
    let batches = if plan.len() == 1 { "1 batch".to_owned() } else { format!("{} batches", grouped(plan.len())) };
    let padding = percent(places - tokens, places);
    let text = format!("{batches} of at most {batch_size} in an epoch{iterations}; {padding} padding");
    row("batches", &text, Shade::Plain)?;
    let widths: Vec<String> = widths.iter().map(|(width, count)| format!("{width} ({count})")).collect();
    row("", &format!("widths (batches): {}", widths.join(", ")), Shade::Plain)?;
    for text in first {
        row("", &text, Shade::Plain)?;
    }
    if dataset.examples.len() < batch_size {
        let text = format!("training needs at least the {batch_size} examples of one batch");
        row("", &text, Shade::Warning)?;
    }
    Ok(())
}
