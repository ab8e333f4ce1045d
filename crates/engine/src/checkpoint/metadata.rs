//! Who the query of a checkpoint is: its lasting id, its name, its target and its stateful operators.
//!
//! ```text
//!   metadata:  v1 · {"id":"<uuid>","queryName":..,"target":..,"operators":{"<id>":"<fingerprint>"},
//!                    "layouts":{"<id>":[<layout>, ..]},"madeOf":{"<id>":[["<expression>", ..], ..]}} · crc32c
//! ```
//!
//! The id is the first half of the token sinks keep, so it is made once and never changes. A checkpoint whose name or
//! target is another query's is refused: running on would skip that query's input and mix its state. Changed
//! operators are not refused here, only told apart. All layouts that rows of an operator may be in are here before the
//! first row of them is anywhere (`operator/layout`).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{CheckpointDir, text};
use crate::error::{EngineError, Result};
use crate::operator::layout::{History, Layout, Note};
use crate::sink::BatchId;
use crate::source::Offset;

const FILE: &str = "metadata";

/// What a query says about itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryIdentity {
    /// Its name.
    pub query_name: String,
    /// What it writes to, e.g. `table alerts (USING delta)`.
    pub target: String,
    /// Its stateful operators: stable id to a fingerprint of everything its state rows depend on.
    pub operators: BTreeMap<String, String>,
    /// What the state rows are made of, of those operators whose rows may be in several layouts.
    pub(crate) layouts: BTreeMap<String, Layout>,
    /// What the keys of each operator are made of.
    pub(crate) keys: BTreeMap<String, MadeOf>,
}

/// What each key of an operator is made of, as text: an expression for each way that rows come by.
pub(crate) type MadeOf = Vec<BTreeSet<String>>;

/// The content of `metadata`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The query's lasting identity.
    pub id: String,
    /// Its name.
    pub query_name: String,
    /// What it writes to.
    pub target: String,
    /// Its stateful operators and their fingerprints.
    pub operators: BTreeMap<String, String>,
    /// Where its first batch began, by source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_offsets: Option<Vec<Offset>>,
    /// All layouts that rows of the operators may be in.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) layouts: BTreeMap<String, History>,
    /// What the operators' keys are made of; nothing of operators that an earlier version wrote down.
    #[serde(default, rename = "madeOf", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) keys: BTreeMap<String, MadeOf>,
    /// A batch after which the state is no query's: a part of a rebuild that was given up, and another one has to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) void_batch: Option<BatchId>,
    /// Whether the file says something else.
    #[serde(skip)]
    is_stale: bool,
}

/// How the operators of a query differ from those its checkpoint was written with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdentityChanges {
    /// The state is kept as it is.
    pub kept: Vec<String>,
    /// The state is kept, and what becomes of its parts.
    pub(crate) evolved: BTreeMap<String, Vec<Note>>,
    /// The layouts of rows from now on, of operators whose state is kept.
    pub(crate) histories: BTreeMap<String, History>,
    /// The state rows mean something else now, and why.
    pub changed: Vec<(String, String)>,
    /// Not in the checkpoint.
    pub added: Vec<String>,
    /// Only in the checkpoint.
    pub removed: Vec<String>,
}

impl IdentityChanges {
    /// Whether every operator is as it was.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.evolved.is_empty() && self.added.is_empty() && self.removed.is_empty()
    }
}

impl Metadata {
    /// The checkpoint's metadata, if it has any.
    pub fn read(checkpoint: &CheckpointDir) -> Result<Option<Self>> {
        let address = checkpoint.store().address(FILE);
        let Some(bytes) = checkpoint.store().read(FILE)? else { return Ok(None) };
        let lines = text::decode(&address, &bytes)?;
        let line = lines.first().map(String::as_str).unwrap_or_default();
        serde_json::from_str(line).map(Some).map_err(|error| text::damaged(&address, &error.to_string()))
    }

    /// The checkpoint's metadata, made now if the checkpoint is new; refused if it belongs to another query.
    pub fn create_or_read(checkpoint: &CheckpointDir, identity: &QueryIdentity) -> Result<(Self, IdentityChanges)> {
        if let Some(known) = Self::read(checkpoint)? {
            known.refuse_another(checkpoint, identity)?;
            let changes = known.changes(identity);
            return Ok((known, changes));
        }
        refuse_orphaned_logs(checkpoint)?;
        let made = Self {
            id: uuid::Uuid::new_v4().to_string(),
            query_name: identity.query_name.clone(),
            target: identity.target.clone(),
            operators: identity.operators.clone(),
            first_offsets: None,
            layouts: histories_of(identity, &BTreeMap::new()),
            keys: identity.keys.clone(),
            void_batch: None,
            is_stale: false,
        };
        if !checkpoint.writable()?.create(FILE, &made.encode()?)? {
            let message = format!("{} was created by another run just now", checkpoint.store().address(FILE));
            return Err(EngineError::config(message).help("stop the other run of this query, then start again"));
        }
        let changes = IdentityChanges { added: identity.operators.keys().cloned().collect(), ..Default::default() };
        Ok((made, changes))
    }

