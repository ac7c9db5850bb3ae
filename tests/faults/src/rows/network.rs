//! Partitions, loss and delay between the nodes.
