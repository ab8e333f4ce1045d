//! Fetch sessions (KIP-227): a client that reads many partitions names them once, and then only what changes.
//!
//! ```text
//!  request: session id, epoch, partitions, forgotten          response: session id, partitions with news
//!      │                                                           ▲
//!      ▼                                                           │
//!   open ──> Scope + the partitions to read ──> (read them) ──> finish
//! ```
//!
//! | session id | epoch | what is read | what is answered |
//! |---|---|---|---|
//! | any | -1 | what is named; the session ends | all of it |
//! | any | 0 | what is named; the session is replaced by a new one | all of it |
//! | known | expected | all of the session | records, errors, moved offsets; nothing else |
//! | known | another | nothing | INVALID_FETCH_SESSION_EPOCH |
//! | unknown | 1.. | nothing | FETCH_SESSION_ID_NOT_FOUND |
//!
//! The cache is pure: time and fresh ids are handed in. It is bounded twice, by sessions and by the partitions of all
//! of them; who finds no room is answered session id 0 and goes on without, as the protocol allows. A session is
//! replaced by a newer one when it was not used for two minutes, or when it is older than that and smaller.
//!
//! What is kept is copied: a name that still pointed into its request would keep the whole frame in memory.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// A session not used for this long may be replaced by any other; one that lived for this long by a larger one.
pub(crate) const EVICT_AFTER_MS: i64 = 120_000;
/// The session id of a fetch outside of sessions.
const NO_SESSION: i32 = 0;
/// The epoch of a request that asks for a new session.
const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that wants no session.
const FINAL_EPOCH: i32 = -1;
/// Longest topic name that is kept: no topic has a longer one.
const MAX_NAME_BYTES: usize = 249;

/// A partition as requests name it: by the topic's id from version 13 on, by its name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    name: TopicName,
    id: Uuid,
    partition: i32,
}

/// What a client asked for in a partition, and what it was last told of it.
#[derive(Debug, Clone, Copy)]
struct Cached {
    leader_epoch: i32,
    fetch_offset: i64,
    last_fetched_epoch: i32,
    max_bytes: i32,
    told: Told,
    /// Rank among the session's partitions: one that gave records goes behind all others, so that each has its turn.
    turn: u64,
}

/// The offsets a client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
}

const NOTHING_TOLD: Told = Told { high_watermark: -1, last_stable_offset: -1, log_start_offset: -1 };

#[derive(Debug)]
struct Session {
    partitions: HashMap<Key, Cached>,
    by_id: bool,
    created_ms: i64,
    last_used_ms: i64,
    /// What the next request must say.
    epoch: i32,
    next_turn: u64,
}

/// What a request says about its session.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) session_id: i32,
    pub(crate) epoch: i32,
    /// Whether this version of the request names topics by id.
    pub(crate) by_id: bool,
    pub(crate) topics: Vec<FetchTopic>,
    pub(crate) forgotten: Vec<ForgottenTopic>,
}

/// How the answer to a fetch is to be made.
#[derive(Debug)]
pub(crate) enum Scope {
    /// All that was read, without a session.
    Alone,
    /// All that was read, with a new session if there is room.
    Full(Draft),
    /// The news of a session.
    Incremental {
        /// The session.
        id: i32,
        /// Its epoch after this request.
        epoch: i32,
    },
}

impl Scope {
    /// The session a client goes on with when it is told nothing.
    pub(crate) fn session_id(&self) -> i32 {
        match self {
            Self::Alone | Self::Full(_) => NO_SESSION,
            Self::Incremental { id, .. } => *id,
        }
    }
}

/// A session that may come to be.
#[derive(Debug)]
pub(crate) struct Draft {
    partitions: HashMap<Key, Cached>,
    by_id: bool,
}

/// An answer's part that sessions decide.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) session_id: i32,
    pub(crate) responses: Vec<FetchableTopicResponse>,
}

/// The sessions of a broker.
#[derive(Debug)]
pub(crate) struct SessionCache {
    slots: usize,
    max_partitions: usize,
    sessions: HashMap<i32, Session>,
    /// Of all sessions.
    partitions: usize,
}

impl SessionCache {
    pub(crate) fn new(slots: usize, max_partitions: usize) -> Self {
        Self { slots, max_partitions, sessions: HashMap::new(), partitions: 0 }
    }

