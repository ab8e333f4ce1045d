//! The assignors as tables, and what they must keep to whatever the group looks like.

use proptest::prelude::*;

use super::*;

fn topic(number: u8) -> Uuid {
    Uuid::from_u128(number.into())
}

/// A member of a test: the topics it subscribes to, and the partitions it has had.
#[derive(Debug, Clone, Default)]
struct Has {
    topics: BTreeSet<Uuid>,
    current: Assignment,
}

fn assign(assignor: Assignor, members: &[Has], partitions: &BTreeMap<Uuid, i32>) -> Vec<Assignment> {
    let ids: Vec<String> = (0..members.len()).map(|at| format!("m{at:03}")).collect();
    let candidates: Vec<Candidate<'_>> = members
        .iter()
        .zip(&ids)
        .map(|(member, id)| Candidate { id, instance: None, topics: &member.topics, current: &member.current })
        .collect();
    assignor.assign(&candidates, partitions)
}

fn subscribed(topics: &[u8]) -> Has {
    Has { topics: topics.iter().copied().map(topic).collect(), ..Has::default() }
}

fn load(assignment: &Assignment) -> usize {
    assignment.values().map(BTreeSet::len).sum()
}

/// The assignments as text: `1:0,1 2:3`.
fn shown(assigned: &[Assignment]) -> Vec<String> {
    let list = |partitions: &BTreeSet<i32>| partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let one = |assignment: &Assignment| {
        let topics = assignment.iter().map(|(topic, of)| format!("{}:{}", topic.as_u128(), list(of)));
        topics.collect::<Vec<_>>().join(" ")
    };
    assigned.iter().map(one).collect()
}

#[test]
fn range_gives_runs_and_the_same_ones_of_every_topic() {
    let members = [subscribed(&[1, 2]), subscribed(&[1, 2]), subscribed(&[2])];
    let partitions = BTreeMap::from([(topic(1), 5), (topic(2), 2)]);
    assert_eq!(shown(&assign(Assignor::Range, &members, &partitions)), ["1:0,1,2 2:0", "1:3,4 2:1", ""]);
}

#[test]
fn range_puts_static_members_first_by_their_instance() {
    let topics = BTreeSet::from([topic(1)]);
    let current = Assignment::new();
    let member = |id, instance| Candidate { id, instance, topics: &topics, current: &current };
    let members = [member("a", None), member("z", Some("i1")), member("b", Some("i2"))];
    let assigned = Assignor::Range.assign(&members, &BTreeMap::from([(topic(1), 3)]));
    assert_eq!(shown(&assigned), ["1:2", "1:0", "1:1"]);
}

#[test]
fn uniform_moves_no_more_than_it_must() {
    let partitions = BTreeMap::from([(topic(1), 6)]);
    let mut members = vec![subscribed(&[1])];
    let mut history = Vec::new();
    for _ in 0..3 {
        let assigned = assign(Assignor::Uniform, &members, &partitions);
        history.push(shown(&assigned));
        members.iter_mut().zip(assigned).for_each(|(member, current)| member.current = current);
        members.push(subscribed(&[1]));
    }
    assert_eq!(history, [vec!["1:0,1,2,3,4,5"], vec!["1:0,1,2", "1:3,4,5"], vec!["1:0,1", "1:3,4", "1:2,5"]]);
    // The member that leaves is shared by the others, who keep what they have.
    members.truncate(3);
    members.remove(0);
    assert_eq!(shown(&assign(Assignor::Uniform, &members, &partitions)), ["1:0,3,4", "1:1,2,5"]);
}

#[test]
fn uniform_evens_out_members_that_subscribe_otherwise() {
    let members = [subscribed(&[1]), subscribed(&[1, 2]), subscribed(&[2])];
    let partitions = BTreeMap::from([(topic(1), 2), (topic(2), 4)]);
    let loads: Vec<usize> = assign(Assignor::Uniform, &members, &partitions).iter().map(load).collect();
    assert_eq!(loads, [2, 2, 2]);
}

