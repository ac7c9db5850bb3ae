//! `evermind licences`: the operator issues licences, looks at them, takes them back.

mod view;

use std::process::ExitCode;

use clap::Subcommand;
use evermind_client::{Client, Code, Error, LicenceInfo, NewLicence};
use serde_json::{Value, json};

use crate::exit::{self, Failure, OTHER};
use crate::operator::Operator;
use crate::output;
use crate::patience::{self, SLOW};
use crate::stderr::say;

const ID: &str = "The licence's id, as in lic_2; list shows them";

/// Issue licences, show them and their usage, revoke them
#[derive(Debug, clap::Args)]
#[command(after_help = exit::KEYS_TABLE)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Issue a licence and print its key, this once
    ///
    /// Whoever has the licence key makes API keys with it (`evermind keys create`). Nothing but the
    /// licence key is printed on stdout.
    Create {
        #[command(flatten)]
        asked: Asked,
        #[command(flatten)]
        common: Common,
    },
    /// List all licences
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show a licence, what it used, and its API keys
    Show {
        #[arg(help = ID)]
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Delete an API key of a licence by its id, as in `key_12`
    ///
    /// For keys whose text nobody has, and for those that came from a node's configuration, which
    /// does not bring them back.
    DeleteKey {
        #[arg(help = ID)]
        id: String,
        /// The API key's id, as in `key_12`; show lists them
        key: String,
        #[command(flatten)]
        common: Common,
    },
    /// Take a licence back, for good
    ///
    /// Every node refuses its API keys from then on, and their requests in line end. Locks that they
    /// hold run out.
    Revoke {
        #[arg(help = ID)]
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Asked {
    /// What people call it: 1 to 128 bytes without control characters
    #[arg(long)]
    name: String,
    /// Whose locks its API keys open: A to Z, a to z, 0 to 9, _ and -, up to 64 [default: a new one]
    #[arg(long, value_name = "ID")]
    identity: Option<String>,
    /// How many attempts to acquire it covers in each period [default: any number]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// When the count begins anew: each month in UTC, or never
    #[arg(long, value_enum, default_value = "month")]
    period: Period,
    /// From when on it is no longer active: 2027-01-31 (from midnight UTC on), or 2027-01-31T12:00:00Z
    /// [default: never]
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Period {
    Month,
    None,
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    operator: Operator,
    /// Print the server's answer as JSON
    #[arg(long)]
    json: bool,
}

impl Asked {
    fn licence(&self) -> NewLicence {
        let period = match self.period {
            Period::Month => "month",
            Period::None => "none",
        };
        NewLicence {
            name: self.name.clone(),
            identity: self.identity.clone(),
            limit: self.limit,
            period: Some(period.to_owned()),
            expires: self.expires.clone(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (Command::Create { common, .. }
    | Command::List { common }
    | Command::Show { common, .. }
    | Command::DeleteKey { common, .. }
    | Command::Revoke { common, .. }) = &args.command;
    let client = common.operator.client()?;
    match crate::single_threaded()?.block_on(patience::told(
        &client,
        SLOW,
        answer(&client, &args.command),
    )) {
        Ok((body, _)) if common.json => output::line(&body)?,
        Ok((_, text)) => output::write(&text)?,
        Err(error) => {
            if let (true, Error::Refused(problem)) = (common.json, &error) {
                output::line(problem.body.trim_end())?;
            }
            return Err(failed(error));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's answer as JSON, and for people.
async fn answer(client: &Client, command: &Command) -> Result<(String, String), Error> {
    match command {
        Command::Create { asked, .. } => {
            let answer = client.create_licence(&asked.licence()).await?;
            let made = answer.value;
            say!(
                "made {}, with the identity {}; the licence key is shown this once: keep it now\n\
                 hint: set EVERMIND_LICENCE_KEY to it; then `evermind keys create` makes API keys",
                made.id,
                made.identity
            );
            Ok((answer.body, format!("{}\n", made.licence_key)))
        }
        Command::List { .. } => {
            let (bodies, licences) = all(client).await?;
            let body = json!({ "licences": bodies, "cursor": null });
            Ok((body.to_string(), view::list(&licences)))
        }
        Command::Show { id, .. } => {
            let licence = client.licence(id).await?;
            let usage = client.usage(id).await?;
            let mut body = value(&licence.body);
            body["usage"] = value(&usage.body);
            Ok((body.to_string(), view::show(&licence.value, &usage.value)))
        }
        Command::DeleteKey { id, key, .. } => {
            client.delete_licence_key(id, key).await?;
            let text = format!("deleted {key} of {id}: every node refuses it now\n");
            let body = json!({ "deleted": true, "id": id, "key": key });
            Ok((body.to_string(), text))
        }
        Command::Revoke { id, .. } => {
            // By name too: ids are easily mistaken, and there is no way back.
            let name = client.licence(id).await?.value.name;
            client.revoke_licence(id).await?;
            let text = format!("revoked {id} ({name}): every node refuses its API keys now\n");
            Ok((json!({ "revoked": true, "id": id }).to_string(), text))
        }
    }
}

/// Every licence, page by page: as the server wrote it, and as it is understood.
async fn all(client: &Client) -> Result<(Vec<Value>, Vec<LicenceInfo>), Error> {
    let (mut bodies, mut licences) = (Vec::new(), Vec::new());
    let mut cursor = None;
    loop {
        let page = client.licences(cursor.as_deref()).await?;
        if let Value::Array(more) = value(&page.body)["licences"].take() {
            bodies.extend(more);
        }
        licences.extend(page.value.licences);
        cursor = page.value.cursor;
        if cursor.is_none() {
            return Ok((bodies, licences));
        }
    }
}

/// A body that was understood before is JSON.
fn value(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

fn failed(error: Error) -> Failure {
    let off = Code::Other("not_found".to_owned());
    let (code, hint) = match error.code() {
        Some(Code::Unauthorized) => (
            exit::REFUSED,
            "give the token that the nodes were started with, by --admin-token-file or EVERMIND_ADMIN_TOKEN",
        ),
        Some(code) if *code == off => (
            OTHER,
            "start every node with the same admin token; make one: openssl rand -hex 32 > admin-token",
        ),
        // Creating is never repeated until its outcome is not known.
        Some(Code::OutcomeUnknown) => (
            exit::UNAVAILABLE,
            "do it again: looking or revoking twice harms nothing",
        ),
        _ => return error.into(),
    };
    Failure::from(error).hint(hint).code(code)
}