    /// Takes what a rebuild says of the operators, which the file may not know yet.
    pub(crate) fn take_rebuilt(
        &mut self,
        operators: BTreeMap<String, String>,
        layouts: BTreeMap<String, History>,
        keys: BTreeMap<String, MadeOf>,
    ) {
        (self.operators, self.layouts, self.keys, self.is_stale) = (operators, layouts, keys, true);
    }

    /// Writes down the operators the query has from now on, and the layouts of those whose state is kept.
    pub(crate) fn record_operators(
        &mut self,
        checkpoint: &CheckpointDir,
        identity: &QueryIdentity,
        kept: &BTreeMap<String, History>,
    ) -> Result<()> {
        let layouts = histories_of(identity, kept);
        let is_same = self.operators == identity.operators && self.layouts == layouts && self.keys == identity.keys;
        if self.is_stale || !is_same {
            self.operators.clone_from(&identity.operators);
            self.keys.clone_from(&identity.keys);
            (self.layouts, self.is_stale) = (layouts, false);
            checkpoint.writable()?.replace(FILE, &self.encode()?)?;
        }
        Ok(())
    }

    /// Writes down where the first batch begins.
    pub fn record_first_offsets(&mut self, checkpoint: &CheckpointDir, offsets: &[Offset]) -> Result<()> {
        self.first_offsets = Some(offsets.to_vec());
        checkpoint.writable()?.replace(FILE, &self.encode()?)?;
        Ok(())
    }

    /// Writes down that the state after a batch is no query's.
    pub(crate) fn record_void(&mut self, checkpoint: &CheckpointDir, batch: BatchId) -> Result<()> {
        self.void_batch = Some(batch);
        checkpoint.writable()?.replace(FILE, &self.encode()?)?;
        Ok(())
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let line = serde_json::to_string(self).map_err(|error| EngineError::internal("metadata").caused_by(error))?;
        Ok(text::encode(&[line]))
    }

    /// Refuses a checkpoint whose name or target is another query's.
    pub(crate) fn refuse_another(&self, checkpoint: &CheckpointDir, identity: &QueryIdentity) -> Result<()> {
        if self.query_name == identity.query_name && self.target == identity.target {
            return Ok(());
        }
        Err(EngineError::config(format!(
            "checkpoint '{}' belongs to query '{}' writing to {}, expected query '{}' writing to {}",
            checkpoint.location(),
            self.query_name,
            self.target,
            identity.query_name,
            identity.target
        ))
        .help("give the query another name or another --storage, or delete the checkpoint to start over"))
    }

    /// How a query's operators differ from those of the checkpoint.
    pub(crate) fn changes(&self, identity: &QueryIdentity) -> IdentityChanges {
        let mut changes = IdentityChanges::default();
        for (id, fingerprint) in &identity.operators {
            let Some(known) = self.operators.get(id) else {
                let mut givers = identity.layouts.get(id).into_iter().flat_map(Layout::givers);
                match givers.find(|giver| self.operators.contains_key(*giver)) {
                    None => changes.added.push(id.clone()),
                    Some(giver) => changes.changed.push((id.clone(), never_given(giver))),
                }
                continue;
            };
            let other_keys = other_keys(self.keys.get(id), identity.keys.get(id));
            match (self.layouts.get(id), identity.layouts.get(id)) {
                (Some(history), Some(now)) => match (history.evolve(now), other_keys) {
                    (Ok(_), Some(why)) => changes.changed.push((id.clone(), why)),
                    (Ok((history, notes)), None) => {
                        changes.histories.insert(id.clone(), history);
                        match notes.is_empty() {
                            true => changes.kept.push(id.clone()),
                            false => drop(changes.evolved.insert(id.clone(), notes)),
                        }
                    }
                    (Err(misfit), _) => changes.changed.push((id.clone(), misfit.to_string())),
                },
                _ if known == fingerprint => match other_keys {
                    Some(why) => changes.changed.push((id.clone(), why)),
                    None => changes.kept.push(id.clone()),
                },
                _ => changes.changed.push((id.clone(), "its keys, functions or types are others".to_owned())),
            }
        }
        changes.removed = self.operators.keys().filter(|id| !identity.operators.contains_key(*id)).cloned().collect();
        changes
    }
}

