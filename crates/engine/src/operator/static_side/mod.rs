//! The static side of a join: its rows, as a batch is to see them.
//!
//! ```text
//!   begin_batch(now) ─> due? ─> read whole ─> StaticTable (rows, index) ─> kept for `cache.refresh` ─> read again
//!                         ╰ soon: read beside the batches, on a thread of its own                     refresh.rs
//!                                  ├ fails: the old rows, until they are `cache.maxAge` old
//!                                  └ too large: keys are looked up, here and from now on     lookup.rs, asking.rs
//! ```
//!
//! Without `cache.refresh` the rows are read anew for each batch that has rows, as in Spark; with the real-time
//! trigger, whose batches take milliseconds, once a second. What a batch sees does not change while it runs, and joins
//! of one query that keep rows of the same table read it together: all of them see the new rows, or none does.

mod asking;
mod lookup;
mod refresh;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use parking_lot::{Condvar, Mutex, MutexGuard};

use self::lookup::{Ages, Answer, LookupCache, Wanted};
pub(crate) use self::refresh::Refreshes;
use super::join::{KeyColumns, StaticNulls, StaticTable};
use crate::error::{EngineError, Result};
use crate::plan::batch::collect_up_to;
use crate::plan::cache::{CacheSettings, LookupMode, names};
use crate::plan::live::LiveTable;
use crate::progress::{LookupProgress, StaticTableProgress};

/// How long the real-time trigger keeps the rows of tables that do not say.
pub(crate) const REAL_TIME_REFRESH: Duration = Duration::from_secs(1);

/// The last part of `cache.refresh`, in which rows are read beside the batches: one in so many.
const SOON: u32 = 10;

/// The shortest and the longest wait after reading failed.
const RETRY_MS: std::ops::RangeInclusive<i64> = 1_000..=60_000;

/// The static side of a join.
pub(crate) struct StaticSide {
    /// What is read.
    plan: LogicalPlan,
    /// Keys of its rows, to be computed and to be asked for.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    logical_keys: Vec<Expr>,
    schema: SchemaRef,
    /// What nulls in keys mean.
    nulls: StaticNulls,
    /// How to run the plan.
    session: SessionState,
    /// The tables it reads.
    tables: BTreeSet<String>,
    settings: CacheSettings,
    kept: Mutex<Kept>,
    /// Rung when keys were answered.
    answered: Condvar,
}

/// What is kept of the static side between batches, and what the batch under way is to see of it.
#[derive(Default)]
struct Kept {
    /// When the batch under way began.
    now_ms: i64,
    /// For how long rows are kept.
    refresh: Duration,
    table: Option<Arc<StaticTable>>,
    /// When the batch began that read it.
    read_ms: i64,
    /// Whether it is to be read again before it is used.
    is_due: bool,
    /// When reading it again is tried next, after it failed.
    retry_ms: i64,
    failure: Option<String>,
    /// What is known of single keys, once they are asked for and the table is not read whole any more.
    lookup: Option<LookupCache>,
}

