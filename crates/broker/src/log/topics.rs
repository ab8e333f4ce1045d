//! The topics of a broker: which there are, their settings and their partitions.
//!
//! ```text
//! <data_dir>/topics.json       every topic: name, id, partitions, settings (sealed.rs)
//! <data_dir>/<topic>-<n>/      the log of a partition
//! <data_dir>/<uuid>.deleted/   a partition of a deleted topic, being removed
//! ```
//!
//! `topics.json` is the authority: a topic exists from the moment it stands there until the moment
//! it does not. Creating writes it before the directories, deleting before their removal. A
//! directory that no topic claims is set aside and never emptied: it may be somebody's data.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::cleaner::{self, Limits, Throttle};
use super::config::{self, LogConfig, Overrides};
use super::each::each;
use super::flush::FlushQueue;
use super::partition::Partition;
use super::partition_log::{PartitionLog, partition_dir};
use super::recovery::Recovery;
use super::sealed::{self, Kind};
use crate::clock::Clock;
use crate::configs::store::Configs;
use crate::error::{BrokerError, io_at};
use crate::settings::BrokerSettings;

const KIND: Kind = Kind { name: "topics", holds: "the names, ids and settings of all topics" };
const MAX_NAME_LENGTH: usize = 249;

/// The topic that shows committed offsets (`group/published.rs`).
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Whether a topic is the broker's own: clients read it and write nothing to it.
pub(crate) fn is_internal(name: &str) -> bool {
    name == CONSUMER_OFFSETS
}

/// A topic and its partitions.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) id: Uuid,
    overrides: RwLock<Overrides>,
    partitions: RwLock<Vec<Arc<Partition>>>,
}

/// Every topic of the broker.
#[derive(Debug)]
pub(crate) struct Topics {
    /// What cannot change while the broker runs.
    settings: Arc<BrokerSettings>,
    configs: Arc<Configs>,
    clock: Arc<dyn Clock>,
    flush_queue: Arc<FlushQueue>,
    known: RwLock<Known>,
    /// Changes with every topic that comes or goes, and with every partition that comes.
    version: AtomicU64,
    /// Held by whoever changes `topics.json`, so that changes follow each other.
    changing: Mutex<()>,
    /// Held by who compacts.
    cleaning: Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Catalog {
    topics: Vec<CatalogEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct CatalogEntry {
    name: String,
    id: Uuid,
    partitions: i32,
    settings: Overrides,
}

/// Why a topic could not be created or changed.
#[derive(Debug, Error)]
pub(crate) enum TopicError {
    #[error("topic name {name:?} is not valid: expected 1 to 249 of the characters a-z A-Z 0-9 . _ -, not . or ..")]
    Name { name: String },
    #[error("topic {name} is the broker's own, it makes it itself when groups commit offsets")]
    Internal { name: String },
    #[error("topic {name} exists already")]
    Exists { name: String },
    #[error("there is no topic {name}")]
    Unknown { name: String },
    #[error("{found} partitions asked for, expected {expected}")]
    Partitions { found: i32, expected: String },
    #[error("{0}")]
    Config(String),
    #[error("this broker has {limit} topics, its limit (max_topics)")]
    TooMany { limit: usize },
    #[error("{wanted} more partitions would be more than this broker may have, {limit} (max_partitions)")]
    TooManyPartitions { wanted: i32, limit: usize },
    #[error("the disk refused: {0}")]
    Storage(#[from] BrokerError),
}

impl TopicError {
    /// The error as the protocol says it.
    pub(crate) fn code(&self) -> ResponseError {
        match self {
            Self::Name { .. } | Self::Internal { .. } => ResponseError::InvalidTopicException,
            Self::Exists { .. } => ResponseError::TopicAlreadyExists,
            Self::Unknown { .. } => ResponseError::UnknownTopicOrPartition,
            Self::Partitions { .. } => ResponseError::InvalidPartitions,
            Self::Config(_) => ResponseError::InvalidConfig,
            Self::TooMany { .. } | Self::TooManyPartitions { .. } => ResponseError::PolicyViolation,
            Self::Storage(_) => ResponseError::KafkaStorageError,
        }
    }
}

/// Whether a name can be a topic's: it becomes part of a directory's name.
pub(crate) fn is_valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_NAME_LENGTH).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        self.partitions.read().get(usize::try_from(index).ok()?).cloned()
    }

    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    pub(crate) fn partition_count(&self) -> i32 {
        self.partitions.read().len() as i32
    }