/// Why keys mean something else than they did, if they do. How many there are is compared with their layout.
fn other_keys(was: Option<&MadeOf>, is: Option<&MadeOf>) -> Option<String> {
    let (was, is) = (was?, is?);
    let listed = |key: &BTreeSet<String>| key.iter().cloned().collect::<Vec<_>>().join(" and ");
    // Rows may come on one more way, or on one less.
    let are_others = |(was, is): &(&BTreeSet<String>, &BTreeSet<String>)| !was.is_subset(is) && !is.is_subset(was);
    let (was, is) = was.iter().zip(is).filter(|_| was.len() == is.len()).find(are_others)?;
    Some(format!("it goes by {}, and went by {}", listed(is), listed(was)))
}

fn never_given(giver: &str) -> String {
    format!("it is new, and would have to take back rows of '{giver}' that it was never given")
}

/// The layouts of an operator's rows: those there were, or the one of now alone.
pub(crate) fn histories_of(identity: &QueryIdentity, kept: &BTreeMap<String, History>) -> BTreeMap<String, History> {
    let history = |(id, now): (&String, &Layout)| {
        let history = kept.get(id).cloned().unwrap_or_else(|| History::new(now.clone()));
        (id.clone(), history)
    };
    identity.layouts.iter().map(history).collect()
}

/// Logs without metadata: a new id would make every sink forget what it has.
fn refuse_orphaned_logs(checkpoint: &CheckpointDir) -> Result<()> {
    for folder in [super::OFFSETS, super::COMMITS, super::STATE] {
        if !checkpoint.store().list(folder)?.is_empty() {
            let address = checkpoint.store().address(FILE);
            return Err(text::damaged(&address, &format!("it is missing, but {folder}/ has files")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{checkpoint, open};
    use super::*;

    fn identity(name: &str, target: &str, operators: &[(&str, &str)]) -> QueryIdentity {
        let operators = operators.iter().map(|(id, print)| ((*id).to_owned(), (*print).to_owned())).collect();
        QueryIdentity { query_name: name.to_owned(), target: target.to_owned(), operators, ..QueryIdentity::default() }
    }

    #[test]
    fn the_id_lasts() {
        let (dir, first) = checkpoint();
        let query = identity("q", "table t", &[("a", "1")]);
        let (made, _) = Metadata::create_or_read(&first, &query).unwrap();
        drop(first);
        let (read, changes) = Metadata::create_or_read(&open(dir.path()), &query).unwrap();
        assert_eq!(made, read);
        assert!(changes.is_empty());
    }

    #[test]
    fn another_query_is_refused() {
        let (dir, checkpoint) = checkpoint();
        Metadata::create_or_read(&checkpoint, &identity("q", "table t", &[])).unwrap();
        let error = Metadata::create_or_read(&checkpoint, &identity("r", "table u", &[])).unwrap_err();
        let expected = format!(
            "checkpoint '{}' belongs to query 'q' writing to table t, expected query 'r' writing to table u",
            dir.path().display()
        );
        assert_eq!(error.to_string(), expected);
        assert!(error.next_step().unwrap().contains("--storage"));
    }

    #[test]
    fn changed_operators_are_told_apart() {
        let (_dir, checkpoint) = checkpoint();
        let before = identity("q", "t", &[("same", "1"), ("other", "1"), ("gone", "1")]);
        let after = identity("q", "t", &[("same", "1"), ("other", "2"), ("new", "1")]);
        Metadata::create_or_read(&checkpoint, &before).unwrap();
        let (mut metadata, changes) = Metadata::create_or_read(&checkpoint, &after).unwrap();
        let list = |id: &str| vec![id.to_owned()];
        let changed = vec![("other".to_owned(), "its keys, functions or types are others".to_owned())];
        let (kept, added, removed) = (list("same"), list("new"), list("gone"));
        assert_eq!(changes, IdentityChanges { kept, changed, added, removed, ..IdentityChanges::default() });
        metadata.record_operators(&checkpoint, &after, &BTreeMap::new()).unwrap();
        assert!(Metadata::create_or_read(&checkpoint, &after).unwrap().1.is_empty());
    }

    #[test]
    fn logs_without_metadata_are_refused() {
        let (dir, checkpoint) = checkpoint();
        std::fs::write(dir.path().join("offsets/0"), b"x").unwrap();
        let error = Metadata::create_or_read(&checkpoint, &identity("q", "t", &[])).unwrap_err();
        assert!(error.to_string().ends_with("metadata is damaged: it is missing, but offsets/ has files"), "{error}");
    }

    #[test]
    fn a_torn_file_is_named() {
        let (dir, checkpoint) = checkpoint();
        std::fs::write(dir.path().join("metadata"), b"v1\n{\"id\"").unwrap();
        let error = Metadata::create_or_read(&checkpoint, &identity("q", "t", &[])).unwrap_err();
        assert!(matches!(error, EngineError::Data(_)));
        assert!(error.to_string().contains(&format!("{}/metadata", dir.path().display())), "{error}");
    }
}
