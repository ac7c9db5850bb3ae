//! How the tools find the cluster.

use std::path::PathBuf;

use evermind_client::Client;

use crate::exit::Failure;
use crate::secret;

const API_KEY: &str = "EVERMIND_API_KEY";

/// The nodes of `evermind dev`.
const DEFAULT_URLS: &str = "http://127.0.0.1:7601,http://127.0.0.1:7602,http://127.0.0.1:7603";

/// Which cluster.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Nodes {
    /// Nodes to talk to, comma-separated; one is chosen at random; another is tried if it fails or is slow
    #[arg(long, env = "EVERMIND_BASE_URL", value_name = "URL,…", default_value = DEFAULT_URLS)]
    #[arg(value_delimiter = ',', hide_default_value = true)]
    #[arg(
        long_help = "Nodes to talk to, comma-separated; one is chosen at random, and left when it \
        fails or is slow.\n\
        The default is the cluster of `evermind dev`: ports 7601 to 7603 of this machine."
    )]
    url: Vec<String>,
}

impl Nodes {
    /// The addresses that were given.
    pub(crate) fn urls(&self) -> impl Iterator<Item = &str> {
        let urls = self.url.iter().map(String::as_str);
        urls.filter(|url| !url.trim().is_empty())
    }
}

/// Which cluster, and with which key.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Connection {
    #[command(flatten)]
    nodes: Nodes,
    #[arg(
        long,
        value_name = "KEY",
        conflicts_with = "api_key_file",
        help = "The API key; better in a file [env: EVERMIND_API_KEY=]"
    )]
    api_key: Option<String>,
    #[arg(
        long,
        value_name = "FILE",
        help = "A file with the API key [env: EVERMIND_API_KEY_FILE=]"
    )]
    api_key_file: Option<PathBuf>,
}

impl Connection {
    /// The key from flags, or else from variables; or what to do about its absence.
    pub(crate) fn api_key(&self) -> Result<String, Failure> {
        let flags = (self.api_key.clone(), self.api_key_file.clone());
        let variables = |name: &str| std::env::var_os(name);
        match secret::read_or_variable("--api-key", API_KEY, flags, variables)? {
            Some(key) if !key.is_empty() => Ok(key),
            _ => Err(Failure::usage("no API key was given")
                .hint("set EVERMIND_API_KEY, or give --api-key-file; `evermind keys create` makes one, `evermind dev` prints one")),
        }
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.nodes.urls(), &self.api_key()?)?)
    }
}
