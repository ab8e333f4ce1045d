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