impl std::fmt::Debug for StaticSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticSide").field("plan", &self.plan).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl StaticSide {
    /// The rows of `plan`, to be found by `keys`.
    pub(crate) fn new(plan: LogicalPlan, keys: Vec<Expr>, nulls: StaticNulls, session: SessionState) -> Result<Self> {
        let physical = |key: &Expr| session.create_physical_expr(key.clone(), plan.schema());
        let physical_keys = keys.iter().map(physical).collect::<Result<_, _>>()?;
        let found = LiveTable::all_in(&plan)?;
        let found: Vec<&LiveTable> = found.iter().filter_map(|table| LiveTable::of(table.as_ref())).collect();
        let tables = found.iter().map(|table| table.name().to_owned()).collect();
        let settings = CacheSettings::of_all(found.iter().map(|table| table.cache()));
        let may_be_missing = found.iter().any(|table| table.may_be_missing());
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let (kept, logical_keys, keys) = (Mutex::default(), keys, physical_keys);
        let answered = Condvar::new();
        let side = Self { plan, keys, logical_keys, schema, nulls, session, tables, settings, kept, answered };
        // A table that is not there yet cannot be asked what it can do.
        if side.settings.lookup == LookupMode::Always && !may_be_missing && !side.can_look_up()? {
            return Err(asking::impossible(&names(&side.tables)));
        }
        Ok(side)
    }

    /// Whether the tables can be asked for the rows of single keys.
    fn can_look_up(&self) -> Result<bool> {
        // What joins beside equality (NOT IN, <=>) depends on rows with other keys.
        Ok(self.nulls == StaticNulls::EqualNothing
            && asking::is_possible(&self.plan, &self.logical_keys, &self.session)?)
    }

    /// Its rows for some rows of the batch under way, whose keys are `stream_keys`.
    pub(crate) fn table(&self, rows: &RecordBatch, stream_keys: &[Arc<dyn PhysicalExpr>]) -> Result<Arc<StaticTable>> {
        let mut kept = self.kept.lock();
        if kept.lookup.is_none() {
            match &kept.table {
                Some(table) if !kept.is_due => return Ok(Arc::clone(table)),
                _ => match self.read() {
                    Ok(Some(table)) => return Ok(kept.install(table)),
                    Ok(None) => kept.look_up_from_now_on(self),
                    Err(error) => return kept.keep_old(&error, self).ok_or(error),
                },
            }
        }
        let rows = self.look_up(&mut kept, &Wanted::new(KeyColumns::new(stream_keys, rows)?))?;
        drop(kept);
        Ok(Arc::new(StaticTable::new(rows, &self.keys, self.nulls)?))
    }

    /// Decides what the next batch is to see.
    fn begin(&self, now_ms: i64, unless_told: Duration) -> Result<()> {
        let mut kept = self.kept.lock();
        kept.now_ms = now_ms;
        kept.refresh = self.settings.refresh.unwrap_or(unless_told);
        if kept.refresh.is_zero() {
            kept.table = None;
        }
        let is_old = !kept.is_younger_than(kept.refresh);
        let is_too_old = !kept.is_younger_than(self.settings.max_age(kept.refresh));
        kept.is_due = kept.table.is_none() || is_too_old || (is_old && now_ms >= kept.retry_ms);
        if kept.lookup.is_none() && self.settings.lookup == LookupMode::Always && self.can_look_up()? {
            kept.lookup = Some(LookupCache::default());
        }
        let ages = (!kept.refresh.is_zero()).then(|| kept.ages(&self.settings));
        if let Some(cache) = &mut kept.lookup {
            cache.begin(ages);
        }
        Ok(())
    }

    /// The whole table; none if it has no room and its keys can be looked up.
    fn read(&self) -> Result<Option<StaticTable>> {
        let limit = self.settings.whole_limit();
        if let Some(rows) = collect_up_to(&self.session, self.plan.clone(), limit)? {
            let table = StaticTable::new(concat_batches(&self.schema, &rows)?, &self.keys, self.nulls)?;
            if limit.is_none_or(|limit| table.size_bytes() <= limit) {
                return Ok(Some(table));
            }
        }
        if self.settings.lookup == LookupMode::Auto && self.can_look_up()? {
            return Ok(None);
        }
        let message = format!(
            "the static side of a join, {}, does not fit into its cache of {} bytes",
            names(&self.tables),
            limit.unwrap_or_default()
        );
        Err(EngineError::config(message)
            .help("raise the table's option 'cache.maxBytes', or read fewer of its rows and columns"))
    }

    /// The rows with some keys. Others may use what is kept while the tables are asked.
    fn look_up(&self, kept: &mut MutexGuard<'_, Kept>, wanted: &Wanted) -> Result<RecordBatch> {
        let ages = kept.ages(&self.settings);
        let limit = self.settings.lookup_limit();
        let (mut left, mut found) = (wanted.rows(), Vec::new());
        if kept.now_ms < kept.retry_ms && kept.cache()?.knows_all(wanted) {
            left.clear();
            found = kept.cache()?.known(wanted);
        }
        loop {
            let known = kept.cache()?.look(wanted, &mut left, ages);
            found.extend(known.found);
            if known.ask.is_empty() {
                if !known.waits {
                    break;
                }
                self.answered.wait(kept);
                continue;
            }
            let values = wanted.values(&known.ask);
            let asked = MutexGuard::unlocked(kept, || catch_unwind(AssertUnwindSafe(|| self.ask(&values?, limit))));
            // Whatever came of it, whoever waits for these keys must go on.
            kept.cache()?.answered(wanted, &known.ask);
            self.answered.notify_all();
            match asked.unwrap_or_else(|panic| resume_unwind(panic)) {
                Ok(answer) => {
                    found.extend(kept.cache()?.add(wanted, &known.ask, &answer, ages.now_ms, limit)?);
                    kept.failure = None;
                }
                Err(error) if ages.usable_from_ms < ages.fresh_from_ms && kept.cache()?.knows_all(wanted) => {
                    kept.note(&error, self);
                    left.clear();
                    found = kept.cache()?.known(wanted);
                }
                Err(error) => return Err(error),
            }
        }
        kept.cache()?.rows(&found, &self.schema)
    }

    /// Asks the tables for the rows with some values in their key columns.
    fn ask(&self, values: &[Vec<ScalarValue>], limit: u64) -> Result<Answer> {
        let plan = asking::with_keys(&self.plan, &self.logical_keys, values)?;
        let rows = collect_up_to(&self.session, plan, Some(limit))?.ok_or_else(|| {
            let keys = values.iter().map(Vec::len).max().unwrap_or_default();
            let tables = names(&self.tables);
            EngineError::config(format!("the rows of {keys} keys of {tables} do not fit into a cache of {limit} bytes"))
                .help("raise the table's option 'cache.maxBytes', or read fewer of its columns")
        })?;
        let rows = concat_batches(&self.schema, &rows)?;
        let KeyColumns { keys, .. } = KeyColumns::new(&self.keys, &rows)?;
        Ok(Answer { rows, keys })
    }

    /// What is told of it after a batch; none if nothing of it was read.
    pub(crate) fn progress(&self) -> Option<StaticTableProgress> {
        let kept = self.kept.lock();
        let mut told = StaticTableProgress {
            tables: self.tables.iter().cloned().collect(),
            failure: kept.failure.clone(),
            ..StaticTableProgress::default()
        };
        let read_ms = if let Some(cache) = &kept.lookup {
            let num_keys_asked = cache.asked();
            let (num_keys, num_rows, size_bytes) = cache.counts();
            (told.num_rows, told.size_bytes) = (num_rows, size_bytes);
            told.lookup = Some(LookupProgress { num_keys, num_keys_asked });
            cache.oldest_ms().unwrap_or(kept.now_ms)
        } else {
            let table = kept.table.as_ref()?;
            (told.num_rows, told.size_bytes) = (table.num_rows(), table.size_bytes());
            kept.read_ms
        };
        told.age_ms = u64::try_from(kept.now_ms - read_ms).unwrap_or(0);
        Some(told)
    }
}

