//! Events that look like real ones, for demos, tests and measurements.
//!
//! ```text
//!   event time (disorder, late share) ──> generator (payments, clicks, nexmark, ...) ──> topic | file | stdout
//! ```
//!
//! The same kind, seed, start and rate give the same events, byte for byte, on every machine.

mod clicks;
pub(crate) mod event_time;
mod events;
mod json;
mod nexmark;
mod payments;
mod random;
mod sensors;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::error::{Failure, Result};
use crate::output::stdout_failure;
use crate::progress::counter::Counter;
use crate::rate::Pace;
use crate::signals::Interrupt;
use crate::topic::client::Cluster;
use crate::topic::producer::{Compression, TopicProducer};
use event_time::{EventClock, Timing};

/// Arrivals a second of event time when neither `--event-rate` nor `--rate` says.
const DEFAULT_EVENT_RATE: f64 = 10_000.0;

/// Makes one event after the other.
pub(crate) trait Generator: Send {
    /// The next event, which happens at `event_time_ms`; its key, if it has one, is appended to `key`.
    fn next(&mut self, event_time_ms: i64, key: &mut Vec<u8>) -> &[u8];

    /// Leaves out so many events: what follows is as if they had been made.
    fn skip(&mut self, events: u64) {
        for _ in 0..events {
            self.next(0, &mut Vec::new());
        }
    }
}

/// What to generate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Card payments with bursts of fraud; the key is the card
    Payments,
    /// Page views in sessions; the key is the user
    Clicks,
    /// Sensor readings with drift and anomalies; the key is the device
    Sensors,
    /// Plain 200-byte events for measurements, without a key
    Events,
    /// People, auctions and bids of the Nexmark benchmark, 1 : 3 : 46, without a key
    Nexmark,
}

/// What the events of a kind are made with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    /// Other seeds give other events.
    pub(crate) seed: u64,
    /// How many cards, users or devices there are, if not as many as usual.
    pub(crate) keys: Option<u64>,
    /// Events a second of event time.
    pub(crate) rate: f64,
    /// Whether events are filled up to the sizes that are usual for their kind.
    pub(crate) padded: bool,
}

impl Kind {
    /// The generator of this kind.
    pub(crate) fn generator(self, recipe: Recipe) -> Box<dyn Generator> {
        let Recipe { seed, keys, rate, padded } = recipe;
        match self {
            Self::Payments => Box::new(payments::Payments::new(seed, keys.unwrap_or(10_000))),
            Self::Clicks => Box::new(clicks::Clicks::new(seed, keys.unwrap_or(20_000))),
            Self::Sensors => Box::new(sensors::Sensors::new(seed, keys.unwrap_or(48))),
            Self::Events => Box::new(events::Events::new(seed, keys.unwrap_or(1_000_000))),
            Self::Nexmark => Box::new(nexmark::Nexmark::new(seed, keys.unwrap_or(1000), rate, padded)),
        }
    }
}

/// Arguments of `datagen`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to generate
    #[arg(value_enum)]
    kind: Kind,
    /// Send to this topic, which is created if it does not exist; without it events go to --output
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    #[command(flatten)]
    cluster: Cluster,
    /// Write JSON lines to this file; - is stdout
    #[arg(long, short = 'O', default_value = "-", value_name = "FILE", conflicts_with = "topic")]
    output: PathBuf,
    /// Events a second; without it as fast as possible
    #[arg(long, value_name = "N", value_parser = crate::rate::positive)]
    rate: Option<f64>,
    /// End after this many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    duration: Option<Duration>,
    /// Other seeds give other events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many cards, users or devices there are; of nexmark, how many people are active at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    keys: Option<u64>,
    /// When the first event happens (RFC 3339); now if not given
    #[arg(long, value_name = "TIME")]
    start: Option<DateTime<Utc>>,
    /// Events a second of event time; --rate if not given
    #[arg(long, value_name = "N", value_parser = crate::rate::positive)]
    event_rate: Option<f64>,
    /// Events are out of order by up to this time
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = crate::duration::parse)]
    disorder: Duration,
    /// The share of events that come late
    #[arg(long, value_name = "SHARE", default_value_t = 0.005, value_parser = share)]
    late_share: f64,
    /// Late events are late by this time up to four times as much
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = crate::duration::parse)]
    late_by: Duration,
    /// Leave out the first events: several runs can make the parts of one stream (give --start, too)
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// Fill `extra` of nexmark up to the benchmark's usual sizes (200, 500 and 100 bytes)
    #[arg(long)]
    padding: bool,
    /// Compression of record batches
    #[arg(long, short = 'c', value_enum, default_value_t = Compression::Snappy)]
    compression: Compression,
    /// Partitions of the topic, if it is created
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("'{text}' is not a share between 0 and 1")),
    }
}

