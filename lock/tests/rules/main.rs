//! The rules of the locks, from outside: scripts that read as stories, random histories, bounds.

#![allow(clippy::unwrap_used)]

mod bounds;
mod histories;
mod masses;
mod resumed;
mod said;
mod script;
mod scripts;
