//! RocksDB as the state store uses it: one database, a column family an operator, no log.
//!
//! Tuned for what a stream does to its state: point reads in batches (filters on whole keys, indices and filters in the
//! one bounded cache), overwrites (large write buffers), and expiry of whole ranges (range deletes, and files that lie
//! wholly inside such a range dropped at once). This is the only module that names RocksDB.

use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, DB, DBCompressionType, DBIterator, ErrorKind,
    IngestExternalFileOptions, IteratorMode, LogLevel, Options, ReadOptions, SstFileWriter, WriteBatch, WriteOptions,
};

use super::changes::Change;
use super::key::PREFIX_BYTES;
use super::{OperatorMetrics, StateMetrics, StateSettings};
use crate::error::{EngineError, Result};

/// Column families are named after operators; the prefix keeps them apart from RocksDB's own `default`.
const FAMILY_PREFIX: &str = "operator.";

/// Rows are handed to RocksDB in batches of this size.
const WRITE_BATCH_BYTES: usize = 1 << 20;

/// Keys are looked up so many at a time: each value holds its block in the cache until it is let go, beyond the cache's size.
const READ_KEYS: usize = 256;

/// Fewer sorted rows than this are written as any others are. If there are more, all are in files: what they replace is
/// merged with each file that lies over it, and one of rows from here and there lies over everything.
const SORTED_FILE_FROM_ROWS: usize = 1 << 15;

/// A file of sorted rows is ended at about this size.
const SORTED_FILE_BYTES: u64 = 32 << 20;

/// The local database.
pub(crate) struct Rocks {
    db: DB,
    cache: Cache,
    options: Options,
    families: Vec<String>,
}

impl Rocks {
    /// Opens the folder, with exactly these operators: missing ones are made, others are dropped and named.
    pub(crate) fn open(path: &Path, settings: &StateSettings, operators: &[String]) -> Result<(Self, Vec<String>)> {
        let cache = Cache::new_lru_cache(usize::try_from(settings.block_cache_bytes).unwrap_or(usize::MAX));
        let options = options(settings, &cache);
        let families: Vec<String> = operators.iter().map(|operator| format!("{FAMILY_PREFIX}{operator}")).collect();
        let existing = match path.join("CURRENT").exists() {
            true => DB::list_cf(&options, path).map_err(|error| failed("open", error))?,
            false => Vec::new(),
        };
        let foreign: Vec<String> =
            existing.into_iter().filter(|name| !families.contains(name) && name != "default").collect();
        let all = families.iter().chain(&foreign).map(|name| (name.as_str(), options.clone()));
        let mut db = DB::open_cf_with_opts(&options, path, all).map_err(|error| failed("open", error))?;
        for name in &foreign {
            db.drop_cf(name).map_err(|error| failed("drop an operator of", error))?;
        }
        let dropped = foreign.iter().map(|name| name.trim_start_matches(FAMILY_PREFIX).to_owned()).collect();
        Ok((Self { db, cache, options, families }, dropped))
    }

