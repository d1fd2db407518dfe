//! A file of conversations as token sequences.

use std::path::{Path, PathBuf};

use super::{ChatFormat, DataError, jsonl};

/// One conversation in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The token ids.
    pub tokens: Vec<u32>,
    /// For each token, whether the model has to learn to say it.
    pub is_target: Vec<bool>,
}

/// The examples of a file that have something to learn, and what became of the others.
#[derive(Debug, Clone)]
pub struct Dataset {
    file: PathBuf,
    /// The examples, in the order of the file; none longer than the limit, each with at least one token to learn.
    pub examples: Vec<Example>,
    /// How many were cut at the limit, those skipped included.
    pub truncated: usize,
    /// How many had no token to learn, or none left after the cut.
    pub skipped: usize,
    /// Length of the longest conversation before the cut, in tokens.
    pub longest: usize,
    max_seq_length: usize,
}

impl Example {
    /// How many predictions the loss counts. The first token is predicted by nothing.
    pub fn targets(&self) -> usize {
        self.is_target.iter().skip(1).filter(|target| **target).count()
    }
}

impl Dataset {
    /// Reads the conversations of the JSON-lines file at `path` and cuts them at `max_seq_length` tokens.
    ///
    /// # Errors
    /// If the file or one of its lines is bad, the template refuses a conversation, or nothing is left to learn.
    pub fn load(path: &Path, format: &ChatFormat, max_seq_length: usize) -> Result<Self, DataError> {
        let mut examples = Vec::new();
        for (line, conversation) in jsonl::read_conversations(path)? {
            let example = format.encode(&conversation);
            examples.push(example.map_err(|error| DataError::line(path, line, None, error.to_string()))?);
        }
        Self::from_examples(path, examples, max_seq_length)
    }

    /// Cuts `examples` at `max_seq_length` tokens; `file` is only named in messages.
    ///
    /// # Errors
    /// If nothing is left to learn.
    pub fn from_examples(file: &Path, examples: Vec<Example>, max_seq_length: usize) -> Result<Self, DataError> {
        let total = examples.len();
        let mut dataset = Self {
            file: file.to_owned(),
            examples: Vec::with_capacity(total),
            truncated: 0,
            skipped: 0,
            longest: 0,
            max_seq_length,
        };
        for mut example in examples {
            dataset.longest = dataset.longest.max(example.tokens.len());
            if example.tokens.len() > max_seq_length {
                dataset.truncated += 1;
                example.tokens.truncate(max_seq_length);
                example.is_target.truncate(max_seq_length);
            }
            match example.targets() {
                0 => dataset.skipped += 1,
                _ => dataset.examples.push(example),
            }
        }
        if dataset.examples.is_empty() {
            let reason = format!(
                "none of its {total} conversations has anything of the assistant within the first {max_seq_length} \
                 tokens\nhelp: add messages of the assistant, or raise the maximum sequence length"
            );
            return Err(DataError::file(file, reason));
        }
        Ok(dataset)
    }

    /// The limit on the length of an example, in tokens.
    pub fn max_seq_length(&self) -> usize {
        self.max_seq_length
    }

    /// Predictions that the loss counts, over all examples.
    pub fn targets(&self) -> usize {
        self.examples.iter().map(Example::targets).sum()
    }

    /// What a person should know about the examples that were cut or skipped, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let total = self.examples.len() + self.skipped;
        let file = self.file.display();
        let mut warnings = Vec::new();
        if self.truncated > 0 {
            warnings.push(format!(
                "`{file}`: cut {} of {total} conversations at {} tokens (the longest has {})",
                self.truncated, self.max_seq_length, self.longest
            ));
        }
        if self.skipped > 0 {
            warnings.push(format!(
                "`{file}`: left out {} of {total} conversations, which have nothing to learn",
                self.skipped
            ));
        }
        warnings
    }
}
