//! Every connector there is, by the word after `USING`.

use std::sync::Arc;

use highwater_engine::plan::catalog::ConnectorRegistry;

use crate::console::ConsoleConnector;
use crate::delta::DeltaConnector;
use crate::file::FileConnector;
use crate::format::functions;
use crate::kafka::KafkaConnector;
use crate::memory::MemoryConnector;
use crate::noop::NoopConnector;
use crate::object_store;
use crate::rate::{RateConnector, RateMicroBatchConnector};
use crate::sqlite::SqliteConnector;

/// All connectors.
pub fn connectors() -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::default();
    registry.register(Arc::new(KafkaConnector));
    for files in FileConnector::all() {
        registry.register(Arc::new(files));
    }
    registry.register(Arc::new(DeltaConnector));
    registry.register(Arc::new(SqliteConnector));
    #[cfg(feature = "postgres")]
    registry.register(Arc::new(crate::postgres::PostgresConnector));
    registry.register(Arc::new(RateConnector::default()));
    registry.register(Arc::new(RateMicroBatchConnector));
    registry.register(Arc::new(ConsoleConnector));
    registry.register(Arc::new(MemoryConnector));
    registry.register(Arc::new(NoopConnector));
    functions::all().into_iter().for_each(|function| registry.register_function(function));
    object_store::register(&mut registry.object_stores);
    registry
}

#[cfg(test)]
mod tests {
    use highwater_engine::error::EngineError;
    use highwater_engine::plan::catalog::{Options, TableDefinition};

    use super::*;

    /// A table of the format that says what it must, and has an option whose name is near to none.
    fn with_a_strange_option(format: &str) -> TableDefinition {
        let required: &[(&str, &str)] = match format {
            "kafka" => &[("kafka.bootstrap.servers", "localhost:9092"), ("subscribe", "t")],
            "json" | "csv" | "parquet" | "text" | "delta" | "sqlite" => &[("path", "/data")],
            "postgres" => &[("url", "postgresql://localhost:5432/shop")],
            "rate-micro-batch" => &[("rowsPerBatch", "1")],
            _ => &[],
        };
        let options: Options = required.iter().copied().chain([("zzzzzzzz", "")]).collect();
        let (name, format) = ("t".to_owned(), format.to_owned());
        TableDefinition { name, format, schema: None, options, partition_columns: Vec::new() }
    }

    #[test]
    fn every_option_is_documented() {
        let page = include_str!("../../../docs/sql/sources-and-sinks.md");
        let postgres = include_str!("../../../docs/sql/postgres.md");
        // A section goes to the next heading of its level; its own may name several formats.
        let sections: Vec<(&str, &str)> = page.split("\n## ").filter_map(|section| section.split_once('\n')).collect();
        let names = |title: &str, format: &str| title.split([' ', ',', ':']).any(|word| word == format);
        for connector in connectors().all() {
            let format = connector.format();
            let refusal = connector.table(&with_a_strange_option(format)).err();
            let help = refusal.as_ref().and_then(EngineError::next_step).unwrap_or_default();
            let known =
                help.strip_prefix("its options are ").or_else(|| help.starts_with("it takes none").then_some(""));
            let known = known.unwrap_or_else(|| panic!("USING {format} says: {help}"));
            assert_eq!(known.is_empty(), ["memory", "noop"].contains(&format), "USING {format}: {known}");
            for option in known.split(", ").filter(|option| !option.is_empty()) {
                let cell = format!("`{option}`");
                let own =
                    sections.iter().filter(|(title, _)| names(title, format) || *title == "Records that do not parse");
                let mut pages =
                    own.map(|(_, text)| *text).chain([postgres].into_iter().filter(|_| format == "postgres"));
                assert!(pages.any(|page| page.contains(&cell)), "docs: {cell} of USING {format} is missing");
            }
        }
    }
}
