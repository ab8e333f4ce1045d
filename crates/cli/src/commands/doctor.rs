//! `highwater doctor`: compares a cluster with good practice; wiring to [`crate::doctor`].

use std::io::Write;
use std::time::Duration;

use crate::doctor::report::examine;
use crate::doctor::rules::{Limits, RULES};
use crate::doctor::survey::{Scope, survey};
use crate::error::{Failure, Result};
use crate::output::columns::write_json;
use crate::output::stdout_failure;
use crate::topic::client::{Cluster, key_value};
use crate::topic::naming::Strictness;

/// How what was found is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DoctorFormat {
    /// For people.
    Table,
    /// One JSON object.
    Json,
}

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The cluster to look at: host:port of some brokers, with commas
    #[arg(long, alias = "bootstrap", short = 'b', env = "HIGHWATER_BOOTSTRAP", value_name = "ADDRESS")]
    kafka: String,
    /// A setting of the client, such as security.protocol=SASL_SSL
    #[arg(long = "property", short = 'X', value_name = "KEY=VALUE", value_parser = key_value)]
    properties: Vec<(String, String)>,
    /// Only topics like this one, such as 'shop.*'; may be given several times
    #[arg(long = "topic", value_name = "PATTERN", value_parser = glob::Pattern::new)]
    topics: Vec<glob::Pattern>,
    /// Topics that hold state and must be compacted, beside those whose names say so
    #[arg(long = "state-topic", value_name = "PATTERN", value_parser = glob::Pattern::new)]
    state_topics: Vec<glob::Pattern>,
    /// Workers that read a topic at once, for the number of partitions; the processors of this machine if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    parallelism: Option<u16>,
    /// Records a group may be behind
    #[arg(long, value_name = "RECORDS", default_value_t = 100_000)]
    max_lag: i64,
    /// How old the oldest record may be that a group has not read
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = crate::duration::parse)]
    max_lag_time: Duration,
    /// How long is looked at how fast topics grow
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = crate::duration::parse)]
    measure: Duration,
    /// Whether names are looked at: off, warn or error, of which the last fails as --strict does
    #[arg(long, value_enum, default_value_t = Strictness::Warn, env = "HIGHWATER_LINT", value_name = "HOW")]
    lint: Strictness,
    /// A rule that is not asked; may be given several times
    #[arg(long, value_name = "RULE", value_parser = rule)]
    skip: Vec<String>,
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,
    /// How what was found is printed
    #[arg(long, value_enum, default_value_t = DoctorFormat::Table)]
    output: DoctorFormat,
}

const EXAMPLES: &str = "\
Ends with 0 when no check failed, with 4 when one did; warnings fail with --strict only. Changes nothing.

Examples:
  highwater doctor --kafka kafka-1:9092,kafka-2:9092
  highwater doctor --kafka kafka-1:9093 -X security.protocol=SASL_SSL -X ssl.ca.location=ca.pem \\
    -X sasl.mechanism=SCRAM-SHA-512 -X sasl.username=ops -X sasl.password=\"$PASSWORD\"
  highwater doctor --kafka kafka-1:9092 --topic 'shop.*' --skip broker-count --strict
  highwater doctor --kafka kafka-1:9092 --output json | jq -r '.rules[].findings[].command | select(.)'";

fn rule(id: &str) -> Result<String, String> {
    if RULES.iter().any(|rule| rule.id == id) {
        return Ok(id.to_owned());
    }
    let ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    Err(format!("there is no rule '{id}'; there are {}", ids.join(", ")))
}

/// Looks, and says what is wrong.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let cluster = Cluster { bootstrap: arguments.kafka.clone(), properties: arguments.properties.clone() };
    let scope = Scope { topics: arguments.topics.clone(), measure: arguments.measure };
    let here = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let limits = Limits {
        parallelism: arguments.parallelism.map_or_else(here, usize::from),
        max_lag_records: arguments.max_lag,
        max_lag_s: i64::try_from(arguments.max_lag_time.as_secs()).unwrap_or(i64::MAX),
        names: arguments.lint != Strictness::Off,
        state_topics: arguments.state_topics.clone(),
    };
    let report = examine(&survey(&cluster, &scope)?, &limits, &arguments.skip);
    let mut stdout = std::io::stdout().lock();
    match arguments.output {
        DoctorFormat::Json => write_json(&report, &mut stdout)?,
        DoctorFormat::Table => {
            write!(stdout, "{}", report.text()).and_then(|()| stdout.flush()).map_err(stdout_failure)?;
        }
    }
    let bad_name = |rule: &str| arguments.lint == Strictness::Error && rule == "topic-names";
    let fails = report.failures > 0
        || (arguments.strict && report.warnings > 0)
        || report.rules.iter().any(|rule| rule.outcome == "broken" && bad_name(rule.rule));
    let summary = format!("Kafka at {}: {}", report.address, report.summary());
    if fails {
        return Err(
            Failure::check(summary).help("what to change is said above, worst first; --skip RULE leaves a rule out")
        );
    }
    tracing::info!("{summary}");
    Ok(())
}