    /// Gives the value of each key, in the order of the keys.
    pub(crate) fn multi_get(
        &self,
        operator: usize,
        keys: &[impl AsRef<[u8]>],
        mut f: impl FnMut(usize, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let family = self.family(operator)?;
        let sorted = keys.is_sorted_by(|a, b| a.as_ref() <= b.as_ref());
        for (first, keys) in (0..keys.len()).step_by(READ_KEYS).zip(keys.chunks(READ_KEYS)) {
            let found = self.db.batched_multi_get_cf(family, keys.iter().map(AsRef::as_ref), sorted);
            for (index, value) in found.into_iter().enumerate() {
                f(first + index, value.map_err(|error| failed("read", error))?.as_deref())?;
            }
        }
        Ok(())
    }

    /// Gives the rows with a key from the first up to but not with the second, in order, for as long as `f` wants more.
    pub(crate) fn scan(
        &self,
        operator: usize,
        (from, to): (&[u8], &[u8]),
        mut f: impl FnMut(&[u8], &[u8]) -> Result<bool>,
    ) -> Result<()> {
        for row in self.rows(operator, (from, to))? {
            let (key, value) = row.map_err(|error| failed("read", error))?;
            if !f(&key, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes all rows to files.
    pub(crate) fn flush(&self) -> Result<()> {
        for operator in 0..self.families.len() {
            self.db.flush_cf(self.family(operator)?).map_err(|error| failed("write to", error))?;
        }
        Ok(())
    }

    /// The first key of the range.
    pub(crate) fn first_key(&self, operator: usize, range: (&[u8], &[u8])) -> Result<Option<Vec<u8>>> {
        let row = self.rows(operator, range)?.next().transpose().map_err(|error| failed("read", error))?;
        Ok(row.map(|(key, _)| key.into_vec()))
    }

    /// The last row of the range.
    pub(crate) fn last_row(&self, operator: usize, range: (&[u8], &[u8])) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let row = self.rows_from(operator, range, IteratorMode::End)?.next().transpose();
        let row = row.map_err(|error| failed("read", error))?;
        Ok(row.map(|(key, value)| (key.into_vec(), value.into_vec())))
    }

    fn rows(&self, operator: usize, range: (&[u8], &[u8])) -> Result<DBIterator<'_>> {
        self.rows_from(operator, range, IteratorMode::Start)
    }

    fn rows_from(&self, operator: usize, (from, to): (&[u8], &[u8]), mode: IteratorMode<'_>) -> Result<DBIterator<'_>> {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        // Nothing is in a range that ends before it begins.
        options.set_iterate_upper_bound(from.max(to));
        // A scan reads what is about to expire: it must not push out of the cache what is still alive.
        options.fill_cache(false);
        Ok(self.db.iterator_cf_opt(self.family(operator)?, options, mode))
    }

    /// Takes changes of an operator, in their order. A crash in the middle leaves a part of them, which is as good as
    /// none: the database is thrown away then.
    pub(crate) fn writer(&self, operator: usize) -> Result<Writer<'_>> {
        Ok(Writer { rocks: self, family: self.family(operator)?, batch: WriteBatch::default() })
    }

    /// Takes rows of an operator in the order of their keys; large files are made in `folder`.
    pub(crate) fn sorted_writer(&self, operator: usize, folder: &Path, rows: usize) -> Result<SortedWriter<'_>> {
        let writer = self.writer(operator)?;
        let to_files = rows >= SORTED_FILE_FROM_ROWS;
        Ok(SortedWriter { writer, folder: folder.to_owned(), files: Vec::new(), open: None, to_files })
    }

    /// Forgets the rows of this range, which the caller writes again as far as they are there. Files that have such rows
    /// alone are dropped; without that, what replaces most of a table is merged with what it replaces. Rows may be left in
    /// others, and their deletes were perhaps in those that are gone: a tombstone hides them.
    pub(crate) fn clear_range(&self, operator: usize, (from, to): (&[u8], &[u8])) -> Result<()> {
        let family = self.family(operator)?;
        self.db.delete_file_in_range_cf(family, from, to).map_err(|error| failed("replace rows of", error))?;
        match self.first_key(operator, (from, to))? {
            None => Ok(()),
            Some(_) => self.delete_range(family, from, to),
        }
    }

    /// Range deletes come before the other changes, so they are written at once, and before the files go: whatever is
    /// older than the tombstone in other files stays hidden.
    fn delete_range(&self, family: &ColumnFamily, from: &[u8], to: &[u8]) -> Result<()> {
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(family, from, to);
        self.write(batch)?;
        // Dropping files includes the end of the range, which must therefore not be the key of a row.
        if to.len() < PREFIX_BYTES {
            self.db.delete_file_in_range_cf(family, from, to).map_err(|error| failed("delete from", error))?;
        }
        Ok(())
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).map_err(|error| failed("write to", error))
    }

    /// Removes every row of an operator.
    pub(crate) fn clear(&mut self, operator: usize) -> Result<()> {
        let Some(name) = self.families.get(operator) else { return Err(no_operator(operator)) };
        self.db.drop_cf(name).map_err(|error| failed("clear", error))?;
        self.db.create_cf(name, &self.options).map_err(|error| failed("clear", error))
    }

    /// Writes all rows to files and links them into a new folder, which can be opened as a database.
    pub(crate) fn freeze(&self, folder: &Path) -> Result<()> {
        let checkpoint = Checkpoint::new(&self.db).map_err(|error| failed("snapshot", error))?;
        checkpoint.create_checkpoint(folder).map_err(|error| failed("snapshot", error))
    }

    /// Sizes, as far as RocksDB knows them.
    pub(crate) fn metrics(&self) -> StateMetrics {
        let mut metrics = StateMetrics { memory_bytes: self.cache.get_usage() as u64, ..Default::default() };
        for (index, name) in self.families.iter().enumerate() {
            let property = |property: &str| match self.family(index) {
                Ok(family) => self.db.property_int_value_cf(family, property).ok().flatten().unwrap_or(0),
                Err(_) => 0,
            };
            metrics.memory_bytes += property("rocksdb.cur-size-all-mem-tables");
            metrics.operators.push(OperatorMetrics {
                operator: name.trim_start_matches(FAMILY_PREFIX).to_owned(),
                rows_estimate: property("rocksdb.estimate-num-keys"),
                size_bytes: property("rocksdb.live-sst-files-size"),
            });
        }
        metrics
    }

