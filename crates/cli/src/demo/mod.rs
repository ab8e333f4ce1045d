//! `highwater demo`: the whole product in one process.
//!
//! ```text
//!   producers (payments, clicks, sensors) ──> broker ──> three pipelines ──> a topic, SQLite, Delta
//!                                                              └──> live view
//! ```
//!
//! The pipelines are those of `examples/`, written into the demo's folder so that they can be read and changed. All
//! that is kept is in that folder; started again, the demo goes on where it was.

mod producers;
mod projects;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use highwater_broker::BrokerSettings;

use crate::broker::EmbeddedBroker;
use crate::error::{Failure, Result};
use crate::progress::board::Board;
use crate::progress::live::LiveView;
use crate::project::{Project, Target};
use crate::run::{self, Overrides, Run};
use crate::signals::Interrupt;
use crate::topic::admin::{self, NewTopicSettings};
use crate::topic::client::Cluster;
use producers::Producers;
use projects::EXAMPLES;

/// The port clients know Kafka by.
const DEFAULT_LISTEN: &str = "127.0.0.1:9092";

/// How many ports from the default on are tried.
const PORT_TRIES: u16 = 20;

/// Partitions of the demo's topics.
const PARTITIONS: i32 = 2;

/// The demo's topics forget after an hour.
const RETENTION: (&str, &str) = ("retention.ms", "3600000");

/// Where the alerts are.
const ALERTS: &str = "payments.fraud.suspected";

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where everything is kept
    #[arg(long, env = "HIGHWATER_DEMO_DATA", default_value = "highwater-demo", value_name = "DIR")]
    data: PathBuf,
    /// Where the broker listens; 127.0.0.1:9092, or the next free port, if not given
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// End after this time
    #[arg(long, value_name = "TIME", value_parser = crate::duration::parse)]
    duration: Option<Duration>,
    /// Events a second of each producer
    #[arg(long, default_value_t = 200.0, value_name = "N", value_parser = crate::rate::positive)]
    rate: f64,
}

/// Runs until the user or the duration ends it.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let began = Instant::now();
    let interrupt = Interrupt::listen()?;
    let data = std::path::absolute(&arguments.data)
        .map_err(|error| Failure::usage(format!("--data {}: {error}", arguments.data.display())))?;
    let broker = start_broker(&data, arguments.listen)?;
    let bootstrap = broker.address().to_string();
    let outcome = run_on(&data, &bootstrap, arguments, began, &interrupt);
    broker.shutdown()?;
    if outcome.is_ok() {
        show_what_is_kept(&arguments.data);
    }
    outcome
}

fn start_broker(data: &Path, listen: Option<SocketAddr>) -> Result<EmbeddedBroker> {
    let mut settings = BrokerSettings::new(data.join("broker"));
    if let Some(listen) = listen {
        settings.listen = listen;
        return EmbeddedBroker::start(settings);
    }
    settings.listen = DEFAULT_LISTEN.parse().map_err(|_| Failure::runtime("the default address is no address"))?;
    let wanted = settings.listen;
    let broker = EmbeddedBroker::start_on_free_port(settings, PORT_TRIES)?;
    if broker.address() != wanted {
        tracing::info!("port {} is taken; the broker listens on {}", wanted.port(), broker.address());
    }
    Ok(broker)
}

fn run_on(
    data: &Path,
    bootstrap: &str,
    arguments: &Arguments,
    began: Instant,
    interrupt: &Interrupt,
) -> Result<ExitCode> {
    let cluster = Cluster { bootstrap: bootstrap.to_owned(), properties: Vec::new() };
    let topic = NewTopicSettings {
        partitions: PARTITIONS,
        replication: -1,
        configs: vec![(RETENTION.0.to_owned(), RETENTION.1.to_owned())],
    };
    for example in &EXAMPLES {
        for name in example.topics {
            admin::create(&cluster, name, &topic, false)?;
        }
    }
    let params = BTreeMap::from([
        ("bootstrap".to_owned(), bootstrap.to_owned()),
        ("sqlite".to_owned(), data.join("page-traffic.db").display().to_string()),
    ]);
    let mut pipelines = Vec::new();
    for example in &EXAMPLES {
        let folder = projects::write(example, data)?;
        let project = Project::load(&Target::Path(folder), &params)?;
        pipelines.push(run::open(&project, &Overrides::default())?);
    }
    let running = Run::start(pipelines)?;
    let producers = Producers::start(&cluster, arguments.rate, interrupt)?;
    show_the_way(&arguments.data, bootstrap);
    let view = LiveView::new(running.board(), false);
    let mut first_results = FirstResults { began, seen: Vec::new() };
    let deadline = arguments.duration.map(|duration| Instant::now() + duration);
    let outcome = running.watch(view, interrupt, |board| {
        first_results.announce(board);
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) || producers.have_failed() {
            interrupt.request();
        }
    });
    producers.finish()?;
    outcome
}

/// Says once for each query how soon it had something to show.
struct FirstResults {
    began: Instant,
    seen: Vec<String>,
}

impl FirstResults {
    fn announce(&mut self, board: &Board) {
        for (query, line) in board.lines() {
            if line.rows_out > 0 && !self.seen.contains(&query) {
                tracing::info!(query, "first result after {:.1} s", self.began.elapsed().as_secs_f64());
                self.seen.push(query);
            }
        }
    }
}

/// How to look at each result, in another terminal.
fn show_the_way(data: &Path, bootstrap: &str) {
    tracing::info!("the broker is at {bootstrap}; look at the results in another terminal:");
    tracing::info!("  alerts   highwater topic consume {ALERTS} --bootstrap {bootstrap}");
    show_tables(data);
    tracing::info!("  queries  highwater query list --storage {}/iot/data", data.display());
    tracing::info!("Ctrl-C ends the demo; it goes on where it was when it is started again");
}

/// How to look at each result when the demo has ended.
fn show_what_is_kept(data: &Path) {
    let shown = data.display();
    tracing::info!("everything is kept in {shown}; look at the results:");
    tracing::info!("  alerts   highwater broker --data {shown}/broker, then highwater topic consume {ALERTS}");
    show_tables(data);
    tracing::info!("'highwater demo --data {shown}' goes on from here");
}

fn show_tables(data: &Path) {
    let data = data.display();
    tracing::info!(
        "  traffic  sqlite3 -box {data}/page-traffic.db \
         'SELECT title, sum(views) AS views FROM page_traffic GROUP BY title ORDER BY views DESC'"
    );
    tracing::info!(
        "  devices  highwater sql 'SELECT * FROM device_windows ORDER BY window_start DESC LIMIT 10' \
         --storage {data}/iot/data"
    );
}