/// An endless stream of events with their times.
pub(crate) struct Stream {
    generator: Box<dyn Generator>,
    clock: EventClock,
    key: Vec<u8>,
}

impl Stream {
    /// The stream of a generator, timed by a clock.
    pub(crate) fn new(generator: Box<dyn Generator>, timing: Timing, seed: u64) -> Self {
        Self { generator, clock: EventClock::new(timing, seed), key: Vec::new() }
    }

    /// Leaves out so many events: what follows is as if they had been made.
    pub(crate) fn skip(&mut self, events: u64) {
        self.generator.skip(events);
        for _ in 0..events {
            self.clock.next_ms();
        }
    }

    /// The next event: its key, if there is one, and its value.
    pub(crate) fn next(&mut self) -> (Option<&[u8]>, &[u8]) {
        self.key.clear();
        let value = self.generator.next(self.clock.next_ms(), &mut self.key);
        ((!self.key.is_empty()).then_some(self.key.as_slice()), value)
    }
}

/// Where events go.
enum Target {
    Topic(TopicProducer),
    Lines(Box<dyn Write>, PathBuf),
}

/// Generates until the count, the time or the user ends it.
pub(crate) fn run(arguments: &Arguments, interrupt: &Interrupt) -> Result<()> {
    let mut target = open(arguments)?;
    let start = arguments.start.unwrap_or_else(Utc::now);
    let timing = Timing {
        start_ms: start.timestamp_millis(),
        rate: arguments.event_rate.or(arguments.rate).unwrap_or(DEFAULT_EVENT_RATE),
        disorder_ms: millis(arguments.disorder),
        late_share: arguments.late_share,
        late_ms: millis(arguments.late_by),
    };
    let recipe = Recipe { seed: arguments.seed, keys: arguments.keys, rate: timing.rate, padded: arguments.padding };
    let mut stream = Stream::new(arguments.kind.generator(recipe), timing, arguments.seed);
    stream.skip(arguments.skip);
    let mut pace = Pace::new(arguments.rate);
    let mut counter = Counter::new("generated");
    let deadline = arguments.duration.map(|duration| Instant::now() + duration);
    let limit = arguments.count.unwrap_or(u64::MAX);
    while counter.records() < limit {
        let (key, value) = stream.next();
        target.send(key, value)?;
        counter.add(1, value.len());
        if !pace.wait(interrupt) || is_over(deadline, counter.records(), arguments.rate) {
            break;
        }
    }
    target.finish()?;
    counter.finish();
    tracing::info!("{}", counter.summary());
    Ok(())
}

