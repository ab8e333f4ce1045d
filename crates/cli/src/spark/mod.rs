//! The same project on a real Spark cluster, through Spark Connect.
//!
//! ```text
//!   project ─outline, plan─> translate ─> findings (validate --engine spark)
//!                                     └─> elements ─> session over gRPC ─> events, progress ─> terminal
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | `address` | `sc://HOST:PORT/;key=value` |
//! | `translate` | statements as Spark takes them; what it does not take |
//! | `grpc`, `session` | calls of Spark Connect; its messages stand in [`crate::spark_connect`] |
//! | `execution` | what is taken up again when the connection breaks |
//! | `route` | sinks that Spark does not have, through topics |
//! | `run`, `told`, `progress`, `problems` | a run, what Spark says of it, its view, its errors at the user's place |
//!
//! Nothing is executed here: what runs on Spark is Spark's, with its state, its checkpoints and its tables.

pub(crate) mod address;
pub(crate) mod checkpoint;
mod execution;
pub(crate) mod grpc;
mod problems;
mod progress;
pub(crate) mod route;
mod run;
mod session;
mod told;
mod translate;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use highwater_engine::plan::ScriptFile;
use highwater_engine::plan::outline::outline;
use highwater_engine::query::{FlowDescription, Trigger};

use address::{Address, SCHEME};
use route::{Drain, Route};
use run::SparkRun;
use translate::{Finding, FlowMode, Translation};

use crate::error::{Failure, Place, Result};
use crate::project::Project;
use crate::signals::Interrupt;

/// What runs a project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Engine {
    /// This process.
    #[default]
    Highwater,
    /// Spark, without saying which: to see whether the project could run there.
    Spark,
    /// A Spark Connect server.
    Server(Address),
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "highwater" => Ok(Self::Highwater),
            "spark" => Ok(Self::Spark),
            _ if text.starts_with(SCHEME) => {
                Address::parse(text).map(Self::Server).map_err(|failure| failure.message().to_owned())
            }
            _ => Err("expected highwater, spark or sc://HOST:PORT".to_owned()),
        }
    }
}

/// The shortest time from one run to the next: each asks Spark to plan everything anew.
const SHORTEST: Duration = Duration::from_secs(1);

/// Settings that the pipelines need or that make them agree with Highwater, unless the project says otherwise.
const DEFAULTS: [(&str, &str); 2] =
    [("spark.sql.streaming.schemaInference", "true"), ("spark.sql.session.timeZone", "UTC")];

/// A project that Spark can take.
pub(crate) struct SparkProject {
    files: Vec<ScriptFile>,
    translation: Translation,
    flows: Vec<FlowDescription>,
    storage: Option<String>,
    catalog: Option<String>,
    database: Option<String>,
    configuration: BTreeMap<String, String>,
    drain: Option<Drain>,
}

impl SparkProject {
    /// Translates a project; fails with everything in it that Spark cannot run.
    ///
    /// Sinks that Spark does not have are written through topics of the Kafka at `route_through`, if it is given.
    pub(crate) fn new(project: &Project, flows: Vec<FlowDescription>, route_through: Option<&str>) -> Result<Self> {
        let files: Vec<ScriptFile> =
            project.files.iter().map(|file| ScriptFile { name: file.name.clone(), text: file.text.clone() }).collect();
        let route =
            route_through.map(|bootstrap| Route { bootstrap: bootstrap.to_owned(), project: project.name.clone() });
        let modes: Vec<FlowMode> = flows.iter().map(mode).collect();
        let mut translation = translate::translate(&files, &outline(&files)?, &modes, route.as_ref());
        let mut failures =
            std::mem::take(&mut translation.findings).into_iter().map(|finding| failure(&files, finding));
        if let Some(first) = failures.next() {
            return Err(first.and(failures));
        }
        translation.notes.extend(notes_of_settings(project));
        let mut configuration: BTreeMap<String, String> =
            DEFAULTS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        // The others are values for ${name}, which stand in the text already.
        configuration.extend(project.configuration.clone().into_iter().filter(|(key, _)| key.starts_with("spark.")));
        let names = project.spark.clone();
        let (storage, catalog, database) = (names.storage, names.catalog, names.database);
        let drain =
            route.and_then(|route| Drain::new(project, &route, &translation.routed, &columns_of_targets(&flows)));
        Ok(Self { files, translation, flows, storage, catalog, database, configuration, drain })
    }