    /// Resolves a request: how it is to be answered, and what has to be read for it.
    pub(crate) fn open(&mut self, now_ms: i64, asked: Asked) -> Result<(Scope, Vec<FetchTopic>), ResponseError> {
        if asked.epoch == FINAL_EPOCH || asked.epoch == INITIAL_EPOCH {
            self.remove(asked.session_id);
            let draft = (asked.epoch == INITIAL_EPOCH).then(|| self.draft(&asked)).flatten();
            return Ok((draft.map_or(Scope::Alone, Scope::Full), asked.topics));
        }
        let session = self.sessions.get_mut(&asked.session_id).ok_or(ResponseError::FetchSessionIdNotFound)?;
        if session.epoch != asked.epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.by_id != asked.by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        self.partitions -= session.partitions.len();
        session.update(&asked);
        self.partitions += session.partitions.len();
        if session.partitions.is_empty() {
            self.remove(asked.session_id);
            return Ok((Scope::Alone, asked.topics));
        }
        if self.partitions > self.max_partitions {
            // The client starts over with a full fetch, and goes on without a session.
            self.remove(asked.session_id);
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        session.last_used_ms = now_ms;
        session.epoch = next_epoch(session.epoch);
        let scope = Scope::Incremental { id: asked.session_id, epoch: session.epoch };
        Ok((scope, session.topics()))
    }

    /// The session a full request may get, unless there can be none.
    fn draft(&self, asked: &Asked) -> Option<Draft> {
        let count: usize = asked.topics.iter().map(|topic| topic.partitions.len()).sum();
        if self.slots == 0 || count == 0 || count > self.max_partitions {
            return None;
        }
        let mut session = Session::new(asked.by_id, 0);
        session.update(asked);
        (!session.partitions.is_empty()).then_some(Draft { partitions: session.partitions, by_id: asked.by_id })
    }

    /// Makes the answer of what was read. `fresh_id` gives random numbers.
    pub(crate) fn finish(
        &mut self,
        now_ms: i64,
        scope: Scope,
        mut responses: Vec<FetchableTopicResponse>,
        fresh_id: impl FnMut() -> i32,
    ) -> Result<Answer, (i32, ResponseError)> {
        let session_id = match scope {
            Scope::Alone => NO_SESSION,
            Scope::Full(draft) => self.create(now_ms, draft, &responses, fresh_id),
            Scope::Incremental { id, epoch } => match self.sessions.get_mut(&id) {
                // Replaced while this fetch waited: all of it is news to a client without a session.
                None => NO_SESSION,
                // The client has sent another request for the same epoch, which came first.
                Some(session) if session.epoch != epoch => {
                    return Err((id, ResponseError::InvalidFetchSessionEpoch));
                }
                Some(session) => {
                    session.keep_news(&mut responses);
                    id
                }
            },
        };
        Ok(Answer { session_id, responses })
    }

    fn create(
        &mut self,
        now_ms: i64,
        draft: Draft,
        responses: &[FetchableTopicResponse],
        mut fresh_id: impl FnMut() -> i32,
    ) -> i32 {
        let size = draft.partitions.len();
        let has_room = |cache: &Self| {
            cache.sessions.len() < cache.slots && cache.partitions.saturating_add(size) <= cache.max_partitions
        };
        while !has_room(self) {
            let Some(evicted) = self.evictable(now_ms, size) else { return NO_SESSION };
            self.remove(evicted);
        }
        let id = loop {
            let id = fresh_id();
            if id > NO_SESSION && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        let next_turn = size as u64;
        let mut session = Session { partitions: draft.partitions, next_turn, ..Session::new(draft.by_id, now_ms) };
        for (topic, data) in responses.iter().flat_map(|topic| topic.partitions.iter().map(move |data| (topic, data))) {
            if let Some(cached) = session.partitions.get_mut(&Key::of_response(topic, data)) {
                cached.told = Told::of(data);
            }
        }
        self.partitions += size;
        self.sessions.insert(id, session);
        id
    }

    /// The session that makes room for one with `size` partitions.
    fn evictable(&self, now_ms: i64, size: usize) -> Option<i32> {
        let (&oldest, session) = self.sessions.iter().min_by_key(|(id, session)| (session.last_used_ms, **id))?;
        if now_ms.saturating_sub(session.last_used_ms) > EVICT_AFTER_MS {
            return Some(oldest);
        }
        let has_lived = |session: &Session| session.last_used_ms - session.created_ms > EVICT_AFTER_MS;
        let settled = self.sessions.iter().filter(|(_, session)| has_lived(session));
        let (smallest, id) = settled.map(|(id, session)| (session.partitions.len(), *id)).min()?;
        (size > smallest).then_some(id)
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.partitions.len();
        }
    }
}

fn next_epoch(epoch: i32) -> i32 {
    // 0 would ask for a new session.
    epoch.checked_add(1).unwrap_or(1)
}

impl Session {
    fn new(by_id: bool, now_ms: i64) -> Self {
        Self {
            partitions: HashMap::new(),
            by_id,
            created_ms: now_ms,
            last_used_ms: now_ms,
            epoch: next_epoch(INITIAL_EPOCH),
            next_turn: 0,
        }
    }

