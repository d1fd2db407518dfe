//! Numbers in sentences for people.

/// `12,345`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 token`, `2,000 tokens`.
pub(crate) fn counted(number: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A share in percent; one that is small but not nothing does not become 0.
pub(crate) fn percent(part: usize, whole: usize) -> String {
    match 100.0 * part as f64 / whole.max(1) as f64 {
        share if share > 0.0 && share < 0.1 => "less than 0.1 %".into(),
        share if share < 10.0 && share > 0.0 => format!("{share:.1} %"),
        share => format!("{share:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let numbers: Vec<String> = [0, 999, 1000, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!((counted(1, "token"), counted(2, "token")), ("1 token".into(), "2 tokens".into()));
        let shares: Vec<String> = [(0, 5), (1, 5000), (1, 40), (1, 3), (5, 5)].map(|(a, b)| percent(a, b)).into();
        assert_eq!(shares, ["0 %", "less than 0.1 %", "2.5 %", "33 %", "100 %"]);
    }
}
