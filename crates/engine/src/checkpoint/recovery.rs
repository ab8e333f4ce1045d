//! What a start has to do, as a pure function of what it finds.
//!
//! ```text
//!   protocol of batch N:   offsets/N ─> stage in sink ─> state/N.changelog ─> sink commit (token N) ─> commits/N
//!
//!   found after a crash                                    step
//!   offsets = commits = N, token N                         RunNew N+1                    from state N
//!   offsets N, commits N-1, token N-1                      Replay N, writing the sink    from state N-1
//!   offsets N, commits N-1, token N, state N               FinishCommit N                from state N
//!   offsets N, commits N-1, token N, no state N            Replay N, not the sink        from state N-1
//!   the same, sink keeps no tokens                         Replay N, writing the sink    from state N-1
//!   anything else                                          refused: something was removed, restored or mixed up
//! ```
//!
//! The fourth row cannot come from a crash alone (state N is durable before token N), but a disk that lied or a changelog
//! somebody deleted leads there, and a replay without the sink makes the same state again: batch N has fixed ranges
//! and a fixed time. The plan carries a note then, to be logged. An existing changelog of a batch that is replayed is
//! worth nothing and is replaced.
//!
//! Nothing here reads a file, and nothing else in the engine decides what is replayed.

use crate::error::EngineError;
use crate::sink::{BatchId, SinkToken};
use crate::state::StateVersions;

/// What a start finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The newest entry of the offset log.
    pub last_offsets: Option<BatchId>,
    /// The newest entry of the commit log.
    pub last_commit: Option<BatchId>,
    /// What the sink says.
    pub sink: SinkToken,
    /// The changelogs and snapshots there are; none for a query that kept no state up to now.
    pub state: Option<StateVersions>,
}

/// What a start does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryPlan {
    /// The state to open: after this batch, or empty for none.
    pub state_version: Option<BatchId>,
    /// What to do with it.
    pub next: Step,
    /// Something odd that was got around, to be logged as a warning.
    pub note: Option<String>,
}

impl RecoveryPlan {
    /// The plan in a few words.
    pub fn describe(&self) -> String {
        let from = match self.state_version {
            Some(version) => format!(", from the state after batch {version}"),
            None => String::new(),
        };
        match self.next {
            Step::RunNew { batch } => format!("runs batch {batch}{from}"),
            Step::Replay { batch, .. } => format!("runs batch {batch} again{from}"),
            Step::FinishCommit { batch } => format!("finishes batch {batch}{from}"),
        }
    }
}

/// The first thing to do after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing is half done: plan this batch.
    RunNew {
        /// The batch.
        batch: BatchId,
    },
    /// Run this batch again with the ranges of its offset log entry.
    Replay {
        /// The batch.
        batch: BatchId,
        /// False when the sink already has the rows.
        write_sink: bool,
    },
    /// Only the commit log entry of this batch is missing; what it says is in the state's note of the batch.
    FinishCommit {
        /// The batch.
        batch: BatchId,
    },
}

impl Step {
    /// The batch it is about.
    pub fn batch(self) -> BatchId {
        let (Self::RunNew { batch } | Self::Replay { batch, .. } | Self::FinishCommit { batch }) = self;
        batch
    }
}

/// Why a start is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The commit log is ahead of the offset log.
    #[error("the commit log ends with batch {commits}, but the offset log {}", ends(*.offsets))]
    OffsetsMissing {
        /// End of the offset log.
        offsets: Option<BatchId>,
        /// End of the commit log.
        commits: BatchId,
    },
    /// The offset log is more than one batch ahead of the commit log.
    #[error("the offset log ends with batch {offsets}, but the commit log {}; it can be one batch behind", ends(*.commits))]
    CommitsMissing {
        /// End of the offset log.
        offsets: BatchId,
        /// End of the commit log.
        commits: Option<BatchId>,
    },
    /// The sink has a batch the offset log does not know.
    #[error("the sink has batch {token} of this query, but the offset log {}", ends(*.offsets))]
    SinkAhead {
        /// The sink's token.
        token: BatchId,
        /// End of the offset log.
        offsets: Option<BatchId>,
    },
    /// The sink lost a batch the commit log has.
    #[error("batch {commits} is committed, but the sink {}", has(*.token))]
    SinkBehind {
        /// The sink's token.
        token: Option<BatchId>,
        /// End of the commit log.
        commits: BatchId,
    },
    /// State of a batch the offset log does not know.
    #[error("there is state of batch {state}, but the offset log {}", ends(*.offsets))]
    StateAhead {
        /// The newest state.
        state: BatchId,
        /// End of the offset log.
        offsets: Option<BatchId>,
    },
    /// The state to start from cannot be restored.
    #[error("the state after batch {version} cannot be restored: state/{missing}.changelog is missing")]
    StateMissing {
        /// The state needed.
        version: BatchId,
        /// The first file that is not there.
        missing: BatchId,
    },
}

