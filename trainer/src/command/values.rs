//! Values of options, checked while they are parsed: a wrong one is a mistake in the command line.

use std::num::IntErrorKind;

/// Counts above it are typing errors: no run has that number of iterations, rows or tokens.
const LARGEST_COUNT: usize = 1_000_000_000;

/// Numbers above it are, too.
const LARGEST_NUMBER: f64 = 1e9;

/// A whole number of at least 1.
pub fn positive_count(text: &str) -> Result<usize, String> {
    match (count(text), text.parse::<usize>()) {
        (Ok(0), _) => Err("expected a whole number of at least 1".into()),
        (Err(_), Err(error)) if *error.kind() != IntErrorKind::PosOverflow => {
            Err("expected a whole number of at least 1".into())
        }
        (counted, _) => counted,
    }
}

/// A whole number.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if count <= LARGEST_COUNT => Ok(count),
        Err(error) if *error.kind() != IntErrorKind::PosOverflow => Err("expected a whole number".into()),
        Ok(_) | Err(_) => Err(format!("expected a whole number of at most {LARGEST_COUNT}")),
    }
}

/// A whole number of at least 1, or -1 for all.
pub fn count_or_all(text: &str) -> Result<Count, String> {
    if text == "-1" {
        return Ok(Count::All);
    }
    match text.parse::<i64>() {
        Ok(number) if number > 0 => positive_count(text).map(Count::Only),
        _ => Err("expected a whole number of at least 1, or -1 for all".into()),
    }
}

/// A limit on the number of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// No limit.
    All,
    /// At most this number.
    Only(usize),
}

impl Count {
    /// The limit, if there is one.
    pub fn limit(self) -> Option<usize> {
        match self {
            Count::All => None,
            Count::Only(count) => Some(count),
        }
    }
}

/// A number above 0.
pub fn positive_number(text: &str) -> Result<f64, String> {
    number(text).filter(|number| *number > 0.0).ok_or_else(|| "expected a number above 0, at most 1e9".into())
}

/// A number of at least 0.
pub fn number_from_zero(text: &str) -> Result<f64, String> {
    number(text).filter(|number| *number >= 0.0).ok_or_else(|| "expected a number of at least 0, at most 1e9".into())
}

/// A number from 0 to 1.
pub fn probability(text: &str) -> Result<f64, String> {
    number(text).filter(|number| (0.0..=1.0).contains(number)).ok_or_else(|| "expected a number from 0 to 1".into())
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| number.abs() <= LARGEST_NUMBER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused() {
        for text in ["0", "-1", "1.5", "", "many"] {
            assert_eq!(positive_count(text).unwrap_err(), "expected a whole number of at least 1", "{text}");
        }
        for text in ["1000000001", "99999999999999999999999"] {
            assert_eq!(positive_count(text).unwrap_err(), "expected a whole number of at most 1000000000", "{text}");
        }
        assert_eq!(count("0"), Ok(0));
        assert_eq!(count("-1").unwrap_err(), "expected a whole number");
        for text in ["0", "-2", "x"] {
            assert!(count_or_all(text).is_err(), "{text}");
        }
        assert_eq!(count_or_all("-1"), Ok(Count::All));
        assert_eq!(count_or_all("3").map(Count::limit), Ok(Some(3)));
        for text in ["0", "-1e-5", "nan", "inf", "1e10", "1e99", "x"] {
            assert!(positive_number(text).is_err(), "{text}");
        }
        assert_eq!(positive_number("1e-5"), Ok(1e-5));
        assert_eq!(number_from_zero("0"), Ok(0.0));
        assert!(probability("1.01").is_err() && probability("1").is_ok());
    }
}
