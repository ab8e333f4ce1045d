//! A client's `StreamingQueryListener`s: one execution that stays open and is told what the session's queries do.
//!
//! ```text
//!   watch ─ tell ─> Bus ─> the execution of `addListener` ─> client, which calls its listeners
//! ```
//!
//! The listeners themselves are Python and stay with the client. A client that does not take its events loses the oldest.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::connect::operations::Operation;
use crate::connect::problem::{Problem, Result};
use crate::connect::session::Session;
use crate::spark_connect::messages::{Answer, ListenerBusCommand, ListenerBusKind, ListenerEvent, ListenerEvents};

/// How many events wait for a client.
const MAX_EVENTS: usize = 10_000;

/// The events of a session's queries.
#[derive(Default)]
pub(super) struct Bus(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    is_heard: bool,
    events: VecDeque<ListenerEvent>,
}

impl Bus {
    /// Whether anybody listens.
    pub(super) fn is_heard(&self) -> bool {
        self.0.lock().is_heard
    }

    /// Keeps an event for whoever listens.
    pub(super) fn tell(&self, event: ListenerEvent) {
        let mut waiting = self.0.lock();
        if !waiting.is_heard {
            return;
        }
        if waiting.events.len() == MAX_EVENTS {
            waiting.events.pop_front();
            tracing::debug!("a listener does not take its events: the oldest is lost");
        }
        waiting.events.push_back(event);
    }

    fn is_settled(&self) -> bool {
        let waiting = self.0.lock();
        !waiting.is_heard || !waiting.events.is_empty()
    }

    /// Begins to listen; false if somebody does.
    fn begin(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().is_heard, true)
    }

    fn end(&self) {
        self.0.lock().is_heard = false;
    }

    /// What there is to tell; nothing and false at the end.
    fn take(&self) -> (Vec<ListenerEvent>, bool) {
        let mut waiting = self.0.lock();
        (waiting.events.drain(..).collect(), waiting.is_heard)
    }
}

/// Answers `addListener` and `removeListener`.
pub(crate) fn listener_command(session: &Session, operation: &Operation, command: &ListenerBusCommand) -> Result<()> {
    let shared = &session.streams.shared;
    match command.kind {
        Some(ListenerBusKind::Add(_)) => {
            if !shared.bus.begin() {
                return Err(Problem::argument(
                    "the session has a listener already: a client registers one for all of its",
                ));
            }
            let listened = listen(session, operation);
            shared.bus.end();
            shared.bus.take();
            listened
        }
        Some(ListenerBusKind::Remove(_)) => {
            shared.bus.end();
            shared.signal.wake();
            Ok(())
        }
        None => Err(Problem::argument("a command for listeners says neither add nor remove")),
    }
}

fn listen(session: &Session, operation: &Operation) -> Result<()> {
    let shared = &session.streams.shared;
    let tell = |events: Vec<ListenerEvent>, is_added: Option<bool>| {
        operation.push(Some(Answer::ListenerEvents(ListenerEvents { events, is_added })), None)
    };
    tell(Vec::new(), Some(true))?;
    loop {
        shared.signal.wait(operation, None, || shared.bus.is_settled())?;
        let (events, goes_on) = shared.bus.take();
        if !events.is_empty() {
            tell(events, None)?;
        } else if !goes_on {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(json: &str) -> ListenerEvent {
        ListenerEvent { json: json.to_owned(), event_type: 1 }
    }

    #[test]
    fn events_wait_only_for_somebody_who_listens() {
        let bus = Bus::default();
        bus.tell(event("unheard"));
        assert!(bus.begin() && !bus.begin(), "one listens for all");
        (0..=MAX_EVENTS).for_each(|at| bus.tell(event(&at.to_string())));
        let (events, goes_on) = bus.take();
        assert_eq!((events.len(), events[0].json.as_str(), goes_on), (MAX_EVENTS, "1", true));
        bus.tell(event("last"));
        bus.end();
        assert!(bus.is_settled());
        assert_eq!(bus.take(), (vec![event("last")], false));
    }
}
