//! One stage of `cargo xtask test`: its name, what it needs, what it does.

use anyhow::Result;

use crate::workspace::Workspace;

/// A program that a stage cannot do without.
pub(crate) struct Need {
    /// The program's name on the path.
    pub(crate) program: &'static str,
    /// What installs it.
    pub(crate) install: &'static str,
}

/// How much `cargo xtask test` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extent {
    /// What takes seconds once built.
    Quick,
    /// What a change must pass before it is sent.
    Usual,
    /// What CI runs: nothing may be skipped.
    All,
}

/// What a stage that ran to its end found.
pub(crate) enum Found {
    /// All is well; the text, where there is any, goes into the table.
    Well(String),
    /// The stage needs something of the network that could not be reached. Not a failure, for the
    /// network is not ours to mend; never silent either.
    Unreachable(String),
}

/// One thing to check.
pub(crate) struct Stage {
    /// What `--only` calls it.
    pub(crate) name: &'static str,
    /// The least extent that includes it.
    pub(crate) from: Extent,
    /// The programs it needs; with one missing the stage is skipped by name.
    pub(crate) needs: &'static [Need],
    /// The check itself. An error is a failed check as much as a check that could not be made.
    pub(crate) run: fn(&Workspace, Extent) -> Result<Found>,
}

impl Stage {
    /// A stage, as one line of the list.
    pub(crate) const fn new(
        name: &'static str,
        from: Extent,
        needs: &'static [Need],
        run: fn(&Workspace, Extent) -> Result<Found>,
    ) -> Self {
        Self {
            name,
            from,
            needs,
            run,
        }
    }

    /// The first of its needs that this machine lacks.
    pub(crate) fn missing(&self, workspace: &Workspace) -> Option<&'static Need> {
        self.needs.iter().find(|need| !workspace.has(need.program))
    }
}
