//! Every connector there is, by the word after `USING`.

use std::sync::Arc;

use highwater_engine::plan::catalog::ConnectorRegistry;

use crate::kafka::KafkaConnector;

/// All connectors.
pub fn connectors() -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::default();
    registry.register(Arc::new(KafkaConnector));
    registry
}