    pub(crate) fn overrides(&self) -> Overrides {
        self.overrides.read().clone()
    }

    fn entry(&self) -> CatalogEntry {
        CatalogEntry {
            name: self.name.to_string(),
            id: self.id,
            partitions: self.partition_count(),
            settings: self.overrides(),
        }
    }
}

impl Topics {
    /// Opens every topic in the data directory, recovering each log.
    pub(crate) fn open(
        configs: Arc<Configs>,
        clock: Arc<dyn Clock>,
        flush_queue: Arc<FlushQueue>,
    ) -> Result<Self, BrokerError> {
        let (changing, cleaning) = (Mutex::default(), Mutex::default());
        let version = AtomicU64::new(1);
        let settings = Arc::clone(configs.start());
        let topics =
            Self { settings, configs, clock, flush_queue, known: RwLock::default(), version, changing, cleaning };
        topics.remove_deleted()?;
        let catalog: Catalog = sealed::read(&topics.catalog_path(), KIND)?.unwrap_or_default();
        for entry in catalog.topics {
            let topic = topics.open_topic(&entry)?;
            topics.insert(topic);
        }
        Ok(topics)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.known.read().by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.known.read().by_id.get(&id).cloned()
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<Arc<Partition>> {
        self.get(topic)?.partition(index)
    }

    /// A number that is another one whenever there are other topics or partitions than before. Read
    /// it before what it stands for.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn note_change(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Every topic, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.known.read().by_name.values().cloned().collect()
    }

    /// Checks what [`Topics::create`] would refuse, without creating.
    pub(crate) fn check_new(&self, name: &str, partitions: i32, overrides: &Overrides) -> Result<(), TopicError> {
        if !is_valid_name(name) {
            return Err(TopicError::Name { name: name.chars().take(MAX_NAME_LENGTH).collect() });
        }
        for (key, value) in overrides {
            config::check(key, value).map_err(TopicError::Config)?;
        }
        self.check_count(partitions, 1)?;
        if is_internal(name) && self.get(name).is_none() {
            return Err(TopicError::Internal { name: name.to_owned() });
        }
        self.check_room(name, partitions)
    }

    fn check_room(&self, name: &str, partitions: i32) -> Result<(), TopicError> {
        let known = self.known.read();
        if known.by_name.contains_key(name) {
            return Err(TopicError::Exists { name: name.to_owned() });
        }
        if known.by_name.len() >= self.settings.max_topics {
            return Err(TopicError::TooMany { limit: self.settings.max_topics });
        }
        self.check_total(&known, partitions)
    }

    fn check_total(&self, known: &Known, wanted: i32) -> Result<(), TopicError> {
        let there: usize = known.by_name.values().map(|topic| topic.partitions.read().len()).sum();
        let limit = self.settings.max_partitions;
        if there.saturating_add(wanted.max(0).unsigned_abs() as usize) > limit {
            return Err(TopicError::TooManyPartitions { wanted, limit });
        }
        Ok(())
    }

    fn check_count(&self, found: i32, least: i32) -> Result<(), TopicError> {
        let most = self.settings.max_partitions_per_topic;
        if (least..=most).contains(&found) {
            return Ok(());
        }
        Err(TopicError::Partitions { found, expected: format!("from {least} to {most} (max_partitions_per_topic)") })
    }

    /// Creates a topic. Blocks on the disk.
    pub(crate) fn create(&self, name: &str, partitions: i32, overrides: Overrides) -> Result<Arc<Topic>, TopicError> {
        self.check_new(name, partitions, &overrides)?;
        self.create_internal(name, partitions, overrides)
    }

    /// Creates a topic, also one that only the broker may. Blocks on the disk.
    pub(crate) fn create_internal(
        &self,
        name: &str,
        partitions: i32,
        overrides: Overrides,
    ) -> Result<Arc<Topic>, TopicError> {
        let _changing = self.changing.lock();
        // Again, now that nobody else creates.
        self.check_room(name, partitions)?;
        let entry = CatalogEntry { name: name.to_owned(), id: Uuid::new_v4(), partitions, settings: overrides };
        for index in 0..partitions {
            self.set_aside(&partition_dir(&self.settings.data_dir, name, index))?;
        }
        self.write_catalog(|catalog| catalog.topics.push(entry.clone()))?;
        let topic = self.open_topic(&entry)?;
        self.insert(Arc::clone(&topic));
        tracing::info!(topic = name, partitions, id = %topic.id, "topic created");
        Ok(topic)
    }

