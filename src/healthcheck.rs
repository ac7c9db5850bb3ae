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
    #[arg(
        long,
        value_name = "URL",
        help = "The node [default: the one that EVERMIND_LISTEN is set for, or else the first of \
                `evermind dev`: http://127.0.0.1:7601]"
    )]
    url: Option<String>,
}

/// The first node of `evermind dev`, as of the other commands.
const DEFAULT_URL: &str = "http://127.0.0.1:7601";

/// The address of a node that listens as `serve` was told to.
fn url_of(listen: Option<&str>) -> String {
    let Some((host, port)) = listen.and_then(|listen| listen.trim().rsplit_once(':')) else {
        return DEFAULT_URL.to_owned();
    };
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    format!("http://{host}:{port}")
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let url = args.url.clone().unwrap_or_else(|| {
        let listen = std::env::var("EVERMIND_LISTEN").ok();
        url_of(listen.as_deref())
    });
    // /readyz asks for no key.
    let client = Client::without_key([&url])?.with_answer_grace(ANSWER_WITHIN);
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
    Err(Failure::new(format!("{url} is not ready"))
        .hint("it knows no leader yet, or cannot be reached: its log says which; --url names another node")
        .code(UNAVAILABLE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_the_node_of_this_machine() {
        for (listen, url) in [
            (None, DEFAULT_URL),
            (Some(""), DEFAULT_URL),
            (Some("0.0.0.0:7600"), "http://127.0.0.1:7600"),
            (Some("[::]:7600"), "http://[::1]:7600"),
            (Some("10.0.0.7:80"), "http://10.0.0.7:80"),
        ] {
            assert_eq!(url_of(listen), url);
        }
    }
}
