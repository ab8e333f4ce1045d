//! A session of a client: its configuration, its tables and views, its rows, its executions and its streaming queries.
//!
//! Tables that a program reads by format have names of their own, made from what defines them, so that the same read is one
//! table however often its plan is sent. All of it goes with the session, and everything in it has a limit.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, SchemaRef};
use arrow::ipc::reader::StreamReader;
use highwater_connectors::memory::{Forgotten, MemoryStore, StoreConnector};
use highwater_connectors::registry::connectors;
use highwater_engine::plan::catalog::ConnectorRegistry;
use highwater_engine::plan::ddl;
use highwater_engine::query::{SessionQuery, SessionScope};
use parking_lot::Mutex;

use super::config::Config;
use super::operations::Operation;
use super::problem::{Problem, Result};
use super::sql::{Names, columns_ddl, quoted};
use super::streams::Streams;
use crate::spark_connect::messages::LocalRelation;

/// How many tables and views a session may define.
const MAX_STATEMENTS: usize = 4096;

/// What the rows that came with plans may take.
const MAX_ROWS_BYTES: usize = 1 << 30;

/// How many executions a session may have whose answers are not released.
const MAX_OPERATIONS: usize = 256;

/// A session.
pub(crate) struct Session {
    /// The client's name for it.
    pub(crate) id: String,
    /// Ours: a client sees by it that the server was started anew.
    pub(crate) server_side_id: String,
    /// Its configuration.
    pub(crate) config: Mutex<Config>,
    /// Its streaming queries.
    pub(crate) streams: Streams,
    /// Where tables and checkpoints are kept.
    pub(crate) storage: PathBuf,
    /// The connectors, with the session's own memory.
    pub(crate) connectors: ConnectorRegistry,
    /// Statements by the lower-case name of what they define.
    statements: Mutex<BTreeMap<String, String>>,
    store: MemoryStore,
    rows_bytes: Mutex<usize>,
    operations: Mutex<BTreeMap<String, Arc<Operation>>>,
    used: Mutex<Instant>,
}

impl Session {
    /// A new session.
    pub(crate) fn new(id: &str, storage: PathBuf, config: Config, given: &[(String, String)]) -> Self {
        let store = MemoryStore::default();
        let mut registry = connectors();
        registry.register(Arc::new(StoreConnector(store.clone())));
        Self {
            id: id.to_owned(),
            server_side_id: uuid::Uuid::new_v4().to_string(),
            config: Mutex::new(config),
            streams: Streams::default(),
            storage,
            connectors: registry,
            statements: Mutex::new(given.iter().cloned().collect()),
            store,
            rows_bytes: Mutex::default(),
            operations: Mutex::default(),
            used: Mutex::new(Instant::now()),
        }
    }

    /// Notes that the client is there.
    pub(crate) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    /// When the client was last heard of; nobody waits for one whose queries or executions run.
    pub(crate) fn is_idle_since(&self, moment: Instant) -> bool {
        *self.used.lock() < moment
            && !self.streams.any_active()
            && self.operations.lock().values().all(|operation| operation.is_ended())
    }

    /// Plans a query.
    pub(crate) fn plan(&self, query: &str) -> Result<SessionQuery> {
        let scope = SessionScope {
            statements: self.statements_for(query),
            storage: self.storage.clone(),
            configuration: self.config.lock().given(),
            connectors: self.connectors.clone(),
        };
        Ok(scope.plan(query)?)
    }

    /// The statements that a query needs: those whose names it, or they, contain.
    pub(crate) fn statements_for(&self, query: &str) -> Vec<String> {
        let statements = self.statements.lock();
        let mut texts = vec![query.to_lowercase()];
        let mut found: BTreeMap<&String, &String> = BTreeMap::new();
        while let Some(text) = texts.pop() {
            for (name, statement) in statements.iter() {
                if !found.contains_key(name) && text.contains(name.as_str()) {
                    found.insert(name, statement);
                    texts.push(statement.to_lowercase());
                }
            }
        }
        found.into_values().cloned().collect()
    }

    /// Defines a table or view by name; what had the name is gone.
    pub(crate) fn define_named(&self, name: &str, statement: &str) -> Result<Option<String>> {
        let mut statements = self.statements.lock();
        if statements.len() >= MAX_STATEMENTS {
            return Err(Problem::exhausted(format!("a session has at most {MAX_STATEMENTS} tables and views")));
        }
        Ok(statements.insert(name.to_lowercase(), statement.to_owned()))
    }

