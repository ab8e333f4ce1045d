//! Every connector there is, by the word after `USING`.

use highwater_engine::plan::catalog::ConnectorRegistry;

/// All connectors.
pub fn connectors() -> ConnectorRegistry {
    ConnectorRegistry::default()
}
