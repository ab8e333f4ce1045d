//! `highwater.yml`: Highwater's own settings, beside the `spark-pipeline.yml` that Spark reads too.
//!
//! ```yaml
//! trigger: 5 seconds          # available-now | once | a duration | real-time [a duration]
//! parallelism: 2              # worker threads of one query; default: the machine's cores
//! default_format: delta       # what a streaming table is stored as when its statement does not say
//! catalog: [catalog.sql]      # files of CREATE TABLE statements: tables that are there before the project runs
//! on_failure: continue        # a query has failed for good: continue with the others | stop them after their batch
//! retry:                      # of a query after an error that may pass, such as a broker that does not answer
//!   attempts: 5               # in a row without a batch in between; 0 for none, or unlimited
//!   delay: 1 second           # before the first, doubled before each further one
//!   max_delay: 1 minute
//! watermark:
//!   idle_timeout: 10 seconds  # how long a partition without new rows holds the watermark back; default: not at all
//! checkpoints:                # default: in the storage folder
//!   location: s3://bucket/pipelines
//!   options:                  # of the object store: docs/checkpoints.md
//!     region: eu-central-1
//! state:
//!   memory: 256MiB            # of one query's state, RocksDB's share included; default: 512MiB
//!   ttl: 7 days               # of state that nothing else bounds; default: none
//! flows:                      # for one flow or streaming table, by name
//!   alerts:
//!     trigger: 1 second
//!     output_mode: append     # append | update | complete
//!     state:
//!       ttl: 1 day
//!       operators:            # for one operator, as explain names it
//!         aggregate-0:
//!           ttl: 12 hours
//! ```
//!
//! `catalog` holds what on Spark stands in its catalog already: a pipeline of Spark's takes no `CREATE TABLE ... USING`.
//!
//! Values keep their place in the file until the engine has understood them, so that its errors can point at them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::yaml;
use crate::error::{Failure, Result};
use crate::quantity;

/// The file's name inside a project.
pub(crate) const FILE_NAME: &str = "highwater.yml";

/// The settings of a project, as its `highwater.yml` gives them.
#[derive(Debug, Clone, Default)]
pub(crate) struct HighwaterYml {
    /// How often a query looks for new data.
    pub(crate) trigger: Option<Setting>,
    /// Worker threads of one query.
    pub(crate) parallelism: Option<usize>,
    /// The format of streaming tables that name none.
    pub(crate) default_format: Option<String>,
    /// Files of tables that are there before the project runs, relative to the project's folder.
    pub(crate) catalog: Vec<String>,
    /// Settings of single flows.
    pub(crate) flows: BTreeMap<String, FlowSettings>,
    /// Where checkpoints are kept.
    pub(crate) checkpoints: Checkpoints,
    /// The state of a query.
    pub(crate) state: StateSettings,
    /// What a run does when one of its queries has failed for good.
    pub(crate) on_failure: Option<Setting>,
    /// How a query is started again.
    pub(crate) retry: Retry,
    /// How long a partition without new rows holds the watermark back.
    pub(crate) idle_timeout: Option<Setting>,
}

/// How a query is started again after an error that may pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Retry {
    /// How often in a row.
    pub(crate) attempts: Option<Setting>,
    /// The rest before the first.
    pub(crate) delay: Option<Setting>,
    /// The longest rest.
    pub(crate) max_delay: Option<Setting>,
}

/// The state of a query.
#[derive(Debug, Clone, Default)]
pub(crate) struct StateSettings {
    /// Memory for it, in bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// How long it is kept if nothing else bounds it.
    pub(crate) ttl: Option<Setting>,
}

/// Where checkpoints are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Checkpoints {
    /// A path or the URL of an object store.
    pub(crate) location: Option<String>,
    /// Options of the object store.
    pub(crate) options: BTreeMap<String, Scalar>,
}

/// A value that may stand without quotes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Scalar {
    /// `true`
    Flag(bool),
    /// `3`
    Number(i64),
    /// Anything else.
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// The settings of one flow.
#[derive(Debug, Clone, Default)]
pub(crate) struct FlowSettings {
    /// Replaces the project's trigger.
    pub(crate) trigger: Option<Setting>,
    /// Replaces what the query implies.
    pub(crate) output_mode: Option<Setting>,
    /// How long its state is kept, replacing the project's.
    pub(crate) ttl: Option<Setting>,
    /// The same for single operators.
    pub(crate) operator_ttls: BTreeMap<String, Setting>,
}