    /// Forgets a definition, or takes an earlier one back.
    pub(crate) fn restore(&self, name: &str, statement: Option<String>) {
        let mut statements = self.statements.lock();
        match statement {
            Some(statement) => drop(statements.insert(name.to_lowercase(), statement)),
            None => drop(statements.remove(&name.to_lowercase())),
        }
    }

    /// Gives a name to a view that stays what it is for the views that read it now, whatever gets its name later.
    pub(crate) fn define_view(&self, name: &str, query: &str) -> Result<()> {
        let kept = format!("{KEPT_VIEW}{}", uuid::Uuid::new_v4().simple());
        self.define_named(&kept, &format!("CREATE TEMPORARY VIEW {} AS {query}", quoted(&kept)))?;
        let named = self.plan(&format!("SELECT * FROM {}", quoted(&kept))).and_then(|_| {
            let text = format!("{}{}", kept_view_of(name), quoted(&kept));
            self.define_named(name, &text)
        });
        if named.is_err() {
            self.restore(&kept, None);
        }
        self.forget_unread();
        named.map(|_| ())
    }

    /// Forgets definitions of views that have lost their names and are read by none.
    fn forget_unread(&self) {
        let mut statements = self.statements.lock();
        loop {
            let is_read = |kept: &String| {
                statements.iter().any(|(name, statement)| name != kept && statement.contains(kept.as_str()))
            };
            let kept = statements.keys().filter(|name| name.starts_with(KEPT_VIEW));
            let unread: Vec<String> = kept.filter(|kept| !is_read(kept)).cloned().collect();
            if unread.is_empty() {
                return;
            }
            unread.iter().for_each(|name| drop(statements.remove(name)));
        }
    }

    /// Whether a table or view of that name is defined.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.statements.lock().contains_key(&name.to_lowercase())
    }

    /// Adds an execution.
    pub(crate) fn add_operation(&self, operation: Arc<Operation>) -> Result<()> {
        let mut operations = self.operations.lock();
        if operations.contains_key(&operation.id) {
            return Err(Problem::handle(
                "INVALID_HANDLE.OPERATION_ALREADY_EXISTS",
                format!("operation {} exists", operation.id),
            ));
        }
        if operations.len() >= MAX_OPERATIONS {
            // What has ended and was not released was given up by its client.
            operations.retain(|_, operation| !operation.is_ended());
        }
        if operations.len() >= MAX_OPERATIONS {
            return Err(Problem::exhausted(format!("a session has at most {MAX_OPERATIONS} executions at once")));
        }
        operations.insert(operation.id.clone(), operation);
        Ok(())
    }

    /// An execution.
    pub(crate) fn operation(&self, id: &str) -> Result<Arc<Operation>> {
        self.operations.lock().get(id).cloned().ok_or_else(|| {
            Problem::handle(
                "INVALID_HANDLE.OPERATION_NOT_FOUND",
                format!("The handle {id} is invalid. Operation not found."),
            )
        })
    }

    /// Forgets an execution; one that still runs is ended, for nobody will take its answers.
    pub(crate) fn release_operation(&self, id: &str) {
        let released = self.operations.lock().remove(id);
        if released.is_some_and(|operation| operation.interrupt()) {
            self.streams.wake();
        }
    }

    /// Interrupts the executions that are meant, and gives their names.
    pub(crate) fn interrupt(&self, is_meant: impl Fn(&Operation) -> bool) -> Vec<String> {
        let operations = self.operations.lock();
        let meant = operations.values().filter(|operation| is_meant(operation));
        let ended = meant.filter(|operation| operation.interrupt()).map(|operation| operation.id.clone()).collect();
        // Some of them may wait for a streaming query.
        self.streams.wake();
        ended
    }

    /// Ends the executions that nobody has read since `moment`, and forgets them with their answers.
    pub(crate) fn end_left(&self, moment: Instant) {
        let left: Vec<String> = {
            let operations = self.operations.lock();
            let left = operations.values().filter(|operation| operation.is_left_since(moment));
            left.map(|operation| operation.id.clone()).collect()
        };
        if !left.is_empty() {
            self.interrupt(|operation| left.contains(&operation.id));
            self.operations.lock().retain(|id, _| !left.contains(id));
        }
    }

    /// Ends everything in it.
    pub(crate) fn end(&self) {
        self.interrupt(|_| true);
        self.operations.lock().clear();
        self.streams.stop_all();
    }

    /// Drops the rows of a table in the session's memory.
    pub(crate) fn forget_rows(&self, table: &str) -> Forgotten {
        self.store.forget(table)
    }

    /// Takes back that they were dropped.
    pub(crate) fn remember_rows(&self, table: &str, rows: Forgotten) {
        self.store.remember(table, rows);
    }

    fn define_once(&self, name: &str, definition: &str) -> Result<()> {
        if !self.defines(name) {
            self.define_named(name, &format!("CREATE TABLE {} {definition}", quoted(name)))?;
        }
        Ok(())
    }
}

