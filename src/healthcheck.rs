//! `evermind healthcheck`: what a container's health check runs, as the image has no curl.

use std::process::ExitCode;
use std::time::Duration;

use evermind_client::Client;

use crate::exit::{Failure, UNAVAILABLE};

/// Longer than a node that is well ever takes.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Say whether a node can serve: exit code 0 if GET /readyz answers 200 within 3 s, 69 if not
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The node
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7600")]
    url: String,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // /readyz asks for no key.
    let client = Client::without_key([args.url.as_str()])?.with_answer_grace(ANSWER_WITHIN);
    let asked = async {
        let ready = async {
            match client.endpoints().first() {
                Some(endpoint) => client.is_ready(endpoint).await.unwrap_or(false),
                None => false,
            }
        };
        tokio::time::timeout(ANSWER_WITHIN, ready)
            .await
            .unwrap_or(false)
    };
    if crate::single_threaded()?.block_on(asked) {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!("{} is not ready", args.url))
        .hint("it knows no leader yet, or cannot be reached: its log says which; --url names another node")
        .code(UNAVAILABLE))
}