impl Kept {
    fn is_younger_than(&self, age: Duration) -> bool {
        // A clock that was put back says nothing about the age of the rows.
        u64::try_from(self.now_ms - self.read_ms).is_ok_and(|ms| Duration::from_millis(ms) < age)
    }

    fn install(&mut self, table: StaticTable) -> Arc<StaticTable> {
        let now_ms = self.now_ms;
        self.install_read(table, now_ms)
    }

    /// Takes rows that were read for a batch, or beside one that began at `read_ms`.
    fn install_read(&mut self, table: StaticTable, read_ms: i64) -> Arc<StaticTable> {
        let table = Arc::new(table);
        let (now_ms, refresh) = (self.now_ms, self.refresh);
        *self = Self { now_ms, refresh, table: Some(Arc::clone(&table)), read_ms, ..Self::default() };
        table
    }

    /// Whether the rows are good for the batch that began now, and not for much longer.
    fn is_due_soon(&self) -> bool {
        let lead = self.refresh / SOON;
        self.table.is_some() && !self.is_due && self.failure.is_none() && !self.is_younger_than(self.refresh - lead)
    }

    fn look_up_from_now_on(&mut self, side: &StaticSide) {
        tracing::info!(
            tables = names(&side.tables),
            "the table has no room in its cache: its rows are looked up by key"
        );
        self.table = None;
        self.lookup = Some(LookupCache::default());
    }

    /// What is known of single keys.
    fn cache(&mut self) -> Result<&mut LookupCache> {
        self.lookup.as_mut().ok_or_else(|| EngineError::internal("keys are looked up without a cache"))
    }

    /// How old rows of single keys may be. Where nothing is kept, those of the batch under way are good.
    fn ages(&self, settings: &CacheSettings) -> Ages {
        let before = |age: Duration| self.now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let max_age = if self.refresh.is_zero() { Duration::ZERO } else { settings.max_age(self.refresh) };
        // Rows as old as `cache.refresh` are due.
        let fresh_from_ms = before(self.refresh) + i64::from(!self.refresh.is_zero());
        Ages { now_ms: self.now_ms, fresh_from_ms, usable_from_ms: before(max_age).min(fresh_from_ms) }
    }

    /// The old rows for one more batch, if there are any that are not too old.
    fn keep_old(&mut self, error: &EngineError, side: &StaticSide) -> Option<Arc<StaticTable>> {
        if self.refresh.is_zero() || !self.is_younger_than(side.settings.max_age(self.refresh)) {
            return None;
        }
        let table = self.table.clone()?;
        self.is_due = false;
        self.note(error, side);
        Some(table)
    }

    /// Tells that older rows stand in, and puts off the next attempt.
    fn note(&mut self, error: &EngineError, side: &StaticSide) {
        let retry_in = i64::try_from(self.refresh.as_millis()).unwrap_or(i64::MAX) / 10;
        self.retry_ms = self.now_ms.saturating_add(retry_in.clamp(*RETRY_MS.start(), *RETRY_MS.end()));
        self.failure = Some(error.to_string());
        tracing::warn!(tables = names(&side.tables), %error, "reading static rows anew failed, older ones are used");
    }
}
