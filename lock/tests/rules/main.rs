//! The rules of the locks, from outside: scripts that read as stories, random histories, bounds.

mod bounds;
mod histories;
mod script;
mod scripts;
