//! The topics of the broker as the coordinator sees them: names, ids and partitions at one time.

use std::collections::BTreeMap;

use uuid::Uuid;

/// All topics at one time.
#[derive(Debug, Default)]
pub(crate) struct TopicImage {
    /// Differs from that of any other state of the topics.
    version: u64,
    by_name: BTreeMap<String, Uuid>,
    by_id: BTreeMap<Uuid, (String, i32)>,
}

impl TopicImage {
    pub(crate) fn new(version: u64, topics: impl Iterator<Item = (String, Uuid, i32)>) -> Self {
        let by_id: BTreeMap<_, _> = topics.map(|(name, id, partitions)| (id, (name, partitions))).collect();
        let by_name = by_id.iter().map(|(id, (name, _))| (name.clone(), *id)).collect();
        Self { version, by_name, by_id }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn id(&self, name: &str) -> Option<Uuid> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, id: Uuid) -> Option<&str> {
        self.by_id.get(&id).map(|(name, _)| name.as_str())
    }

    pub(crate) fn partitions(&self, id: Uuid) -> Option<i32> {
        self.by_id.get(&id).map(|(_, partitions)| *partitions)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (&String, Uuid)> {
        self.by_name.iter().map(|(name, id)| (name, *id))
    }
}
