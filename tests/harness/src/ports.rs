//! Ports that stay free while a test runs.
//!
//! A port found by binding port 0 and closing it is in the range that the kernel also takes the
//! local ends of outgoing connections from, so that a node killed and started again may find its
//! port gone. These come from below that range, in blocks that a file lock keeps for one test
//! process.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::process;

/// Below 32768, where Linux starts to pick the local ports of outgoing connections.
const FIRST_PORT: u16 = 20_000;
const BLOCKS: u16 = 500;
/// `evermind dev` spreads over 14 ports.
const BLOCK_PORTS: u16 = 20;

/// A block of ports: this process's own until dropped.
#[derive(Debug)]
pub struct Ports {
    base: u16,
    _lock: File,
}

impl Ports {
    /// Reserves a block of which every port is free.
    pub fn reserve() -> Self {
        let dir = std::env::temp_dir().join("evermind-test-ports");
        fs::create_dir_all(&dir).expect("a directory for port reservations");
        // Neighbouring process ids start far apart, so that blocks are rarely contended.
        let start = u16::try_from(process::id() % u32::from(BLOCKS)).expect("below BLOCKS");
        for step in 0..BLOCKS {
            let block = (start + step * 7) % BLOCKS;
            let base = FIRST_PORT + block * BLOCK_PORTS;
            let lock = File::create(dir.join(base.to_string())).expect("a reservation file");
            if lock.try_lock().is_ok() && (base..base + BLOCK_PORTS).all(is_free) {
                return Self { base, _lock: lock };
            }
        }
        panic!("no block of {BLOCK_PORTS} free ports from {FIRST_PORT} on");
    }

    /// The block's number, below 500: no other process has it meanwhile.
    pub fn block(&self) -> u16 {
        (self.base - FIRST_PORT) / BLOCK_PORTS
    }

    /// The port `offset` places into the block.
    pub fn port(&self, offset: u16) -> u16 {
        assert!(offset < BLOCK_PORTS, "a block has {BLOCK_PORTS} ports");
        self.base + offset
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
