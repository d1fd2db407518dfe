//! A file of conversations as token sequences.

use std::path::{Path, PathBuf};

use super::{ChatFormat, Columns, Content, DataError, DataOptions, DataReport, EncodedExample, Placed, lines};

/// One conversation in tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Example {
    /// The token ids.
    pub tokens: Vec<u32>,
    /// Whether the model has to learn each token.
    pub is_target: Vec<bool>,
    /// The pictures among the tokens, in order.
    pub pictures: Vec<Placed>,
}

/// The examples of a file that have something to learn, and what became of the others.
#[derive(Debug, Clone)]
pub struct Dataset {
    file: PathBuf,
    /// The examples, in the order of the file; none longer than the limit, each with at least one token to learn.
    pub examples: Vec<Example>,
    /// The number of examples that were cut at the limit, those skipped included.
    pub truncated: usize,
    /// The number of examples that had no token to learn, or none left after the cut.
    pub skipped: usize,
    /// Length of the longest conversation before the cut, in tokens.
    pub longest: usize,
    /// The report on all rows.
    pub report: DataReport,
    max_seq_length: usize,
}

impl Example {
    /// The first `limit` tokens; fewer where the cut would go through a picture.
    fn cut(&self, limit: usize) -> Self {
        let mut kept = self.tokens.len().min(limit);
        // A picture begins with the token before its own, which announces it.
        let through = self.pictures.iter().map(|picture| picture.tokens.start.saturating_sub(1)..picture.tokens.end);
        kept = through.clone().find(|range| range.start < kept && kept < range.end).map_or(kept, |range| range.start);
        Example {
            tokens: self.tokens[..kept].to_vec(),
            is_target: self.is_target[..kept].to_vec(),
            pictures: self.pictures.iter().filter(|picture| picture.tokens.end <= kept).cloned().collect(),
        }
    }

    /// Returns the number of predictions that the loss counts. The first token is predicted by nothing.
    pub fn targets(&self) -> usize {
        self.is_target.iter().skip(1).filter(|target| **target).count()
    }
}

impl Dataset {
    /// Reads the rows of the JSON-lines file at `path`, and cuts their examples as `options` say.
    ///
    /// # Errors
    /// If the file or one of its lines is bad, the template refuses a conversation, or nothing is left to learn; with
    /// `strict_template`, if something is left out of a conversation.
    pub fn load(path: &Path, format: &ChatFormat, options: &DataOptions) -> Result<Self, DataError> {
        Self::load_with(path, format, options, &mut |_, _, _| ())
    }

    /// Loads as [`Dataset::load`] does; `look` gets each example before the cut, with its line, and whether something
    /// of it is left to learn.
    ///
    /// # Errors
    /// As [`Dataset::load`].
    pub fn load_with(
        path: &Path,
        format: &ChatFormat,
        options: &DataOptions,
        look: &mut dyn FnMut(usize, &EncodedExample, bool),
    ) -> Result<Self, DataError> {
        let mut dataset = Self::empty(path, options.max_seq_length);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        lines::read_rows(path, options.max_line_bytes, &mut |line, mut row| {
            if let Content::Conversation(conversation) = &mut row.content {
                conversation.look_for_pictures_in(&folder);
            }
            if let (Columns::Strict, Some(key)) = (options.columns, row.left_out.keys.first()) {
                return Err(format!(
                    "`{key}`: an unknown key\nhelp: leave out `--columns strict` to pass over such keys"
                ));
            }
            dataset.report.add_row(line, &row.left_out, matches!(row.content, Content::Text(_)));
            let encoded = format.encode_row(&row.content, options.one_example_per_turn);
            let encoded = encoded.map_err(|error| error.to_string())?;
            if encoded.is_empty() {
                dataset.skipped += 1;
                dataset.report.add_skipped(line);
            }
            for encoded in encoded {
                dataset.report.add_example(line, &encoded, options);
                let learns = dataset.add(&encoded.example);
                look(line, &encoded, learns);
                if !learns {
                    dataset.report.add_skipped(line);
                }
            }
            Ok(())
        })?;
        let losses = dataset.report.losses();
        if options.strict_template && !losses.is_empty() {
            return Err(DataError::Strict { losses });
        }
        dataset.check()
    }

    /// Cuts `examples` at `max_seq_length` tokens; `file` is only named in messages.
    ///
    /// # Errors
    /// If nothing is left to learn.
    pub fn from_examples(file: &Path, examples: Vec<Example>, max_seq_length: usize) -> Result<Self, DataError> {
        let mut dataset = Self::empty(file, max_seq_length);
        for example in examples {
            dataset.add(&example);
        }
        dataset.check()
    }

    fn empty(file: &Path, max_seq_length: usize) -> Self {
        Self {
            file: file.to_owned(),
            examples: Vec::new(),
            truncated: 0,
            skipped: 0,
            longest: 0,
            report: DataReport::new(file),
            max_seq_length,
        }
    }

    /// Returns whether something of the example is left to learn.
    fn add(&mut self, example: &Example) -> bool {
        let length = example.tokens.len();
        self.longest = self.longest.max(length);
        self.truncated += usize::from(length > self.max_seq_length);
        let example = example.cut(self.max_seq_length);
        let learns = example.targets() > 0;
        match learns {
            true => self.examples.push(example),
            false => self.skipped += 1,
        }
        learns
    }

    fn check(self) -> Result<Self, DataError> {
        if self.examples.is_empty() {
            let reason = format!(
                "none of its {} conversations has anything of the assistant within the first {} tokens\n\
                 help: add messages of the assistant, or raise the maximum sequence length",
                self.skipped, self.max_seq_length
            );
            return Err(DataError::file(&self.file, reason));
        }
        Ok(self)
    }

    /// The limit on the length of an example, in tokens.
    pub fn max_seq_length(&self) -> usize {
        self.max_seq_length
    }

    /// Returns the number of pictures in all examples.
    pub fn pictures(&self) -> usize {
        self.examples.iter().map(|example| example.pictures.len()).sum()
    }

    /// Predictions that the loss counts, over all examples.
    pub fn targets(&self) -> usize {
        self.examples.iter().map(Example::targets).sum()
    }

    /// Returns the number of targets of the token after the next, as [`targets`](Self::targets) does for the next.
    pub fn targets_after_next(&self) -> usize {
        self.examples.iter().map(|example| example.is_target.iter().skip(2).filter(|target| **target).count()).sum()
    }

    /// Returns warnings about what was left out, cut or skipped, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let total = self.examples.len() + self.skipped;
        let file = self.file.display();
        let mut warnings = self.report.notes();
        warnings.extend(self.report.losses());
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
