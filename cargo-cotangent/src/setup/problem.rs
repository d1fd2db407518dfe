//! The message about what a machine lacks.

use anyhow::{Result, bail};
use std::fmt;

/// Something that must be put right by hand.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// The text of what was found and what was expected.
    pub found: String,
    /// The advice, which starts with a verb.
    pub help: String,
}

impl Problem {
    pub fn new(found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { found: found.into(), help: help.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  help: {}", self.found, self.help)
    }
}

impl std::error::Error for Problem {}

/// Reports all problems at once, so that the user can install all missing tools together.
pub fn report(problems: &[&Problem]) -> Result<()> {
    match problems {
        [] => Ok(()),
        [problem] => bail!("{problem}"),
        _ => {
            let list: Vec<_> = problems.iter().map(|problem| problem.to_string()).collect();
            bail!("{} things are missing for MLX\n\n{}", problems.len(), list.join("\n\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_problem_is_the_whole_message() {
        let error = report(&[&Problem::new("no C++ compiler", "install g++")]).unwrap_err();
        assert_eq!(error.to_string(), "no C++ compiler\n  help: install g++");
    }

    #[test]
    fn several_problems_are_reported_together() {
        let (compiler, python) =
            (Problem::new("no C++ compiler", "install g++"), Problem::new("no Python", "install python3"));
        let error = report(&[&compiler, &python]).unwrap_err().to_string();
        assert_eq!(
            error,
            "2 things are missing for MLX\n\nno C++ compiler\n  help: install g++\n\nno Python\n  help: install python3"
        );
    }
}