    /// Deletes a topic and its records. Blocks on the disk.
    pub(crate) fn delete(&self, name: &str) -> Result<(), TopicError> {
        let _changing = self.changing.lock();
        let topic = self.get(name).ok_or_else(|| TopicError::Unknown { name: name.to_owned() })?;
        self.write_catalog(|catalog| catalog.topics.retain(|entry| entry.name != name))?;
        {
            let mut known = self.known.write();
            known.by_name.remove(name);
            known.by_id.remove(&topic.id);
        }
        self.note_change();
        for partition in topic.partitions() {
            partition.abandon();
            let dir = partition_dir(&self.settings.data_dir, name, partition.index());
            let doomed = self.settings.data_dir.join(format!("{}.deleted", Uuid::new_v4()));
            fs::rename(&dir, &doomed).map_err(io_at("rename", &dir))?;
            fs::remove_dir_all(&doomed).map_err(io_at("remove", &doomed))?;
        }
        tracing::info!(topic = name, "topic deleted");
        Ok(())
    }

    /// Checks what [`Topics::grow`] would refuse.
    pub(crate) fn check_grow(&self, name: &str, count: i32) -> Result<Arc<Topic>, TopicError> {
        let topic = self.get(name).ok_or_else(|| TopicError::Unknown { name: name.to_owned() })?;
        self.check_count(count, topic.partition_count() + 1)?;
        self.check_total(&self.known.read(), count - topic.partition_count())?;
        Ok(topic)
    }

    /// Adds partitions until the topic has `count`. Blocks on the disk.
    pub(crate) fn grow(&self, name: &str, count: i32) -> Result<(), TopicError> {
        let _changing = self.changing.lock();
        let topic = self.check_grow(name, count)?;
        for index in topic.partition_count()..count {
            self.set_aside(&partition_dir(&self.settings.data_dir, name, index))?;
        }
        self.change_entry(name, |entry| entry.partitions = count)?;
        for index in topic.partition_count()..count {
            let partition = self.open_partition(&topic.name, index, &topic.overrides())?;
            topic.partitions.write().push(partition);
        }
        self.note_change();
        tracing::info!(topic = name, partitions = count, "partitions added");
        Ok(())
    }

    /// Replaces a topic's own settings, which have passed their checks. Blocks on the disk.
    pub(crate) fn set_overrides(&self, name: &str, overrides: Overrides) -> Result<(), TopicError> {
        let _changing = self.changing.lock();
        let topic = self.get(name).ok_or_else(|| TopicError::Unknown { name: name.to_owned() })?;
        self.change_entry(name, |entry| entry.settings.clone_from(&overrides))?;
        let config = LogConfig::resolve(&overrides, &self.configs.in_force());
        *topic.overrides.write() = overrides;
        topic.partitions().iter().for_each(|partition| partition.set_config(config));
        Ok(())
    }

    /// Has every topic follow the broker's settings as they are now, where it has none of its own.
    pub(crate) fn follow_defaults(&self) {
        let _changing = self.changing.lock();
        let settings = self.configs.in_force();
        for topic in self.all() {
            let config = LogConfig::resolve(&topic.overrides(), &settings);
            topic.partitions().iter().for_each(|partition| partition.set_config(config));
        }
    }

    /// Applies retention to every partition. Blocks on the disk.
    pub(crate) fn enforce_retention(&self) {
        let now_ms = self.clock.wall_ms();
        let settings = self.configs.in_force();
        let oldest_producer_ms = now_ms.saturating_sub(settings.producer_id_expiration_ms);
        each(&self.every_partition(), settings.background_threads, |partition| {
            partition.enforce_retention(now_ms, oldest_producer_ms);
        });
    }

    /// Flushes every partition whose records have waited for `flush.ms`. Blocks on the disk.
    pub(crate) fn flush_overdue(&self) {
        let now_ms = self.clock.wall_ms();
        let threads = self.configs.in_force().background_threads;
        each(&self.every_partition(), threads, |partition| partition.flush_overdue(now_ms));
    }

    /// Compacts every partition that needs it. Blocks on the disk, one caller at a time.
    pub(crate) fn compact(&self) {
        let _one_at_a_time = self.cleaning.lock();
        let now_ms = self.clock.wall_ms();
        let settings = self.configs.in_force();
        let limits = Limits {
            keys_bytes: settings.log_cleaner_dedupe_buffer_bytes,
            unpacked_bytes: settings.max_unpacked_batch_bytes,
        };
        let mut throttle = Throttle::new(settings.log_cleaner_io_max_bytes_per_second);
        cleaner::clean_all(|| self.every_partition(), limits, &mut throttle, now_ms);
    }

