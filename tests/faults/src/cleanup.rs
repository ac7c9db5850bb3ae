//! What must not outlive this program, however it ends by a signal: mounts, namespaces, strangers'
//! processes. Nodes need no mention: they stop when their stdin closes.

use std::process::exit;
use std::sync::{Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};

use crate::tool;

type Undo = (String, Vec<String>);
static LIST: Mutex<Vec<Undo>> = Mutex::new(Vec::new());

fn undo(program: &str, arguments: &[&str]) -> Undo {
    let arguments = arguments.iter().map(ToString::to_string).collect();
    (program.to_owned(), arguments)
}

/// Has `program` run if a signal ends this one.
pub(crate) fn remember(program: &str, arguments: &[&str]) {
    let mut list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
    list.push(undo(program, arguments));
}

/// Takes it back: it has been done.
pub(crate) fn forget(program: &str, arguments: &[&str]) {
    let gone = undo(program, arguments);
    let mut list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
    list.retain(|undo| *undo != gone);
}

/// From here on SIGINT and SIGTERM undo what is on the list, the newest first, and end the program.
pub(crate) fn on_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime for signals");
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be had");
            let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be had");
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let mut list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((program, arguments)) = list.pop() {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let _ = tool::attempt(&program, &arguments);
        }
        exit(130);
    });
}
