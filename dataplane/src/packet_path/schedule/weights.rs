//! What is derived from weights: their divisor, and the next server that reaches a level.

use crate::table::Real;

/// The greatest common divisor of all weights that are not 0; 1 if there is none.
pub(super) fn divisor(weights: impl Iterator<Item = u32>) -> u32 {
    weights.fold(0, gcd).max(1)
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Finds the next server in list order whose weight reaches a level, without walking the list. A
/// complete binary tree over the list; each node holds the greatest weight below it. Node 1 is
/// the root, node `n` has children `2n` and `2n + 1`, leaves start at `leaves`.
#[derive(Clone, Debug)]
pub(super) struct WeightIndex {
    leaves: usize,
    greatest: Box<[u32]>,
}

impl WeightIndex {
    pub fn new(reals: &[Real]) -> Self {
        let leaves = reals.len().next_power_of_two();
        let mut greatest = vec![0; 2 * leaves];
        for (leaf, real) in greatest[leaves..].iter_mut().zip(reals) {
            *leaf = real.weight;
        }
        for node in (1..leaves).rev() {
            greatest[node] = greatest[2 * node].max(greatest[2 * node + 1]);
        }
        Self { leaves, greatest: greatest.into() }
    }

    /// The greatest weight of all.
    pub fn max(&self) -> u32 {
        self.greatest[1]
    }

    /// The first server at or after `from` with at least this weight, which must be 1 or more.
    pub fn next_at_least(&self, from: usize, weight: i64) -> Option<usize> {
        if from >= self.leaves {
            return None;
        }
        let reaches = |node: usize| i64::from(self.greatest[node]) >= weight;
        let mut node = self.leaves + from;
        // Up and to the right until a subtree reaches the weight.
        while !reaches(node) {
            while node & 1 == 1 {
                node /= 2;
            }
            if node == 0 {
                return None;
            }
            node += 1;
        }
        while node < self.leaves {
            node = if reaches(2 * node) { 2 * node } else { 2 * node + 1 };
        }
        Some(node - self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::real;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn finds_what_walking_the_list_finds(
            weights in prop::collection::vec(0u32..6, 0..40),
            from in 0usize..45,
            level in 1i64..7,
        ) {
            let reals: Vec<_> = weights.iter().map(|&weight| real(0, weight)).collect();
            let index = WeightIndex::new(&reals);
            let walked = (from..weights.len()).find(|&i| i64::from(weights[i]) >= level);
            prop_assert_eq!(index.next_at_least(from, level), walked);
            prop_assert_eq!(index.max(), weights.iter().copied().max().unwrap_or(0));
        }
    }
}
