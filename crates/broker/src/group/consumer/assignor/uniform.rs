//! The uniform assignor: equal shares, as few moves as possible.
//!
//! ```text
//! keep     what each member has had and still subscribes to
//! fill     what nobody has, to whoever has least
//! balance  from whoever has most to whoever has least, while they differ by two or more
//! ```
//!
//! With equal subscriptions no two members differ by more than one. With unequal ones no single
//! move makes it more even.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use uuid::Uuid;

use super::{Candidate, subscribers};
use crate::group::consumer::message::Assignment;

pub(super) fn assign(members: &[Candidate<'_>], partitions: &BTreeMap<Uuid, i32>) -> Vec<Assignment> {
    let mut plan = Plan { loads: vec![0; members.len()], topics: Vec::new() };
    for (id, subscribers) in subscribers(members) {
        if let Some(&count) = partitions.get(&id) {
            plan.topics.push(Topic { id, subscribers, owners: vec![None; usize::try_from(count).unwrap_or(0)] });
        }
    }
    plan.keep(members);
    plan.fill();
    plan.balance();
    plan.into_assignments()
}

struct Topic {
    id: Uuid,
    subscribers: Vec<usize>,
    /// The owner of each partition.
    owners: Vec<Option<usize>>,
}

struct Plan {
    /// Partitions of each member.
    loads: Vec<usize>,
    topics: Vec<Topic>,
}

impl Plan {
    fn keep(&mut self, members: &[Candidate<'_>]) {
        for topic in &mut self.topics {
            for &subscriber in &topic.subscribers {
                for &partition in members[subscriber].current.get(&topic.id).into_iter().flatten() {
                    let owner = usize::try_from(partition).ok().and_then(|partition| topic.owners.get_mut(partition));
                    if let Some(owner @ None) = owner {
                        *owner = Some(subscriber);
                        self.loads[subscriber] += 1;
                    }
                }
            }
        }
    }

    fn fill(&mut self) {
        for topic in &mut self.topics {
            let loaded = topic.subscribers.iter().map(|&subscriber| Reverse((self.loads[subscriber], subscriber)));
            let mut least: BinaryHeap<_> = loaded.collect();
            for owner in topic.owners.iter_mut().filter(|owner| owner.is_none()) {
                let Some(Reverse((load, subscriber))) = least.pop() else { break };
                *owner = Some(subscriber);
                self.loads[subscriber] = load + 1;
                least.push(Reverse((load + 1, subscriber)));
            }
        }
    }

    /// Every move makes the sum of the squares of the loads smaller, so this ends.
    fn balance(&mut self) {
        let Self { loads, topics } = self;
        let mut moved = true;
        while moved {
            moved = false;
            for topic in &mut *topics {
                moved |= topic.balance(loads);
            }
        }
    }

    fn into_assignments(self) -> Vec<Assignment> {
        let mut assigned = vec![Assignment::new(); self.loads.len()];
        for topic in self.topics {
            for (partition, owner) in (0..).zip(topic.owners) {
                if let Some(owner) = owner {
                    assigned[owner].entry(topic.id).or_default().insert(partition);
                }
            }
        }
        assigned
    }
}

impl Topic {
    /// Moves partitions of this topic; whether any.
    fn balance(&mut self, loads: &mut [usize]) -> bool {
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners.iter().enumerate() {
            if let Some(owner) = owner {
                owned.entry(*owner).or_default().push(partition);
            }
        }
        let mut rich: BTreeSet<(usize, usize)> = owned.keys().map(|&owner| (loads[owner], owner)).collect();
        let mut poor: BTreeSet<(usize, usize)> = self.subscribers.iter().map(|&at| (loads[at], at)).collect();
        let mut moved = false;
        while let (Some(&from), Some(&to)) = (rich.last(), poor.first()) {
            if from.0 < to.0 + 2 {
                break;
            }
            rich.remove(&from);
            let Some(partition) = owned.get_mut(&from.1).and_then(Vec::pop) else { continue };
            poor.remove(&from);
            poor.remove(&to);
            rich.remove(&to);
            self.owners[partition] = Some(to.1);
            owned.entry(to.1).or_default().push(partition);
            for (load, member) in [(from.0 - 1, from.1), (to.0 + 1, to.1)] {
                loads[member] = load;
                rich.insert((load, member));
                poor.insert((load, member));
            }
            moved = true;
        }
        moved
    }
}