fn ends(batch: Option<BatchId>) -> String {
    batch.map_or_else(|| "is empty".to_owned(), |batch| format!("ends with batch {batch}"))
}

fn has(token: Option<BatchId>) -> String {
    token.map_or_else(|| "has no batch of this query".to_owned(), |token| format!("has only batch {token}"))
}

impl RecoveryError {
    /// The error as a user sees it.
    pub fn explain(&self, query_name: &str, location: &str) -> EngineError {
        EngineError::data(format!("query '{query_name}' cannot go on from checkpoint '{location}': {self}"))
            .help(self.way_out())
    }

    fn way_out(&self) -> &'static str {
        match self {
            Self::OffsetsMissing { .. } | Self::CommitsMissing { .. } | Self::StateMissing { .. } => {
                "restore the whole checkpoint folder from a backup, or start over with a new checkpoint location and an \
                 empty target"
            }
            Self::SinkAhead { .. } => {
                "the checkpoint is older than the target: restore the newer checkpoint, or start over with a new \
                 checkpoint location and an empty target"
            }
            Self::SinkBehind { .. } => {
                "the target is another one than before, was emptied or was restored from a backup: go back to the old \
                 target, restore the checkpoint of the same time, or give the query another name or another --storage, \
                 so that it starts over"
            }
            Self::StateAhead { .. } => {
                "the checkpoint was put together from two backups: restore one whole backup, or start over with a new \
                 checkpoint location and an empty target"
            }
        }
    }
}

/// Decides. See the table at the head of the module.
pub fn plan_recovery(facts: &Facts) -> Result<RecoveryPlan, RecoveryError> {
    let Facts { last_offsets: offsets, last_commit: commits, sink, .. } = *facts;
    check_logs(offsets, commits)?;
    check_sink(offsets, commits, sink)?;
    if let Some(state) = facts.newest_state().filter(|state| Some(*state) > offsets) {
        return Err(RecoveryError::StateAhead { state, offsets });
    }
    let next = match offsets {
        Some(batch) if offsets != commits => {
            let sink_has_it = sink == SinkToken::Committed(batch);
            if sink_has_it && facts.restorable(Some(batch)).is_ok() {
                return Ok(facts.plan(Some(batch), Step::FinishCommit { batch }));
            }
            Step::Replay { batch, write_sink: !sink_has_it }
        }
        _ => Step::RunNew { batch: offsets.map_or(0, |last| last + 1) },
    };
    facts.restorable(commits)?;
    Ok(facts.plan(commits, next))
}

/// The offset log is level with the commit log or one batch ahead.
fn check_logs(offsets: Option<BatchId>, commits: Option<BatchId>) -> Result<(), RecoveryError> {
    match (offsets, commits) {
        (_, Some(commits)) if offsets < Some(commits) => Err(RecoveryError::OffsetsMissing { offsets, commits }),
        (Some(offsets), _) if offsets > commits.map_or(0, |last| last + 1) => {
            Err(RecoveryError::CommitsMissing { offsets, commits })
        }
        _ => Ok(()),
    }
}

/// The token lies between the two logs: at least what is committed, at most what was begun.
fn check_sink(offsets: Option<BatchId>, commits: Option<BatchId>, sink: SinkToken) -> Result<(), RecoveryError> {
    let token = match sink {
        SinkToken::Unsupported => return Ok(()),
        // A batch is in the sink before it is in the commit log; of one that was only begun nobody knows.
        SinkToken::NoneLeft if offsets == commits => return Ok(()),
        SinkToken::None | SinkToken::NoneLeft => None,
        SinkToken::Committed(batch) => Some(batch),
    };
    match (token, commits) {
        (Some(token), _) if Some(token) > offsets => Err(RecoveryError::SinkAhead { token, offsets }),
        (_, Some(commits)) if token < Some(commits) => Err(RecoveryError::SinkBehind { token, commits }),
        _ => Ok(()),
    }
}

impl Facts {
    fn newest_state(&self) -> Option<BatchId> {
        self.state.as_ref().and_then(StateVersions::newest)
    }

    /// Whether the state after `version` can be had; a query without state needs none.
    fn restorable(&self, version: Option<BatchId>) -> Result<(), RecoveryError> {
        let (Some(state), Some(version)) = (&self.state, version) else { return Ok(()) };
        state.restore_path(version).map(|_| ()).map_err(|missing| RecoveryError::StateMissing { version, missing })
    }

