//! What the stories are told with: processes, a cluster of them, HTTP from bytes up, clients that
//! follow the contract, and a history that is checked.

pub(crate) mod caller;
pub(crate) mod checker;
pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod licence;
pub(crate) mod load;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod until;
pub(crate) mod waiter;

pub(crate) use caller::Caller;
pub(crate) use cluster::TestCluster;
pub(crate) use until::until;
