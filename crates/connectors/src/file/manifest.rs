//! The list of committed files of a table, in Spark's own `_spark_metadata` format, with our tokens inside.
//!
//! ```text
//!   <table>/_spark_metadata/0  1 ... 8  9.compact  10 ... 18  19.compact ...
//!
//!   v1
//!   {"path":"file:///t/part-...","size":812,"isDir":false,"modificationTime":1735689600000,"blockReplication":1,
//!    "blockSize":134217728,"action":"add","highwater":{"queryId":"6f...","batchId":7}}          one line a file
//! ```
//!
//! Spark, and whoever else reads this format, sees exactly the files named here. The ids are one sequence for the
//! table, whoever writes; a query's batch ids are another sequence for each query. They meet in the line: the file and
//! the token (query id, batch id) become visible in one step, the [`durable::write_new`] of the entry, which also
//! fails when another writer took the id. The loser reads the entry that won and tries the next id, and finds its own
//! token there if the winner was another run of the same query: then it publishes nothing. Spark ignores the field
//! `highwater`.
//!
//! A file that holds all entries before it replaces every tenth entry, as in Spark; the entries before the last but
//! one of those are removed, so that a reader always finds a whole chain. This module refuses chains with a gap.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_engine::error::{EngineError, Result};
use highwater_engine::sink::BatchId;
use serde::{Deserialize, Serialize};

use super::durable::{self, Created, io_error};
use super::listing::{InputFile, unescape};

const FOLDER: &str = "_spark_metadata";
const COMPACT_EVERY: u64 = 10;

/// (query id, batch id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Token {
    pub(crate) query_id: String,
    pub(crate) batch_id: BatchId,
}

/// One committed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileStatus {
    path: String,
    size: u64,
    is_dir: bool,
    modification_time: i64,
    block_replication: u32,
    block_size: u64,
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    highwater: Option<Token>,
}

impl FileStatus {
    /// A file that was just finished.
    pub(crate) fn added(path: &Path, size: u64, modification_time: i64, token: Token) -> Self {
        Self {
            path: to_uri(path),
            size,
            is_dir: false,
            modification_time,
            block_replication: 1,
            block_size: 128 << 20,
            action: "add".to_owned(),
            highwater: Some(token),
        }
    }

    /// Where the file is; a table that was moved as a whole is followed.
    fn local_path(&self, root: &Path) -> String {
        let plain = self.path.strip_prefix("file://").or_else(|| self.path.strip_prefix("file:")).unwrap_or(&self.path);
        let path = unescape(plain);
        if Path::new(&path).exists() {
            return path;
        }
        let parts: Vec<&str> = path.split('/').collect();
        let folders = parts.iter().rev().skip(1).take_while(|part| part.contains('=')).count();
        let moved = parts[parts.len() - 1 - folders..].iter().fold(root.to_owned(), |path, part| path.join(part));
        if moved.exists() { moved.to_string_lossy().into_owned() } else { path }
    }
}

/// What became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The files are visible.
    Now,
    /// The query's batch, or a later one, was visible already; nothing was added.
    Before,
}

/// Whether the folder has a manifest, so that other files in it do not count.
pub(crate) fn exists(root: &Path) -> bool {
    root.join(FOLDER).is_dir()
}

/// The files the manifest names.
pub(crate) fn committed_files(root: &Path) -> Result<Vec<InputFile>> {
    let statuses = read_all(&root.join(FOLDER))?.1;
    Ok(statuses
        .iter()
        .filter(|status| !status.is_dir && status.action == "add")
        .map(|status| InputFile {
            path: status.local_path(root),
            modified_ms: status.modification_time,
            size: status.size,
        })
        .collect())
}

/// The manifest as its writers see it.
#[derive(Debug)]
pub(crate) struct Manifest {
    folder: PathBuf,
    latest: Option<u64>,
    tokens: BTreeMap<String, BatchId>,
}

impl Manifest {
    /// Opens the manifest of a table, which may not be there yet, and gives the committed files too.
    pub(crate) fn open(root: &Path) -> Result<(Self, Vec<FileStatus>)> {
        let folder = root.join(FOLDER);
        let (latest, statuses) = read_all(&folder)?;
        let mut manifest = Self { folder, latest, tokens: BTreeMap::new() };
        manifest.note(&statuses);
        Ok((manifest, statuses))
    }

