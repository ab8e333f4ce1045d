//! Share sessions: a member names the partitions it reads once, and then only what changes. Pure: the time is handed in.
//!
//! | epoch | ShareFetch | ShareAcknowledge |
//! |---|---|---|
//! | 0 | begins a session anew | INVALID_SHARE_SESSION_EPOCH |
//! | expected | goes on with it | goes on with it |
//! | another | INVALID_SHARE_SESSION_EPOCH | INVALID_SHARE_SESSION_EPOCH |
//! | any but 0, without a session | SHARE_SESSION_NOT_FOUND | SHARE_SESSION_NOT_FOUND |
//! | -1 | ends it; what the member still has is given back | the same |
//!
//! There is one for each member of each group. Who finds no room is told SHARE_SESSION_LIMIT_REACHED, unless a session
//! was idle for two minutes: that one gives way, and with it nothing but the list, because locks run out by themselves.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use uuid::Uuid;

/// The epoch of a request that begins a session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch of a request that ends it.
pub(crate) const FINAL_EPOCH: i32 = -1;
/// A session that was not used for this long may be replaced by another.
pub(crate) const EVICT_AFTER_MS: i64 = 120_000;

/// A partition as share requests name it.
pub(crate) type At = (Uuid, i32);

#[derive(Debug)]
struct Session {
    partitions: BTreeSet<At>,
    /// What the next request must say.
    epoch: i32,
    last_used_ms: i64,
}

/// What a request says of its session.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) group: &'a str,
    pub(crate) member: &'a str,
    pub(crate) epoch: i32,
    pub(crate) added: Vec<At>,
    pub(crate) forgotten: Vec<At>,
}

/// How a request goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opened {
    /// These are read, in this order.
    Reads(Vec<At>),
    /// The session is over.
    Ended,
}

/// The sessions of a broker.
#[derive(Debug)]
pub(crate) struct SessionCache {
    slots: usize,
    max_partitions: usize,
    sessions: HashMap<(Arc<str>, Arc<str>), Session>,
    /// Of all sessions.
    partitions: usize,
}

impl SessionCache {
    pub(crate) fn new(slots: usize, max_partitions: usize) -> Self {
        Self { slots, max_partitions, sessions: HashMap::new(), partitions: 0 }
    }

    /// A fetch: begins a session, goes on with it, or ends it.
    pub(crate) fn fetch(&mut self, now_ms: i64, asked: &Asked<'_>) -> Result<Opened, ResponseError> {
        let key = (Arc::from(asked.group), Arc::from(asked.member));
        match asked.epoch {
            FINAL_EPOCH => return self.remove(&key).map(|()| Opened::Ended).ok_or(ResponseError::ShareSessionNotFound),
            INITIAL_EPOCH => {
                self.remove(&key);
                self.make_room(now_ms)?;
                let session = Session { partitions: BTreeSet::new(), epoch: 1, last_used_ms: now_ms };
                self.sessions.insert(key.clone(), session);
            }
            epoch => self.go_on(&key, now_ms, epoch)?,
        }
        let Some(session) = self.sessions.get_mut(&key) else { return Err(ResponseError::ShareSessionNotFound) };
        self.partitions -= session.partitions.len();
        session.partitions.extend(&asked.added);
        // After what was added: a partition that is named for its acknowledgements only is forgotten at once.
        let forgotten: HashSet<&At> = asked.forgotten.iter().collect();
        session.partitions.retain(|at| !forgotten.contains(at));
        self.partitions += session.partitions.len();
        if self.partitions > self.max_partitions {
            self.remove(&key);
            return Err(ResponseError::ShareSessionLimitReached);
        }
        // Another begins each time, so that each has its turn when not all fit into an answer.
        let mut reads: Vec<At> = session.partitions.iter().copied().collect();
        let turn = usize::try_from(session.epoch).unwrap_or(0).checked_rem(reads.len()).unwrap_or(0);
        reads.rotate_left(turn);
        Ok(Opened::Reads(reads))
    }

    /// An acknowledgement by itself; answers whether it was the end of the session.
    pub(crate) fn acknowledge(
        &mut self,
        now_ms: i64,
        group: &str,
        member: &str,
        epoch: i32,
    ) -> Result<bool, ResponseError> {
        let key = (Arc::from(group), Arc::from(member));
        if epoch == FINAL_EPOCH {
            return self.remove(&key).map(|()| true).ok_or(ResponseError::ShareSessionNotFound);
        }
        if epoch == INITIAL_EPOCH {
            return Err(ResponseError::InvalidShareSessionEpoch);
        }
        self.go_on(&key, now_ms, epoch).map(|()| false)
    }

    /// Forgets the session of a member that is gone.
    pub(crate) fn forget(&mut self, group: &str, member: &str) {
        self.remove(&(Arc::from(group), Arc::from(member)));
    }

    fn go_on(&mut self, key: &(Arc<str>, Arc<str>), now_ms: i64, epoch: i32) -> Result<(), ResponseError> {
        let session = self.sessions.get_mut(key).ok_or(ResponseError::ShareSessionNotFound)?;
        if session.epoch != epoch {
            return Err(ResponseError::InvalidShareSessionEpoch);
        }
        session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        session.last_used_ms = now_ms;
        Ok(())
    }

    fn make_room(&mut self, now_ms: i64) -> Result<(), ResponseError> {
        if self.sessions.len() < self.slots {
            return Ok(());
        }
        let idle = self.sessions.iter().find(|(_, session)| now_ms - session.last_used_ms >= EVICT_AFTER_MS);
        let key = idle.map(|(key, _)| key.clone()).ok_or(ResponseError::ShareSessionLimitReached)?;
        self.remove(&key);
        Ok(())
    }

