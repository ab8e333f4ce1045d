//! The events of Nexmark, an auction site: people, auctions and bids, 1 : 3 : 46.
//!
//! ```text
//!   event number ──> kind (n % 50) ──> ids so far (n / 50) ──> hot or recent seller, auction, bidder ──> JSON
//! ```
//!
//! Proportions, hot keys, prices and texts are distributed as in the generator that Nexmark's queries are usually run
//! on (Apache Beam's, and <https://github.com/nexmark/nexmark> after it). All events have one shape, as its SQL wants
//! them: `event_type` (0, 1, 2) and a `person`, an `auction` or a `bid`. Each event has random numbers of its own, made
//! of the seed and its number, so a part of the stream can be made without what is before it.

use super::Generator;
use super::json::Object;
use super::random::Random;

/// Of 50 events the first is a person, three are auctions, the rest are bids.
const EPOCH: u64 = 50;
const PEOPLE: u64 = 1;
const AUCTIONS: u64 = 3;

const FIRST_PERSON: u64 = 1000;
const FIRST_AUCTION: u64 = 1000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;

/// Every hundredth person or auction is hot for as long as it is the newest such.
const HOT_EVERY: u64 = 100;

/// Sellers and bidders are hot three times of four, auctions and channels once of two.
const HOT_PEOPLE: u64 = 4;
const HOT_HALF: u64 = 2;

/// How many of the newest auctions get bids, and how far ahead of the newest ids others point.
const OPEN_AUCTIONS: u64 = 100;
const LEAD: u64 = 10;

const CHANNELS: u64 = 10_000;
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Mean bytes of an event with padding: a person, an auction, a bid.
const MEAN_BYTES: [u64; 3] = [200, 500, 100];

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

/// Makes the events.
#[derive(Debug)]
pub(crate) struct Nexmark {
    seed: u64,
    number: u64,
    active_people: u64,
    ms_an_event: f64,
    padded: bool,
    object: Object,
}

impl Nexmark {
    /// Events of up to `active_people` people at once, `rate` a second; `padded` fills `extra` to the usual sizes.
    pub(crate) fn new(seed: u64, active_people: u64, rate: f64, padded: bool) -> Self {
        Self { seed, number: 0, active_people, ms_an_event: 1000.0 / rate, padded, object: Object::default() }
    }

    fn person(&mut self, random: &mut Random, ms: i64) {
        let object = &mut self.object;
        let (name, city) = (full_name(random), CITIES[random.index(CITIES.len())]);
        let email = format!("{}@{}.com", letters(random, 7), letters(random, 5));
        let card: Vec<String> = (0..4).map(|_| format!("{:04}", random.below(10_000))).collect();
        object.whole("event_type", 0);
        object.open("person");
        object.whole("id", FIRST_PERSON + newest_person(self.number));
        object.text("name", &name);
        object.text("emailAddress", &email);
        object.text("creditCard", &card.join(" "));
        object.text("city", city);
        object.text("state", STATES[random.index(STATES.len())]);
        object.timestamp("dateTime", ms);
        let texts = name.len() + email.len() + 19 + city.len() + 2;
        object.text("extra", &padding(random, self.padded, 16 + texts as u64, MEAN_BYTES[0]));
        object.close();
    }

    fn auction(&mut self, random: &mut Random, ms: i64) {
        let seller = if random.below(HOT_PEOPLE) > 0 {
            newest_person(self.number) / HOT_EVERY * HOT_EVERY
        } else {
            some_person(random, self.number, self.active_people)
        };
        let (initial, above) = (price(random), price(random));
        let item = letter_text(random, 20);
        let description = letter_text(random, 100);
        // Long enough that about OPEN_AUCTIONS are open at once.
        let horizon_ms = (OPEN_AUCTIONS * EPOCH / AUCTIONS) as f64 * self.ms_an_event;
        let lasts_ms = 1 + random.below(((horizon_ms * 2.0) as u64).max(1));
        let object = &mut self.object;
        object.whole("event_type", 1);
        object.open("auction");
        object.whole("id", FIRST_AUCTION + newest_auction(self.number));
        object.text("itemName", &item);
        object.text("description", &description);
        object.whole("initialBid", initial);
        object.whole("reserve", initial + above);
        object.timestamp("dateTime", ms);
        object.timestamp("expires", ms + lasts_ms as i64);
        object.whole("seller", FIRST_PERSON + seller);
        object.whole("category", FIRST_CATEGORY + random.below(CATEGORIES));
        let texts = item.len() + description.len();
        object.text("extra", &padding(random, self.padded, 56 + texts as u64, MEAN_BYTES[1]));
        object.close();
    }