/// A text with the place it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    text: String,
    origin: Option<Origin>,
}

#[derive(Debug, Clone)]
struct Origin {
    file: String,
    content: std::sync::Arc<str>,
    location: Location,
}

impl Setting {
    /// A text from the command line or the environment.
    pub(crate) fn given(text: impl Into<String>) -> Self {
        Self { text: text.into(), origin: None }
    }

    /// The text as a `T`; a mistake points at its place.
    pub(crate) fn parse<T>(&self) -> Result<T>
    where
        T: std::str::FromStr<Err = highwater_engine::error::EngineError>,
    {
        self.text.parse().map_err(|error: T::Err| {
            let help = error.next_step().map(str::to_owned);
            let failure = match &self.origin {
                Some(origin) => yaml::failure_at(
                    &origin.file,
                    &origin.content,
                    origin.location,
                    error.to_string(),
                    self.text.chars().count(),
                ),
                None => Failure::usage(error.to_string()),
            };
            match help {
                Some(help) => failure.help(help),
                None => failure,
            }
        })
    }
}

/// The file's shape.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    trigger: Option<Spanned<String>>,
    parallelism: Option<Spanned<u16>>,
    default_format: Option<String>,
    catalog: Vec<String>,
    flows: BTreeMap<String, FlowFile>,
    checkpoints: Checkpoints,
    state: StateFile,
    on_failure: Option<Spanned<String>>,
    retry: RetryFile,
    watermark: WatermarkFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RetryFile {
    attempts: Option<Spanned<Scalar>>,
    delay: Option<Spanned<String>>,
    max_delay: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WatermarkFile {
    idle_timeout: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StateFile {
    memory: Option<Spanned<String>>,
    ttl: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FlowStateFile {
    ttl: Option<Spanned<String>>,
    operators: BTreeMap<String, OperatorFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OperatorFile {
    ttl: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FlowFile {
    trigger: Option<Spanned<String>>,
    output_mode: Option<Spanned<String>>,
    state: FlowStateFile,
}

impl FlowFile {
    fn settings(self, setting: &impl Fn(Spanned<String>) -> Setting) -> FlowSettings {
        let operators = self.state.operators.into_iter();
        FlowSettings {
            trigger: self.trigger.map(setting),
            output_mode: self.output_mode.map(setting),
            ttl: self.state.ttl.map(setting),
            operator_ttls: operators.filter_map(|(name, operator)| Some((name, setting(operator.ttl?)))).collect(),
        }
    }
}

impl HighwaterYml {
    /// The settings in `folder`; the defaults if the file is not there.
    pub(crate) fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE_NAME);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&path.display().to_string(), &text)?.relative_to(folder)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::runtime(format!("{} cannot be read: {error}", path.display()))),
        }
    }

    /// The same with the paths in it relative to the project's folder.
    fn relative_to(mut self, folder: &Path) -> Self {
        if let Some(location) = self.checkpoints.location.as_mut().filter(|location| !location.contains("://")) {
            *location = folder.join(&*location).display().to_string();
        }
        self
    }

    /// The settings in `text`, the content of `file`.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self> {
        // A file of comments only is an empty document, not an empty mapping.
        let parsed: Option<File> = yaml::parse(file, text)?;
        let parsed = parsed.unwrap_or_default();
        if let Some(zero) = parsed.parallelism.as_ref().filter(|threads| threads.value == 0) {
            let message = "parallelism is 0, expected at least 1".to_owned();
            return Err(yaml::failure_at(file, text, zero.referenced, message, 1));
        }
        let memory_bytes = parsed.state.memory.as_ref().map(|memory| {
            let mistake = |error| yaml::failure_at(file, text, memory.referenced, error, memory.value.chars().count());
            quantity::size(&memory.value).map_err(mistake)
        });
        let content: std::sync::Arc<str> = text.into();
        let placed = |text: String, location: Location| Setting {
            text,
            origin: Some(Origin { file: file.to_owned(), content: content.clone(), location }),
        };
        let setting = |value: Spanned<String>| placed(value.value, value.referenced);
        let retry = Retry {
            attempts: parsed.retry.attempts.map(|value| placed(value.value.to_string(), value.referenced)),
            delay: parsed.retry.delay.map(setting),
            max_delay: parsed.retry.max_delay.map(setting),
        };
        let state = StateSettings { memory_bytes: memory_bytes.transpose()?, ttl: parsed.state.ttl.map(setting) };
        Ok(Self {
            trigger: parsed.trigger.map(setting),
            parallelism: parsed.parallelism.map(|threads| usize::from(threads.value)),
            default_format: parsed.default_format,
            catalog: parsed.catalog,
            checkpoints: parsed.checkpoints,
            state,
            on_failure: parsed.on_failure.map(setting),
            retry,
            idle_timeout: parsed.watermark.idle_timeout.map(setting),
            flows: parsed.flows.into_iter().map(|(name, flow)| (name, flow.settings(&setting))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use highwater_engine::query::{Period, RetryAttempts, StateTtl};
    use highwater_engine::sink::OutputMode;

    use super::*;
    use crate::run::OnFailure;

    #[test]
    fn every_key_is_read() {
        let text = "trigger: 5 seconds\nparallelism: 3\ndefault_format: delta\ncatalog: [c.sql]\nflows:\n  alerts:\n    \
                    trigger: 1 second\n    output_mode: update\n";
        let yml = HighwaterYml::parse("highwater.yml", text).unwrap();
        assert_eq!(yml.trigger.unwrap().text, "5 seconds");
        assert_eq!(yml.parallelism, Some(3));
        assert_eq!(yml.default_format.as_deref(), Some("delta"));
        assert_eq!(yml.catalog, ["c.sql"]);
        let mode: OutputMode = yml.flows["alerts"].output_mode.as_ref().unwrap().parse().unwrap();
        assert_eq!(mode, OutputMode::Update);
    }

    #[test]
    fn nothing_and_comments_are_the_defaults() {
        for text in ["", "# only a comment\n"] {
            assert!(HighwaterYml::parse("highwater.yml", text).unwrap().trigger.is_none());
        }
    }

    #[test]
    fn checkpoints_may_be_elsewhere() {
        let text = "checkpoints:\n  location: s3://b/p\n  options:\n    path_style: true\n    endpoint: http://127.0.0.1:9000\n    \
                    secret_access_key: ${env:NOT_SET}\n";
        let checkpoints = HighwaterYml::parse("highwater.yml", text).unwrap().checkpoints;
        assert_eq!(checkpoints.location.as_deref(), Some("s3://b/p"));
        let options: Vec<String> = checkpoints.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expected = ["endpoint=http://127.0.0.1:9000", "path_style=true", "secret_access_key=${env:NOT_SET}"];
        assert_eq!(options, expected);
        assert!(mistake("checkpoints:\n  loaction: x\n").contains("did you mean 'location'?"));
        let local = HighwaterYml::parse("highwater.yml", "checkpoints:\n  location: here\n").unwrap();
        let local = local.relative_to(Path::new("/project")).checkpoints;
        assert_eq!(local.location.as_deref(), Some("/project/here"));
    }

    #[test]
    fn the_memory_of_state_is_a_size() {
        let state = HighwaterYml::parse("highwater.yml", "state:\n  memory: 256MiB\n").unwrap().state;
        assert_eq!(state.memory_bytes, Some(256 << 20));
        let shown = mistake("state:\n  memory: much\n");
        assert!(shown.contains("'much' is not a size") && shown.contains("highwater.yml:2:11"), "{shown}");
    }

    #[test]
    fn state_may_have_a_time_to_live() {
        let text = "state:\n  ttl: 7 days\nflows:\n  a:\n    state:\n      ttl: none\n      operators:\n        \
                    distinct-0:\n          ttl: 1 hour\n        aggregate-0:\n          ttl: soon\n";
        let yml = HighwaterYml::parse("highwater.yml", text).unwrap();
        let hour = Some("1 hour".parse::<StateTtl>().unwrap());
        assert_eq!(yml.state.ttl.unwrap().parse::<StateTtl>().ok(), "7 days".parse().ok());
        assert_eq!(yml.flows["a"].ttl.as_ref().unwrap().parse::<StateTtl>().ok(), Some(StateTtl::default()));
        assert_eq!(yml.flows["a"].operator_ttls["distinct-0"].parse::<StateTtl>().ok(), hour);
        let shown = yml.flows["a"].operator_ttls["aggregate-0"].parse::<StateTtl>().unwrap_err().render(false);
        assert!(shown.contains("the ttl is 'soon'") && shown.contains("highwater.yml:11:16"), "{shown}");
    }

    #[test]
    fn failures_and_idle_partitions_have_settings() {
        let text = "on_failure: stop\nretry:\n  attempts: 7\n  delay: 2 seconds\n  max_delay: 5 minutes\nwatermark:\n  \
                    idle_timeout: 10 seconds\n";
        let yml = HighwaterYml::parse("highwater.yml", text).unwrap();
        assert_eq!(yml.on_failure.unwrap().parse::<OnFailure>().ok(), Some(OnFailure::Stop));
        assert_eq!(yml.retry.attempts.unwrap().parse::<RetryAttempts>().ok(), Some(RetryAttempts::Most(7)));
        let period = |secs| Some(Period(std::time::Duration::from_secs(secs)));
        let found = [yml.retry.delay, yml.retry.max_delay, yml.idle_timeout].map(|it| it.unwrap().parse().ok());
        assert_eq!(found, [period(2), period(300), period(10)]);

        let unlimited = HighwaterYml::parse("highwater.yml", "retry:\n  attempts: unlimited\n").unwrap().retry;
        assert_eq!(unlimited.attempts.unwrap().parse::<RetryAttempts>().ok(), Some(RetryAttempts::Unlimited));
        let wrong = HighwaterYml::parse("highwater.yml", "on_failure: retry\n").unwrap().on_failure.unwrap();
        let shown = wrong.parse::<OnFailure>().unwrap_err().render(false);
        assert!(shown.contains("on_failure is 'retry', expected stop or continue"), "{shown}");
        assert!(shown.contains("highwater.yml:1:13"), "{shown}");
    }

    fn mistake(text: &str) -> String {
        match HighwaterYml::parse("highwater.yml", text) {
            Ok(yml) => match yml.flows["a"].output_mode.as_ref().unwrap().parse::<OutputMode>() {
                Ok(mode) => panic!("accepted as {mode}"),
                Err(failure) => failure.render(false),
            },
            Err(failure) => failure.render(false),
        }
    }

    #[test]
    fn an_unknown_key_names_its_place_and_the_nearest() {
        assert_eq!(
            mistake("parallelism: 2\ntriger: 5 seconds\n"),
            "error: unknown key 'triger'\n  --> highwater.yml:2:1\n   |\n 2 | triger: 5 seconds\n   | \
             ^^^^^^\nhelp: did you mean 'trigger'?\n"
        );
    }

    #[test]
    fn every_key_is_documented() {
        let page = include_str!("../../../../docs/configuration.md");
        let check = |text: &str, path: &str| {
            let shown = mistake(text);
            let known = shown.lines().find_map(|line| line.strip_prefix("help: known keys here: "));
            for key in known.unwrap_or_else(|| panic!("{shown}")).split(", ") {
                assert!(page.contains(&format!("| `{path}{key}")), "docs/configuration.md has no row of {path}{key}");
            }
        };
        check("zzzzzzzz: 1\n", "");
        check("checkpoints:\n  zzzzzzzz: 1\n", "checkpoints.");
        check("state:\n  zzzzzzzz: 1\n", "state.");
        check("retry:\n  zzzzzzzz: 1\n", "retry.");
        check("watermark:\n  zzzzzzzz: 1\n", "watermark.");
        check("flows:\n  a:\n    zzzzzzzz: 1\n", "flows: NAME: ");
        check("flows:\n  a:\n    state:\n      zzzzzzzz: 1\n", "flows: NAME: state: ");
        check(
            "flows:\n  a:\n    state:\n      operators:\n        b:\n          zzzzzzzz: 1\n",
            "flows: NAME: state: operators: ID: ",
        );
    }

    #[test]
    fn a_value_the_engine_refuses_is_shown_in_its_line() {
        assert_eq!(
            mistake("flows:\n  a:\n    output_mode: upsert\n"),
            "error: output mode 'upsert' is not one of append, update, complete\n  --> highwater.yml:3:18\n   |\n 3 \
             |     output_mode: upsert\n   |                  ^^^^^^\n"
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_shown_in_its_line() {
        let shown = mistake("parallelism: many\n");
        assert!(shown.contains("highwater.yml:1:14"), "{shown}");
        assert!(mistake("parallelism: 0\n").starts_with("error: parallelism is 0, expected at least 1"));
        assert!(mistake("trigger: a\ntrigger: b\n").starts_with("error: the key 'trigger' stands twice"));
    }
}
