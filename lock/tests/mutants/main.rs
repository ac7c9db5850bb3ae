//! Each seeded bug in the rules does what it says, and nothing is wrong while none is picked.
//! Reproduce: `RUSTFLAGS="--cfg evermind_mutants" cargo test -p evermind-lock`
#![cfg(evermind_mutants)]

mod bugs;
mod story;
