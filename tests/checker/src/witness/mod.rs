//! The rules that take the committed log as the order.