fn group() -> impl Strategy<Value = (Vec<Has>, BTreeMap<Uuid, i32>)> {
    let topics = prop::collection::btree_map((0..4u8).prop_map(topic), 0..9i32, 0..4);
    let subscription = || prop::collection::btree_set((0..4u8).prop_map(topic), 0..4);
    let claims = prop::collection::vec((0..4u8, -1..9i32, any::<prop::sample::Index>()), 0..20);
    let members = prop_oneof![
        (subscription(), 1..6usize).prop_map(|(topics, count)| vec![topics; count]),
        prop::collection::vec(subscription(), 1..6),
    ];
    (members, topics, claims).prop_map(|(members, partitions, claims)| {
        let mut members: Vec<Has> =
            members.into_iter().map(|topics| Has { topics, current: Assignment::new() }).collect();
        let mut taken = BTreeSet::new();
        for (number, partition, owner) in claims {
            if taken.insert((number, partition)) {
                let owner = owner.index(members.len());
                members[owner].current.entry(topic(number)).or_default().insert(partition);
            }
        }
        (members, partitions)
    })
}

/// Partitions that somebody can have, and those that are with somebody, each once.
fn check_complete(members: &[Has], partitions: &BTreeMap<Uuid, i32>, assigned: &[Assignment]) {
    let wanted: BTreeSet<(Uuid, i32)> = partitions
        .iter()
        .filter(|(topic, _)| members.iter().any(|member| member.topics.contains(*topic)))
        .flat_map(|(topic, count)| (0..*count).map(|partition| (*topic, partition)))
        .collect();
    let mut given = BTreeSet::new();
    for (member, assignment) in members.iter().zip(assigned) {
        for (topic, partitions) in assignment {
            assert!(member.topics.contains(topic), "only what it subscribes to");
            assert!(!partitions.is_empty(), "no topic without partitions");
            for partition in partitions {
                assert!(given.insert((*topic, *partition)), "{topic} {partition} is given twice");
            }
        }
    }
    assert_eq!(given, wanted);
}

proptest! {
    #[test]
    fn every_partition_goes_to_one_subscriber((members, partitions) in group()) {
        for assignor in Assignor::ALL {
            check_complete(&members, &partitions, &assign(assignor, &members, &partitions));
        }
    }

    #[test]
    fn uniform_is_even_and_stays_as_it_is((mut members, partitions) in group()) {
        let assigned = assign(Assignor::Uniform, &members, &partitions);
        for (from, rich) in assigned.iter().enumerate() {
            for topic in rich.keys() {
                for (to, poor) in assigned.iter().enumerate().filter(|(to, _)| members[*to].topics.contains(topic)) {
                    prop_assert!(load(rich) < load(poor) + 2, "{from} could give {topic} to {to}");
                }
            }
        }
        members.iter_mut().zip(&assigned).for_each(|(member, current)| member.current.clone_from(current));
        prop_assert_eq!(assign(Assignor::Uniform, &members, &partitions), assigned);
    }

    /// With equal subscriptions, whoever has no more than its share keeps all of it.
    #[test]
    fn uniform_takes_only_from_those_with_more_than_their_share(counts in prop::collection::vec(0..8i32, 1..6)) {
        let total: i32 = counts.iter().sum();
        let partitions = BTreeMap::from([(topic(1), total)]);
        let mut next = 0;
        let members: Vec<Has> = counts.iter().map(|count| {
            let mut member = subscribed(&[1]);
            member.current.insert(topic(1), (next..next + count).collect());
            next += count;
            member
        }).collect();
        let assigned = assign(Assignor::Uniform, &members, &partitions);
        let share = total / counts.len() as i32;
        for (member, assignment) in members.iter().zip(&assigned) {
            let before = &member.current[&topic(1)];
            let kept = assignment.get(&topic(1)).map_or(0, |after| before.intersection(after).count());
            prop_assert!(kept >= before.len().min(share as usize));
        }
    }
}
