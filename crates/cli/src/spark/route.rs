//! Sinks that Spark does not have: Spark writes their rows to a topic, and Highwater drains it into them.
//!
//! ```text
//!   flow on Spark ─> topic PROJECT.SINK.routed (JSON, at least once) ─> drain here (exactly once) ─> SQLite, ...
//! ```
//!
//! The drain is an ordinary pipeline of this process: its checkpoint is in the project's storage, and the sink knows the
//! batches it has. It runs after each run on Spark, until nothing is left in the topic.

use std::collections::BTreeMap;

use arrow::datatypes::{Field, Schema, SchemaRef};
use highwater_engine::plan::ddl::schema_ddl;

use crate::config::highwater_yml::HighwaterYml;
use crate::error::{Failure, Result};
use crate::progress::board::Board;
use crate::progress::live::LiveView;
use crate::project::{Project, SparkNames, SqlFile};
use crate::run::{self, Overrides, Run};
use crate::signals::Interrupt;
use crate::topic::admin::{self, NewTopicSettings};
use crate::topic::client::Cluster;

/// Through which Kafka, and for which project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The brokers to ask first.
    pub(crate) bootstrap: String,
    /// The project's name.
    pub(crate) project: String,
}

/// A sink that is drained here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoutedSink {
    /// The sink's name.
    pub(crate) name: String,
    /// The topic its rows go through.
    pub(crate) topic: String,
    /// Its statement, as it stands in the project.
    pub(crate) statement: String,
}

/// How many partitions a topic of a route has: one, because a table has no use for more readers than it has writers.
const PARTITIONS: i32 = 1;

impl Route {
    /// The topic of a sink: letters, digits, dots, dashes and underscores are what Kafka takes.
    pub(crate) fn topic(&self, sink: &str) -> String {
        let part = |text: &str| -> String {
            let kept = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
            text.chars().map(kept).collect()
        };
        format!("{}.{}.routed", part(&self.project), part(sink))
    }
}

/// What drains the topics of a project.
pub(crate) struct Drain {
    project: Project,
    topics: Vec<String>,
    cluster: Cluster,
}

impl Drain {
    /// For sinks whose rows have these columns, by the sink's name in lower case; none if there is nothing to drain.
    pub(crate) fn new(
        project: &Project,
        route: &Route,
        sinks: &[RoutedSink],
        columns: &BTreeMap<String, SchemaRef>,
    ) -> Option<Self> {
        if sinks.is_empty() {
            return None;
        }
        let statements: Vec<String> = sinks
            .iter()
            .filter_map(|sink| Some(statements(sink, columns.get(&sink.name.to_lowercase())?, &route.bootstrap)))
            .collect();
        let project = Project {
            name: format!("{}-routed", project.name),
            root: project.root.clone(),
            files: vec![SqlFile { name: "routed.sql".to_owned(), text: statements.join("\n") }],
            storage: project.storage.clone(),
            checkpoints: None,
            spark: SparkNames::default(),
            configuration: BTreeMap::new(),
            settings: HighwaterYml::default(),
        };
        let topics = sinks.iter().map(|sink| sink.topic.clone()).collect();
        Some(Self { project, topics, cluster: Cluster { bootstrap: route.bootstrap.clone(), properties: Vec::new() } })
    }

    /// Makes the topics that are not there.
    pub(crate) fn prepare(&self) -> Result<()> {
        let settings = NewTopicSettings { partitions: PARTITIONS, replication: -1, configs: Vec::new() };
        for topic in &self.topics {
            if admin::create(&self.cluster, topic, &settings, false)? {
                tracing::info!(topic, "created the topic that rows from Spark go through");
            }
        }
        Ok(())
    }

    /// Drains what is in the topics.
    pub(crate) fn run(&self, interrupt: &Interrupt) -> Result<()> {
        let overrides = Overrides { trigger: Some("available-now".to_owned()), ..Overrides::default() };
        let run = Run::start(vec![run::open(&self.project, &overrides)?])?;
        let view = LiveView::new(run.board(), true);
        let code = run.watch(view, interrupt, |_: &Board| {})?;
        if code == std::process::ExitCode::SUCCESS { Ok(()) } else { Err(Failure::aborted("the drain was aborted")) }
    }
}

/// The topic as a table, the sink, and the flow from one to the other.
fn statements(sink: &RoutedSink, columns: &SchemaRef, bootstrap: &str) -> String {
    let nullable: Vec<Field> =
        columns.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let (name, topic, ddl) = (&sink.name, &sink.topic, schema_ddl(&Schema::new(nullable)));
    format!(
        "CREATE TABLE `{name}__routed` ({ddl}) USING kafka OPTIONS ('kafka.bootstrap.servers' = '{bootstrap}', subscribe = \
         '{topic}', startingOffsets = 'earliest', 'value.format' = 'json');\n{};\nCREATE FLOW `{name}__drain` AS INSERT \
         INTO `{name}` BY NAME SELECT * FROM STREAM `{name}__routed`;",
        sink.statement
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::DataType;

    use super::*;

    #[test]
    fn a_sink_is_drained_from_a_topic_of_its_own() {
        let route = Route { bootstrap: "k:9092".to_owned(), project: "My Shop".to_owned() };
        let topic = route.topic("page_traffic");
        assert_eq!(topic, "my-shop.page-traffic.routed");
        let statement = "CREATE SINK page_traffic USING sqlite OPTIONS (path = 'x.db')".to_owned();
        let sink = RoutedSink { name: "page_traffic".to_owned(), topic, statement };
        let columns: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("page", DataType::Utf8, false),
            Field::new("it's", DataType::Int64, true),
        ]));
        assert_eq!(
            statements(&sink, &columns, "k:9092"),
            "CREATE TABLE `page_traffic__routed` (page STRING,`it's` BIGINT) USING kafka OPTIONS \
             ('kafka.bootstrap.servers' = 'k:9092', subscribe = 'my-shop.page-traffic.routed', startingOffsets = \
             'earliest', 'value.format' = 'json');\nCREATE SINK page_traffic USING sqlite OPTIONS (path = 'x.db');\nCREATE \
             FLOW `page_traffic__drain` AS INSERT INTO `page_traffic` BY NAME SELECT * FROM STREAM \
             `page_traffic__routed`;"
        );
    }
}
