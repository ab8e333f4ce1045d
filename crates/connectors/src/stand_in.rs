//! Connectors that touch nothing outside: each checks a definition as the real one does and gives a table in memory.
//!
//! ```text
//!   CREATE TABLE payments (...) USING kafka OPTIONS (...)
//!       real connector: options, columns, output modes ──┐
//!       MemoryStore:    rows ────────────────────────────┴─> the table a rehearsal reads and writes
//! ```
//!
//! `highwater test` runs a project over them. A table whose columns the real connector would have to look for outside
//! has none here, unless they are given. Secrets stay references: nobody needs their values.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use highwater_engine::error::Result;
use highwater_engine::plan::catalog::{Connector, ConnectorRegistry, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, Sink, SinkRequest};
use highwater_engine::source::{Source, SourceRequest};

use crate::memory::{MemoryStore, MemoryTable};

/// The connectors of `real` with tables in `store`; `columns` are those of tables that declare none, by lower-case name.
pub fn stand_ins(
    real: &ConnectorRegistry,
    store: &MemoryStore,
    columns: &BTreeMap<String, SchemaRef>,
) -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::default();
    for connector in real.all() {
        let (real, store, columns) = (Arc::clone(connector), store.clone(), columns.clone());
        registry.register(Arc::new(StandIn { real, store, columns }));
    }
    real.functions().iter().for_each(|function| registry.register_function(Arc::clone(function)));
    registry
}

struct StandIn {
    real: Arc<dyn Connector>,
    store: MemoryStore,
    columns: BTreeMap<String, SchemaRef>,
}

impl Connector for StandIn {
    fn format(&self) -> &str {
        self.real.format()
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let mut definition = definition.clone();
        if let Some(columns) = self.columns.get(&definition.name.to_lowercase()) {
            definition.schema = Some(SchemaRef::clone(columns));
        }
        if definition.schema.is_none() && self.real.finds_columns(&definition) {
            definition.schema = Some(Arc::new(Schema::empty()));
        }
        let real = self.real.table(&definition)?;
        let declared = Some(real.schema()).filter(|schema| !schema.fields().is_empty());
        let memory = MemoryTable::new(&self.store, &definition.name, declared);
        let takes_deletes = real.takes_deletes();
        Ok(Arc::new(StandInTable { memory, output_modes: real.output_modes().to_vec(), takes_deletes }))
    }

    fn secret_options(&self) -> &[&str] {
        self.real.secret_options()
    }

    fn needs_secrets(&self) -> bool {
        false
    }
}

struct StandInTable {
    memory: MemoryTable,
    output_modes: Vec<OutputMode>,
    takes_deletes: bool,
}

impl Table for StandInTable {
    fn schema(&self) -> SchemaRef {
        self.memory.schema()
    }

    fn source(&self, request: SourceRequest) -> Result<Box<dyn Source>> {
        self.memory.source(request)
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        self.memory.sink(request)
    }

    fn output_modes(&self) -> &[OutputMode] {
        &self.output_modes
    }

    fn takes_deletes(&self) -> bool {
        self.takes_deletes
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        self.memory.batch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::definition;
    use crate::registry::connectors;

    fn table(format: &str, options: &[(&str, &str)], columns: &[(&str, SchemaRef)]) -> Result<Arc<dyn Table>> {
        let columns = columns.iter().map(|(name, schema)| ((*name).to_owned(), SchemaRef::clone(schema))).collect();
        let registry = stand_ins(&connectors(), &MemoryStore::default(), &columns);
        registry.get(format)?.table(&definition(format, None, options))
    }

    #[test]
    fn options_are_checked_and_nothing_is_opened() {
        let nowhere = [("path", "/nowhere/at/all")];
        for format in ["json", "csv", "parquet", "delta", "sqlite"] {
            let table = table(format, &nowhere, &[]).unwrap();
            assert!(table.schema().fields().is_empty(), "{format}");
        }
        let kafka = table("kafka", &[("kafka.bootstrap.servers", "127.0.0.1:1"), ("subscribe", "t")], &[]).unwrap();
        assert_eq!(kafka.schema().field(1).name(), "value");
        let Err(error) = table("json", &[("pth", "x")], &[]) else { panic!("an unknown option was taken") };
        assert!(error.to_string().contains("'pth'") || error.to_string().contains("'path'"), "{error}");
    }

    #[test]
    fn given_columns_are_the_tables_and_modes_are_the_real_ones() {
        let id_name = crate::contract::id_name();
        let table = table("csv", &[("path", "/nowhere")], &[("t", SchemaRef::clone(&id_name))]).unwrap();
        assert_eq!(table.schema(), id_name);
        assert_eq!(table.output_modes(), [OutputMode::Append]);
    }
}
