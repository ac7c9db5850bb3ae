//! Stopping what a node started.

use std::sync::{Arc, Mutex};

use evermind_storage::data_dir::DataDir;
use evermind_storage::log::LogStore;
use evermind_storage::machine::Checkpoints;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::core::lock;
use crate::peer::PeerServer;

/// Taken out when the node stops.
pub(super) type SharedCheckpoints = Arc<Mutex<Option<Checkpoints>>>;

/// Tasks that end with the node.
#[derive(Default)]
pub(super) struct Background {
    tasks: TaskTracker,
    end: CancellationToken,
}

impl Background {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let end = self.end.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// What is closed when a node stops, in order.
pub(super) struct Closing {
    pub(super) background: Background,
    pub(super) checkpoints: SharedCheckpoints,
    pub(super) log: LogStore,
    pub(super) server: Mutex<Option<PeerServer>>,
    /// The lock on the directory goes last.
    pub(super) _dir: DataDir,
}

impl Closing {
    pub(super) async fn close(&self) {
        drop(lock(&self.server).take());
        self.background.end.cancel();
        self.background.tasks.close();
        self.background.tasks.wait().await;
        let checkpoints = lock(&self.checkpoints).take();
        if let Some(checkpoints) = checkpoints {
            checkpoints.stop().await;
        }
        self.log.shutdown().await;
    }
}
