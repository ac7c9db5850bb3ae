//! A TCP port that leads to another one, until it is cut: for a node that others cannot reach, and
//! that reaches them.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// Ends with the process: its listener stays, as a port that is closed could be taken by others.
#[derive(Debug)]
pub struct Relay(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    cut: bool,
    streams: Vec<TcpStream>,
}

impl Relay {
    /// Leads from one address to another.
    pub fn start(from: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(from).expect("the port was reserved");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(outer) = stream else { continue };
                let mut state = shared.lock().unwrap();
                if state.cut {
                    continue;
                }
                let Ok(inner) = TcpStream::connect(to) else {
                    continue;
                };
                for (read, write) in [(&outer, &inner), (&inner, &outer)] {
                    let (mut read, mut write) =
                        (read.try_clone().unwrap(), write.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = io::copy(&mut read, &mut write);
                        let _ = write.shutdown(Shutdown::Both);
                    });
                }
                state.streams.extend([outer, inner]);
            }
        });
        Self(state)
    }

    /// Cuts what goes through it, and lets nothing through from here on.
    pub fn cut(&self) {
        let mut state = self.0.lock().unwrap();
        state.cut = true;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets new connections through.
    pub fn mend(&self) {
        self.0.lock().unwrap().cut = false;
    }
}
