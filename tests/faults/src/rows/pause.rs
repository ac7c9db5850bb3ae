//! SIGSTOP: time passes, and the process does not know.
