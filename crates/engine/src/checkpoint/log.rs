//! A log of numbered files: entry N is the file `<folder>/N`, made once and never changed.
//!
//! ```text
//!   add(N)    create-if-absent: two runs cannot both decide what batch N is
//!   prune(k)  removes from the oldest on, so that what is left has no gap even after a crash in the middle
//! ```
//!
//! A missing number between two others is damage, not an empty entry: it is refused with the file's name.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use parking_lot::Mutex;

use super::{CheckpointDir, text};
use crate::error::{EngineError, Result};
use crate::sink::BatchId;

/// Something a log keeps: it gives the lines between version and checksum.
pub trait LogEntry: Sized {
    /// The folder its files are in.
    const FOLDER: &'static str;

    /// The lines of the file of `batch_id`.
    fn to_lines(&self, batch_id: BatchId) -> serde_json::Result<Vec<String>>;

    /// The entry from its lines, or what is wrong with them.
    fn from_lines(batch_id: BatchId, lines: &[String]) -> Result<Self, String>;
}

/// A log of `T`.
#[derive(Debug)]
pub struct MetadataLog<T> {
    checkpoint: CheckpointDir,
    /// The numbers that exist, kept in step by `add` and `prune`, so that neither lists the folder.
    range: Mutex<Option<RangeInclusive<BatchId>>>,
    entry: PhantomData<fn() -> T>,
}

impl<T: LogEntry> MetadataLog<T> {
    /// Opens the log; fails when a number is missing between others.
    pub fn open(checkpoint: &CheckpointDir) -> Result<Self> {
        let mut numbers = Vec::new();
        for entry in checkpoint.store().list(T::FOLDER)? {
            let number: BatchId = entry.name.parse().map_err(|_| {
                let address = checkpoint.store().address(&format!("{}/{}", T::FOLDER, entry.name));
                EngineError::data(format!("{address} is not a file of this log, expected a batch id as its name"))
                    .help("move it out of the checkpoint")
            })?;
            numbers.push(number);
        }
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
            let address = checkpoint.store().address(&format!("{}/{}", T::FOLDER, pair[0] + 1));
            return Err(text::damaged(&address, &format!("it is missing, but {}/{} is there", T::FOLDER, pair[1])));
        }
        let range = numbers.first().zip(numbers.last()).map(|(first, last)| *first..=*last);
        Ok(Self { checkpoint: checkpoint.clone(), range: Mutex::new(range), entry: PhantomData })
    }

    /// Writes entry `batch_id`, durable when this returns. Writing the same entry again is no error; another entry
    /// under the same number is: another run owns it.
    pub fn add(&self, batch_id: BatchId, entry: &T) -> Result<()> {
        let lines = entry.to_lines(batch_id).map_err(|error| EngineError::internal(T::FOLDER).caused_by(error))?;
        let bytes = text::encode(&lines);
        let mut range = self.range.lock();
        if let Some(known) = range.as_ref().filter(|known| batch_id > *known.end() + 1) {
            return Err(EngineError::internal(format!(
                "{}/{batch_id} would leave a gap after {}/{}",
                T::FOLDER,
                T::FOLDER,
                known.end()
            )));
        }
        let name = file_name::<T>(batch_id);
        if !self.checkpoint.writable()?.create(&name, &bytes)?
            && self.checkpoint.store().read(&name)?.as_deref() != Some(&*bytes)
        {
            let address = self.checkpoint.store().address(&name);
            return Err(EngineError::config(format!("{address} exists with other content: another run owns it"))
                .help("stop the other run of this query, then start again"));
        }
        let first = range.as_ref().map_or(batch_id, |known| batch_id.min(*known.start()));
        let last = range.as_ref().map_or(batch_id, |known| batch_id.max(*known.end()));
        *range = Some(first..=last);
        Ok(())
    }

    /// The newest number.
    pub fn latest_id(&self) -> Option<BatchId> {
        self.range.lock().as_ref().map(|range| *range.end())
    }

    /// The oldest number.
    pub fn oldest_id(&self) -> Option<BatchId> {
        self.range.lock().as_ref().map(|range| *range.start())
    }

    /// The newest entry with its number.
    pub fn latest(&self) -> Result<Option<(BatchId, T)>> {
        match self.latest_id() {
            Some(batch_id) => self.get(batch_id).map(|entry| entry.map(|entry| (batch_id, entry))),
            None => Ok(None),
        }
    }

    /// Entry `batch_id`, or none if there is none.
    pub fn get(&self, batch_id: BatchId) -> Result<Option<T>> {
        let name = file_name::<T>(batch_id);
        let Some(bytes) = self.checkpoint.store().read(&name)? else { return Ok(None) };
        let address = self.checkpoint.store().address(&name);
        let lines = text::decode(&address, &bytes)?;
        T::from_lines(batch_id, &lines).map(Some).map_err(|found| text::damaged(&address, &found))
    }

    /// The entries with a number above `after` (all for none), in order.
    pub fn entries_after(&self, after: Option<BatchId>) -> Result<Vec<(BatchId, T)>> {
        let Some(range) = self.range.lock().clone() else { return Ok(Vec::new()) };
        let first = after.map_or(*range.start(), |after| (after + 1).max(*range.start()));
        let mut entries = Vec::new();
        for batch_id in first..=*range.end() {
            let entry = self.get(batch_id)?.ok_or_else(|| {
                text::damaged(&self.checkpoint.store().address(&file_name::<T>(batch_id)), "it is missing")
            })?;
            entries.push((batch_id, entry));
        }
        Ok(entries)
    }

    /// Removes the entries below `keep_from`; the newest always stays. Gives how many went.
    pub fn prune(&self, keep_from: BatchId) -> Result<u64> {
        let mut range = self.range.lock();
        let Some(known) = range.clone() else { return Ok(0) };
        let keep_from = keep_from.min(*known.end());
        if keep_from <= *known.start() {
            return Ok(0);
        }
        let store = self.checkpoint.writable()?;
        for batch_id in *known.start()..keep_from {
            store.delete(&file_name::<T>(batch_id))?;
            *range = Some(batch_id + 1..=*known.end());
        }
        Ok(keep_from - known.start())
    }
}

