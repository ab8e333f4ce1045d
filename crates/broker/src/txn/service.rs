//! Drives the coordinator: keeps its changes on the disk, ends what it decides, and fires its
//! timeouts.
//!
//! ```text
//!   a change:   coordinator (locked) ── append to transactions.log ── apply ── [fsync] ── answer
//!   an end:     Ending stored ── marker in every partition ── offsets of every group ── [fsync] ── Ended stored
//! ```
//!
//! A batch is checked against the coordinator while its partition is locked, and the marker of its
//! transaction takes the same lock after the transaction has left `Ongoing`. So no batch can come
//! behind the marker of the transaction it belongs to. For that the coordinator's lock is the inner
//! one: nothing here takes a partition's lock while holding it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use parking_lot::Mutex;

use super::coordinator::{Change, Coordinator, End, Init, Limits, Producer, Seen, State, Transaction};
use crate::clock::Clock;
use crate::error::{BrokerError, io_at};
use crate::group::offsets::{At, Committed};
use crate::group::service::Groups;
use crate::handler::blocking;
use crate::identity::Identity;
use crate::log::control::{Marker, Outcome};
use crate::log::journal::{Journal, Kind};
use crate::log::partition_log::AppendError;
use crate::log::topics::Topics;
use crate::settings::{BrokerSettings, FsyncMode, Sabotage};

const KIND: Kind = Kind { name: "transactions", version: 1, holds: "the state of every transactional id" };

/// The transactions of a broker.
#[derive(Debug)]
pub(crate) struct Transactions {
    settings: Arc<BrokerSettings>,
    clock: Arc<dyn Clock>,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    identity: Arc<Identity>,
    journal: Journal,
    coordinator: Mutex<Coordinator>,
    /// Transactional ids whose markers are being written right now.
    finishing: Mutex<HashSet<String>>,
}

impl Transactions {
    /// Opens what is kept in the data directory, and ends what the log has open but nobody knows of.
    /// What was decided before a crash is ended by the first [`Transactions::tick`].
    pub(crate) fn open(
        settings: Arc<BrokerSettings>,
        clock: Arc<dyn Clock>,
        topics: Arc<Topics>,
        groups: Arc<Groups>,
        identity: Arc<Identity>,
    ) -> Result<Self, BrokerError> {
        let mut coordinator = Coordinator::new(Limits {
            max_timeout_ms: settings.transaction_max_timeout_ms,
            max_ids: settings.max_transactional_ids,
            max_partitions: settings.max_transaction_partitions,
            fences: !settings.sabotage.contains(&Sabotage::NoFencing),
        });
        let path = settings.data_dir.join("transactions.log");
        let journal = Journal::open(path, KIND, |change| coordinator.apply(change))?;
        let (coordinator, finishing) = (Mutex::new(coordinator), Mutex::default());
        let opened = Self { settings, clock, topics, groups, identity, journal, coordinator, finishing };
        opened.catch_up().map_err(io_at("write the transactions in", &opened.settings.data_dir))?;
        opened.abort_orphans();
        Ok(opened)
    }

    /// Ends transactions of which a crash of the machine has taken a part.
    fn catch_up(&self) -> io::Result<()> {
        let mut coordinator = self.coordinator.lock();
        let mut seen: HashMap<i64, Seen> = HashMap::new();
        for (_, transaction) in coordinator.all() {
            seen.insert(transaction.producer.id, Seen { epoch: -1, ..Seen::default() });
        }
        if seen.is_empty() {
            return Ok(());
        }
        for partition in self.topics.all().iter().flat_map(|topic| topic.partitions()) {
            for known in partition.describe_producers() {
                let Some(seen) = seen.get_mut(&known.producer_id) else { continue };
                seen.epoch = seen.epoch.max(known.epoch);
                if known.open_since.is_some() {
                    seen.open.insert((partition.topic().to_owned(), partition.index()));
                }
            }
        }
        for (group, producer_id) in self.groups.offsets().pending() {
            if let Some(seen) = seen.get_mut(&producer_id) {
                seen.groups.insert(group);
            }
        }
        for change in coordinator.catch_up(&seen, self.clock.wall_ms()) {
            tracing::warn!(
                transactional_id = change.id,
                "a crash has taken a part of a transaction, its producer is fenced"
            );
            self.store(&mut coordinator, change)?;
        }
        self.journal.sync()
    }