impl Names for Session {
    fn columns(&self, query: &str) -> Result<Vec<Field>> {
        Ok(self.plan(query)?.columns().fields().iter().map(|field| field.as_ref().clone()).collect())
    }

    fn is_streaming(&self, query: &str) -> Result<bool> {
        Ok(self.plan(query)?.is_streaming())
    }

    fn event_times(&self, query: &str) -> Result<Vec<String>> {
        Ok(self.plan(query)?.event_times())
    }

    fn kept_views(&self) -> BTreeMap<String, String> {
        let statements = self.statements.lock();
        let kept = |(name, statement): (&String, &String)| {
            let kept = statement.strip_prefix(&kept_view_of(name))?.trim_matches('`');
            let is_name = kept.starts_with(KEPT_VIEW) && !name.starts_with(KEPT_VIEW);
            is_name.then(|| (name.clone(), kept.to_owned()))
        };
        statements.iter().filter_map(kept).collect()
    }

    fn define(&self, definition: &str) -> Result<String> {
        let name = format!("__read_{:016x}", hash(definition.as_bytes()));
        self.define_once(&name, definition)?;
        Ok(name)
    }

    fn keep_rows(&self, rows: &LocalRelation) -> Result<String> {
        let (data, schema) = (rows.data.as_deref().unwrap_or_default(), rows.schema.as_deref().unwrap_or_default());
        let name = format!("__rows_{:016x}{:016x}", hash(data), hash(schema.as_bytes()));
        // Held to the end: of two executions that send the same rows at once, one keeps them.
        let mut held = self.rows_bytes.lock();
        if self.defines(&name) {
            return Ok(name);
        }
        let (columns, batches) = read_rows(data)?;
        let ddl = match columns {
            Some(columns) if schema.is_empty() => ddl::schema_ddl(&columns),
            _ => columns_ddl(schema)?,
        };
        let declared = ddl::parse_schema(&ddl).map_err(|error| Problem::analysis(error.to_string()))?;
        let declared: SchemaRef = Arc::new(declared);
        let size: usize = batches.iter().map(RecordBatch::get_array_memory_size).sum();
        if *held + size > MAX_ROWS_BYTES {
            return Err(Problem::exhausted(format!(
                "the rows of a session's createDataFrame take more than {MAX_ROWS_BYTES} bytes\nwrite them to a file and read that"
            )));
        }
        let batches = batches.iter().map(|batch| as_declared(&declared, batch)).collect::<Result<Vec<_>>>()?;
        self.define_once(&name, &format!("({ddl}) USING memory"))?;
        for batch in batches {
            self.store.add(&name, "0", batch);
        }
        *held += size;
        Ok(name)
    }
}

/// What the names begin with under which definitions of views are kept.
const KEPT_VIEW: &str = "__view_";

/// The statement of a view that is kept, as far as the name it is kept under.
fn kept_view_of(name: &str) -> String {
    format!("CREATE TEMPORARY VIEW {} AS SELECT * FROM ", quoted(&name.to_lowercase()))
}

/// The rows with the columns that are declared: PySpark names and types them itself.
fn as_declared(declared: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    if declared.fields().len() != batch.num_columns() {
        return Err(Problem::argument(format!(
            "local rows have {} columns, expected the {} of their schema",
            batch.num_columns(),
            declared.fields().len()
        )));
    }
    let pairs = declared.fields().iter().zip(batch.columns());
    let columns = pairs.map(|(field, column)| arrow::compute::cast(column, field.data_type()));
    let columns = columns.collect::<Result<Vec<_>, _>>();
    let columns = columns.map_err(|error| Problem::argument(format!("local rows are not of their schema: {error}")))?;
    RecordBatch::try_new(Arc::clone(declared), columns).map_err(|error| Problem::argument(error.to_string()))
}

