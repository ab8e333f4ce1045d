//! `USING kafka`: topics as tables, read by our own client and written by librdkafka.
//!
//! ```text
//!   options ──> KafkaTable ─┬─ source ──> positions, limits ──> PartitionFetcher ──> decoder, layout ──> rows
//!                           ├─ batch  ──> the same, all there is
//!                           └─ sink   ──> encode ──> producer (one transaction a batch, with its token)
//! ```
//!
//! The embedded broker and any other are reached the same way, by address. Nothing here decides what is replayed,
//! and no position is kept but in the checkpoint.

pub mod client;
pub mod offsets;
pub mod limits;
pub mod security;
pub mod options;
pub mod format_options;
pub mod avro;
pub mod positions;
pub mod layout;
pub mod decode;
pub mod reader;
pub mod source;
pub mod table;
pub mod encode;
pub mod producer;
pub mod token;
pub mod sink;
pub mod admin;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod secure_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use highwater_engine::clock::SystemClock;
use highwater_engine::error::Result;
use highwater_engine::plan::catalog::{Connector, Role, Table, TableDefinition};
use highwater_engine::sink::{OutputMode, Sink, SinkRequest};
use highwater_engine::source::{Offset, Source, SourceRequest};

use self::client::cluster::Client;
use self::decode::Decoding;
use self::encode::RowEncoder;
use self::options::KafkaOptions;
use self::sink::KafkaSink;
use self::source::KafkaSource;
use self::table::KafkaTableProvider;

/// Connects Kafka.
#[derive(Debug, Clone, Copy, Default)]
pub struct KafkaConnector;

impl Connector for KafkaConnector {
    fn format(&self) -> &str {
        "kafka"
    }

    fn secret_options(&self) -> &[&str] {
        &security::SECRETS
    }

    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let options = Arc::new(KafkaOptions::parse(definition)?);
        for (option, reason) in &options.without_effect {
            tracing::warn!(table = definition.name, option, "this option has no effect here: {reason}");
        }
        let declared = match &definition.schema {
            Some(schema) => Some(schema.clone()),
            None => options.format.avro.columns(&options.object)?,
        };
        let decoding = Decoding::of_table(declared.as_ref(), &options)?;
        let client = Client::new(options.client.clone(), Arc::new(SystemClock));
        let name = definition.name.clone();
        Ok(Arc::new(KafkaTable { name, declared, options, decoding, client }))
    }
}

/// A table over topics. All that is opened from it shares its connections.
struct KafkaTable {
    name: String,
    declared: Option<SchemaRef>,
    options: Arc<KafkaOptions>,
    decoding: Decoding,
    client: Client,
}

impl Table for KafkaTable {
    fn schema(&self) -> SchemaRef {
        if self.declared.is_none() && self.options.selection.is_none() {
            return Arc::new(Schema::empty());
        }
        self.decoding.layout().schema().clone()
    }

    fn source(&self, request: SourceRequest) -> Result<Box<dyn Source>> {
        let decoding = self.decoding.project(&request.projection)?.reading(request.members);
        Ok(Box::new(KafkaSource::open(self.client.clone(), self.options.clone(), decoding)?))
    }

    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>> {
        let declared = self.declared.as_ref();
        Ok(Box::new(KafkaSink::open(self.client.clone(), &self.options, &self.name, declared, &request)?))
    }

    fn output_modes(&self) -> &[OutputMode] {
        &[OutputMode::Append, OutputMode::Update, OutputMode::Complete]
    }

    fn takes_deletes(&self) -> bool {
        true
    }

    fn batch(&self) -> Result<Arc<dyn TableProvider>> {
        if self.options.selection.is_none() {
            return Err(positions::not_readable(&self.options));
        }
        positions::refuse_no_rows(&self.options)?;
        let table = KafkaTableProvider::new(self.client.clone(), self.options.clone(), self.decoding.clone());
        Ok(Arc::new(table))
    }

    fn check_source(&self) -> Result<()> {
        if self.options.selection.is_some() { Ok(()) } else { Err(positions::not_readable(&self.options)) }
    }

    fn check_sink(&self, request: &SinkRequest) -> Result<()> {
        RowEncoder::of(request, &self.options, self.declared.as_ref()).map(drop)
    }

    fn probe_sink(&self, _request: &SinkRequest) -> Result<Option<String>> {
        let found = self.probe(Role::Sink)?;
        sink::uses_transactions(&self.client, &self.options)?;
        Ok(found)
    }

    fn probe_position(&self, position: &Offset) -> Result<Option<String>> {
        KafkaSource::open(self.client.clone(), self.options.clone(), self.decoding.clone())?.changes_since(position)
    }

    fn probe(&self, role: Role) -> Result<Option<String>> {
        self.client.check()?;
        positions::found(&self.client, &self.options, role == Role::Sink).map(Some)
    }
}