    /// Says what is other on Spark.
    pub(crate) fn tell_notes(&self) {
        for note in &self.translation.notes {
            tracing::warn!("{note}");
        }
    }

    /// Lets a server look at the project; starts nothing.
    pub(crate) fn analyse(&self, address: &Address) -> Result<()> {
        run::block_on(self.on(address)?.analyse())
    }

    /// Runs the project until it ends, or Ctrl-C.
    pub(crate) fn run(&self, address: &Address, quiet: bool, interrupt: &Interrupt) -> Result<ExitCode> {
        if let Some(drain) = &self.drain {
            drain.prepare()?;
        }
        let drain = || self.drain.as_ref().map_or(Ok(()), |drain| drain.run(interrupt));
        run::block_on(self.on(address)?.run(quiet, interrupt, &drain))
    }

    fn on(&self, address: &Address) -> Result<SparkRun<'_>> {
        let storage = self.storage.clone().ok_or_else(|| {
            Failure::invalid("Spark needs a project: it keeps its checkpoints in the project's storage")
                .help("put the SQL into a folder with a spark-pipeline.yml: highwater init NAME makes one")
        })?;
        Ok(SparkRun {
            address: address.clone(),
            files: &self.files,
            elements: &self.translation.elements,
            flows: self.flows.iter().map(|flow| flow.name.clone()).collect(),
            storage,
            catalog: self.catalog.clone(),
            database: self.database.clone(),
            configuration: self.configuration.clone(),
            interval: interval(&self.flows),
        })
    }
}

fn mode(flow: &FlowDescription) -> FlowMode {
    FlowMode {
        name: flow.name.clone(),
        mode: flow.output_mode,
        has_watermark: !flow.watermarks.is_empty(),
        target: flow.target_table.clone(),
        columns: flow.columns.clone(),
        given_columns: flow.given_columns.clone(),
    }
}

/// The columns of the rows that go into each table, by its name in lower case.
fn columns_of_targets(flows: &[FlowDescription]) -> BTreeMap<String, SchemaRef> {
    let of_target = |flow: &FlowDescription| Some((flow.target_table.as_ref()?.to_lowercase(), flow.columns.clone()));
    flows.iter().filter_map(of_target).collect()
}

fn failure(files: &[ScriptFile], finding: Finding) -> Failure {
    let file = &files[finding.file];
    Failure::invalid(finding.message).help(finding.help).at(Place::in_text(&file.name, &file.text, finding.span))
}

/// The shortest wish of a flow that runs on; none if all end by themselves.
fn interval(flows: &[FlowDescription]) -> Option<Duration> {
    let wishes = flows.iter().filter(|flow| flow.upkeep.is_none()).filter_map(|flow| match flow.trigger {
        Trigger::AvailableNow | Trigger::Once => None,
        Trigger::ProcessingTime(interval) => Some(interval),
        Trigger::RealTime(_) => Some(SHORTEST),
    });
    wishes.min().map(|interval| interval.max(SHORTEST))
}

/// What `highwater.yml` says that Spark has no like for.
fn notes_of_settings(project: &Project) -> Vec<String> {
    let yml = &project.settings;
    let mut notes = Vec::new();
    let mut note = |is_said: bool, text: &str| notes.extend(is_said.then(|| format!("highwater.yml: {text}")));
    note(
        yml.parallelism.is_some(),
        "parallelism has no effect on Spark: its executors and shuffle partitions are its own",
    );
    note(yml.state.memory_bytes.is_some(), "state.memory has no effect on Spark");
    let has_ttl =
        yml.state.ttl.is_some() || yml.flows.values().any(|flow| flow.ttl.is_some() || !flow.operator_ttls.is_empty());
    note(has_ttl, "Spark's SQL has no time to live of state (ttl): it keeps state until a watermark lets it go");
    note(
        yml.default_format.is_some(),
        "default_format has no effect on Spark: spark.sql.sources.default says how tables are stored",
    );
    note(
        yml.checkpoints.location.is_some(),
        "checkpoints.location has no effect on Spark: its checkpoints are in the project's storage",
    );
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_have_names() {
        assert_eq!("highwater".parse(), Ok(Engine::Highwater));
        assert_eq!("spark".parse(), Ok(Engine::Spark));
        assert!(matches!("sc://h:1".parse(), Ok(Engine::Server(address)) if address.port == 1));
        assert_eq!("flink".parse::<Engine>(), Err("expected highwater, spark or sc://HOST:PORT".to_owned()));
    }
}
