//! How many of the faults that were injected were seen to do something.

/// Counts faults, and what is seen of them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Injected, and not looked at since.
    open: u64,
    observed: u64,
}

impl Tally {
    pub(crate) fn inject(&mut self) {
        self.open += 1;
    }

    /// An effect was looked for and seen so often: each time one fault at most is observed. Where
    /// nothing was seen, one fault came to nothing.
    pub(crate) fn effect(&mut self, how_often: u64) {
        let seen = how_often.min(self.open);
        self.observed += seen;
        self.open -= seen.max(u64::from(self.open > 0));
    }

    pub(crate) fn observed(&self) -> u64 {
        self.observed
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    fn after(story: &[Option<u64>]) -> u64 {
        let mut tally = Tally::default();
        for step in story {
            match step {
                None => tally.inject(),
                Some(seen) => tally.effect(*seen),
            }
        }
        tally.observed()
    }

    #[test]
    fn each_fault_counts_once_and_only_where_it_was_seen() {
        assert_eq!(after(&[None, Some(1), None, Some(500)]), 2);
        assert_eq!(after(&[None, None, None, Some(1), Some(1), Some(1)]), 3);
        assert_eq!(after(&[None, Some(1), Some(1)]), 1);
        assert_eq!(after(&[Some(9)]), 0);
    }

    #[test]
    fn one_that_came_to_nothing_is_not_seen_by_what_comes_of_the_next() {
        assert_eq!(after(&[None, Some(0), None, Some(7)]), 1);
        assert_eq!(after(&[None, None, None]), 0);
    }
}
