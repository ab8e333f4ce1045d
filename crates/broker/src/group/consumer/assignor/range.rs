//! The range assignor: each topic is cut into one run of partitions for each subscriber.
//!
//! Members with equal subscriptions get the same partition numbers of every topic, so that topics
//! partitioned alike can be joined. Static members come first and by their instance, so that their
//! parts stay when they come back under another id.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Candidate, subscribers};
use crate::group::consumer::message::Assignment;

pub(super) fn assign(members: &[Candidate<'_>], partitions: &BTreeMap<Uuid, i32>) -> Vec<Assignment> {
    let mut assigned = vec![Assignment::new(); members.len()];
    for (topic, mut subscribers) in subscribers(members) {
        let Some(&count) = partitions.get(&topic) else { continue };
        subscribers.sort_by_key(|&at| {
            let member = &members[at];
            (member.instance.is_none(), member.instance.unwrap_or(member.id))
        });
        let number = subscribers.len() as i32;
        let (each, more) = (count / number, count % number);
        let mut next = 0;
        for (at, subscriber) in subscribers.into_iter().enumerate() {
            let end = next + each + i32::from((at as i32) < more);
            if next < end {
                assigned[subscriber].insert(topic, (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}