    fn plan(&self, version: Option<BatchId>, next: Step) -> RecoveryPlan {
        let note = match next {
            Step::Replay { batch, write_sink: false } => Some(format!(
                "the sink has batch {batch}, but its state is missing: the batch is replayed to rebuild the state, \
                 without writing to the sink"
            )),
            _ => None,
        };
        RecoveryPlan { state_version: version.filter(|_| self.state.is_some()), next, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_STATE: Option<(&[BatchId], &[BatchId])> = None;

    /// `state`: snapshots and changelogs.
    fn check(
        offsets: impl Into<Option<BatchId>>,
        commits: impl Into<Option<BatchId>>,
        sink: SinkToken,
        state: Option<(&[BatchId], &[BatchId])>,
        expected: &str,
    ) {
        let state = state.map(|(snapshots, changelogs)| StateVersions::of(snapshots, changelogs));
        let facts = Facts { last_offsets: offsets.into(), last_commit: commits.into(), sink, state };
        let found = match plan_recovery(&facts) {
            Ok(plan) => {
                let from = plan.state_version.map_or_else(|| "-".to_owned(), |version| version.to_string());
                match plan.next {
                    Step::RunNew { batch } => format!("run {batch} from {from}"),
                    Step::Replay { batch, write_sink: true } => format!("replay {batch} from {from}"),
                    Step::Replay { batch, write_sink: false } => format!("rebuild {batch} from {from}"),
                    Step::FinishCommit { batch } => format!("finish {batch} from {from}"),
                }
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{facts:?}");
    }

    use SinkToken::{Committed, None as Nothing, NoneLeft, Unsupported};

    #[test]
    fn a_fresh_checkpoint() {
        check(None, None, Nothing, NO_STATE, "run 0 from -");
        check(None, None, Unsupported, NO_STATE, "run 0 from -");
        check(None, None, Nothing, Some((&[], &[])), "run 0 from -");
        check(None, None, Committed(4), NO_STATE, "the sink has batch 4 of this query, but the offset log is empty");
        check(None, None, Nothing, Some((&[], &[0])), "there is state of batch 0, but the offset log is empty");
    }

    /// After a week of rest a Kafka sink has forgotten what the commit log still knows.
    #[test]
    fn a_token_that_has_expired() {
        check(None, None, NoneLeft, NO_STATE, "run 0 from -");
        check(0, None, NoneLeft, NO_STATE, "replay 0 from -");
        check(7, 7, NoneLeft, Some((&[6], &[7])), "run 8 from 7");
        check(8, 7, NoneLeft, NO_STATE, "batch 7 is committed, but the sink has no batch of this query");
    }

    #[test]
    fn everything_done() {
        check(0, 0, Committed(0), NO_STATE, "run 1 from -");
        check(7, 7, Committed(7), NO_STATE, "run 8 from -");
        check(7, 7, Unsupported, NO_STATE, "run 8 from -");
        check(2, 2, Committed(2), Some((&[], &[0, 1, 2])), "run 3 from 2");
        check(7, 7, Committed(7), Some((&[5], &[3, 4, 5, 6, 7])), "run 8 from 7");
        check(7, 7, Committed(7), Some((&[7], &[])), "run 8 from 7");
    }

    #[test]
    fn killed_in_the_first_batch() {
        check(0, None, Nothing, NO_STATE, "replay 0 from -");
        check(0, None, Unsupported, NO_STATE, "replay 0 from -");
        check(0, None, Committed(0), NO_STATE, "finish 0 from -");
        check(0, None, Nothing, Some((&[], &[])), "replay 0 from -");
        check(0, None, Nothing, Some((&[], &[0])), "replay 0 from -");
        check(0, None, Committed(0), Some((&[], &[0])), "finish 0 from 0");
        check(0, None, Committed(0), Some((&[], &[])), "rebuild 0 from -");
    }

    #[test]
    fn killed_in_a_later_batch() {
        // Before and after the changelog, before the sink's commit.
        check(3, 2, Committed(2), Some((&[], &[0, 1, 2])), "replay 3 from 2");
        check(3, 2, Committed(2), Some((&[], &[0, 1, 2, 3])), "replay 3 from 2");
        check(3, 2, Committed(2), NO_STATE, "replay 3 from -");
        // After the sink's commit.
        check(3, 2, Committed(3), Some((&[], &[0, 1, 2, 3])), "finish 3 from 3");
        check(3, 2, Committed(3), Some((&[3], &[])), "finish 3 from 3");
        check(3, 2, Committed(3), NO_STATE, "finish 3 from -");
        // The state of a batch the sink has was lost.
        check(3, 2, Committed(3), Some((&[1], &[2])), "rebuild 3 from 2");
        // A sink without tokens gets the rows again.
        check(3, 2, Unsupported, Some((&[], &[0, 1, 2, 3])), "replay 3 from 2");
        check(3, 2, Unsupported, NO_STATE, "replay 3 from -");
    }

    #[test]
    fn a_sink_that_was_dropped_or_restored() {
        check(7, 7, Nothing, NO_STATE, "batch 7 is committed, but the sink has no batch of this query");
        check(7, 7, Committed(5), NO_STATE, "batch 7 is committed, but the sink has only batch 5");
        check(8, 7, Committed(6), NO_STATE, "batch 7 is committed, but the sink has only batch 6");
        check(8, 7, Nothing, NO_STATE, "batch 7 is committed, but the sink has no batch of this query");
    }

    #[test]
    fn a_checkpoint_that_was_restored() {
        check(7, 7, Committed(8), NO_STATE, "the sink has batch 8 of this query, but the offset log ends with batch 7");
        check(8, 7, Committed(9), NO_STATE, "the sink has batch 9 of this query, but the offset log ends with batch 8");
        let state: &[BatchId] = &[0, 1, 2, 3];
        let expected = "there is state of batch 3, but the offset log ends with batch 2";
        check(2, 2, Committed(2), Some((&[], state)), expected);
        check(2, 1, Unsupported, Some((&[3], &state[..3])), expected);
    }

    #[test]
    fn logs_with_files_removed() {
        check(None, 3, Committed(3), NO_STATE, "the commit log ends with batch 3, but the offset log is empty");
        check(2, 3, Unsupported, NO_STATE, "the commit log ends with batch 3, but the offset log ends with batch 2");
        let behind = "it can be one batch behind";
        let expected = format!("the offset log ends with batch 5, but the commit log ends with batch 3; {behind}");
        check(5, 3, Committed(4), NO_STATE, &expected);
        check(
            1,
            None,
            Unsupported,
            NO_STATE,
            &format!("the offset log ends with batch 1, but the commit log is empty; {behind}"),
        );
    }

    #[test]
    fn state_with_files_removed() {
        let missing = |version: u64, file: u64| {
            format!("the state after batch {version} cannot be restored: state/{file}.changelog is missing")
        };
        check(2, 2, Committed(2), Some((&[], &[])), &missing(2, 0));
        check(2, 2, Committed(2), Some((&[], &[0, 2])), &missing(2, 1));
        check(9, 9, Unsupported, Some((&[5], &[6, 8, 9])), &missing(9, 7));
        check(9, 8, Committed(8), Some((&[9], &[])), &missing(8, 0));
    }

    /// Over all small combinations: an accepted plan follows the rules below, whatever the rows above say.
    #[test]
    fn no_plan_loses_or_repeats_a_batch() {
        let ids = [None, Some(0), Some(1), Some(2), Some(3)];
        let tokens = [Unsupported, Nothing, Committed(0), Committed(1), Committed(2), Committed(3)];
        let mut accepted = 0;
        for (offsets, commits, sink, changelogs) in combinations(&ids, &tokens) {
            let state = StateVersions::of(&[], &(0..changelogs).collect::<Vec<_>>());
            let facts = Facts { last_offsets: offsets, last_commit: commits, sink, state: Some(state) };
            let Ok(plan) = plan_recovery(&facts) else { continue };
            accepted += 1;
            let next = commits.map_or(0, |last| last + 1);
            let (batch, before) = match plan.next {
                Step::RunNew { batch } | Step::Replay { batch, .. } => (batch, batch.checked_sub(1)),
                Step::FinishCommit { batch } => (batch, Some(batch)),
            };
            assert_eq!(batch, next, "the batch after the last committed one: {facts:?}");
            assert_eq!(plan.state_version, before, "{facts:?}");
            let writes = !matches!(plan.next, Step::FinishCommit { .. } | Step::Replay { write_sink: false, .. });
            assert_eq!(writes, sink != Committed(batch), "written unless the sink has it: {facts:?}");
            assert!(plan.state_version < Some(changelogs), "state that exists: {facts:?}");
        }
        assert!(accepted > 30, "{accepted}");
    }

    fn combinations(
        ids: &[Option<BatchId>],
        tokens: &[SinkToken],
    ) -> Vec<(Option<BatchId>, Option<BatchId>, SinkToken, u64)> {
        let mut all = Vec::new();
        for offsets in ids {
            for commits in ids {
                for token in tokens {
                    all.extend((0..5).map(|changelogs| (*offsets, *commits, *token, changelogs)));
                }
            }
        }
        all
    }

    #[test]
    fn the_user_sees_query_location_and_way_out() {
        let error = RecoveryError::SinkAhead { token: 8, offsets: Some(7) }.explain("alerts", "/data/cp");
        let expected = "query 'alerts' cannot go on from checkpoint '/data/cp': the sink has batch 8 of this query, but \
                        the offset log ends with batch 7";
        assert_eq!(error.to_string(), expected);
        assert!(error.next_step().unwrap().starts_with("the checkpoint is older than the target"));
    }
}
