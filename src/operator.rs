//! How the operator's tools prove whose they are.

use std::ffi::OsString;
use std::path::PathBuf;

use evermind_api::AdminToken;
use evermind_client::Client;

use crate::connection::Nodes;
use crate::exit::Failure;
use crate::secret;

const TOKEN: &str = "EVERMIND_ADMIN_TOKEN";

/// Which cluster, and the token that its nodes were started with.
#[derive(Debug, clap::Args)]
pub(crate) struct Operator {
    #[command(flatten)]
    nodes: Nodes,
    #[arg(
        long,
        value_name = "TOKEN",
        conflicts_with = "admin_token_file",
        help = "The admin token of the nodes; better in a file [env: EVERMIND_ADMIN_TOKEN=]"
    )]
    admin_token: Option<String>,
    #[arg(
        long,
        value_name = "FILE",
        help = "A file with the admin token [env: EVERMIND_ADMIN_TOKEN_FILE=]"
    )]
    admin_token_file: Option<PathBuf>,
}

impl Operator {
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let token = self.token(|name| std::env::var_os(name))?;
        Ok(Client::admin(self.nodes.urls(), &token)?)
    }

    /// The token from flags, or else from variables.
    fn token(&self, read: impl Fn(&str) -> Option<OsString>) -> Result<String, Failure> {
        let flags = (self.admin_token.clone(), self.admin_token_file.clone());
        let token = secret::read_or_variable("--admin-token", TOKEN, flags, read)?;
        let token = token.ok_or_else(|| {
            Failure::usage("no admin token was given").hint(format!(
                "give the one that the nodes were started with, by --admin-token-file or {TOKEN}; `evermind dev` prints one"
            ))
        })?;
        // No node takes a weaker one, so there is no need to show it to any.
        match AdminToken::new(&token) {
            Ok(_) => Ok(token),
            Err(weak) => Err(not_one(&weak)),
        }
    }
}

fn not_one(why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("this cannot be the admin token: {why}"))
        .hint("give the one that the nodes were started with")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const TOKEN_FILE: &str = "EVERMIND_ADMIN_TOKEN_FILE";
    const STRONG: &str = "0123456789abcdef0123456789abcdef";

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        operator: Operator,
    }

    fn token(flags: &[&str], variables: &[(&str, &str)]) -> Result<String, Failure> {
        let words = ["evermind"].iter().chain(flags);
        let cli: Cli = clap::Parser::try_parse_from(words).unwrap();
        cli.operator.token(|name| {
            let found = variables.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_flag_of_either_form_wins_over_a_variable_of_either() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{STRONG}\n")).unwrap();
        let path = file.path().to_str().unwrap();
        let other = "f".to_owned() + &STRONG[1..];
        let read = |flags: &[&str], variables: &[(&str, &str)]| token(flags, variables).unwrap();
        assert_eq!(read(&["--admin-token", STRONG], &[]), STRONG);
        assert_eq!(
            read(&["--admin-token-file", path], &[(TOKEN, &other)]),
            STRONG
        );
        assert_eq!(read(&[], &[(TOKEN, &other)]), other);
        assert_eq!(read(&[], &[(TOKEN, ""), (TOKEN_FILE, path)]), STRONG);
    }

    #[test]
    fn what_cannot_be_the_token_is_refused_with_a_hint() {
        for (flags, variables) in [
            (&[][..], &[][..]),
            (&[], &[(TOKEN, STRONG), (TOKEN_FILE, "x")]),
            (&["--admin-token", "short"], &[]),
            (&["--admin-token-file", "/nowhere/x"], &[]),
        ] {
            let failure = token(flags, variables).unwrap_err();
            assert_eq!(failure.code, crate::exit::USAGE);
            assert!(failure.hint.is_some() && !failure.message.contains("short"));
        }
    }
}
