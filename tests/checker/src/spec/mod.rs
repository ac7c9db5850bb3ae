//! The lock as a specification, written apart from the server.
