//! The rows that a threadgroup works on, found on the device.

/// The places of threadgroups that share out `rows` rows in blocks of `ROWS`, and the rows before an expert.
///
/// The blocks of an expert have places of their own, from the number of whole blocks before its first row plus its own number
/// on. These places suffice it, since a block begins at its first row and not at a multiple of `ROWS`; the last of them may be
/// left over. So there are `ceil(rows / ROWS) + experts` places whatever the counts are, and a threadgroup finds its rows
/// from the counts alone.
///
/// Sums stay below 32 `rows`, which must fit an `int`: counts are cut at `rows`.
pub(super) const SHARES: &str = "
// A share has the rows `first .. end` of one expert. If `expert` is the number of experts, they belong to none.
struct Share { int expert; int first; int end; };

template <typename Counts>
inline int rows_until(Counts counts, int expert, int experts, int rows, int start) {
  return expert < experts ? min(start + clamp(int(counts[expert]), 0, rows), rows) : rows;
}

// Each lane adds up the counts of some experts. The last lane whose experts begin by `place` then searches among its
// own.
template <int ROWS, typename Counts>
inline Share find_share(Counts counts, int experts, int rows, int place, int lane) {
  int each = experts / 32 + 1;
  int own = 0;
  for (int i = lane * each; i < min(lane * each + each, experts); ++i) { own = rows_until(counts, i, experts, rows, own); }
  int start = min(simd_prefix_exclusive_sum(own), rows);
  int owner = simd_max(lane * each <= experts && start / ROWS + lane * each <= place ? lane : 0);
  start = simd_shuffle(start, ushort(owner));
  int expert = owner * each;
  int end = rows_until(counts, expert, experts, rows, start);
  while (expert < experts && end / ROWS + expert + 1 <= place) {
    start = end;
    expert += 1;
    end = rows_until(counts, expert, experts, rows, start);
  }
  return Share{expert, start + (place - start / ROWS - expert) * ROWS, end};
}

template <typename Counts>
inline Share all_of_expert(Counts counts, int expert, int experts, int rows, int lane) {
  int own = 0;
  for (int i = lane; i < expert; i += 32) { own = rows_until(counts, i, experts, rows, own); }
  int start = min(simd_sum(own), rows);
  return Share{expert, start, rows_until(counts, expert, experts, rows, start)};
}
";
