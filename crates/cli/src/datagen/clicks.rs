//! Page views of a web shop: visitors come with a referrer, walk from page to page, and leave.
//!
//! The pages are those of `examples/user-behaviour/pages.csv`, so that a join with that table finds each of them.

use super::Generator;
use super::json::{Object, push_padded};
use super::random::{Random, Weighted};

/// The pages, the most visited first.
pub(crate) const PAGES: [&str; 16] = [
    "/",
    "/search",
    "/category/shoes",
    "/category/jackets",
    "/product/trail-runner",
    "/product/city-boot",
    "/product/rain-shell",
    "/cart",
    "/checkout",
    "/checkout/done",
    "/account",
    "/account/orders",
    "/help",
    "/help/returns",
    "/blog/winter-layers",
    "/about",
];
const REFERRERS: [&str; 6] = ["", "search", "newsletter", "social", "ads", "partner"];
const REFERRER_WEIGHTS: [f64; 6] = [40.0, 30.0, 8.0, 10.0, 9.0, 3.0];
const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
const DEVICE_WEIGHTS: [f64; 3] = [60.0, 33.0, 7.0];

/// Visitors on the site at once.
const OPEN_SESSIONS: usize = 400;

/// The chance that a page is a visitor's last.
const LEAVE_CHANCE: f64 = 0.12;

/// Makes the page views.
#[derive(Debug)]
pub(crate) struct Clicks {
    random: Random,
    pages: Weighted,
    referrers: Weighted,
    devices: Weighted,
    users: Weighted,
    sessions: Vec<Session>,
    opened: u64,
    object: Object,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    id: u64,
    user: u64,
    device: usize,
    /// None after the first page.
    referrer: Option<usize>,
}

impl Clicks {
    /// Page views of `users` users.
    pub(crate) fn new(seed: u64, users: u64) -> Self {
        let mut clicks = Self {
            random: Random::new(seed),
            pages: Weighted::zipf(PAGES.len(), 0.9, 0.0),
            referrers: Weighted::new(&REFERRER_WEIGHTS),
            devices: Weighted::new(&DEVICE_WEIGHTS),
            users: Weighted::zipf(usize::try_from(users).unwrap_or(usize::MAX), 0.8, 10.0),
            sessions: Vec::with_capacity(OPEN_SESSIONS),
            opened: 0,
            object: Object::default(),
        };
        for _ in 0..OPEN_SESSIONS {
            let session = clicks.open_session();
            clicks.sessions.push(session);
        }
        clicks
    }

    fn open_session(&mut self) -> Session {
        self.opened += 1;
        Session {
            id: self.opened,
            user: self.users.draw(&mut self.random) as u64,
            device: self.devices.draw(&mut self.random),
            referrer: Some(self.referrers.draw(&mut self.random)),
        }
    }
}

impl Generator for Clicks {
    fn next(&mut self, event_time_ms: i64, key: &mut Vec<u8>) -> &[u8] {
        let slot = self.random.index(self.sessions.len());
        let session = self.sessions[slot];
        let leaves = self.random.chance(LEAVE_CHANCE);
        self.sessions[slot] = if leaves { self.open_session() } else { Session { referrer: None, ..session } };
        key.extend_from_slice(b"user-");
        push_padded(key, session.user, 6);
        let random = &mut self.random;
        let page = PAGES[self.pages.draw(random)];
        let object = &mut self.object;
        object.begin();
        object.uuid("event_id", random.bits(), random.bits());
        object.numbered("session_id", "s-", session.id, 9);
        object.numbered("user_id", "user-", session.user, 6);
        object.text("page", page);
        object.text("referrer", session.referrer.map_or("internal", |referrer| REFERRERS[referrer]));
        object.text("device", DEVICES[session.device]);
        object.whole("time_on_page_ms", random.lognormal(9000.0, 1.0) as u64);
        object.timestamp("ts", event_time_ms);
        object.end()
    }
}
