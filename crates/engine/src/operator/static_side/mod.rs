//! The static side of a join: its rows, as a batch is to see them.
//!
//! ```text
//!   begin_batch(now) ─> due? ─> read whole ─> StaticTable (rows, index) ─> kept for `cache.refresh` ─> read again
//!                                  └ fails: the old rows, until they are `cache.maxAge` old
//! ```
//!
//! Without `cache.refresh` the rows are read anew for each batch that has rows, as in Spark; with the real-time
//! trigger, whose batches take milliseconds, once a second. What a batch sees does not change while it runs, and joins
//! of one query that keep rows of the same table read it together: all of them see the new rows, or none does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::compute::concat_batches;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::PhysicalExpr;
use parking_lot::Mutex;

use super::join::{StaticJoin, StaticNulls, StaticTable};
use crate::error::{EngineError, Result};
use crate::plan::batch::collect_up_to;
use crate::plan::cache::{CacheSettings, names};
use crate::plan::live::LiveTable;
use crate::progress::StaticTableProgress;

/// How long the real-time trigger keeps the rows of tables that do not say.
pub(crate) const REAL_TIME_REFRESH: Duration = Duration::from_secs(1);

/// The shortest and the longest wait after reading failed.
const RETRY_MS: std::ops::RangeInclusive<i64> = 1_000..=60_000;

/// The static side of a join.
pub(crate) struct StaticSide {
    /// What is read.
    plan: LogicalPlan,
    /// Keys of its rows.
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// What nulls in keys mean.
    nulls: StaticNulls,
    /// How to run the plan.
    session: SessionState,
    /// The tables it reads.
    tables: BTreeSet<String>,
    settings: CacheSettings,
    kept: Mutex<Kept>,
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
}

impl std::fmt::Debug for StaticSide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticSide").field("plan", &self.plan).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl StaticSide {
    /// The rows of `plan`, to be found by `keys`.
    pub(crate) fn new(
        plan: LogicalPlan,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        nulls: StaticNulls,
        session: SessionState,
    ) -> Result<Self> {
        let found = LiveTable::all_in(&plan)?;
        let found: Vec<&LiveTable> = found.iter().filter_map(|table| LiveTable::of(table.as_ref())).collect();
        let tables = found.iter().map(|table| table.name().to_owned()).collect();
        let settings = CacheSettings::of_all(found.iter().map(|table| table.cache()));
        Ok(Self { plan, keys, nulls, session, tables, settings, kept: Mutex::default() })
    }

    /// Its rows for the batch under way.
    pub(crate) fn table(&self) -> Result<Arc<StaticTable>> {
        let mut kept = self.kept.lock();
        match &kept.table {
            Some(table) if !kept.is_due => Ok(Arc::clone(table)),
            _ => match self.read() {
                Ok(table) => Ok(kept.install(table)),
                Err(error) => kept.keep_old(&error, self).ok_or(error),
            },
        }
    }

    /// Decides what the next batch is to see.
    fn begin(&self, now_ms: i64, unless_told: Duration) {
        let mut kept = self.kept.lock();
        kept.now_ms = now_ms;
        kept.refresh = self.settings.refresh.unwrap_or(unless_told);
        if kept.refresh.is_zero() {
            kept.table = None;
        }
        kept.is_due = kept.table.is_none() || (!kept.is_younger_than(kept.refresh) && now_ms >= kept.retry_ms);
    }

    fn read(&self) -> Result<StaticTable> {
        let limit = self.settings.whole_limit();
        let too_large = |bytes: u64| {
            EngineError::config(format!(
                "the static side of a join, {}, does not fit into its cache of {bytes} bytes",
                names(&self.tables)
            ))
            .help("raise the table's option 'cache.maxBytes', or read fewer of its rows and columns")
        };
        let rows = collect_up_to(&self.session, self.plan.clone(), limit)?;
        let rows = rows.ok_or_else(|| too_large(limit.unwrap_or_default()))?;
        let schema = Arc::new(self.plan.schema().as_arrow().clone());
        let table = StaticTable::new(concat_batches(&schema, &rows)?, &self.keys, self.nulls)?;
        match limit {
            Some(limit) if table.size_bytes() > limit => Err(too_large(limit)),
            _ => Ok(table),
        }
    }

    /// What is told of it after a batch; none if nothing of it was read.
    pub(crate) fn progress(&self) -> Option<StaticTableProgress> {
        let kept = self.kept.lock();
        let table = kept.table.as_ref()?;
        Some(StaticTableProgress {
            tables: self.tables.iter().cloned().collect(),
            num_rows: table.num_rows(),
            size_bytes: table.size_bytes(),
            age_ms: u64::try_from(kept.now_ms - kept.read_ms).unwrap_or(0),
            failure: kept.failure.clone(),
        })
    }
}