    fn bid(&mut self, random: &mut Random, ms: i64) {
        let newest = newest_auction(self.number);
        let auction = if random.below(HOT_HALF) > 0 {
            newest / HOT_EVERY * HOT_EVERY
        } else {
            let oldest = newest.saturating_sub(OPEN_AUCTIONS);
            oldest + random.below(newest - oldest + 1 + LEAD)
        };
        // Not the hot seller: who sells most does not buy most.
        let bidder = if random.below(HOT_PEOPLE) > 0 {
            newest_person(self.number) / HOT_EVERY * HOT_EVERY + 1
        } else {
            some_person(random, self.number, self.active_people)
        };
        let (channel, url) = channel(random, self.seed);
        let object = &mut self.object;
        object.whole("event_type", 2);
        object.open("bid");
        object.whole("auction", FIRST_AUCTION + auction);
        object.whole("bidder", FIRST_PERSON + bidder);
        object.whole("price", price(random));
        object.text("channel", &channel);
        object.text("url", &url);
        object.timestamp("dateTime", ms);
        object.text("extra", &padding(random, self.padded, 32, MEAN_BYTES[2]));
        object.close();
    }
}

impl Generator for Nexmark {
    fn next(&mut self, event_time_ms: i64, _key: &mut Vec<u8>) -> &[u8] {
        let mut random = Random::new(mix(self.seed, self.number));
        self.object.begin();
        match self.number % EPOCH {
            offset if offset < PEOPLE => self.person(&mut random, event_time_ms),
            offset if offset < PEOPLE + AUCTIONS => self.auction(&mut random, event_time_ms),
            _ => self.bid(&mut random, event_time_ms),
        }
        self.number += 1;
        self.object.end()
    }

    fn skip(&mut self, events: u64) {
        self.number += events;
    }
}

