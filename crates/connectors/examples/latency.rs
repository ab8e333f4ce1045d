//! How long a running query takes from Kafka to Kafka; `benches/latency.py` starts broker and query and calls it.
//!
//! ```text
//!   latency SERVERS INPUT OUTPUT rows|counts committed|immediate RATE SECONDS
//! ```
//!
//! Sends events of 200 bytes at a rate, a millisecond's worth at a time, each with the moment it was handed to the
//! producer, and reads what the query makes of them. With `rows` the query passes events on, and the time of each is
//! that until its row was read. With `counts` it counts windows by key (`k`, `w`, `n`), and the time of an event is
//! that until a count was read that has it: the n-th event of its key and window has come out with the first count of n
//! or more. Prints percentiles in milliseconds as JSON; events that never came out are an error.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const KEYS: u64 = 8;
const WINDOW_US: u64 = 10_000_000;
/// Events of the first seconds warm caches and are not counted.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long what is missing is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

type Failure = Box<dyn Error + Send + Sync>;

struct Task {
    servers: String,
    input: String,
    output: String,
    counts: bool,
    committed: bool,
    rate: u64,
    seconds: u64,
}

/// What sender and reader share.
struct Shared {
    began: Instant,
    sent: AtomicU64,
    done: AtomicBool,
    /// When the events of a key and window were sent, in order; only filled for counts.
    times: Mutex<HashMap<(u64, u64), Vec<u64>>>,
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn main() -> Result<(), Failure> {
    let task = task()?;
    let shared = Arc::new(Shared {
        began: Instant::now(),
        sent: AtomicU64::new(0),
        done: AtomicBool::new(false),
        times: Mutex::default(),
    });
    // From the end of the output on, before the first event is sent.
    let consumer = consumer(&task)?;
    let latencies = std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&task, &shared));
        let latencies = read(&consumer, &task, &shared);
        sender.join().map_err(|_| Failure::from("the sender panicked"))??;
        latencies
    })?;
    print(&task, latencies);
    Ok(())
}

fn task() -> Result<Task, Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [servers, input, output, what, visibility, rate, seconds] = args.as_slice() else {
        return Err("expected SERVERS INPUT OUTPUT rows|counts committed|immediate RATE SECONDS".into());
    };
    Ok(Task {
        servers: servers.clone(),
        input: input.clone(),
        output: output.clone(),
        counts: what == "counts",
        committed: visibility == "committed",
        rate: rate.parse()?,
        seconds: seconds.parse()?,
    })
}

fn consumer(task: &Task) -> Result<BaseConsumer, Failure> {
    let isolation = if task.committed { "read_committed" } else { "read_uncommitted" };
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &task.servers)
        .set("group.id", "latency")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("fetch.error.backoff.ms", "1")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&task.output), PATIENCE)?;
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (_, end) = consumer.fetch_watermarks(&task.output, partition.id(), PATIENCE)?;
        all.add_partition_offset(&task.output, partition.id(), Offset::Offset(end))?;
    }
    consumer.assign(&all)?;
    Ok(consumer)
}

/// A millisecond's worth of events at each millisecond; what is behind is made up for.
fn send(task: &Task, shared: &Shared) -> Result<(), Failure> {
    let outcome = send_all(task, shared);
    shared.done.store(true, Ordering::Release);
    outcome
}

fn send_all(task: &Task, shared: &Shared) -> Result<(), Failure> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &task.servers)
        .set("linger.ms", "0")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("queue.buffering.max.messages", "1000000")
        .set("delivery.report.only.error", "true")
        .create()?;
    let mut value = String::new();
    let total = task.rate * task.seconds;
    let mut sent = 0;
    while sent < total {
        let due = (shared.now_us() * task.rate / 1_000_000).min(total);
        while sent < due {
            let (at, key) = (shared.now_us(), sent % KEYS);
            if task.counts {
                let mut times = shared.times.lock().map_err(|_| "a thread panicked")?;
                times.entry((key, at / WINDOW_US)).or_default().push(at);
            }
            value.clear();
            write!(value, r#"{{"seq":{sent},"k":{key},"amount":{}.5,"at":{at},"pad":""#, sent % 1000)?;
            while value.len() < 198 {
                value.push('x');
            }
            value.push_str("\"}");
            let record: BaseRecord<'_, [u8], str> = BaseRecord::to(&task.input).payload(value.as_str());
            producer.send(record).map_err(|(error, _)| error)?;
            sent += 1;
        }
        shared.sent.store(sent, Ordering::Release);
        producer.poll(Duration::ZERO);
        std::thread::sleep(Duration::from_micros(500));
    }
    producer.flush(PATIENCE)?;
    Ok(())
}

fn read(consumer: &BaseConsumer, task: &Task, shared: &Shared) -> Result<Vec<u64>, Failure> {
    let warm_us = u64::try_from(WARM_UP.as_micros())?;
    let mut latencies = Vec::new();
    let mut counted: HashMap<(u64, u64), usize> = HashMap::new();
    let (mut seen, mut last) = (0, Instant::now());
    while !(shared.done.load(Ordering::Acquire) && seen >= shared.sent.load(Ordering::Acquire)) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            if shared.done.load(Ordering::Acquire) && last.elapsed() > PATIENCE {
                let sent = shared.sent.load(Ordering::Acquire);
                return Err(format!("{sent} events were sent, {seen} came out").into());
            }
            continue;
        };
        last = Instant::now();
        let message = message?;
        let Some(value) = message.payload() else { continue };
        let mut note = |at: u64| {
            seen += 1;
            if at >= warm_us {
                latencies.push(shared.now_us() - at);
            }
        };
        if task.counts {
            let group = (field(value, "k")?, field(value, "w")?);
            let count = usize::try_from(field(value, "n")?)?;
            let before = counted.entry(group).or_default();
            let times = shared.times.lock().map_err(|_| "a thread panicked")?;
            let sent = times.get(&group).ok_or("a count of a window nobody sent")?;
            sent.get(*before..count).into_iter().flatten().for_each(|at| note(*at));
            *before = count.max(*before);
        } else {
            note(field(value, "at")?);
        }
    }
    Ok(latencies)
}

/// The whole number behind a name in one flat JSON object.
fn field(value: &[u8], name: &str) -> Result<u64, Failure> {
    let text = std::str::from_utf8(value)?;
    let (_, rest) = text.split_once(&format!("\"{name}\":")).ok_or_else(|| format!("no '{name}' in {text}"))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Ok(rest[..digits].parse()?)
}

fn print(task: &Task, mut latencies: Vec<u64>) {
    latencies.sort_unstable();
    let at = |thousandths: usize| {
        let index = (latencies.len() * thousandths / 1000).min(latencies.len().saturating_sub(1));
        latencies.get(index).copied().unwrap_or_default() as f64 / 1000.0
    };
    println!(
        r#"{{"events": {}, "rate": {}, "p50_ms": {:.1}, "p99_ms": {:.1}, "p999_ms": {:.1}, "max_ms": {:.1}}}"#,
        latencies.len(),
        task.rate,
        at(500),
        at(990),
        at(999),
        at(1000),
    );
}