/// Looks at the clock for every event at a low rate, for one in many at a high one.
fn is_over(deadline: Option<Instant>, records: u64, rate: Option<f64>) -> bool {
    let look = rate.is_some_and(|rate| rate < 10_000.0) || records.is_multiple_of(1024);
    look && deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn open(arguments: &Arguments) -> Result<Target> {
    if let Some(topic) = &arguments.topic {
        let producer =
            TopicProducer::open(&arguments.cluster, topic, arguments.compression, Some(arguments.partitions))?;
        return Ok(Target::Topic(producer));
    }
    let path = arguments.output.clone();
    let writer: Box<dyn Write> = if path.as_os_str() == "-" {
        Box::new(BufWriter::with_capacity(1 << 18, std::io::stdout().lock()))
    } else {
        let file = File::create(&path)
            .map_err(|error| Failure::runtime(format!("{} cannot be written: {error}", path.display())))?;
        Box::new(BufWriter::with_capacity(1 << 18, file))
    };
    Ok(Target::Lines(writer, path))
}

impl Target {
    fn send(&mut self, key: Option<&[u8]>, value: &[u8]) -> Result<()> {
        match self {
            Self::Topic(producer) => producer.send(key, value),
            Self::Lines(out, path) => {
                out.write_all(value).and_then(|()| out.write_all(b"\n")).map_err(|error| write_failure(path, error))
            }
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Topic(producer) => producer.finish().map(|_| ()),
            Self::Lines(mut out, path) => out.flush().map_err(|error| write_failure(&path, error)),
        }
    }
}

fn write_failure(path: &std::path::Path, error: std::io::Error) -> Failure {
    if path.as_os_str() == "-" {
        return stdout_failure(error);
    }
    Failure::runtime(format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use clap::ValueEnum;
    use serde_json::Value;

    use super::*;

    const TIMING: Timing =
        Timing { start_ms: 1_704_067_200_000, rate: 200.0, disorder_ms: 1000, late_share: 0.01, late_ms: 20_000 };

    fn stream(kind: Kind, seed: u64) -> Stream {
        let recipe = Recipe { seed, keys: None, rate: TIMING.rate, padded: false };
        Stream::new(kind.generator(recipe), TIMING, seed)
    }

    fn events(kind: Kind, seed: u64, count: usize) -> Vec<(Option<String>, Value)> {
        events_after(kind, seed, 0, count)
    }

    fn events_after(kind: Kind, seed: u64, skip: u64, count: usize) -> Vec<(Option<String>, Value)> {
        let mut stream = stream(kind, seed);
        stream.skip(skip);
        (0..count)
            .map(|_| {
                let (key, value) = stream.next();
                let key = key.map(|key| String::from_utf8(key.to_vec()).unwrap());
                (key, serde_json::from_slice(value).unwrap())
            })
            .collect()
    }

    #[test]
    fn a_seed_gives_the_same_events_and_another_seed_others() {
        for kind in Kind::value_variants().iter().copied() {
            assert_eq!(events(kind, 5, 500), events(kind, 5, 500), "{kind:?}");
            assert_ne!(events(kind, 5, 500), events(kind, 6, 500), "{kind:?}");
        }
    }

    #[test]
    fn a_part_is_the_same_as_within_the_whole() {
        for kind in Kind::value_variants().iter().copied() {
            assert_eq!(events_after(kind, 5, 300, 200), events(kind, 5, 500)[300..], "{kind:?}");
        }
    }

    #[test]
    fn plain_events_have_200_bytes_and_no_key() {
        let mut stream = stream(Kind::Events, 1);
        let sizes: Vec<usize> = (0..1000).map(|_| stream.next().1.len()).collect();
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((190..=210).contains(&mean), "{mean}");
        let event = &events(Kind::Events, 1, 1)[0];
        assert_eq!(event.0, None);
        let keys: Vec<&String> = event.1.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["event_id", "user_id", "event_type", "amount", "ts", "device", "country"]);
    }

    #[test]
    fn payments_have_busy_cards_and_bursts_of_fraud() {
        let payments = events(Kind::Payments, 1, 20_000);
        let mut by_card: BTreeMap<&str, u32> = BTreeMap::new();
        for (key, payment) in &payments {
            assert_eq!(key.as_deref(), payment["card_id"].as_str());
            *by_card.entry(payment["card_id"].as_str().unwrap()).or_default() += 1;
        }
        let busiest = by_card.values().max().copied().unwrap_or_default();
        assert!(busiest > 40 && by_card.len() > 4000, "{busiest} of {}", by_card.len());
        let foreign = payments.iter().filter(|(_, payment)| payment["amount"].as_f64().unwrap() > 250.0);
        let countries: BTreeSet<&str> = foreign.map(|(_, payment)| payment["country"].as_str().unwrap()).collect();
        assert!(countries.contains("BR") && countries.contains("VN"), "{countries:?}");
    }

    #[test]
    fn clicks_walk_in_sessions_over_known_pages() {
        let clicks = events(Kind::Clicks, 1, 20_000);
        let mut by_session: BTreeMap<&str, u32> = BTreeMap::new();
        for (_, click) in &clicks {
            assert!(clicks::PAGES.contains(&click["page"].as_str().unwrap()));
            *by_session.entry(click["session_id"].as_str().unwrap()).or_default() += 1;
        }
        let mean = clicks.len() as f64 / by_session.len() as f64;
        assert!((5.0..12.0).contains(&mean), "{mean} pages a session");
    }

    #[test]
    fn sensors_take_turns_and_show_anomalies() {
        let readings = events(Kind::Sensors, 1, 20_000);
        let devices: BTreeSet<&str> =
            readings.iter().map(|(_, reading)| reading["device_id"].as_str().unwrap()).collect();
        assert_eq!(devices.len(), 48);
        let shaking = readings.iter().filter(|(_, reading)| reading["vibration"].as_f64().unwrap() > 3.0).count();
        assert!((50..2000).contains(&shaking), "{shaking}");
    }
}
