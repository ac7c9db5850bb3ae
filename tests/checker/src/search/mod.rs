//! The general search: whether some order of the operations explains every answer, on short windows.