    /// Ends every log in good order. Blocks on the disk.
    pub(crate) fn close(&self) -> Result<(), BrokerError> {
        let partitions = self.every_partition();
        // Every partition is tried; the first error is the one told.
        partitions.iter().map(|partition| partition.close()).fold(Ok(()), Result::and)
    }

    /// Stops every log at once, without a flush, as a crash would.
    pub(crate) fn abandon(&self) {
        self.every_partition().iter().for_each(|partition| partition.abandon());
    }

    fn every_partition(&self) -> Vec<Arc<Partition>> {
        self.all().iter().flat_map(|topic| topic.partitions()).collect()
    }

    fn insert(&self, topic: Arc<Topic>) {
        let mut known = self.known.write();
        known.by_id.insert(topic.id, Arc::clone(&topic));
        known.by_name.insert(Arc::clone(&topic.name), topic);
        self.note_change();
    }

    fn open_topic(&self, entry: &CatalogEntry) -> Result<Arc<Topic>, BrokerError> {
        let name: Arc<str> = entry.name.as_str().into();
        let partitions = (0..entry.partitions)
            .map(|index| self.open_partition(&name, index, &entry.settings))
            .collect::<Result<_, _>>()?;
        let overrides = RwLock::new(entry.settings.clone());
        Ok(Arc::new(Topic { name, id: entry.id, overrides, partitions: RwLock::new(partitions) }))
    }

    fn open_partition(
        &self,
        topic: &Arc<str>,
        index: i32,
        overrides: &Overrides,
    ) -> Result<Arc<Partition>, BrokerError> {
        let dir = partition_dir(&self.settings.data_dir, topic, index);
        fs::create_dir_all(&dir).map_err(io_at("create", &dir))?;
        let config = LogConfig::resolve(overrides, &self.configs.in_force());
        let recovery = Recovery {
            dir: &dir,
            topic,
            partition: index,
            policy: self.settings.corrupt_log,
            compacts: config.compact,
            index_interval_bytes: config.index_interval_bytes,
            now_ms: self.clock.wall_ms(),
        };
        let log = PartitionLog::open(recovery, config, self.settings.max_producers_per_partition)?;
        Ok(Partition::new(Arc::clone(topic), index, log, Arc::clone(&self.flush_queue)))
    }

    fn catalog_path(&self) -> PathBuf {
        self.settings.data_dir.join("topics.json")
    }

    fn write_catalog(&self, change: impl FnOnce(&mut Catalog)) -> Result<(), BrokerError> {
        let mut catalog = Catalog { topics: self.all().iter().map(|topic| topic.entry()).collect() };
        change(&mut catalog);
        sealed::write(&self.catalog_path(), KIND, &catalog)
    }

    fn change_entry(&self, name: &str, change: impl FnOnce(&mut CatalogEntry)) -> Result<(), BrokerError> {
        self.write_catalog(|catalog| {
            if let Some(entry) = catalog.topics.iter_mut().find(|entry| entry.name == name) {
                change(entry);
            }
        })
    }

    /// Moves a directory that no topic claims out of the way of a new one.
    fn set_aside(&self, dir: &Path) -> Result<(), BrokerError> {
        let aside = self.settings.data_dir.join(format!("{}.unclaimed", Uuid::new_v4()));
        match fs::rename(dir, &aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_at("rename", dir)(error)),
            Ok(()) => {
                tracing::warn!(dir = %dir.display(), aside = %aside.display(), "unclaimed directory set aside");
                Ok(())
            }
        }
    }

    fn remove_deleted(&self) -> Result<(), BrokerError> {
        let data_dir = &self.settings.data_dir;
        for entry in fs::read_dir(data_dir).map_err(io_at("list", data_dir))? {
            let path = entry.map_err(io_at("list", data_dir))?.path();
            if path.extension().is_some_and(|extension| extension == "deleted") {
                fs::remove_dir_all(&path).map_err(io_at("remove", &path))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_safe_directory_names() {
        let longest = "x".repeat(249);
        for good in ["a", "orders.payment.created", "A-Z_0", "...", longest.as_str()] {
            assert!(is_valid_name(good), "{good}");
        }
        let too_long = "x".repeat(250);
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", too_long.as_str()] {
            assert!(!is_valid_name(bad), "{bad}");
        }
    }
}
