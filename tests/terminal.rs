//! Shows `evermind lock run` at a terminal and under signals: it behaves as `env` in its place.

use crate::harness::TestCluster;
use crate::harness::process::EVERMIND;
use crate::harness::terminal::{Runner, measure};

/// Rows that cannot hold, and why.
const EXCUSES: &[(&str, &str)] = &[];

/// `EVERMIND_ROWS=Ctrl-Z` plays only the rows with that in their names.
#[test]
fn lock_run_behaves_as_env_does() {
    let cluster = TestCluster::start();
    let runner = Runner {
        prefix: format!("{} lock run {{key}} --lease 5s --", EVERMIND.display()),
        env: vec![
            ("EVERMIND_BASE_URL".to_owned(), cluster.urls()),
            ("EVERMIND_API_KEY".to_owned(), cluster.api_key.clone()),
        ],
    };
    let filter = std::env::var("EVERMIND_ROWS").unwrap_or_default();
    let table = measure(&runner, &filter, EXCUSES);
    println!("{table}");
    assert!(table.surprises().is_empty(), "\n{table}");
}
