//! The demo's three producers, a thread each, sending at a steady rate until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use chrono::Utc;

use crate::datagen::event_time::Timing;
use crate::datagen::{Kind, Recipe, Stream};
use crate::error::{Failure, Result};
use crate::rate::Pace;
use crate::signals::Interrupt;
use crate::topic::client::Cluster;
use crate::topic::producer::{Compression, TopicProducer};

/// What is produced, and where to.
const PRODUCERS: [(Kind, &str); 3] = [
    (Kind::Payments, "payments.card.authorized"),
    (Kind::Clicks, "web.page.viewed"),
    (Kind::Sensors, "iot.sensor.measured"),
];

/// Running producers.
pub(super) struct Producers {
    threads: Vec<JoinHandle<Result<u64>>>,
    failed: Arc<AtomicBool>,
}

impl Producers {
    /// Starts all of them; they stop when the user interrupts.
    pub(super) fn start(cluster: &Cluster, rate: f64, interrupt: &Interrupt) -> Result<Self> {
        let failed = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for (kind, topic) in PRODUCERS {
            let producer = TopicProducer::open(cluster, topic, Compression::Snappy, None)?;
            let (interrupt, failed) = (interrupt.clone(), failed.clone());
            let thread = std::thread::Builder::new()
                .name(topic.to_owned())
                .spawn(move || {
                    produce(kind, producer, rate, &interrupt).inspect_err(|_| failed.store(true, Ordering::SeqCst))
                })
                .map_err(|error| Failure::runtime(format!("a producer cannot start: {error}")))?;
            threads.push(thread);
        }
        Ok(Self { threads, failed })
    }

    /// Whether one of them has given up.
    pub(super) fn have_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    /// Waits for their end; fails if one of them did.
    pub(super) fn finish(self) -> Result<()> {
        for thread in self.threads {
            thread.join().unwrap_or_else(|_| Err(Failure::runtime("a producer panicked")))?;
        }
        Ok(())
    }
}

fn produce(kind: Kind, producer: TopicProducer, rate: f64, interrupt: &Interrupt) -> Result<u64> {
    let start_ms = Utc::now().timestamp_millis();
    // Another seed each time, or a second run would repeat the events of the first.
    let seed = start_ms.unsigned_abs();
    let timing = Timing { start_ms, rate, disorder_ms: 1000, late_share: 0.005, late_ms: 15_000 };
    let recipe = Recipe { seed, keys: None, rate: timing.rate, padded: false };
    let mut stream = Stream::new(kind.generator(recipe), timing, seed);
    let mut pace = Pace::new(Some(rate));
    while pace.wait(interrupt) {
        let (key, value) = stream.next();
        producer.send(key, value)?;
    }
    producer.finish()
}