/// The seed of one event. A multiple of an odd number is another for each number, so no two events share theirs.
fn mix(seed: u64, number: u64) -> u64 {
    seed.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ number.wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// The newest person when this event comes, counted from 0. Each epoch begins with its person.
fn newest_person(number: u64) -> u64 {
    number / EPOCH * PEOPLE
}

/// The newest auction when this event comes, counted from 0. Before the first there is none, and it is taken as there.
fn newest_auction(number: u64) -> u64 {
    let before = number / EPOCH * AUCTIONS;
    let made = (number % EPOCH + 1).saturating_sub(PEOPLE).min(AUCTIONS);
    (before + made).saturating_sub(1)
}

/// One of the active people, or one who is not there yet.
fn some_person(random: &mut Random, number: u64, active: u64) -> u64 {
    let people = newest_person(number) + 1;
    let active = people.min(active);
    people - active + random.below(active + LEAD)
}

/// Cents, evenly spread over six powers of ten.
fn price(random: &mut Random) -> u64 {
    (10_f64.powf(random.unit() * 6.0) * 100.0).round() as u64
}

fn full_name(random: &mut Random) -> String {
    let first = FIRST_NAMES[random.index(FIRST_NAMES.len())];
    format!("{first} {}", LAST_NAMES[random.index(LAST_NAMES.len())])
}

/// Where a bid comes from: one of four large channels with an address for each, or one of many small ones.
fn channel(random: &mut Random, seed: u64) -> (String, String) {
    if random.below(HOT_HALF) > 0 {
        let index = random.index(HOT_CHANNELS.len());
        // The address of a channel is always the same, so it is drawn from random numbers of the channel.
        let mut own = Random::new(mix(seed, u64::MAX - CHANNELS - index as u64));
        return (HOT_CHANNELS[index].to_owned(), address(&mut own));
    }
    let number = random.below(CHANNELS);
    let mut own = Random::new(mix(seed, u64::MAX - number));
    let url = address(&mut own);
    // One of ten does not say in its address which it is.
    let url = if own.below(10) > 0 { format!("{url}&channel_id={}", (number as u32).reverse_bits()) } else { url };
    (format!("channel-{number}"), url)
}

fn address(random: &mut Random) -> String {
    let folders: Vec<String> = (0..3).map(|_| words(random, 5)).collect();
    format!("https://www.nexmark.com/{}/item.htm?query=1", folders.join("/"))
}

/// Exactly so many small letters.
fn letters(random: &mut Random, length: u64) -> String {
    (0..length).map(|_| letter(random)).collect()
}

/// Between 3 and `most` letters, with a space in place of one of thirteen.
fn letter_text(random: &mut Random, most: u64) -> String {
    let length = 3 + random.below(most - 3);
    let text: String = (0..length).map(|_| if random.below(13) == 0 { ' ' } else { letter(random) }).collect();
    text.trim().to_owned()
}

/// As `letter_text`, with underscores: a part of an address.
fn words(random: &mut Random, most: u64) -> String {
    let length = 3 + random.below(most - 3);
    (0..length).map(|_| if random.below(13) == 0 { '_' } else { letter(random) }).collect()
}

fn letter(random: &mut Random) -> char {
    char::from(b'a' + random.below(26) as u8)
}

/// What an event of `bytes` bytes lacks to its mean size, a fifth more or less.
fn padding(random: &mut Random, padded: bool, bytes: u64, mean: u64) -> String {
    if !padded || bytes >= mean {
        return String::new();
    }
    let lacking = mean - bytes;
    let spread = lacking / 5;
    let length = lacking - spread + random.below(2 * spread + 1);
    letters(random, length)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::*;

    const START_MS: i64 = 1_704_067_200_000;

    fn generate(seed: u64, skip: u64, count: u64, padded: bool) -> Vec<Value> {
        let mut generator = Nexmark::new(seed, 1000, 1000.0, padded);
        generator.skip(skip);
        (skip..skip + count)
            .map(|number| serde_json::from_slice(generator.next(START_MS + number as i64, &mut Vec::new())).unwrap())
            .collect()
    }

    /// The events of one kind, without what is around them.
    fn of(events: &[Value], name: &str) -> Vec<Value> {
        events.iter().filter_map(|event| event.get(name)).cloned().collect()
    }

    fn counts(rows: &[Value], field: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for row in rows {
            *counts.entry(row[field].to_string()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn a_part_is_the_same_as_within_the_whole() {
        let whole = generate(3, 0, 5000, true);
        for (skip, count) in [(0, 10), (49, 3), (50, 1), (1777, 1000), (4999, 1)] {
            let end = (skip + count) as usize;
            assert_eq!(generate(3, skip, count, true), whole[skip as usize..end], "{count} after {skip}");
        }
        assert_ne!(generate(4, 0, 100, true), whole[..100]);
    }

    #[test]
    fn of_fifty_events_one_is_a_person_and_three_are_auctions() {
        let events = generate(1, 0, 10_000, false);
        let sizes = ["person", "auction", "bid"].map(|name| of(&events, name).len());
        assert_eq!(sizes, [200, 600, 9200]);
        for (event, kind) in [(0, 0), (1, 1), (3, 1), (4, 2), (49, 2), (50, 0)] {
            assert_eq!(events[event]["event_type"], kind, "event {event}");
        }
    }

    #[test]
    fn ids_have_no_gaps() {
        let events = generate(1, 0, 10_000, false);
        for name in ["person", "auction"] {
            let ids: Vec<u64> = of(&events, name).iter().map(|row| row["id"].as_u64().unwrap()).collect();
            assert_eq!(ids, (1000..1000 + ids.len() as u64).collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn half_of_the_bids_go_to_the_hot_auction_and_three_of_four_come_from_the_hot_bidder() {
        // 50 auctions, and 16 people: within them neither the hot auction nor the hot bidder changes.
        let events = generate(1, 100 * EPOCH, 16 * EPOCH, false);
        let bids = of(&events, "bid");
        let share = |field: &str, id: &str| counts(&bids, field)[id] as f64 / bids.len() as f64;
        assert!((0.45..0.56).contains(&share("auction", "1300")), "{}", share("auction", "1300"));
        assert!((0.70..0.80).contains(&share("bidder", "1101")), "{}", share("bidder", "1101"));
        let hot = counts(&of(&events, "auction"), "seller")["1100"];
        assert!((24..=46).contains(&hot), "{hot} of 48 auctions are of the hot seller");
    }

    #[test]
    fn auctions_end_after_they_began_and_cost_more_than_nothing() {
        let auctions = of(&generate(1, 0, 10_000, false), "auction");
        for auction in &auctions {
            assert!(auction["expires"].as_str() > auction["dateTime"].as_str(), "{auction}");
            assert!(auction["reserve"].as_u64() > auction["initialBid"].as_u64(), "{auction}");
            assert!((10..15).contains(&auction["category"].as_u64().unwrap()), "{auction}");
        }
        assert_eq!(counts(&auctions, "category").len(), 5);
    }

    #[test]
    fn a_channel_has_one_address_and_most_small_ones_have_their_number_in_it() {
        let mut urls: BTreeMap<String, String> = BTreeMap::new();
        let bids = of(&generate(1, 0, 20_000, false), "bid");
        for bid in &bids {
            let url = urls.entry(bid["channel"].to_string()).or_insert_with(|| bid["url"].to_string());
            assert_eq!(*url, bid["url"].to_string());
        }
        let small: Vec<&String> = urls.iter().filter(|(name, _)| name.contains('-')).map(|(_, url)| url).collect();
        let numbered = small.iter().filter(|url| url.contains("&channel_id=")).count();
        let share = numbered as f64 / small.len() as f64;
        assert!((0.85..0.95).contains(&share), "{share}");
        let large = bids.iter().filter(|bid| !bid["channel"].as_str().unwrap().contains('-')).count();
        assert!((0.47..0.53).contains(&(large as f64 / bids.len() as f64)), "{large}");
    }

    #[test]
    fn padding_is_left_out_unless_it_is_asked_for() {
        let mean = |padded: bool, name: &str| {
            let rows = of(&generate(1, 0, 10_000, padded), name);
            rows.iter().map(|row| row["extra"].as_str().unwrap().len()).sum::<usize>() / rows.len()
        };
        for (name, range) in [("person", 100..180), ("auction", 350..450), ("bid", 60..75)] {
            assert_eq!(mean(false, name), 0, "{name}");
            assert!(range.contains(&mean(true, name)), "{name}: {}", mean(true, name));
        }
    }
}
