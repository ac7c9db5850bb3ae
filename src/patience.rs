//! What a person at a terminal is told while a command takes long.

use std::io::Write as _;
use std::time::Duration;

use evermind_client::Client;

/// A command without an answer says why after this long.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// What a command says while no node has answered it.
pub(crate) const SLOW: &str = "no node has answered yet";
/// How often it looks whether there is something new to say.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How much it says at most.
const LINES_MAX: usize = 5;

/// Waits for an answer, and says on stderr what keeps it if that takes long. `quiet`: what to say as
/// long as nothing is wrong.
pub(crate) async fn told<T>(client: &Client, quiet: &str, answer: impl Future<Output = T>) -> T {
    let mut answer = std::pin::pin!(answer);
    let mut said: Vec<String> = Vec::new();
    let mut pause = TELL_AFTER;
    loop {
        tokio::select! {
            biased;
            answer = &mut answer => return answer,
            () = tokio::time::sleep(pause), if said.len() < LINES_MAX => {}
        }
        pause = LOOK_AGAIN;
        let line = match client.trouble() {
            Some(why) => format!("still trying: {why}"),
            None => quiet.to_owned(),
        };
        if !said.contains(&line) {
            // To be silent is no reason to fail.
            let _ = writeln!(std::io::stderr(), "evermind: {line}");
            said.push(line);
        }
    }
}
