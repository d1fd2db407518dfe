//! The report on the rows of a file, which a person should read before training on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::dropped::{Dropped, Part};
use super::schema::LeftOut;
use super::{DataOptions, EncodedExample};

/// Distinct keys that are listed by name.
const MOST_KEYS: usize = 1000;

/// The report on the rows of a file.
#[derive(Debug, Clone, Default)]
pub struct DataReport {
    file: PathBuf,
    /// Rows read.
    pub rows: usize,
    /// The rows that are plain text, all of which is learned.
    pub texts: Tally,
    /// Keys that mean nothing here, with the rows that have them.
    pub passed_over: BTreeMap<String, Tally>,
    /// Members of tools and of arguments that were null, and are left out.
    pub nulls: Tally,
    /// Parts of the conversations that were looked for in what the template wrote.
    pub parts: BTreeMap<Part, usize>,
    /// The parts that the template left out.
    pub dropped: BTreeMap<Part, (Tally, Dropped)>,
    /// The length of each example before the cut, in tokens.
    pub lengths: Vec<usize>,
    /// Examples that were cut, those skipped included.
    pub cut: Tally,
    /// Examples that had no token to learn, or none left after the cut.
    pub skipped: Tally,
    /// End-of-turn marks to learn, before the cut.
    pub ends: usize,
    /// The marks beyond the cut.
    pub lost_ends: Tally,
}

/// A count, and the line of the first that was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The count.
    pub count: usize,
    /// The line of the first, counted from 1; 0 if there is none.
    pub first_line: usize,
}

impl Tally {
    fn add(&mut self, count: usize, line: usize) {
        if self.count == 0 && count > 0 {
            self.first_line = line;
        }
        self.count += count;
    }
}

impl DataReport {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), ..Self::default() }
    }

    pub(super) fn add_row(&mut self, line: usize, left_out: &LeftOut, is_text: bool) {
        self.rows += 1;
        self.texts.add(usize::from(is_text), line);
        self.nulls.add(left_out.nulls, line);
        for key in &left_out.keys {
            if self.passed_over.len() < MOST_KEYS || self.passed_over.contains_key(key) {
                self.passed_over.entry(key.clone()).or_default().add(1, line);
            }
        }
    }

    /// Counts an example that is not cut yet.
    pub(super) fn add_example(&mut self, line: usize, encoded: &EncodedExample, options: &DataOptions) {
        let length = encoded.example.tokens.len();
        self.lengths.push(length);
        self.cut.add(usize::from(length > options.max_seq_length), line);
        self.ends += encoded.ends.len();
        self.lost_ends.add(encoded.ends.iter().filter(|end| **end >= options.max_seq_length).count(), line);
        for (part, count) in &encoded.inspection.parts {
            *self.parts.entry(*part).or_default() += count;
        }
        for dropped in &encoded.inspection.dropped {
            let (tally, _) = self.dropped.entry(dropped.part).or_insert_with(|| (Tally::default(), dropped.clone()));
            tally.add(1, line);
        }
    }

    pub(super) fn add_skipped(&mut self, line: usize) {
        self.skipped.add(1, line);
    }

    /// The longest example before the cut, in tokens.
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// Returns what the template leaves out and the cut loses, a sentence each. `--strict-template` refuses these.
    pub fn losses(&self) -> Vec<String> {
        let file = self.file.display();
        let mut losses = Vec::new();
        for (part, (tally, first)) in &self.dropped {
            let total = self.parts.get(part).copied().unwrap_or_default();
            let place = first.message.map(|message| format!(", `messages[{message}]`")).unwrap_or_default();
            losses.push(format!(
                "`{file}`: the chat template leaves out or changes {} of {total} {}, first in line {}{place}: {}\nhelp: {}",
                tally.count,
                part.name(),
                tally.first_line,
                quoted(&first.text),
                advice(*part, tally.count == total)
            ));
        }
        if self.lost_ends.count > 0 {
            let consequence = match self.lost_ends.count == self.ends {
                true => ": the model cannot learn where to stop",
                false => "",
            };
            losses.push(format!(
                "`{file}`: the cut loses {} of {} end-of-turn marks, first in line {}{consequence}\n\
                 help: raise `--max-seq-length`; the longest has {} tokens",
                self.lost_ends.count,
                self.ends,
                self.lost_ends.first_line,
                self.longest()
            ));
        }
        losses
    }

    /// Returns what was passed over while rows were read, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let file = self.file.display();
        let mut notes = Vec::new();
        if !self.passed_over.is_empty() {
            let name = |(key, tally): (&String, &Tally)| match tally.count {
                1 => format!("`{key}` (line {})", tally.first_line),
                count => format!("`{key}` ({count} rows, first in line {})", tally.first_line),
            };
            let mut keys: Vec<String> = self.passed_over.iter().take(10).map(name).collect();
            if self.passed_over.len() > keys.len() {
                keys.push(format!("{} more", self.passed_over.len() - keys.len()));
            }
            notes.push(format!("`{file}`: passed over keys that mean nothing here: {}", keys.join(", ")));
        }
        if self.nulls.count > 0 {
            notes.push(format!(
                "`{file}`: left out {} members of tools and arguments that are null, first in line {}\n\
                 help: Arrow writes them for keys that another row has; to keep them, write arguments and tools as JSON \
                 text",
                self.nulls.count, self.nulls.first_line
            ));
        }
        if self.texts.count > 0 {
            notes.push(format!(
                "`{file}`: {} of {} rows are plain text, first in line {}: every token of them is learned",
                self.texts.count, self.rows, self.texts.first_line
            ));
        }
        notes
    }
}

fn advice(part: Part, is_all: bool) -> &'static str {
    match part {
        Part::Thought if !is_all => "with `--one-example-per-turn` every turn is learned with its thoughts",
        Part::Thought => "try `--one-example-per-turn`, or use a chat template that writes `reasoning_content`",
        Part::Call | Part::Argument => "use a chat template that writes `tool_calls`, or remove these conversations",
        Part::Tool => "use a chat template that writes `tools`, or remove them",
        Part::Content => "use a chat template that writes this message as it is, or remove the conversation",
    }
}

/// Quotes at most 60 characters of a foreign text, with escapes for those that a terminal obeys.
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let dots = if short.len() < text.len() { ".." } else { "" };
    format!("\"{}{dots}\"", short.escape_debug())
}
