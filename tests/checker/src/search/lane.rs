//! The search through one lock's history.

use std::collections::{BTreeSet, HashSet};

use super::WindowOptions;
use super::state::{Lock, Operation, Said};
use crate::direct::account;
use crate::history::Moment;
use crate::verdict::{Check, Verdict, Violation};

/// An operation by its place in [`Said::operations`].
type Number = usize;

/// One way in which things may have come so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    lock: Lock,
    /// Which of the operations in flight took effect already.
    done: BTreeSet<Number>,
}

/// What happens in a history, in its order. Of one moment, requests come before answers: they are
/// taken as concurrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Sent(Number),
    Answered(Number),
}

/// More states than the budget allows.
struct OverBudget;

/// A search underway.
pub(super) struct Lane<'a> {
    key: &'a str,
    said: &'a Said<'a>,
    options: WindowOptions,
    /// All ways that explain what was answered so far; none while a window is passed over.
    ways: HashSet<Way>,
    /// The operations in flight.
    open: BTreeSet<Number>,
    /// Those of them that were in flight when the search set in: they may have taken effect before.
    old: BTreeSet<Number>,
    /// States looked at in this window.
    spent: u64,
}

impl<'a> Lane<'a> {
    pub(super) fn new(key: &'a str, said: &'a Said<'a>, options: WindowOptions) -> Self {
        Self {
            key,
            said,
            options,
            ways: HashSet::new(),
            open: BTreeSet::new(),
            old: BTreeSet::new(),
            spent: 0,
        }
    }

    pub(super) fn search(mut self, verdict: &mut Verdict) {
        let operations = &self.said.operations;
        let mut steps: Vec<(Moment, Step)> = Vec::with_capacity(2 * operations.len());
        for (number, Operation { record, .. }) in operations.iter().enumerate() {
            steps.push((record.invoked, Step::Sent(number)));
            steps.push((record.returned, Step::Answered(number)));
        }
        steps.sort_unstable();
        let windows: Vec<_> = steps.chunks(2 * self.options.max_records).collect();
        let picked_max = self.options.windows_per_key;
        let mut picked = 0;
        for (number, window) in windows.iter().enumerate() {
            // Spread evenly: the n-th of `picked_max` is the window at n * len / picked_max.
            let due = number * picked_max >= picked * windows.len();
            if !due || picked_max == 0 {
                self.ways.clear();
                self.pass_over(window);
                continue;
            }
            picked += 1;
            self.spent = 0;
            if let Ok(()) = self.window(window, verdict) {
                verdict.windows += 1;
            } else {
                let (from, _) = window[0];
                verdict.undecided.push(format!(
                    "lock {:?}: the window that begins {} needs more than {} states",
                    self.key,
                    account::at(from),
                    self.options.budget
                ));
            }
        }
    }

    fn pass_over(&mut self, window: &[(Moment, Step)]) {
        for (_, step) in window {
            match step {
                Step::Sent(number) => self.open.insert(*number),
                Step::Answered(number) => self.open.remove(number),
            };
        }
    }

    fn window(
        &mut self,
        window: &[(Moment, Step)],
        verdict: &mut Verdict,
    ) -> Result<(), OverBudget> {
        if self.ways.is_empty() {
            self.set_in();
        }
        for (at, (moment, step)) in window.iter().enumerate() {
            match step {
                Step::Sent(number) => self.sent(*number, *moment),
                Step::Answered(number) => {
                    if self.answered(*number, *moment).is_err() {
                        self.ways.clear();
                        self.pass_over(&window[at..]);
                        return Err(OverBudget);
                    }
                    if self.ways.is_empty() {
                        let record = self.said.operations[*number].record;
                        let what = format!(
                            "no order of the operations explains {}",
                            account::record(record)
                        );
                        verdict.violations.push(Violation::new(Check::G, what));
                        self.set_in();
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins in the middle: whatever the lock is, and whatever of the operations in flight took
    /// effect.
    fn set_in(&mut self) {
        self.old = self.open.clone();
        let anything = Lock::anything().map(|lock| Way {
            lock,
            done: BTreeSet::new(),
        });
        self.ways = HashSet::from(anything);
    }

    fn sent(&mut self, number: Number, now: Moment) {
        self.open.insert(number);
        let operation = &self.said.operations[number];
        let ways = std::mem::take(&mut self.ways);
        let with = |mut way: Way| {
            if way.lock.shows(operation, &self.said.unsure, now) {
                way.done.insert(number);
            }
            way
        };
        self.ways = ways.into_iter().map(with).collect();
    }

    fn answered(&mut self, number: Number, now: Moment) -> Result<(), OverBudget> {
        let operation = &self.said.operations[number];
        let mut seen = std::mem::take(&mut self.ways);
        let mut unexplored: Vec<Way> = seen.iter().cloned().collect();
        let mut next = HashSet::new();
        while let Some(way) = unexplored.pop() {
            self.spent += 1;
            if self.spent > self.options.budget {
                return Err(OverBudget);
            }
            if way.done.contains(&number) {
                next.insert(way);
                continue;
            }
            if self.old.contains(&number) {
                next.insert(way.clone());
            }
            for lock in way.lock.after(operation, &self.said.unsure, now) {
                next.insert(self.come_to(&way, number, lock, now));
            }
            for other in &self.open {
                if *other == number || way.done.contains(other) {
                    continue;
                }
                let operation = &self.said.operations[*other];
                for lock in way.lock.after(operation, &self.said.unsure, now) {
                    let other = self.come_to(&way, *other, lock, now);
                    if seen.insert(other.clone()) {
                        unexplored.push(other);
                    }
                }
            }
        }
        self.open.remove(&number);
        self.old.remove(&number);
        let without = |mut way: Way| {
            way.done.remove(&number);
            way
        };
        self.ways = next.into_iter().map(without).collect();
        Ok(())
    }

    /// `way` after operation `number` left the lock as `lock`. What is in flight and sees just that
    /// takes effect here too: putting it off gains nothing, and makes a state of every choice.
    fn come_to(&self, way: &Way, number: Number, lock: Lock, now: Moment) -> Way {
        let mut done = way.done.clone();
        done.insert(number);
        for other in &self.open {
            let operation = &self.said.operations[*other];
            if !done.contains(other) && lock.shows(operation, &self.said.unsure, now) {
                done.insert(*other);
            }
        }
        Way { lock, done }
    }
}
