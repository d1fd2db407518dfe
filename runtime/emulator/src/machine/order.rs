//! Orders of threads and threadgroups under a schedule.

use crate::Schedule;

/// SplitMix64 (Steele, Lea, Flood 2014): a small generator whose every seed is good.
#[derive(Clone, Copy, Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Orders within one threadgroup. They depend on the threadgroup's number alone, not on which core runs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    schedule: Schedule,
    random: SplitMix,
}

impl Order {
    pub fn new(schedule: Schedule, threadgroup: u64) -> Self {
        let seed = match schedule {
            Schedule::Random(seed) => seed,
            _ => 0,
        };
        Order { schedule, random: SplitMix(seed ^ threadgroup.wrapping_mul(0xd605_0bb5_9a1c_9c1d)) }
    }

    /// Fills `order` with `0..count`, in the order to take now.
    pub fn fill(&mut self, count: usize, order: &mut Vec<u16>) {
        order.clear();
        order.extend(0..count as u16);
        match self.schedule {
            Schedule::Forward => {}
            Schedule::Reversed => order.reverse(),
            Schedule::Random(_) => {
                for last in (1..count).rev() {
                    order.swap(last, (self.random.next() % (last as u64 + 1)) as usize);
                }
            }
        }
    }
}

/// The threadgroup to run `turn`-th of `total`: a permutation.
pub(crate) fn threadgroup_at(schedule: Schedule, turn: u64, total: u64) -> u64 {
    match schedule {
        Schedule::Forward => turn,
        Schedule::Reversed => total - 1 - turn,
        Schedule::Random(seed) => {
            let mut random = SplitMix(seed);
            let start = random.next() % total;
            let step = (0..64).map(|_| random.next() % total).find(|&s| gcd(s, total) == 1).unwrap_or(1);
            ((u128::from(turn) * u128::from(step) + u128::from(start)) % u128::from(total)) as u64
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_threadgroup_gets_its_turn_once(seed: u64, total in 1u64..300) {
            for schedule in [Schedule::Forward, Schedule::Reversed, Schedule::Random(seed)] {
                let mut seen: Vec<u64> = (0..total).map(|turn| threadgroup_at(schedule, turn, total)).collect();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..total).collect::<Vec<_>>());
            }
        }

        #[test]
        fn every_lane_gets_its_turn_once(seed: u64, count in 0usize..64) {
            let mut order = Order::new(Schedule::Random(seed), 3);
            let mut lanes = Vec::new();
            order.fill(count, &mut lanes);
            lanes.sort_unstable();
            prop_assert_eq!(lanes, (0..count as u16).collect::<Vec<_>>());
        }
    }
}
