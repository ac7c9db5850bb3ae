//! One node of the cluster: consensus, cluster time, peers, forwarding.
//!
//! Absent by design: HTTP and JSON.

pub mod api;
mod complaints;
pub mod node;
pub mod peer;
