//! When the static sides of a query are read: for a batch that waits for it, or beside batches, shortly before it is due.
//!
//! ```text
//!   age of the rows   0 ──────────────── 9/10 ───────── cache.refresh
//!   batches begin     old rows           old rows, and a thread reads    new rows: what it has read, as old as when it
//!                                        (nobody waits)                  began; waited for where it is not done yet
//! ```
//!
//! What a batch sees is decided when it begins, and no rows are used that were older than `cache.refresh` then, however
//! they were read: what a thread has read is thrown away where it came to be too old before a batch wanted it. A read
//! that fails is a failure of the batch that wanted its rows; while older ones stand in for new ones the batches themselves
//! try again, as before.
//!
//! Sides that have tables in common are read together, one after the other: all of them have new rows then, or none.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::{StaticSide, StaticTable};
use crate::error::{EngineError, Result};
use crate::operator::join::StaticJoin;

/// The reads of a query that are under way beside its batches.
#[derive(Default)]
pub(crate) struct Refreshes(Vec<Refresh>);

/// One of them: of sides that are read together.
struct Refresh {
    /// Places of the joins.
    group: Vec<usize>,
    /// When the batch began beside which it was started.
    started_ms: i64,
    thread: JoinHandle<Result<Tables>>,
}

/// By side; none for a table that has no room.
type Tables = Vec<Option<StaticTable>>;

impl Refreshes {
    /// Decides what a batch that begins now is to see of the static sides of its query. `unless_told` is how long rows are
    /// kept of tables without `cache.refresh`.
    pub(crate) fn begin_batch(&mut self, joins: &[Arc<StaticJoin>], now_ms: i64, unless_told: Duration) -> Result<()> {
        joins.iter().try_for_each(|join| join.side().begin(now_ms, unless_told))?;
        let side = |at: &usize| joins[*at].side();
        let keeps = |at: &usize| {
            let kept = side(at).kept.lock();
            !kept.refresh.is_zero() && kept.lookup.is_none()
        };
        let groups = together((0..joins.len()).filter(keeps).collect(), joins);
        // A group that is another one now has nothing to do with what was read for it.
        self.0.retain(|refresh| groups.contains(&refresh.group));
        for group in groups {
            if group.iter().any(|at| side(at).kept.lock().is_due) {
                let sides: Vec<&StaticSide> = group.iter().map(side).collect();
                match self.take(&group, now_ms, &sides) {
                    Some(refresh) => install(&sides, refresh.started_ms, refresh.wait())?,
                    None if group.len() > 1 => {
                        install(&sides, now_ms, sides.iter().map(|side| side.read()).collect())?;
                    }
                    // Read when a row asks for it, which the batch may not have.
                    None => {}
                }
            } else if group.iter().all(|at| side(at).kept.lock().is_due_soon()) {
                self.start(&group, now_ms, joins)?;
            }
        }
        Ok(())
    }

    /// What is read for a group, if it is young enough for a batch that begins now.
    fn take(&mut self, group: &[usize], now_ms: i64, sides: &[&StaticSide]) -> Option<Refresh> {
        let at = self.0.iter().position(|refresh| refresh.group == group)?;
        let refresh = self.0.swap_remove(at);
        let age = u64::try_from(now_ms - refresh.started_ms).ok().map(Duration::from_millis)?;
        sides.iter().all(|side| age < side.kept.lock().refresh).then_some(refresh)
    }

    fn start(&mut self, group: &[usize], now_ms: i64, joins: &[Arc<StaticJoin>]) -> Result<()> {
        if self.0.iter().any(|refresh| refresh.group == group) {
            return Ok(());
        }
        let joins: Vec<Arc<StaticJoin>> = group.iter().map(|at| Arc::clone(&joins[*at])).collect();
        let read = move || joins.iter().map(|join| join.side().read()).collect();
        #[expect(
            clippy::disallowed_methods,
            reason = "a batch waits for it; when the query ends nobody wants its rows"
        )]
        let thread = std::thread::Builder::new().name("static rows".to_owned()).spawn(read);
        let thread = thread.map_err(|error| {
            EngineError::unavailable("a thread for reading static rows could not be started").caused_by(error)
        })?;
        self.0.push(Refresh { group: group.to_vec(), started_ms: now_ms, thread });
        Ok(())
    }
}

impl Refresh {
    fn wait(self) -> Result<Tables> {
        self.thread.join().unwrap_or_else(|_| Err(EngineError::internal("reading static rows panicked")))
    }
}

/// The sides in groups that have tables in common.
fn together(sides: Vec<usize>, joins: &[Arc<StaticJoin>]) -> Vec<Vec<usize>> {
    let tables = |at: usize| &joins[at].side().tables;
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for side in sides {
        let shares = |group: &Vec<usize>| group.iter().any(|other| !tables(*other).is_disjoint(tables(side)));
        let (linked, others): (Vec<_>, Vec<_>) = groups.into_iter().partition(shares);
        groups = others;
        groups.push(linked.into_iter().flatten().chain([side]).collect());
    }
    groups
}

/// Gives sides their new rows, or leaves all of them the old ones, if they are not too old.
fn install(sides: &[&StaticSide], read_ms: i64, read: Result<Tables>) -> Result<()> {
    match read {
        Ok(tables) => {
            for (side, table) in sides.iter().zip(tables) {
                let mut kept = side.kept.lock();
                match table {
                    Some(table) => drop(kept.install_read(table, read_ms)),
                    None => kept.look_up_from_now_on(side),
                }
            }
            Ok(())
        }
        Err(error) => {
            let kept = sides.iter().all(|side| side.kept.lock().keep_old(&error, side).is_some());
            if kept { Ok(()) } else { Err(error) }
        }
    }
}
