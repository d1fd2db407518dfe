//! The options of reading a data set.

use super::lines::DEFAULT_MAX_LINE_BYTES;

/// The options of reading a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataOptions {
    /// The most tokens of an example; longer ones are cut.
    pub max_seq_length: usize,
    /// Longer lines are refused, before they are read whole.
    pub max_line_bytes: usize,
    /// The treatment of keys without a meaning here.
    pub columns: Columns,
    /// Whether something that the template leaves out of a conversation, or an end-of-turn mark that is cut off, is an
    /// error instead of a warning.
    pub strict_template: bool,
    /// Whether each message of the assistant becomes an example of its own, with the messages before it as the template
    /// writes them at that time.
    pub one_example_per_turn: bool,
}

/// The treatment of keys without a meaning here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Columns {
    /// Such keys are ignored and counted.
    #[default]
    Extra,
    /// Such keys are errors.
    Strict,
}

impl DataOptions {
    /// The defaults for examples of at most `max_seq_length` tokens.
    pub fn new(max_seq_length: usize) -> Self {
        Self {
            max_seq_length,
            max_line_bytes: DEFAULT_MAX_LINE_BYTES,
            columns: Columns::Extra,
            strict_template: false,
            one_example_per_turn: false,
        }
    }
}
