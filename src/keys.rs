//! `evermind keys`: a team's own API keys, by its licence key.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;

use clap::Subcommand;
use evermind_api::SecretKind;
use evermind_client::{Client, Code, Error};
use serde_json::json;

use crate::connection::Nodes;
use crate::exit::{self, Failure};
use crate::output;
use crate::patience::{self, SLOW};
use crate::stderr::say;

/// More than any key.
const STDIN_BYTES_MAX: u64 = 4096;

/// Make and delete API keys, with a licence key
#[derive(Debug, clap::Args)]
#[command(after_help = exit::KEYS_TABLE)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an API key and print it, this once
    #[command(after_help = "Nothing but the key is on stdout: \
        export EVERMIND_API_KEY=$(evermind keys create)")]
    Create {
        #[command(flatten)]
        common: Common,
    },
    /// Delete an API key: every node refuses it from then on
    ///
    /// Its requests in line end. Locks that it holds run out, and any other key of the same identity
    /// can release them. A key that was deleted before stays so.
    Delete {
        /// The API key; - reads it from stdin, as others can see a command line
        api_key: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    nodes: Nodes,
    /// The licence key, from the operator of the cluster
    #[arg(long = "licenceKey", short = 'l', visible_alias = "licence-key")]
    #[arg(
        env = "EVERMIND_LICENCE_KEY",
        value_name = "KEY",
        hide_env_values = true
    )]
    licence_key: Option<String>,
    /// Print the server's answer as it is
    #[arg(long)]
    json: bool,
}

impl Common {
    fn licence_key(&self) -> Result<&str, Failure> {
        match self.licence_key.as_deref().map(str::trim) {
            Some(key) if !key.is_empty() => sound(SecretKind::LicenceKey, key),
            _ => Err(Failure::usage("no licence key was given").hint(
                "set EVERMIND_LICENCE_KEY, or give --licenceKey; the operator of the cluster issues them (`evermind licences create`), `evermind dev` prints one",
            )),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (Command::Create { common } | Command::Delete { common, .. }) = &args.command;
    let licence_key = common.licence_key()?;
    let client = Client::without_key(common.nodes.urls())?;
    let runtime = crate::single_threaded()?;
    let outcome = match &args.command {
        Command::Create { .. } => {
            let making = client.create_api_key(licence_key);
            runtime
                .block_on(patience::told(&client, SLOW, making))
                .map(|answer| {
                    say!(
                        "made {}; the key itself is shown this once: keep it now\n\
                     hint: `evermind keys delete -` deletes the key that it reads from stdin",
                        answer.value.id
                    );
                    (answer.body, answer.value.api_key)
                })
        }
        Command::Delete { api_key, .. } => {
            let read = api_key_of(api_key, std::io::stdin())?;
            let api_key = sound(SecretKind::ApiKey, &read)?;
            let deleting = client.delete_api_key(licence_key, api_key);
            runtime
                .block_on(patience::told(&client, SLOW, deleting))
                .map(|()| {
                    let body = json!({ "deleted": true }).to_string();
                    (
                        body,
                        "deleted: every node refuses this API key now".to_owned(),
                    )
                })
        }
    };
    match outcome {
        Ok((body, _)) if common.json => output::line(&body)?,
        Ok((_, text)) => output::line(&text)?,
        Err(error) => {
            if let (true, Error::Refused(problem)) = (common.json, &error) {
                output::line(problem.body.trim_end())?;
            }
            return Err(failed(error));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a key with a slip of the finger in it before anybody is asked.
fn sound(kind: SecretKind, key: &str) -> Result<&str, Failure> {
    match kind.fault(key) {
        None => Ok(key),
        Some(fault) => Err(Failure::usage(fault).hint(match kind {
            SecretKind::ApiKey => {
                "an API key is what `evermind keys create` printed: evk_ and 58 more characters"
            }
            SecretKind::LicenceKey => {
                "a licence key is what the operator gave you: evl_ and 58 more characters"
            }
        })),
    }
}

/// The argument, or what stdin says.
fn api_key_of(argument: &str, stdin: std::io::Stdin) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.trim().to_owned());
    }
    if stdin.is_terminal() {
        say!("reading the API key from stdin; end it with Enter and Ctrl-D");
    }
    read_key(stdin)
}

fn read_key(from: impl std::io::Read) -> Result<String, Failure> {
    let mut text = String::new();
    let read = from.take(STDIN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| {
        Failure::usage(format!("cannot read the API key from stdin: {error}"))
            .hint("for example: evermind keys delete - < file-with-the-key")
    })?;
    match text.trim() {
        "" => Err(Failure::usage("there is no API key on stdin")
            .hint("for example: evermind keys delete - < file-with-the-key")),
        key => Ok(key.to_owned()),
    }
}

fn failed(error: Error) -> Failure {
    let hint = match error.code() {
        Some(Code::LicenceInactive) => {
            "ask the operator of the cluster for an active licence key: `evermind licences list` shows which are"
        }
        // Only a deletion is repeated until its outcome is not known.
        Some(Code::OutcomeUnknown) => "do it again: deleting twice harms nothing",
        _ => return error.into(),
    };
    Failure::from(error).hint(hint)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use evermind_api::Secret;

    #[test]
    fn a_slip_of_the_finger_is_told_before_anybody_is_asked() {
        let key = Secret::new(SecretKind::ApiKey).unwrap();
        assert_eq!(sound(SecretKind::ApiKey, key.text()).unwrap(), key.text());
        let mistyped = key.text().to_uppercase().replace("EVK_", "evk_");
        for (kind, text) in [
            (SecretKind::ApiKey, mistyped.as_str()),
            (SecretKind::LicenceKey, key.text()),
        ] {
            let failure = sound(kind, text).unwrap_err();
            assert_eq!(failure.code, exit::USAGE);
            assert!(failure.hint.is_some() && !failure.message.contains(text));
        }
    }

    #[test]
    fn stdin_has_one_key() {
        assert_eq!(read_key(&b" evk_1\r\n"[..]).unwrap(), "evk_1");
        for wrong in [&b""[..], b"\n", b"\xff"] {
            let failure = read_key(wrong).unwrap_err();
            assert_eq!(failure.code, exit::USAGE);
            assert!(failure.hint.is_some());
        }
    }
}
