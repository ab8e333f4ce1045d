//! Card payments: a few busy cards and a long tail, log-normal amounts, and now and then a stolen card.
//!
//! A burst is a stolen card: 8 to 16 payments within some seconds, high amounts, online, from several countries.

use super::Generator;
use super::json::{Object, push_padded};
use super::random::{Random, Weighted};

const CATEGORIES: [(&str, f64); 7] = [
    ("groceries", 24.0),
    ("restaurant", 18.0),
    ("fuel", 45.0),
    ("clothing", 55.0),
    ("electronics", 160.0),
    ("travel", 280.0),
    ("subscription", 12.0),
];
const CATEGORY_WEIGHTS: [f64; 7] = [34.0, 22.0, 12.0, 10.0, 4.0, 3.0, 15.0];
const HOME_COUNTRIES: [&str; 6] = ["DE", "FR", "GB", "NL", "PL", "SE"];
const BURST_COUNTRIES: [&str; 6] = ["US", "BR", "NG", "RO", "VN", "MX"];

/// The chance that a payment starts a burst.
const BURST_CHANCE: f64 = 0.0008;

/// The share of payments that belong to bursts, while there are any.
const BURST_SHARE: f64 = 0.04;

/// Makes the payments.
#[derive(Debug)]
pub(crate) struct Payments {
    random: Random,
    cards: Weighted,
    card_count: u64,
    categories: Weighted,
    bursts: Vec<Burst>,
    object: Object,
    payments: u64,
}

#[derive(Debug)]
struct Burst {
    card: u64,
    left: u64,
}

impl Payments {
    /// Payments with `cards` cards.
    pub(crate) fn new(seed: u64, cards: u64) -> Self {
        Self {
            random: Random::new(seed),
            // Flattened at the head: the busiest card pays a few times a minute at a few hundred payments a second.
            cards: Weighted::zipf(usize::try_from(cards).unwrap_or(usize::MAX), 1.0, 50.0),
            card_count: cards,
            categories: Weighted::new(&CATEGORY_WEIGHTS),
            bursts: Vec::new(),
            object: Object::default(),
            payments: 0,
        }
    }

    /// The card of the next payment if that belongs to a burst.
    fn burst_card(&mut self) -> Option<u64> {
        if self.random.chance(BURST_CHANCE) || self.payments == 100 {
            let card = self.random.below(self.card_count);
            self.bursts.push(Burst { card, left: 8 + self.random.below(9) });
        }
        if self.bursts.is_empty() || !self.random.chance(BURST_SHARE) {
            return None;
        }
        // The oldest first, so that a burst is over quickly.
        let burst = self.bursts.first_mut()?;
        let card = burst.card;
        burst.left -= 1;
        if burst.left == 0 {
            self.bursts.remove(0);
        }
        Some(card)
    }
}

impl Generator for Payments {
    fn next(&mut self, event_time_ms: i64, key: &mut Vec<u8>) -> &[u8] {
        self.payments += 1;
        let stolen = self.burst_card();
        let random = &mut self.random;
        let card = stolen.unwrap_or_else(|| self.cards.draw(random) as u64);
        let (category, median) = CATEGORIES[if stolen.is_some() { 4 } else { self.categories.draw(random) }];
        let (amount, country, channel) = if stolen.is_some() {
            (random.lognormal(420.0, 0.4), BURST_COUNTRIES[random.index(BURST_COUNTRIES.len())], "online")
        } else {
            let home = HOME_COUNTRIES[(card % HOME_COUNTRIES.len() as u64) as usize];
            let channel = if category == "subscription" || random.chance(0.25) { "online" } else { "terminal" };
            (random.lognormal(median, 0.6), home, channel)
        };
        key.extend_from_slice(b"card-");
        push_padded(key, card, 6);
        let object = &mut self.object;
        object.begin();
        object.uuid("payment_id", random.bits(), random.bits());
        object.numbered("card_id", "card-", card, 6);
        object.numbered("merchant_id", "m-", random.below(5000), 4);
        object.text("category", category);
        object.hundredths("amount", (amount * 100.0) as i64);
        object.text("currency", "EUR");
        object.text("country", country);
        object.text("channel", channel);
        object.timestamp("ts", event_time_ms);
        object.end()
    }
}
