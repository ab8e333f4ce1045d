//! Tables by name: those of a program, and those an earlier run left in a storage folder.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::ScalarUDF;
use parking_lot::Mutex;

use super::settings::PipelineSettings;
use super::state_reader::StateReader;
use super::storage::Storage;
use crate::checkpoint::CheckpointDir;
use crate::error::{EngineError, Result};
use crate::plan::analysis::{Found, Lookup, PlannedQuery, plan_query};
use crate::plan::batch::collect;
use crate::plan::cache::CacheSettings;
use crate::plan::catalog::{ConnectorRegistry, Options, Table, TableDefinition};
use crate::plan::logical::is_streaming;
use crate::plan::program::{Flow, Program, ScriptError, ScriptFile};
use crate::plan::relation::StateRequest;
use crate::plan::session::SessionSettings;
use crate::plan::statement::{CreateTable, TableKind};
use crate::plan::streaming::cdc::cdc_plan;

/// Formats whose tables are files: a table of ours without a path gets one in the storage folder.
const FILE_FORMATS: [&str; 5] = ["delta", "parquet", "json", "csv", "text"];

/// The option that sets a target's output mode; ours, not the connector's.
pub(super) const OUTPUT_MODE: &str = "outputMode";

/// The tables of a program.
pub(super) struct Tables {
    pub(super) program: Program,
    pub(super) connectors: ConnectorRegistry,
    session: SessionSettings,
    default_format: String,
    storage: Storage,
    opened: Mutex<BTreeMap<String, Arc<dyn Table>>>,
}

