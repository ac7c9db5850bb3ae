//! What is injected, by the kind of fault.

pub(crate) mod kill;
pub(crate) mod network;
pub(crate) mod pause;
pub(crate) mod replay;