    /// Aborts what is open in a partition or pending in a group without a transaction that says so.
    ///
    /// A crash of the machine can leave that, where it takes the end of one file and not of another.
    /// Left open it would hide everything behind it from readers of committed records for ever.
    fn abort_orphans(&self) {
        let (mut partitions, mut groups) = (HashSet::new(), HashSet::new());
        for (_, transaction) in self.coordinator.lock().all() {
            let producer = transaction.producer.id;
            partitions.extend(transaction.partitions.iter().map(|at| (producer, at.clone())));
            groups.extend(transaction.groups.iter().map(|group| (group.clone(), producer)));
        }
        let now_ms = self.clock.wall_ms();
        for partition in self.topics.all().iter().flat_map(|topic| topic.partitions()) {
            for (producer_id, producer_epoch) in partition.open_transactions() {
                let (topic, index) = (partition.topic(), partition.index());
                if partitions.contains(&(producer_id, (topic.to_owned(), index))) {
                    continue;
                }
                let marker = Marker { producer_id, producer_epoch, outcome: Outcome::Abort };
                match partition.append_marker(marker, now_ms) {
                    Ok(_) => {
                        tracing::warn!(topic, partition = index, producer_id, "aborted a transaction without owner")
                    }
                    Err(error) => {
                        tracing::error!(topic, partition = index, producer_id, %error, "transaction not aborted")
                    }
                }
            }
        }
        for (group, producer_id) in self.groups.offsets().pending() {
            if !groups.contains(&(group.clone(), producer_id))
                && let Err(error) = self.groups.offsets().resolve(&group, producer_id, Outcome::Abort, now_ms)
            {
                tracing::error!(group, producer_id, %error, "pending offsets not removed");
            }
        }
    }

