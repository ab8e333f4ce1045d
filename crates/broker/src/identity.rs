//! What a broker is called, and the producer ids it has given away.
//!
//! Producer ids are never given twice, across restarts too, or one producer's retries would be
//! taken for another's. They are reserved on the disk in blocks, so that giving one is a counter
//! and a crash skips at most a block.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::BrokerError;
use crate::log::sealed::{self, Kind};

const KIND: Kind = Kind { name: "broker", holds: "the cluster id and the producer ids in use" };
const BLOCK: i64 = 1000;

/// The identity of a broker, kept in `broker.json`.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    path: PathBuf,
    ids: Mutex<Ids>,
}

#[derive(Debug)]
struct Ids {
    next: i64,
    reserved_to: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    cluster_id: String,
    next_producer_id: i64,
}

impl Identity {
    /// Reads the identity in `data_dir`, or makes one.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, BrokerError> {
        let path = data_dir.join("broker.json");
        let stored = match sealed::read(&path, KIND)? {
            Some(stored) => stored,
            None => {
                let fresh = Stored { cluster_id: Uuid::new_v4().simple().to_string(), next_producer_id: 1 };
                sealed::write(&path, KIND, &fresh)?;
                fresh
            }
        };
        let ids = Ids { next: stored.next_producer_id, reserved_to: stored.next_producer_id };
        Ok(Self { cluster_id: stored.cluster_id, path, ids: Mutex::new(ids) })
    }

    /// A producer id nobody has had. Blocks on the disk now and then.
    pub(crate) fn new_producer_id(&self) -> Result<i64, BrokerError> {
        let mut ids = self.ids.lock();
        if ids.next == ids.reserved_to {
            let next_producer_id = ids.reserved_to + BLOCK;
            sealed::write(&self.path, KIND, &Stored { cluster_id: self.cluster_id.clone(), next_producer_id })?;
            ids.reserved_to = next_producer_id;
        }
        let id = ids.next;
        ids.next += 1;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_producer_id_is_given_twice_and_the_cluster_id_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut last = 0;
        let mut names = Vec::new();
        for _ in 0..3 {
            let identity = Identity::open(dir.path()).expect("open");
            names.push(identity.cluster_id.clone());
            for _ in 0..BLOCK + 5 {
                let id = identity.new_producer_id().expect("id");
                assert!(id > last);
                last = id;
            }
        }
        assert!(names.iter().all(|name| *name == names[0]));
    }
}