    /// The newest batch of a query that has files here.
    pub(crate) fn token(&self, query_id: &str) -> Option<BatchId> {
        self.tokens.get(query_id).copied()
    }

    /// Makes files and token visible in one step, unless the token is there already.
    pub(crate) fn publish(&mut self, token: &Token, files: &[FileStatus]) -> Result<Published> {
        durable::create_dir(&self.folder)?;
        loop {
            self.catch_up()?;
            if self.token(&token.query_id).is_some_and(|known| known >= token.batch_id) {
                return Ok(Published::Before);
            }
            let id = self.latest.map_or(0, |latest| latest + 1);
            let compact = (id + 1).is_multiple_of(COMPACT_EVERY);
            let bytes = if compact {
                let mut all = read_all(&self.folder)?.1;
                all.extend_from_slice(files);
                encode(&all)?
            } else {
                encode(files)?
            };
            if durable::write_new(&self.folder.join(entry_name(id, compact)), &bytes)? == Created::Yes {
                self.latest = Some(id);
                self.note(files);
                if compact {
                    self.remove_replaced(id);
                }
                return Ok(Published::Now);
            }
        }
    }

    /// Reads the entries other writers added.
    fn catch_up(&mut self) -> Result<()> {
        loop {
            let id = self.latest.map_or(0, |latest| latest + 1);
            let compact = (id + 1).is_multiple_of(COMPACT_EVERY);
            let path = self.folder.join(entry_name(id, compact));
            if !path.exists() {
                return self.refuse_lost_chain(id);
            }
            let statuses = read_entry(&path)?;
            self.note(&statuses);
            self.latest = Some(id);
        }
    }

    /// The next id is missing because it is new, or because others went on so far that it was removed.
    fn refuse_lost_chain(&mut self, id: u64) -> Result<()> {
        let newest = ids(&self.folder)?.last().map(|(newest, _)| *newest);
        if newest.is_some_and(|newest| newest > id) {
            let (latest, statuses) = read_all(&self.folder)?;
            self.latest = latest;
            self.note(&statuses);
        }
        Ok(())
    }

    fn note(&mut self, statuses: &[FileStatus]) {
        for token in statuses.iter().filter_map(|status| status.highwater.as_ref()) {
            let newest = self.tokens.entry(token.query_id.clone()).or_insert(token.batch_id);
            *newest = token.batch_id.max(*newest);
        }
    }

    /// Removes what is older than the last but one compacted entry. Best effort: it is only space.
    fn remove_replaced(&self, compacted: u64) {
        let Some(keep_from) = compacted.checked_sub(COMPACT_EVERY) else { return };
        for (id, compact) in ids(&self.folder).unwrap_or_default().into_iter().filter(|(id, _)| *id < keep_from) {
            if let Err(error) = durable::remove_file(&self.folder.join(entry_name(id, compact))) {
                tracing::warn!(%error, "an old manifest entry stays");
            }
        }
    }
}

impl FileStatus {
    /// The path as it stands in the manifest, for comparing.
    pub(crate) fn uri(&self) -> &str {
        &self.path
    }
}

/// A path as Spark writes it.
pub(crate) fn to_uri(path: &Path) -> String {
    format!("file://{}", encode_uri(&path.to_string_lossy()))
}

/// A path with `%XX` for what a URI cannot hold.
pub(crate) fn encode_uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~=:@!$&'()*+,;".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

fn entry_name(id: u64, compact: bool) -> String {
    if compact { format!("{id}.compact") } else { id.to_string() }
}