    /// Looks at the coordinator.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Coordinator) -> T) -> T {
        look(&self.coordinator.lock())
    }

    /// Makes every change up to now durable. Blocks.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.journal.sync()
    }

    /// Starts the producer of a transactional id; ends what its predecessor left open.
    pub(crate) async fn init(
        self: &Arc<Self>,
        id: &str,
        mut known: Option<Producer>,
        timeout_ms: i32,
    ) -> Result<Producer, ResponseError> {
        loop {
            let (this, name) = (Arc::clone(self), id.to_owned());
            let step = blocking(move || {
                let fresh = || this.fresh_id();
                this.change(|coordinator, now_ms| {
                    let init = coordinator.init(&name, known, timeout_ms, now_ms, fresh)?;
                    Ok(match init {
                        Init::Ready(producer, change) => (change, Some(producer)),
                        Init::AbortFirst(change) => (Some(change), None),
                    })
                })
            });
            if let Some(producer) = step.await? {
                return Ok(producer);
            }
            self.finish(id).await?;
            // The abort gave it an epoch nobody has been told of.
            known = None;
        }
    }

    /// Adds partitions or a group to a transaction. Blocks.
    pub(crate) fn add(
        &self,
        id: &str,
        producer: Producer,
        partitions: &[At],
        group: Option<&str>,
    ) -> Result<(), ResponseError> {
        self.change(|coordinator, now_ms| Ok((coordinator.add(id, producer, partitions, group, now_ms)?, ())))
    }

    /// Whether a producer may write to a partition in its transaction now.
    pub(crate) fn check_produce(&self, id: &str, producer: Producer, at: &At) -> Result<(), ResponseError> {
        self.coordinator.lock().check_produce(id, producer, at)
    }

    /// Stores offsets that count once the transaction commits. Blocks.
    pub(crate) fn commit_offsets(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
        commits: Vec<(At, Committed)>,
    ) -> Result<(), ResponseError> {
        let offsets = self.groups.offsets();
        let stored = {
            // Held until they are stored: the end of the transaction must find them.
            let coordinator = self.coordinator.lock();
            coordinator.check_commit(id, producer, group)?;
            offsets.commit_pending(group, producer.id, commits, self.clock.wall_ms())
        };
        stored.and_then(|()| if self.syncs() { offsets.sync() } else { Ok(()) }).map_err(|error| {
            tracing::error!(group, %error, "offsets not committed");
            ResponseError::CoordinatorNotAvailable
        })
    }

    /// Ends a transaction; answers who its producer is from now on.
    pub(crate) async fn end(self: &Arc<Self>, id: &str, end: End) -> Result<Producer, ResponseError> {
        let (this, name) = (Arc::clone(self), id.to_owned());
        let decided = blocking(move || {
            let fresh = || this.fresh_id();
            this.change(|coordinator, now_ms| {
                let change = coordinator.end(&name, end, now_ms, fresh)?;
                let decided = change.is_some();
                Ok((change, decided))
            })
        });
        if decided.await? {
            self.finish(id).await?;
        }
        self.look(|coordinator| coordinator.get(id).map(Transaction::successor))
            .ok_or(ResponseError::InvalidProducerIdMapping)
    }

    /// Decides a change, stores it and lets it count. Blocks.
    fn change<T>(
        &self,
        decide: impl FnOnce(&Coordinator, i64) -> Result<(Option<Change>, T), ResponseError>,
    ) -> Result<T, ResponseError> {
        let answer = {
            let mut coordinator = self.coordinator.lock();
            let (change, answer) = decide(&coordinator, self.clock.wall_ms())?;
            if let Some(change) = change {
                self.store(&mut coordinator, change).map_err(unavailable)?;
            }
            answer
        };
        if self.syncs() {
            self.journal.sync().map_err(unavailable)?;
        }
        Ok(answer)
    }

    fn store(&self, coordinator: &mut Coordinator, change: Change) -> io::Result<()> {
        let mut journal = self.journal.write();
        journal.append(&change)?;
        coordinator.apply(change);
        let all = |coordinator: &Coordinator| {
            let entry = |(id, transaction): (&String, &Transaction)| Change {
                id: id.clone(),
                transaction: Some(transaction.clone()),
            };
            coordinator.all().map(entry).collect()
        };
        journal.keep_small(coordinator.len(), || all(coordinator));
        Ok(())
    }

    fn syncs(&self) -> bool {
        self.settings.fsync == FsyncMode::Always
    }

    fn fresh_id(&self) -> Result<i64, ResponseError> {
        self.identity.new_producer_id().map_err(|error| {
            tracing::error!(%error, "no producer id");
            ResponseError::CoordinatorNotAvailable
        })
    }

    /// Writes what a decided transaction still has to write, to its end: also when the one who
    /// waits for it goes away.
    async fn finish(self: &Arc<Self>, id: &str) -> Result<(), ResponseError> {
        let (this, id) = (Arc::clone(self), id.to_owned());
        let finished = tokio::spawn(async move {
            if !this.finishing.lock().insert(id.clone()) {
                return Err(ResponseError::ConcurrentTransactions);
            }
            let result = this.write_end(&id).await;
            this.finishing.lock().remove(&id);
            result
        });
        finished.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    async fn write_end(self: &Arc<Self>, id: &str) -> Result<(), ResponseError> {
        let Some(transaction) = self.look(|coordinator| coordinator.get(id).cloned()) else { return Ok(()) };
        let State::Ending(outcome) = transaction.state else { return Ok(()) };
        let this = Arc::clone(self);
        let written = blocking(move || this.write_markers(&transaction, outcome)).await?;
        for (partition, offset) in written {
            // An end that a crash of the machine could take back must not count as ended.
            partition.flushed(offset).await.map_err(|_| ResponseError::CoordinatorNotAvailable)?;
        }
        let (this, id) = (Arc::clone(self), id.to_owned());
        blocking(move || {
            let mut coordinator = this.coordinator.lock();
            let Some(change) = coordinator.finish(&id, this.clock.wall_ms()) else { return Ok(()) };
            // No fsync: if a crash takes this line, the markers are written once more.
            this.store(&mut coordinator, change).map_err(unavailable)
        })
        .await
    }

    /// Markers into the partitions, then the offsets of the groups; answers what has to be flushed.
    fn write_markers(
        &self,
        transaction: &Transaction,
        outcome: Outcome,
    ) -> Result<Vec<(Arc<crate::log::partition::Partition>, i64)>, ResponseError> {
        let Producer { id: producer_id, epoch: producer_epoch } = transaction.producer;
        let now_ms = self.clock.wall_ms();
        let mut written = Vec::new();
        for (topic, index) in &transaction.partitions {
            // A topic that was deleted meanwhile has nothing left to end.
            let Some(partition) = self.topics.partition(topic, *index) else { continue };
            match partition.append_marker(Marker { producer_id, producer_epoch, outcome }, now_ms) {
                Ok(appended) => written.push((partition, appended.next_offset)),
                Err(_) if partition.is_deleted() => {}
                // Who fenced this producer here has ended its transaction too.
                Err(AppendError::Sequence(error)) => tracing::warn!(topic, partition = index, %error, "marker skipped"),
                Err(error) => {
                    tracing::error!(topic, partition = index, %error, "the end of a transaction cannot be written");
                    return Err(ResponseError::CoordinatorNotAvailable);
                }
            }
        }
        let offsets = self.groups.offsets();
        let resolved =
            transaction.groups.iter().try_for_each(|group| offsets.resolve(group, producer_id, outcome, now_ms));
        let durable = resolved.and_then(|()| if self.syncs() { offsets.sync() } else { Ok(()) });
        durable.map_err(unavailable)?;
        Ok(written)
    }

    /// Aborts transactions that take too long and ends those that are decided.
    pub(crate) async fn tick(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let late = blocking(move || {
            let mut coordinator = this.coordinator.lock();
            for change in coordinator.timed_out(this.clock.wall_ms()) {
                tracing::warn!(transactional_id = change.id, "transaction timed out, aborting it");
                if let Err(error) = this.store(&mut coordinator, change) {
                    unavailable(error);
                }
            }
            let ending = coordinator.ending();
            drop(coordinator);
            // A marker must not be in a partition before the decision it follows from is on the disk.
            if this.syncs()
                && let Err(error) = this.journal.sync()
            {
                unavailable(error);
                return Vec::new();
            }
            ending
        });
        for id in late.await {
            // The error was logged where it came up; the next tick tries again.
            let _tried = self.finish(&id).await;
        }
    }

    /// Forgets transactional ids nobody uses any more. Blocks.
    pub(crate) fn expire(&self) {
        let oldest_ms = self.clock.wall_ms().saturating_sub(self.settings.transactional_id_expiration_ms);
        let mut coordinator = self.coordinator.lock();
        for change in coordinator.unused_since(oldest_ms) {
            if let Err(error) = self.store(&mut coordinator, change) {
                unavailable(error);
            }
        }
    }
}

fn unavailable(error: io::Error) -> ResponseError {
    tracing::error!(%error, "the state of a transaction cannot be stored: check the disk of the data folder");
    ResponseError::CoordinatorNotAvailable
}