thread_local! {
    /// Streaming tables whose columns are being worked out, to notice a circle.
    static OPENING: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl Tables {
    pub(super) fn new(program: Program, settings: &PipelineSettings, connectors: ConnectorRegistry) -> Self {
        Self {
            program,
            connectors,
            session: session_settings(&settings.configuration),
            default_format: settings.default_format.clone(),
            storage: Storage::new(&settings.storage),
            opened: Mutex::default(),
        }
    }

    pub(super) fn plan(&self, flow: &Flow) -> Result<PlannedQuery> {
        let mut planned = self.plan_among(flow, self)?;
        if let Some(cdc) = &flow.cdc {
            let target = flow.target.as_ref().and_then(|target| self.program.tables.get(&target.to_lowercase()));
            let declared = target.and_then(|(table, _)| table.columns.as_ref());
            planned.plan = cdc_plan(planned.plan, cdc, declared)?;
        }
        Ok(planned)
    }

    /// Plans the flow's query where names stand for what `names` says.
    pub(super) fn plan_among(&self, flow: &Flow, names: &dyn Lookup) -> Result<PlannedQuery> {
        plan_query(&flow.query, names, &self.session)
    }

    pub(super) fn file_of(&self, table: &str) -> usize {
        self.program.tables.get(&table.to_lowercase()).map_or(0, |(_, file)| *file)
    }

    pub(super) fn format_of(&self, table: &CreateTable) -> String {
        table.format.clone().unwrap_or_else(|| self.default_format.clone())
    }

    pub(super) fn table(&self, name: &str) -> Result<Arc<dyn Table>> {
        let key = name.to_lowercase();
        if let Some(table) = self.opened.lock().get(&key) {
            return Ok(Arc::clone(table));
        }
        let definition = self.definition(&key)?;
        let table = self.connectors.open(&definition)?;
        self.opened.lock().insert(key, Arc::clone(&table));
        Ok(table)
    }

    /// A table's definition with its path and its columns.
    fn definition(&self, key: &str) -> Result<TableDefinition> {
        let Some((table, _)) = self.program.tables.get(key) else {
            return Err(EngineError::internal(format!("table '{key}' is not in the program")));
        };
        let format = self.format_of(table);
        let is_ours = matches!(table.kind, TableKind::Streaming | TableKind::Materialized);
        let mut options: Options =
            table.options.iter().filter(|(key, _)| !key.eq_ignore_ascii_case(OUTPUT_MODE)).collect();
        CacheSettings::take(&table.name, &mut options)?;
        if is_ours && options.get("path").is_none() && FILE_FORMATS.contains(&format.as_str()) {
            options.set("path", self.storage.table_path(&table.name).display().to_string());
        }
        let schema = match &table.columns {
            Some(columns) if !self.program.follows_changes(&table.name) => Some(Arc::clone(columns)),
            _ if is_ours => Some(self.columns_from_flow(table)?),
            columns => columns.clone(),
        };
        Ok(TableDefinition {
            name: table.name.clone(),
            format,
            schema,
            options,
            partition_columns: table.partition_columns.clone(),
        })
    }

    /// The columns of a table of ours that declares none: those of the first flow that fills it.
    fn columns_from_flow(&self, table: &CreateTable) -> Result<SchemaRef> {
        let fills = |flow: &&Flow| flow.target.as_ref().is_some_and(|target| target.eq_ignore_ascii_case(&table.name));
        let Some(flow) = self.program.flows.iter().find(fills) else {
            return Err(EngineError::query(format!(
                "no flow fills table '{}', and it declares no columns",
                table.name
            ))
            .help("add AS SELECT ..., or CREATE FLOW f AS INSERT INTO the table"));
        };
        let circle = OPENING.with_borrow(|opening| opening.contains(&table.name));
        if circle {
            return Err(EngineError::query_at(flow.span, format!("table '{}' is filled from itself", table.name))
                .help("declare its columns: CREATE STREAMING TABLE name (column TYPE, ...)"));
        }
        OPENING.with_borrow_mut(|opening| opening.push(table.name.clone()));
        let planned = self.plan(flow);
        OPENING.with_borrow_mut(|opening| opening.pop());
        let columns = nullable(planned?.plan.schema().as_arrow());
        refuse_twins(flow, &columns)?;
        Ok(columns)
    }

    /// Definitions of all tables, for the catalog; secrets stay references.
    pub(super) fn definitions(&self) -> Result<Vec<TableDefinition>> {
        let mut definitions = Vec::new();
        for (key, (table, _)) in &self.program.tables {
            let mut definition = self.definition(key)?;
            if definition.schema.is_none() && table.kind != TableKind::Sink {
                definition.schema = Some(self.table(key)?.schema()).filter(|schema| !schema.fields().is_empty());
            }
            definitions.push(definition);
        }
        Ok(definitions)
    }
}

/// Refuses a query that would give a table two columns of one name.
fn refuse_twins(flow: &Flow, columns: &SchemaRef) -> Result<()> {
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    let is_twin = |at: usize| names[..at].iter().any(|known| known.eq_ignore_ascii_case(names[at]));
    let Some(twin) = (0..names.len()).find(|at| is_twin(*at)) else { return Ok(()) };
    Err(EngineError::query_at(
        flow.span,
        format!(
            "the query of '{}' gives two columns '{}', and tables know their columns by name",
            flow.name, names[twin]
        ),
    )
    .help("select the columns one by one, one of the two with another name: SELECT a.k, b.k AS other_k"))
}

fn session_settings(configuration: &BTreeMap<String, String>) -> SessionSettings {
    let time_zone = configuration.get("spark.sql.session.timeZone");
    time_zone.map_or_else(SessionSettings::default, |zone| SessionSettings { time_zone: zone.clone() })
}

pub(super) fn nullable(schema: &arrow::datatypes::Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

impl Lookup for Tables {
    fn lookup(&self, name: &str) -> Result<Option<Found>> {
        if let Some((_, query)) = self.program.views.get(&name.to_lowercase()) {
            return Ok(Some(Found::View(query.clone())));
        }
        match self.program.tables.get(&name.to_lowercase()) {
            Some((table, _)) => {
                let is_ours = matches!(table.kind, TableKind::Streaming | TableKind::Materialized);
                let cache = CacheSettings::take(&table.name, &mut table.options.clone())?;
                Ok(Some(Found::Table { table: self.table(name)?, may_be_missing: is_ours, cache }))
            }
            None => Ok(None),
        }
    }

    fn names(&self) -> Vec<String> {
        let tables = self.program.tables.values().map(|(table, _)| table.name.clone());
        tables.chain(self.program.views.values().map(|(name, _)| name.clone())).collect()
    }

    fn functions(&self) -> Vec<Arc<ScalarUDF>> {
        self.connectors.functions().to_vec()
    }
}

/// Runs a query over the tables of a storage folder.
pub fn select(
    sql: &str,
    storage: &Path,
    connectors: &ConnectorRegistry,
) -> Result<(SchemaRef, Vec<RecordBatch>), ScriptError> {
    select_with_state(sql, storage, connectors, &|query| {
        Err(EngineError::config(format!("the checkpoint of query '{query}' is not known here")))
    })
}

/// The same, where `checkpoint` opens the checkpoint of a query by the query's name, for `state(...)`.
pub fn select_with_state(
    sql: &str,
    storage: &Path,
    connectors: &ConnectorRegistry,
    checkpoint: &dyn Fn(&str) -> Result<CheckpointDir>,
) -> Result<(SchemaRef, Vec<RecordBatch>), ScriptError> {
    let script = ScriptFile { name: "query".to_owned(), text: sql.to_owned() };
    let program = Program::parse(std::slice::from_ref(&script))?;
    let stored = StoredTables { tables: Storage::new(storage).tables()?, connectors, checkpoint };
    let run = || {
        let [flow] = program.flows.as_slice() else {
            return Err(EngineError::query("expected one query").help("write for example SELECT * FROM t"));
        };
        if flow.target.is_some() {
            return Err(EngineError::query_at(flow.span, "a table cannot be written to here").help("use highwater run"));
        }
        let planned = plan_query(&flow.query, &stored, &session_settings(&program.configuration))?;
        if is_streaming(&planned.plan) {
            return Err(EngineError::query_at(flow.span, "a stream has no end to show")
                .help("read the table without STREAM, or use highwater run -e"));
        }
        let schema = Arc::new(planned.plan.schema().as_arrow().clone());
        let rows = collect(&planned.context.state(), planned.plan)?;
        Ok((schema as SchemaRef, rows))
    };
    run().map_err(|error| program.locate(0, error))
}

struct StoredTables<'a> {
    tables: Vec<TableDefinition>,
    connectors: &'a ConnectorRegistry,
    checkpoint: &'a dyn Fn(&str) -> Result<CheckpointDir>,
}

impl Lookup for StoredTables<'_> {
    fn lookup(&self, name: &str) -> Result<Option<Found>> {
        let Some(definition) = self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name)) else {
            return Ok(None);
        };
        let table = self.connectors.open(definition)?;
        Ok(Some(Found::Table { table, may_be_missing: false, cache: CacheSettings::default() }))
    }

    fn names(&self) -> Vec<String> {
        self.tables.iter().map(|table| table.name.clone()).collect()
    }

    fn state(&self, request: &StateRequest) -> Result<Arc<dyn TableProvider>> {
        let checkpoint = (self.checkpoint)(&request.query)?;
        let reader = StateReader::open(&checkpoint, &request.query, request.batch)?;
        StateReader::provider(Arc::new(reader), request.operator.as_deref())
    }

    fn functions(&self) -> Vec<Arc<ScalarUDF>> {
        self.connectors.functions().to_vec()
    }
}