    fn family(&self, operator: usize) -> Result<&ColumnFamily> {
        let family = self.families.get(operator).and_then(|name| self.db.cf_handle(name));
        family.ok_or_else(|| no_operator(operator))
    }
}

/// Writes changes in batches.
pub(crate) struct Writer<'a> {
    rocks: &'a Rocks,
    family: &'a ColumnFamily,
    batch: WriteBatch,
}

impl Writer<'_> {
    pub(crate) fn push(&mut self, change: Change<'_>) -> Result<()> {
        match change {
            Change::RangeDelete(from, to) => self.rocks.delete_range(self.family, from, to)?,
            Change::Delete(key) => self.batch.delete_cf(self.family, key),
            Change::Put(key, value) => self.batch.put_cf(self.family, key, value),
        }
        if self.batch.size_in_bytes() >= WRITE_BATCH_BYTES {
            self.rocks.write(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub(crate) fn finish(self) -> Result<()> {
        if self.batch.is_empty() { Ok(()) } else { self.rocks.write(self.batch) }
    }
}

/// Rows that come in the order of their keys, each key once. Many of them become files that are given to the database
/// as they are: what is sorted already need not be sorted row by row in its memory.
pub(crate) struct SortedWriter<'a> {
    writer: Writer<'a>,
    folder: PathBuf,
    files: Vec<PathBuf>,
    open: Option<(SstFileWriter<'a>, u64)>,
    to_files: bool,
}

impl SortedWriter<'_> {
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if !self.to_files {
            return self.writer.push(Change::Put(key, value));
        }
        let (file, size) = match &mut self.open {
            Some(open) => open,
            None => {
                let name = self.folder.join(format!("{}.sst", uuid::Uuid::new_v4().simple()));
                let file = SstFileWriter::create(&self.writer.rocks.options);
                file.open(&name).map_err(|error| failed("write a file for", error))?;
                self.files.push(name);
                self.open.insert((file, 0))
            }
        };
        file.put(key, value).map_err(|error| failed("write a file for", error))?;
        *size += (key.len() + value.len()) as u64;
        if *size >= SORTED_FILE_BYTES { self.end_file() } else { Ok(()) }
    }

    fn end_file(&mut self) -> Result<()> {
        let Some((mut file, _)) = self.open.take() else { return Ok(()) };
        file.finish().map_err(|error| failed("write a file for", error))
    }

    /// Makes the rows readable.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.end_file()?;
        let Self { writer, files, .. } = self;
        let (rocks, family) = (writer.rocks, writer.family);
        writer.finish()?;
        if files.is_empty() {
            return Ok(());
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        rocks.db.ingest_external_file_cf_opts(family, &options, files).map_err(|error| failed("add a file to", error))
    }
}

fn no_operator(operator: usize) -> EngineError {
    EngineError::internal(format!("the state store has no operator {operator}"))
}

fn options(settings: &StateSettings, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    // Indices and filters live in the block cache, in small parts: otherwise they grow with the state, unbounded.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(4096);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_pin_top_level_index_and_filter(true);

    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(usize::try_from(settings.write_buffer_bytes).unwrap_or(usize::MAX));
    options.set_db_write_buffer_size(usize::try_from(settings.write_buffer_total_bytes).unwrap_or(usize::MAX));
    options.set_max_write_buffer_number(3);
    options.set_max_background_jobs(i32::try_from(settings.background_jobs.max(1)).unwrap_or(i32::MAX));
    options.set_max_open_files(i32::try_from(settings.max_open_files).unwrap_or(i32::MAX));
    // The manifest is part of every snapshot: kept short, it does not make small snapshots large.
    options.set_max_manifest_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(1);
    options.set_stats_dump_period_sec(0);
    options
}

fn failed(action: &str, error: rocksdb::Error) -> EngineError {
    let message = format!("cannot {action} the local state database");
    match error.kind() {
        ErrorKind::Corruption => EngineError::data(message)
            .help("start the query again: its state is restored from the checkpoint into a fresh database"),
        ErrorKind::IOError | ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::TryAgain | ErrorKind::Incomplete => {
            EngineError::unavailable(message)
                .help("check the free space of the state folder, then start the query again")
        }
        _ => EngineError::internal(message),
    }
    .caused_by(error)
}
