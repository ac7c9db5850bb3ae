//! The ways in which a caller goes away.

use std::time::Duration;

use socket2::{SockFilter, SockRef};

use super::http::Connection;

/// `BPF_RET | BPF_K`: so many bytes of each packet are taken, and the rest is dropped.
const RETURN: u16 = 0x06;

/// A caller whose machine has vanished.
#[derive(Debug)]
pub struct Vanished(Connection);

impl Connection {
    /// Goes with a FIN, behind everything that was sent.
    pub fn close(self) {
        drop(self);
    }

    /// Goes with a RST.
    pub fn reset(self) {
        self.resets_when_dropped();
    }

    /// Goes without a packet: from now on nothing reaches this end of the connection, and nothing leaves
    /// it, acknowledgements included. It takes no rights, and disturbs no other connection.
    pub fn vanish(self) -> Vanished {
        let nothing = [SockFilter::new(RETURN, 0, 0, 0)];
        SockRef::from(&self.stream)
            .attach_filter(&nothing)
            .expect("a filter of one instruction");
        Vanished(self)
    }

    fn resets_when_dropped(&self) {
        let at_once = Some(Duration::ZERO);
        SockRef::from(&self.stream)
            .set_linger(at_once)
            .expect("a socket");
    }
}

impl Drop for Vanished {
    fn drop(&mut self) {
        // A FIN would be sent again and again for minutes: its acknowledgement never comes in.
        self.0.resets_when_dropped();
    }
}
