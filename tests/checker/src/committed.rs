//! The committed log, read as the one order of everything.