impl Kept {
    fn is_younger_than(&self, age: Duration) -> bool {
        // A clock that was put back says nothing about the age of the rows.
        u64::try_from(self.now_ms - self.read_ms).is_ok_and(|ms| Duration::from_millis(ms) < age)
    }

    fn install(&mut self, table: StaticTable) -> Arc<StaticTable> {
        let table = Arc::new(table);
        let now_ms = self.now_ms;
        *self =
            Self { now_ms, refresh: self.refresh, table: Some(Arc::clone(&table)), read_ms: now_ms, ..Self::default() };
        table
    }

    /// The old rows for one more batch, if there are any that are not too old.
    fn keep_old(&mut self, error: &EngineError, side: &StaticSide) -> Option<Arc<StaticTable>> {
        let max_age = side.settings.max_age(self.refresh);
        if self.refresh.is_zero() || !self.is_younger_than(max_age) {
            return None;
        }
        let table = self.table.clone()?;
        let retry_in = i64::try_from(self.refresh.as_millis()).unwrap_or(i64::MAX) / 10;
        self.retry_ms = self.now_ms.saturating_add(retry_in.clamp(*RETRY_MS.start(), *RETRY_MS.end()));
        self.is_due = false;
        self.failure = Some(error.to_string());
        let age_ms = self.now_ms - self.read_ms;
        tracing::warn!(tables = names(&side.tables), %error, age_ms, max_age_ms = max_age.as_millis(),
            "reading static rows anew failed, the old ones are used");
        Some(table)
    }
}

/// Decides what a batch that begins now is to see of the static sides of its query. `unless_told` is how long rows are
/// kept of tables without `cache.refresh`.
pub(crate) fn begin_batch(joins: &[Arc<StaticJoin>], now_ms: i64, unless_told: Duration) -> Result<()> {
    let sides: Vec<&StaticSide> = joins.iter().map(|join| join.side()).collect();
    sides.iter().for_each(|side| side.begin(now_ms, unless_told));
    let keeping: Vec<&StaticSide> = sides.into_iter().filter(|side| !side.kept.lock().refresh.is_zero()).collect();
    for group in together(keeping) {
        if group.len() > 1 && group.iter().any(|side| side.kept.lock().is_due) {
            read_together(&group)?;
        }
    }
    Ok(())
}

/// The sides in groups that have tables in common.
fn together(sides: Vec<&StaticSide>) -> Vec<Vec<&StaticSide>> {
    let mut groups: Vec<Vec<&StaticSide>> = Vec::new();
    for side in sides {
        let shares = |group: &Vec<&StaticSide>| group.iter().any(|other| !other.tables.is_disjoint(&side.tables));
        let (linked, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(shares);
        groups = others;
        groups.push(linked.into_iter().flatten().chain([side]).collect());
    }
    groups
}

/// Reads sides that have tables in common; all of them or none have new rows then.
fn read_together(group: &[&StaticSide]) -> Result<()> {
    match group.iter().map(|side| side.read()).collect::<Result<Vec<_>>>() {
        Ok(tables) => {
            group.iter().zip(tables).for_each(|(side, table)| drop(side.kept.lock().install(table)));
            Ok(())
        }
        Err(error) => {
            let kept = group.iter().all(|side| side.kept.lock().keep_old(&error, side).is_some());
            if kept { Ok(()) } else { Err(error) }
        }
    }
}