/// (id, whether it is compacted), in order.
fn ids(folder: &Path) -> Result<Vec<(u64, bool)>> {
    let mut ids: Vec<(u64, bool)> = durable::file_names(folder)?
        .iter()
        .filter_map(|name| match name.strip_suffix(".compact") {
            Some(id) => Some((id.parse().ok()?, true)),
            None => Some((name.parse().ok()?, false)),
        })
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// The newest id, and the files of the last compacted entry and all after it.
fn read_all(folder: &Path) -> Result<(Option<u64>, Vec<FileStatus>)> {
    let ids = ids(folder)?;
    let Some(latest) = ids.last().map(|(id, _)| *id) else { return Ok((None, Vec::new())) };
    let base = ids.iter().filter(|(_, compact)| *compact).map(|(id, _)| *id).max();
    let mut statuses = match base {
        Some(base) => read_entry(&folder.join(entry_name(base, true)))?,
        None => Vec::new(),
    };
    for id in base.map_or(0, |base| base + 1)..=latest {
        if !ids.contains(&(id, false)) {
            return Err(EngineError::data(format!(
                "the manifest '{}' has no entry {id}, but one for {latest}",
                folder.display()
            ))
            .help("restore the missing entry from a backup; without it some of the table's files are unknown"));
        }
        statuses.extend(read_entry(&folder.join(entry_name(id, false)))?);
    }
    Ok((Some(latest), statuses))
}

fn read_entry(path: &Path) -> Result<Vec<FileStatus>> {
    let text = std::fs::read_to_string(path).map_err(|error| io_error("read", path, error))?;
    let mut lines = text.lines();
    if lines.next() != Some("v1") {
        return Err(damaged(path, "its first line is not 'v1'"));
    }
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            serde_json::from_str(line).map_err(|error| damaged(path, &format!("a line is not a file status ({error})")))
        })
        .collect()
}

fn damaged(path: &Path, found: &str) -> EngineError {
    EngineError::data(format!(
        "the manifest entry '{}' is damaged: {found}, expected 'v1' and one JSON line a file",
        path.display()
    ))
    .help("restore it from a backup")
}

fn encode(statuses: &[FileStatus]) -> Result<Vec<u8>> {
    // No newline at the end: Spark splits by lines and takes an empty one for JSON.
    let mut bytes = b"v1".to_vec();
    for status in statuses {
        bytes.push(b'\n');
        serde_json::to_writer(&mut bytes, status)
            .map_err(|error| EngineError::internal("a manifest line has no JSON").caused_by(error))?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(query_id: &str, batch_id: BatchId) -> Token {
        Token { query_id: query_id.to_owned(), batch_id }
    }

    fn file(root: &Path, name: &str, token: Token) -> FileStatus {
        let path = root.join(name);
        std::fs::write(&path, name).expect("written");
        FileStatus::added(&path, name.len() as u64, 1, token)
    }

    #[test]
    fn two_queries_share_one_sequence_over_compactions() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let (mut a, _) = Manifest::open(root).expect("opened");
        let (mut b, _) = Manifest::open(root).expect("opened");
        for batch in 0..17 {
            for (name, manifest) in [("a", &mut a), ("b", &mut b)] {
                let token = token(name, batch);
                let files = [file(root, &format!("{name}{batch}"), token.clone())];
                assert_eq!(manifest.publish(&token, &files).expect("published"), Published::Now);
                assert_eq!(manifest.publish(&token, &files).expect("asked"), Published::Before);
            }
        }
        assert_eq!(committed_files(root).expect("files").len(), 34);
        let (again, _) = Manifest::open(root).expect("opened");
        assert_eq!((again.token("a"), again.token("b"), again.token("c")), (Some(16), Some(16), None));
        let left = ids(&root.join(FOLDER)).expect("ids");
        assert_eq!(left.first(), Some(&(19, true)), "{left:?}");
    }

    #[test]
    fn a_writer_left_behind_catches_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        let (mut slow, _) = Manifest::open(root).expect("opened");
        let (mut fast, _) = Manifest::open(root).expect("opened");
        for batch in 0..45 {
            let token = token("fast", batch);
            fast.publish(&token, &[file(root, &format!("f{batch}"), token.clone())]).expect("published");
        }
        let token = token("slow", 0);
        let published = slow.publish(&token, &[file(root, "s", token.clone())]).expect("published");
        assert_eq!(published, Published::Now);
        assert_eq!(committed_files(root).expect("files").len(), 46);
    }

    #[test]
    fn a_torn_entry_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut manifest, _) = Manifest::open(folder.path()).expect("opened");
        let token = token("q", 0);
        manifest.publish(&token, &[file(folder.path(), "x", token.clone())]).expect("published");
        let entry = folder.path().join(FOLDER).join("0");
        let bytes = std::fs::read(&entry).expect("read");
        std::fs::write(&entry, &bytes[..bytes.len() - 5]).expect("torn");
        let error = committed_files(folder.path()).expect_err("refused").to_string();
        assert!(error.contains(&entry.display().to_string()), "{error}");
    }
}