fn read_rows(data: &[u8]) -> Result<(Option<SchemaRef>, Vec<RecordBatch>)> {
    if data.is_empty() {
        return Ok((None, Vec::new()));
    }
    let unreadable =
        |error: arrow::error::ArrowError| Problem::argument(format!("local rows are not Arrow's: {error}"));
    let reader = StreamReader::try_new(Cursor::new(data), None).map_err(unreadable)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    Ok((Some(schema), batches))
}

/// Two texts of one session that share it are as good as impossible.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use arrow::array::Int32Array;
    use arrow::datatypes::{DataType, Schema};
    use arrow::ipc::writer::StreamWriter;

    use highwater_engine::query::Cancellation;

    use super::super::sql::view_query;
    use super::*;

    fn session(folder: &tempfile::TempDir) -> Session {
        Session::new("s", folder.path().to_owned(), Config::default(), &[])
    }

    fn rows(numbers: &[i32]) -> LocalRelation {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int32Array::from(numbers.to_vec()))]);
        let mut writer = StreamWriter::try_new(Vec::new(), &schema).unwrap();
        writer.write(&batch.unwrap()).unwrap();
        LocalRelation { data: Some(writer.into_inner().unwrap()), schema: Some("n INT".to_owned()) }
    }

    fn numbers(session: &Session, query: &str) -> Vec<i32> {
        let batches = session.plan(query).unwrap().collect(&Cancellation::default()).unwrap().unwrap();
        let column = |batch: &RecordBatch| {
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int32Type>(batch.column(0)).values().to_vec()
        };
        batches.iter().flat_map(column).collect()
    }

    #[test]
    fn local_rows_are_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let session = session(&folder);
        let rows = rows(&[1, 2, 3]);
        let names: Vec<String> = std::thread::scope(|scope| {
            let keepers: Vec<_> = (0..8).map(|_| scope.spawn(|| session.keep_rows(&rows).unwrap())).collect();
            keepers.into_iter().map(|keeper| keeper.join().unwrap()).collect()
        });
        assert!(names.iter().all(|name| name == &names[0]));
        assert_eq!(numbers(&session, &format!("SELECT * FROM {}", names[0])), [1, 2, 3]);
    }

    #[test]
    fn rows_whose_table_is_refused_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let session = session(&folder);
        let given = rows(&[1]);
        let wrong = LocalRelation { schema: Some("a INT, b INT".to_owned()), ..given.clone() };
        assert!(session.keep_rows(&wrong).is_err());
        for number in 0..MAX_STATEMENTS {
            session.define_named(&format!("t{number}"), "CREATE TABLE t USING memory").unwrap();
        }
        assert!(session.keep_rows(&given).is_err());
        session.restore("t0", None);
        let name = session.keep_rows(&given).unwrap();
        assert_eq!(numbers(&session, &format!("SELECT * FROM {name}")), [1]);
    }

    #[test]
    fn views_stay_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let session = session(&folder);
        let define = |name: &str, query: &str| {
            let sql = crate::spark_connect::messages::Sql { query: query.to_owned(), ..Default::default() };
            let kind = Some(crate::spark_connect::messages::RelationKind::Sql(sql));
            let relation = crate::spark_connect::messages::Relation { common: None, kind };
            session.define_view(name, &view_query(&relation, &session).unwrap()).unwrap();
        };
        define("t", "SELECT 1 AS n");
        define("v", "SELECT n + 1 AS n FROM t");
        define("T", "SELECT 10 AS n");
        define("t", "SELECT n * 2 AS n FROM t");
        assert_eq!(numbers(&session, "SELECT n FROM v"), [2]);
        assert_eq!(numbers(&session, "SELECT n FROM t"), [20]);
        // What nobody reads any more is forgotten.
        for _ in 0..3 {
            define("t", "SELECT 5 AS n");
        }
        define("v", "SELECT n FROM t");
        assert_eq!(session.statements.lock().len(), 4, "two names, and what they stand for");
    }
}
