//! Which grants a history shows, and what their holders could believe.
