//! The limit: axum in front of one group commit, and two followers that sync. A command is answered
//! when two of the three disks have it. There is no consensus and there are no locks: what a server
//! like Evermind takes beyond this is what those cost. One batch is in flight at a time: a mark to
//! measure by, not a proof that nothing can be faster.

mod disk;
mod follower;
mod frame;
mod leader;

pub(crate) use follower::{FollowerArgs, follow};
pub(crate) use leader::{API_KEY, LeaderArgs, lead};