    /// Takes what a request adds, changes and forgets.
    fn update(&mut self, asked: &Asked) {
        for topic in asked.topics.iter().filter(|topic| topic.topic.len() <= MAX_NAME_BYTES) {
            let name = owned(&topic.topic);
            for partition in &topic.partitions {
                let key = Key { name: name.clone(), id: topic.topic_id, partition: partition.partition };
                let (told, turn) = match self.partitions.get(&key) {
                    Some(known) => (known.told, known.turn),
                    None => (NOTHING_TOLD, self.turn()),
                };
                self.partitions.insert(key, Cached::of(partition, told, turn));
            }
        }
        for topic in &asked.forgotten {
            for &partition in &topic.partitions {
                self.partitions.remove(&Key { name: topic.topic.clone(), id: topic.topic_id, partition });
            }
        }
    }

    fn turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }

    /// Every partition as a request would name it, in turn.
    fn topics(&self) -> Vec<FetchTopic> {
        let mut in_turn: Vec<(&Key, &Cached)> = self.partitions.iter().collect();
        in_turn.sort_unstable_by_key(|(_, cached)| cached.turn);
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (key, cached) in in_turn {
            match topics.last_mut() {
                Some(last) if last.topic == key.name && last.topic_id == key.id => {
                    last.partitions.push(cached.asked(key.partition));
                }
                _ => topics.push(
                    FetchTopic::default()
                        .with_topic(key.name.clone())
                        .with_topic_id(key.id)
                        .with_partitions(vec![cached.asked(key.partition)]),
                ),
            }
        }
        topics
    }

    /// Drops what the client knows already, and remembers what it learns now.
    fn keep_news(&mut self, responses: &mut Vec<FetchableTopicResponse>) {
        for topic in responses.iter_mut() {
            let mut partitions = std::mem::take(&mut topic.partitions);
            partitions.retain(|data| {
                let key = Key::of_response(topic, data);
                // One that was forgotten by a later request is no news to anybody.
                let Some(cached) = self.partitions.get_mut(&key) else { return false };
                let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
                if has_records {
                    self.next_turn += 1;
                    cached.turn = self.next_turn;
                }
                cached.learn(data) || has_records
            });
            topic.partitions = partitions;
        }
        responses.retain(|topic| !topic.partitions.is_empty());
    }
}

impl Cached {
    fn of(asked: &FetchPartition, told: Told, turn: u64) -> Self {
        Self {
            leader_epoch: asked.current_leader_epoch,
            fetch_offset: asked.fetch_offset,
            last_fetched_epoch: asked.last_fetched_epoch,
            max_bytes: asked.partition_max_bytes,
            told,
            turn,
        }
    }

    fn asked(&self, partition: i32) -> FetchPartition {
        FetchPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(self.leader_epoch)
            .with_fetch_offset(self.fetch_offset)
            .with_last_fetched_epoch(self.last_fetched_epoch)
            .with_partition_max_bytes(self.max_bytes)
    }

    /// Whether the client has to be told, beside records.
    fn learn(&mut self, data: &PartitionData) -> bool {
        let before = self.told;
        self.told = Told::of(data);
        if data.error_code != 0 {
            // So that the end of the error is news.
            self.told.high_watermark = -1;
        }
        let diverges = data.diverging_epoch.epoch >= 0;
        data.error_code != 0 || diverges || data.preferred_read_replica.0 >= 0 || self.told != before
    }
}

impl Told {
    fn of(data: &PartitionData) -> Self {
        Self {
            high_watermark: data.high_watermark,
            last_stable_offset: data.last_stable_offset,
            log_start_offset: data.log_start_offset,
        }
    }
}

impl Key {
    fn of_response(topic: &FetchableTopicResponse, data: &PartitionData) -> Self {
        Self { name: topic.topic.clone(), id: topic.topic_id, partition: data.partition_index }
    }
}

fn owned(name: &TopicName) -> TopicName {
    TopicName(StrBytes::try_from(Bytes::copy_from_slice(name.as_bytes())).unwrap_or_default())
}

#[cfg(test)]
#[path = "fetch_session_tests.rs"]
mod tests;
