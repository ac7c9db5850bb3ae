//! A history and a committed log as files.