fn file_name<T: LogEntry>(batch_id: BatchId) -> String {
    format!("{}/{batch_id}", T::FOLDER)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{checkpoint, open};
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Note(String);

    impl LogEntry for Note {
        const FOLDER: &'static str = "offsets";

        fn to_lines(&self, _: BatchId) -> serde_json::Result<Vec<String>> {
            Ok(vec![self.0.clone()])
        }

        fn from_lines(_: BatchId, lines: &[String]) -> Result<Self, String> {
            lines.first().cloned().map(Self).ok_or_else(|| "no line".to_owned())
        }
    }

    fn note(text: &str) -> Note {
        Note(text.to_owned())
    }

    fn filled(checkpoint: &CheckpointDir, count: u64) -> MetadataLog<Note> {
        let log = MetadataLog::open(checkpoint).unwrap();
        (0..count).for_each(|n| log.add(n, &note(&n.to_string())).unwrap());
        log
    }

    #[test]
    fn what_was_added_is_there_after_a_restart() {
        let (dir, checkpoint) = checkpoint();
        assert_eq!(filled(&checkpoint, 0).latest().unwrap(), None);
        filled(&checkpoint, 12);
        drop(checkpoint);
        let log = MetadataLog::<Note>::open(&open(dir.path())).unwrap();
        assert_eq!(log.latest().unwrap(), Some((11, note("11"))));
        assert_eq!(log.get(12).unwrap(), None);
        assert_eq!(log.entries_after(Some(9)).unwrap(), [(10, note("10")), (11, note("11"))]);
        assert_eq!(log.entries_after(None).unwrap().len(), 12);
        assert_eq!(log.entries_after(Some(11)).unwrap(), []);
    }

    #[test]
    fn a_number_is_decided_once() {
        let (_dir, checkpoint) = checkpoint();
        let log = filled(&checkpoint, 3);
        log.add(2, &note("2")).unwrap();
        let error = log.add(2, &note("else")).unwrap_err();
        assert!(error.to_string().ends_with("offsets/2 exists with other content: another run owns it"), "{error}");
        assert!(matches!(log.add(4, &note("4")).unwrap_err(), EngineError::Internal(_)));
    }

    #[test]
    fn pruning_keeps_the_newest_and_leaves_no_gap() {
        let (dir, checkpoint) = checkpoint();
        let log = filled(&checkpoint, 10);
        assert_eq!(log.prune(4).unwrap(), 4);
        assert_eq!(log.prune(4).unwrap(), 0);
        assert_eq!((log.oldest_id(), log.latest_id()), (Some(4), Some(9)));
        assert_eq!(log.prune(99).unwrap(), 5);
        assert_eq!(log.latest_id(), Some(9));
        assert_eq!(std::fs::read_dir(dir.path().join("offsets")).unwrap().count(), 1);
    }

    #[test]
    fn a_gap_names_the_missing_file() {
        let (dir, checkpoint) = checkpoint();
        filled(&checkpoint, 10);
        std::fs::remove_file(dir.path().join("offsets/5")).unwrap();
        let error = MetadataLog::<Note>::open(&checkpoint).unwrap_err();
        assert!(error.to_string().ends_with("offsets/5 is damaged: it is missing, but offsets/6 is there"), "{error}");
    }

    #[test]
    fn a_torn_or_foreign_file_is_named() {
        let (dir, checkpoint) = checkpoint();
        let log = filled(&checkpoint, 3);
        std::fs::write(dir.path().join("offsets/2"), b"v1\n{").unwrap();
        let error = log.latest().unwrap_err();
        assert!(error.to_string().contains("offsets/2 is damaged: it is torn"), "{error}");
        std::fs::write(dir.path().join("offsets/notes.txt"), b"").unwrap();
        let error = MetadataLog::<Note>::open(&checkpoint).unwrap_err();
        assert!(error.to_string().contains("offsets/notes.txt is not a file of this log"), "{error}");
    }
}
