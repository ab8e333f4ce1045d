//! Ctrl-C: the first asks a command to finish what it is doing, the second to drop it.
//!
//! SIGTERM counts as a Ctrl-C, so that a service manager ends a run as gently as a person does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Failure, Result};

/// How often waiting code looks whether it was interrupted.
const LOOK: Duration = Duration::from_millis(50);

/// How often the user asked to stop. Clones share the count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    count: Arc<AtomicU32>,
}

impl Interrupt {
    /// Listens to the process's signals from now on.
    pub(crate) fn listen() -> Result<Self> {
        let interrupt = Self::default();
        let heard = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::runtime(format!("the signal listener cannot start: {error}")))?;
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(heard.count_signals()))
            .map_err(|error| Failure::runtime(format!("the signal listener cannot start: {error}")))?;
        Ok(interrupt)
    }

    async fn count_signals(self) {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            tracing::warn!("signals cannot be listened to; Ctrl-C will abort at once");
            return;
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The user asked once, at least: finish, then end.
    pub(crate) fn requested(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// The user asked again: end now.
    pub(crate) fn insisted(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 1
    }

    /// Asks in the user's place.
    pub(crate) fn request(&self) {
        self.count.fetch_max(1, Ordering::SeqCst);
    }

    /// Waits until `deadline`; `false` if it was interrupted before.
    pub(crate) fn sleep_until(&self, deadline: Instant) -> bool {
        loop {
            if self.requested() {
                return false;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Waits for `duration`; `false` if it was interrupted before.
    pub(crate) fn sleep(&self, duration: Duration) -> bool {
        self.sleep_until(Instant::now() + duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_a_wait_at_once() {
        let interrupt = Interrupt::default();
        assert!(interrupt.sleep(Duration::ZERO));
        interrupt.request();
        assert!(interrupt.requested() && !interrupt.insisted());
        assert!(!interrupt.sleep(Duration::from_secs(3600)));
    }
}
