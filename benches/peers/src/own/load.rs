//! `evermind bench` as it is, run against a cluster that is there.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::systems::{API_KEY, Evermind, Setup};

/// What one run printed.
pub(super) struct Load(Value);

impl Load {
    /// A percentile of one kind of request, in microseconds.
    pub(super) fn at(&self, request: &str, percentile: &str) -> Result<f64> {
        let figure = &self.0[request][percentile];
        let figure = figure.as_f64();
        figure.with_context(|| format!("no {percentile} of {request} in {}", self.0))
    }

    pub(super) fn cycles_per_second(&self) -> Result<f64> {
        let figure = &self.0["cyclesPerSecond"];
        figure
            .as_f64()
            .with_context(|| format!("no cyclesPerSecond in {}", self.0))
    }
}

/// One load for so long. A request that failed is a failure of the measurement.
pub(super) fn run(
    setup: &Setup,
    cluster: &Evermind,
    duration: Duration,
    workload: &[&str],
) -> Result<Load> {
    let duration = format!("{}ms", duration.as_millis());
    let output = Command::new(&setup.evermind)
        .args(["bench", "--json", "--duration", &duration])
        .args(["--url", &cluster.urls(), "--api-key", API_KEY])
        .args(workload)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start evermind bench")?;
    ensure!(output.status.success(), "evermind bench: {}", output.status);
    let load: Value = serde_json::from_slice(&output.stdout).context("evermind bench's JSON")?;
    let errors = &load["errors"];
    ensure!(
        errors.as_object().is_some_and(serde_json::Map::is_empty),
        "evermind bench {workload:?}: {errors}"
    );
    Ok(Load(load))
}

/// Takes so many locks and leaves them held.
pub(super) fn hold(setup: &Setup, cluster: &Evermind, leases: u32) -> Result<Load> {
    let leases = leases.to_string();
    let workload = ["--workload", "hold", "--clients", "64", "--keys", &leases];
    // How long they are held follows from how long they may take: it ends when all are taken.
    run(setup, cluster, Duration::from_mins(30), &workload)
}
