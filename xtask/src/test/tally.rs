//! The number of tests that ran, read from the output of test programs.

use std::fmt;

/// Numbers of tests by their result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    /// Adds the numbers in `line`, if it is the closing line of a test program:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`.
    pub fn add_line(&mut self, line: &str) {
        let Some(results) = line.strip_prefix("test result: ") else { return };
        // The word before the first number may be coloured, and says only what the numbers say.
        let results = results.split_once(". ").map_or(results, |(_, numbers)| numbers);
        for result in results.split(';') {
            let mut words = result.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok());
            match (number, words.next()) {
                (Some(number), Some("passed")) => self.passed += number,
                (Some(number), Some("failed")) => self.failed += number,
                (Some(number), Some("ignored")) => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> String {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.add_line(line));
        tally.to_string()
    }

    #[test]
    fn closing_lines_are_added_up() {
        let lines = [
            "running 4 tests",
            "test a_name ... ok",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 1.20s\n",
        ];
        assert_eq!(tally(&lines), "13 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn colours_do_not_hide_a_result() {
        let line = "test result: \u{1b}[32mok\u{1b}[m. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(tally(&[line]), "5 passed, 0 failed, 0 skipped");
    }

    #[test]
    fn only_lines_that_begin_as_closing_lines_count() {
        assert_eq!(tally(&["  test result: ok. 3 passed; 0 failed", "3 passed"]), "0 passed, 0 failed, 0 skipped");
    }
}
