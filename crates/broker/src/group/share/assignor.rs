//! The assignor `simple`: every partition with at least one member, every member with at least one partition.
//!
//! Unlike in consumer groups a partition may be with several members, so nothing has to be given up before it is given,
//! and what there is to remember grows with partitions and members together and not with their product.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::group::consumer::message::Assignment;

/// What it is called in descriptions of groups.
pub(crate) const NAME: &str = "simple";

/// Assigns the partitions of topics to members, of whom each names the topics it subscribes to.
pub(crate) fn assign(
    members: &BTreeMap<&str, BTreeSet<Uuid>>,
    partitions: &BTreeMap<Uuid, i32>,
) -> BTreeMap<String, Assignment> {
    let mut subscribers: BTreeMap<Uuid, Vec<&str>> = BTreeMap::new();
    for (member, topics) in members {
        for topic in topics.iter().filter(|topic| partitions.contains_key(topic)) {
            subscribers.entry(*topic).or_default().push(member);
        }
    }
    let mut assigned: BTreeMap<String, Assignment> =
        members.keys().map(|member| ((*member).to_owned(), Assignment::new())).collect();
    let mut give = |member: &str, topic: Uuid, partition: i32| {
        if let Some(assignment) = assigned.get_mut(member) {
            assignment.entry(topic).or_default().insert(partition);
        }
    };
    // One turn for all topics: topics of one partition each do not all go to the first member.
    let mut turn = 0;
    let mut with_work: BTreeSet<&str> = BTreeSet::new();
    for (topic, readers) in &subscribers {
        for partition in 0..partitions.get(topic).copied().unwrap_or_default() {
            let member = readers[turn % readers.len()];
            turn += 1;
            with_work.insert(member);
            give(member, *topic, partition);
        }
    }
    let idle = members.iter().filter(|(member, _)| !with_work.contains(**member));
    for (turn, (member, topics)) in idle.enumerate() {
        if let Some((topic, partition)) = nth_partition(topics, partitions, turn) {
            give(member, topic, partition);
        }
    }
    assigned
}

/// The partition at a place among those of some topics, counted round and round.
fn nth_partition(topics: &BTreeSet<Uuid>, partitions: &BTreeMap<Uuid, i32>, place: usize) -> Option<(Uuid, i32)> {
    let count_of = |topic: &Uuid| usize::try_from(partitions.get(topic).copied().unwrap_or_default()).unwrap_or(0);
    let total: usize = topics.iter().map(count_of).sum();
    let mut place = place.checked_rem(total)?;
    for topic in topics {
        let count = count_of(topic);
        if place < count {
            return Some((*topic, i32::try_from(place).ok()?));
        }
        place -= count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members by the topics they subscribe to; topics by their partitions; then who has what.
    fn check(members: &[(&str, &[u128])], topics: &[(u128, i32)], expected: &[(&str, &[(u128, &[i32])])]) {
        let members = members
            .iter()
            .map(|(member, topics)| (*member, topics.iter().map(|topic| Uuid::from_u128(*topic)).collect()))
            .collect();
        let partitions = topics.iter().map(|(topic, count)| (Uuid::from_u128(*topic), *count)).collect();
        let expected: BTreeMap<String, Assignment> = expected
            .iter()
            .map(|(member, has)| {
                let has = has.iter().map(|(topic, of)| (Uuid::from_u128(*topic), of.iter().copied().collect()));
                ((*member).to_owned(), has.collect())
            })
            .collect();
        assert_eq!(assign(&members, &partitions), expected);
    }

    #[test]
    fn every_partition_and_every_member_has_one_at_least() {
        check(&[], &[(1, 3)], &[]);
        check(&[("a", &[1])], &[(1, 3)], &[("a", &[(1, &[0, 1, 2])])]);
        check(&[("a", &[1]), ("b", &[1])], &[(1, 3)], &[("a", &[(1, &[0, 2])]), ("b", &[(1, &[1])])]);
        // More members than partitions share them.
        let three: &[(&str, &[u128])] = &[("a", &[1]), ("b", &[1]), ("c", &[1])];
        check(three, &[(1, 1)], &[("a", &[(1, &[0])]), ("b", &[(1, &[0])]), ("c", &[(1, &[0])])]);
        // Topics of one partition are spread.
        check(&[("a", &[1, 2]), ("b", &[1, 2])], &[(1, 1), (2, 1)], &[("a", &[(1, &[0])]), ("b", &[(2, &[0])])]);
        // Who subscribes to something of its own gets that.
        check(&[("a", &[1, 2]), ("b", &[2])], &[(1, 1), (2, 1)], &[("a", &[(1, &[0])]), ("b", &[(2, &[0])])]);
        // A topic that is not there, and a member with nothing to read.
        check(&[("a", &[9]), ("b", &[1])], &[(1, 1)], &[("a", &[]), ("b", &[(1, &[0])])]);
    }

    #[test]
    fn what_is_assigned_grows_with_partitions_and_members_and_not_with_their_product() {
        let names: Vec<String> = (0..100).map(|member| format!("m{member:03}")).collect();
        let topics: BTreeSet<Uuid> = (0..50).map(Uuid::from_u128).collect();
        let members = names.iter().map(|name| (name.as_str(), topics.clone())).collect();
        let partitions = topics.iter().map(|topic| (*topic, 1)).collect();
        let assigned = assign(&members, &partitions);
        assert!(assigned.values().all(|assignment| !assignment.is_empty()));
        let pairs: usize = assigned.values().flat_map(BTreeMap::values).map(BTreeSet::len).sum();
        assert_eq!(pairs, 100);
    }
}
