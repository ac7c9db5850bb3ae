//! What is injected, by the kind of fault.

pub(crate) mod abuse;
pub(crate) mod clock;
pub(crate) mod damage;
pub(crate) mod disk;
pub(crate) mod kill;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod pause;
pub(crate) mod replay;
