//! Real processes, real faults, and what their clients saw.
fn main() {}