    fn remove(&mut self, key: &(Arc<str>, Arc<str>)) -> Option<()> {
        let session = self.sessions.remove(key)?;
        self.partitions -= session.partitions.len();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: At = (Uuid::from_u128(1), 0);
    const B: At = (Uuid::from_u128(1), 1);

    fn ask(cache: &mut SessionCache, now_ms: i64, member: &str, epoch: i32, added: &[At], gone: &[At]) -> Answer {
        let (added, forgotten) = (added.to_vec(), gone.to_vec());
        cache.fetch(now_ms, &Asked { group: "g", member, epoch, added, forgotten }).map(|opened| match opened {
            Opened::Reads(mut reads) => {
                reads.sort_unstable();
                Some(reads)
            }
            Opened::Ended => None,
        })
    }

    type Answer = Result<Option<Vec<At>>, ResponseError>;

    fn reads(at: &[At]) -> Answer {
        Ok(Some(at.to_vec()))
    }

    #[test]
    fn a_session_goes_on_by_its_epochs() {
        let mut cache = SessionCache::new(10, 10);
        let not_found = Err(ResponseError::ShareSessionNotFound);
        let wrong = Err(ResponseError::InvalidShareSessionEpoch);
        assert_eq!(ask(&mut cache, 0, "m", 1, &[A], &[]), not_found);
        assert_eq!(ask(&mut cache, 0, "m", -1, &[], &[]), not_found);
        assert_eq!(ask(&mut cache, 0, "m", 0, &[A], &[]), reads(&[A]));
        assert_eq!(ask(&mut cache, 0, "m", 2, &[], &[]), wrong);
        assert_eq!(ask(&mut cache, 0, "m", 1, &[B], &[]), reads(&[A, B]));
        assert_eq!(ask(&mut cache, 0, "m", 1, &[], &[]), wrong, "each is good for once");
        assert_eq!(cache.acknowledge(0, "g", "m", 2), Ok(false));
        assert_eq!(cache.acknowledge(0, "g", "m", 2), Err(ResponseError::InvalidShareSessionEpoch));
        assert_eq!(cache.acknowledge(0, "g", "m", 0), Err(ResponseError::InvalidShareSessionEpoch));
        assert_eq!(ask(&mut cache, 0, "m", 3, &[], &[A]), reads(&[B]));
        assert_eq!(ask(&mut cache, 0, "m", 4, &[A], &[A]), reads(&[B]), "named for its acknowledgements only");
        assert_eq!(ask(&mut cache, 0, "m", 0, &[A], &[]), reads(&[A]), "begun anew");
        assert_eq!(ask(&mut cache, 0, "m", -1, &[], &[]), Ok(None));
        assert_eq!(cache.acknowledge(0, "g", "m", -1), Err(ResponseError::ShareSessionNotFound));
        assert_eq!(cache.partitions, 0);
    }

    #[test]
    fn an_epoch_behind_the_last_is_one() {
        let mut cache = SessionCache::new(10, 10);
        ask(&mut cache, 0, "m", 0, &[A], &[]).expect("begun");
        cache.sessions.values_mut().for_each(|session| session.epoch = i32::MAX);
        assert_eq!(ask(&mut cache, 0, "m", i32::MAX, &[], &[]), reads(&[A]));
        assert_eq!(ask(&mut cache, 0, "m", 1, &[], &[]), reads(&[A]));
    }

    #[test]
    fn every_partition_has_its_turn() {
        let mut cache = SessionCache::new(10, 10);
        let mut first = |epoch| {
            let added = vec![A, B];
            match cache.fetch(0, &Asked { group: "g", member: "m", epoch, added, forgotten: vec![] }) {
                Ok(Opened::Reads(reads)) => reads[0],
                other => panic!("{other:?}"),
            }
        };
        let firsts: BTreeSet<At> = (0..4).map(&mut first).collect();
        assert_eq!(firsts, [A, B].into());
    }

    #[test]
    fn sessions_and_their_partitions_are_limited() {
        let mut cache = SessionCache::new(2, 3);
        let full = Err(ResponseError::ShareSessionLimitReached);
        assert_eq!(ask(&mut cache, 0, "a", 0, &[A, B], &[]), reads(&[A, B]));
        assert_eq!(ask(&mut cache, 10, "b", 0, &[A], &[]), reads(&[A]));
        assert_eq!(ask(&mut cache, 20, "c", 0, &[], &[]), full);
        assert_eq!(ask(&mut cache, 20, "a", 0, &[A, B], &[]), reads(&[A, B]), "in its own place");
        assert_eq!(ask(&mut cache, 20, "b", 1, &[B], &[]), full, "one partition too many");
        assert_eq!(ask(&mut cache, 20, "b", 2, &[], &[]), Err(ResponseError::ShareSessionNotFound));
        assert_eq!(ask(&mut cache, 30, "c", 0, &[A], &[]), reads(&[A]));
        // The idle give way.
        assert_eq!(ask(&mut cache, 20 + EVICT_AFTER_MS - 1, "d", 0, &[A], &[]), full);
        assert_eq!(ask(&mut cache, 20 + EVICT_AFTER_MS, "d", 0, &[A], &[]), reads(&[A]));
        assert_eq!(ask(&mut cache, 20 + EVICT_AFTER_MS, "a", 1, &[], &[]), Err(ResponseError::ShareSessionNotFound));
        cache.forget("g", "d");
        assert_eq!(cache.partitions, 1);
    }
}
