//! Plain events of about 200 bytes for measurements: flat, without a key, users skewed or uniform.

use super::Generator;
use super::json::Object;
use super::random::{Random, Weighted};

const TYPES: [&str; 8] = ["view", "click", "search", "add_to_cart", "purchase", "refund", "login", "logout"];
const TYPE_WEIGHTS: [f64; 8] = [40.0, 25.0, 12.0, 8.0, 6.0, 1.0, 5.0, 3.0];
const DEVICES: [&str; 6] = [
    "android-14/galaxy-s24/app-8.2.1",
    "android-15/pixel-9-pro/app-8.3.0",
    "ios-18.1/iphone-16/app-8.3.0",
    "ios-17.6/iphone-13-mini/app-8.1.7",
    "windows-11/firefox-132.0/web",
    "macos-15/safari-18.1/web-8.3.0",
];
const COUNTRIES: [&str; 12] = ["DE", "US", "FR", "GB", "IN", "BR", "JP", "NL", "PL", "ES", "IT", "SE"];

/// Makes the events.
#[derive(Debug)]
pub(crate) struct Events {
    random: Random,
    types: Weighted,
    users: u64,
    object: Object,
}

impl Events {
    /// Events of `users` users, each as likely as the other: the hardest case for state.
    pub(crate) fn new(seed: u64, users: u64) -> Self {
        Self { random: Random::new(seed), types: Weighted::new(&TYPE_WEIGHTS), users, object: Object::default() }
    }
}

impl Generator for Events {
    fn next(&mut self, event_time_ms: i64, _key: &mut Vec<u8>) -> &[u8] {
        let random = &mut self.random;
        let object = &mut self.object;
        object.begin();
        object.uuid("event_id", random.bits(), random.bits());
        object.whole("user_id", random.below(self.users));
        object.text("event_type", TYPES[self.types.draw(random)]);
        object.hundredths("amount", random.below(50_000) as i64);
        object.timestamp("ts", event_time_ms);
        object.text("device", DEVICES[random.index(DEVICES.len())]);
        object.text("country", COUNTRIES[random.index(COUNTRIES.len())]);
        object.end()
    }
}
