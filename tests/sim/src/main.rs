//! Whole clusters in one process, one thread and one seed.
fn main() {}
