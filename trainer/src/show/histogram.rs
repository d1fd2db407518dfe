//! Lengths as bars of text.

use crate::numbers::grouped;

/// The longest bar, in characters.
const WIDTH: usize = 40;
/// The largest number of bars.
const MOST_BARS: usize = 14;

/// A line for each range of `lengths`: the range, a bar, how many. Ranges are of equal width, or double where the longest
/// is far longer than the shortest.
pub(super) fn bars(lengths: &[usize]) -> Vec<String> {
    let (Some(shortest), Some(longest)) = (lengths.iter().min(), lengths.iter().max()) else {
        return Vec::new();
    };
    let starts = if longest / (*shortest).max(1) >= 32 { doubling(*longest) } else { even(*shortest, *longest) };
    let mut counts = vec![0_usize; starts.len()];
    for length in lengths {
        counts[starts.partition_point(|start| start <= length) - 1] += 1;
    }
    let range = |i: usize| match starts.get(i + 1) {
        Some(next) if next - starts[i] == 1 => grouped(starts[i]),
        Some(next) => format!("{}-{}", grouped(starts[i]), grouped(next - 1)),
        None if starts[i] == *longest => grouped(*longest),
        None => format!("{}-{}", grouped(starts[i]), grouped(*longest)),
    };
    let ranges: Vec<String> = (0..starts.len()).map(range).collect();
    let widest = ranges.iter().map(String::len).max().unwrap_or(0);
    let most = counts.iter().copied().max().unwrap_or(1).max(1);
    let used = counts.iter().zip(&ranges).skip_while(|(count, _)| **count == 0);
    used.map(|(count, range)| format!("{range:>widest$} {} {}", bar(*count, most), grouped(*count))).collect()
}

/// The first length of each range: 0, 16, 32, 64 and so on.
fn doubling(longest: usize) -> Vec<usize> {
    let mut starts = vec![0];
    let mut next = (longest.next_power_of_two() >> (MOST_BARS - 2)).max(16);
    while next <= longest {
        starts.push(next);
        next *= 2;
    }
    starts
}

/// The first length of each range: multiples of 1, 2, 5, 10, 20 and so on.
fn even(shortest: usize, longest: usize) -> Vec<usize> {
    let steps = (0..).flat_map(|power| [1, 2, 5].map(|factor| factor * 10_usize.pow(power)));
    let fits = |step: &usize| longest / step - shortest / step < MOST_BARS;
    let step = steps.take(48).find(fits).unwrap_or(longest);
    (shortest / step..=longest / step).map(|i| i * step).collect()
}

/// A bar for `count` of at most `most`, exact to an eighth of a character; never empty for what is there.
fn bar(count: usize, most: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (count * WIDTH * 8).div_ceil(most);
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_are_alike_get_ranges_of_equal_width() {
        let lengths: Vec<usize> = (20..60).chain([33; 24]).collect();
        let bars = bars(&lengths);
        assert_eq!(bars.len(), 8);
        assert_eq!(bars[0], format!("20-24 {} 5", "█".repeat(7)));
        assert_eq!(bars[2], format!("30-34 {} 29", "█".repeat(40)));
    }

    #[test]
    fn lengths_that_are_far_apart_get_ranges_that_double() {
        let bars = bars(&[3, 20, 20, 9000]);
        assert!(bars[0].starts_with("       0-15 ") && bars[0].ends_with(" 1"), "{bars:#?}");
        assert!(bars[1].starts_with("      16-31 ") && bars[1].ends_with("█ 2"), "{bars:#?}");
        assert!(bars.last().unwrap().starts_with("8,192-9,000 "), "{bars:#?}");
        assert!(bars.len() <= MOST_BARS);
    }

    #[test]
    fn there_are_never_too_many_bars_and_each_length_is_in_one() {
        for (shortest, longest) in
            [(0, 0), (1, 1), (7, 90), (1, 1_000_000_000), (999_999_999, 1_000_000_000), (100, 3199)]
        {
            let bars = bars(&[shortest, longest, longest]);
            assert!(!bars.is_empty() && bars.len() <= MOST_BARS, "{shortest} {longest} {bars:#?}");
            let counts = bars.iter().map(|bar| bar.rsplit(' ').next().unwrap().parse::<usize>().unwrap());
            assert_eq!(counts.sum::<usize>(), 3);
        }
        assert!(bars(&[]).is_empty());
    }
}
