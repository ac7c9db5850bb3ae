//! Waits whose end may have passed unseen: in a snapshot, or before a repeated sending was decided.

use evermind_lock::command::{Attachment, KeyId};

use super::{Answer, Pending, Wait};

impl Pending {
    /// A snapshot replaced the table: the ends of waits may have passed unseen.
    pub(crate) fn doubt_all(&mut self) {
        for wait in self.waits.values_mut() {
            wait.doubtful = true;
        }
        self.doubtful = self.waits.len();
        for open in self.open.iter_mut().flatten() {
            open.sendings = open.sendings.max(2);
            open.sent = None;
            open.uncertain = true;
        }
    }

    /// Whether any wait's end may have passed unseen.
    pub(crate) fn has_doubtful(&self) -> bool {
        self.doubtful > 0
    }

    /// The waits whose end may have passed unseen, with their API keys; each is asked about once.
    pub(crate) fn take_doubtful(&mut self) -> Vec<(Attachment, KeyId)> {
        self.doubtful = 0;
        let doubtful = |wait: &mut Wait| {
            let was = std::mem::take(&mut wait.doubtful);
            was.then(|| (wait.attachment.clone(), wait.key))
        };
        self.waits.values_mut().filter_map(doubtful).collect()
    }

    /// Ends a wait whose own end passed unseen.
    pub(crate) fn settle(&mut self, sequence: u64, answer: Answer) {
        if let Some(wait) = self.waits.remove(&sequence) {
            // The caller may be gone: then its acquisition gave the wait up already.
            let _ = wait.caller.send(answer);
        }
    }
}
