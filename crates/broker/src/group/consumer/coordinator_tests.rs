//! The coordinator as tables of heartbeats, and a group that is shaken at random.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::group::consumer::group::GroupState;
use crate::group::consumer::message::{Assignment, Heard};

const LIMITS: Limits = Limits {
    times: Times { heartbeat_interval_ms: 5000, session_timeout_ms: 45_000 },
    max_groups: 2,
    max_members: 3,
    max_regex_bytes: 100,
    max_compiled_regex_bytes: 100_000,
};
const REBALANCE_TIMEOUT_MS: i32 = 20_000;
const BLOCK: i32 = 10;

/// Drives a coordinator as the service does.
struct Script {
    coordinator: Coordinator,
    now: i64,
    /// Topics as name, id and partitions.
    topics: BTreeMap<String, (u128, i32)>,
    image: TopicImage,
    reserved: BTreeMap<String, i32>,
}

impl Script {
    fn new(topics: &[(&str, i32)]) -> Self {
        let coordinator = Coordinator::new(LIMITS, Vec::new());
        let mut script = Self {
            coordinator,
            now: 0,
            topics: BTreeMap::new(),
            image: TopicImage::default(),
            reserved: BTreeMap::new(),
        };
        topics.iter().for_each(|(name, partitions)| script.topic(name, Some(*partitions)));
        script
    }

    /// Creates, grows or deletes a topic. A created one has an id no other had.
    fn topic(&mut self, name: &str, partitions: Option<i32>) {
        let version = self.image.version() + 1;
        match partitions {
            Some(partitions) => {
                let id = self.topics.get(name).map_or(u128::from(version), |(id, _)| *id);
                self.topics.insert(name.to_owned(), (id, partitions));
            }
            None => drop(self.topics.remove(name).into_iter()),
        }
        let topics = self.topics.iter().map(|(name, (id, count))| (name.clone(), Uuid::from_u128(*id), *count));
        self.image = TopicImage::new(version, topics);
    }

    fn beat(&mut self, beat: &Heartbeat) -> Result<Heard, ResponseError> {
        beat.check().map_err(|refused| refused.error)?;
        let pattern = match beat.regex.as_deref() {
            None => None,
            Some("") => Some(None),
            Some(text) => Some(Some(Pattern::compile(text, None, &LIMITS).map_err(|refused| refused.error)?)),
        };
        for _ in 0..2 {
            match self.coordinator.heartbeat(self.now, &self.image, beat, pattern.clone()) {
                Ok(Outcome::Heard(heard)) => return Ok(heard),
                Ok(Outcome::NeedsEpochs) => {
                    let reserved = self.reserved.entry(beat.group.clone()).or_default();
                    self.coordinator.grant(&beat.group, *reserved, *reserved + BLOCK);
                    *reserved += BLOCK;
                }
                Err(refused) => return Err(refused.error),
            }
        }
        panic!("a block of epochs is enough for a heartbeat");
    }

    fn wait(&mut self, ms: i64) {
        self.now += ms;
        self.coordinator.tick(self.now);
    }

    fn group(&self) -> &Group {
        self.coordinator.group("g").expect("the group is there")
    }

    /// The assignment as text: `a:0,1 b:0`.
    fn shown(&self, assignment: &Option<Assignment>) -> String {
        let Some(assignment) = assignment else { return "-".to_owned() };
        let one = |(id, partitions): (&Uuid, &BTreeSet<i32>)| {
            let list = partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            format!("{}:{list}", self.image.name(*id).unwrap_or("gone"))
        };
        assignment.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    /// A heartbeat's answer as epoch and assignment, or its error.
    fn say(&mut self, beat: &Heartbeat) -> Result<(i32, String), ResponseError> {
        let heard = self.beat(beat)?;
        Ok((heard.epoch, self.shown(&heard.assignment)))
    }

    fn assignment(&self, topic: &str, partitions: &[i32]) -> Assignment {
        if partitions.is_empty() {
            return Assignment::new();
        }
        Assignment::from([(Uuid::from_u128(self.topics[topic].0), partitions.iter().copied().collect())])
    }
}

fn join(member: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat {
        group: "g".into(),
        member: member.into(),
        rebalance_timeout_ms: Some(REBALANCE_TIMEOUT_MS),
        topics: Some(topics.iter().map(|&topic| topic.to_owned()).collect()),
        owned: Some(Assignment::new()),
        ..Heartbeat::default()
    }
}

fn beat(member: &str, epoch: i32) -> Heartbeat {
    Heartbeat { group: "g".into(), member: member.into(), epoch, ..Heartbeat::default() }
}

fn owns(member: &str, epoch: i32, owned: Assignment) -> Heartbeat {
    Heartbeat { owned: Some(owned), ..beat(member, epoch) }
}

fn ok(epoch: i32, assignment: &str) -> Result<(i32, String), ResponseError> {
    Ok((epoch, assignment.to_owned()))
}

#[test]
fn a_partition_changes_hands_only_when_it_was_let_go() {
    let mut script = Script::new(&[("t", 4)]);
    assert_eq!(script.say(&join("a", &["t"])), ok(1, "t:0,1,2,3"));
    assert_eq!(script.say(&beat("a", 1)), ok(1, "-"));
    assert_eq!(script.group().state(), GroupState::Stable);
    // The second gets nothing while the first has everything.
    assert_eq!(script.say(&join("b", &["t"])), ok(2, ""));
    assert_eq!(script.group().state(), GroupState::Reconciling);
    assert_eq!(script.say(&beat("a", 1)), ok(1, "t:0,1"));
    assert_eq!(script.say(&beat("b", 2)), ok(2, "-"), "told, but not yet let go");
    assert_eq!(script.say(&beat("a", 1)), ok(1, "-"));
    let left = script.assignment("t", &[0, 1]);
    assert_eq!(script.say(&owns("a", 1, left)), ok(2, "-"), "its assignment is what it knows, its epoch the new one");
    assert_eq!(script.say(&beat("b", 2)), ok(2, "t:2,3"));
    assert_eq!(script.group().state(), GroupState::Stable);
    // What a member that leaves had goes to who is left, as soon as it says something.
    assert_eq!(script.say(&beat("a", LEAVE)), ok(LEAVE, "-"));
    assert_eq!(script.group().state(), GroupState::Assigning);
    assert_eq!(script.say(&beat("b", 2)), ok(3, "t:0,1,2,3"));
    assert_eq!(script.say(&beat("b", LEAVE)), ok(LEAVE, "-"));
    assert_eq!(script.group().state(), GroupState::Empty);
}

#[test]
fn a_heartbeat_that_cannot_be_is_refused() {
    use ResponseError::*;
    let mut script = Script::new(&[("t", 1)]);
    script.beat(&Heartbeat { instance: Some("i".into()), ..join("a", &["t"]) }).expect("joined");
    let no = |change: fn(&mut Heartbeat)| {
        let mut wrong = join("x", &["t"]);
        change(&mut wrong);
        wrong
    };
    let cases = [
        (no(|beat| beat.group.clear()), InvalidRequest),
        (no(|beat| beat.member.clear()), InvalidRequest),
        (no(|beat| beat.instance = Some(String::new())), InvalidRequest),
        (no(|beat| beat.rack = Some(String::new())), InvalidRequest),
        (no(|beat| beat.rebalance_timeout_ms = None), InvalidRequest),
        (no(|beat| beat.topics = None), InvalidRequest),
        (no(|beat| beat.owned = None), InvalidRequest),
        (no(|beat| beat.owned = Some([(Uuid::nil(), [1].into())].into())), InvalidRequest),
        (no(|beat| beat.epoch = -3), InvalidRequest),
        (no(|beat| beat.epoch = LEAVE_FOR_NOW), InvalidRequest),
        (no(|beat| beat.assignor = Some("sticky".into())), UnsupportedAssignor),
        (no(|beat| beat.regex = Some("(".into())), InvalidRegularExpression),
        (no(|beat| beat.epoch = 1), UnknownMemberId),
        (no(|beat| beat.epoch = LEAVE), UnknownMemberId),
        (Heartbeat { group: "other".into(), ..beat("a", 1) }, GroupIdNotFound),
        (Heartbeat { group: "other".into(), ..beat("a", LEAVE) }, GroupIdNotFound),
        (beat("a", 2), FencedMemberEpoch),
        (Heartbeat { instance: Some("i".into()), ..join("b", &["t"]) }, UnreleasedInstanceId),
        (Heartbeat { instance: Some("i".into()), ..beat("b", 1) }, FencedInstanceId),
        (Heartbeat { instance: Some("i".into()), ..beat("b", LEAVE) }, FencedInstanceId),
        (Heartbeat { instance: Some("j".into()), ..beat("a", 1) }, UnknownMemberId),
        (Heartbeat { instance: Some("j".into()), ..beat("a", LEAVE) }, UnknownMemberId),
    ];
    for (at, (wrong, error)) in cases.into_iter().enumerate() {
        assert_eq!(script.beat(&wrong), Err(error), "case {at}");
    }
    assert_eq!(script.say(&beat("a", 1)), ok(1, "-"), "nothing has changed");
    assert_eq!((script.group().epoch, script.group().members.len()), (1, 1));
}

#[test]
fn groups_and_members_are_limited() {
    let mut script = Script::new(&[]);
    for member in ["a", "b", "c"] {
        script.beat(&join(member, &[])).expect("room");
    }
    assert_eq!(script.beat(&join("d", &[])), Err(ResponseError::GroupMaxSizeReached));
    script.beat(&join("a", &[])).expect("a member that comes again is no more");
    script.beat(&Heartbeat { group: "h".into(), ..join("a", &[]) }).expect("room");
    let third = Heartbeat { group: "i".into(), ..join("a", &[]) };
    assert_eq!(script.beat(&third), Err(ResponseError::GroupMaxSizeReached));
    script.beat(&Heartbeat { group: "h".into(), ..beat("a", LEAVE) }).expect("left");
    script.coordinator.forget_idle(|_| false);
    script.beat(&third).expect("room again");
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let mut script = Script::new(&[("t", 2)]);
    assert_eq!(script.say(&join("a", &["t"])), ok(1, "t:0,1"));
    assert_eq!(script.say(&join("a", &["t"])), ok(1, "t:0,1"), "the same member, once more");
    assert_eq!(script.group().epoch, 1);
    script.topic("t", Some(3));
    assert_eq!(script.say(&beat("a", 1)), ok(2, "t:0,1,2"));
    // It did not hear that, and says everything with the epoch it knows.
    let owned = script.assignment("t", &[0, 1]);
    let again = Heartbeat { epoch: 1, owned: Some(owned), ..join("a", &["t"]) };
    assert_eq!(script.say(&again), ok(2, "t:0,1,2"));
    let more = script.assignment("t", &[0, 7]);
    assert_eq!(script.say(&owns("a", 1, more)), Err(ResponseError::FencedMemberEpoch), "it has what is not its own");
    assert_eq!(script.say(&beat("a", 1)), Err(ResponseError::FencedMemberEpoch));
    assert_eq!(script.say(&beat("a", 0)), Err(ResponseError::InvalidRequest));
}

#[test]
fn topics_that_come_grow_and_go_make_a_new_target() {
    let mut script = Script::new(&[("t", 1), ("other", 1)]);
    assert_eq!(script.say(&join("a", &["t", "late"])), ok(1, "t:0"));
    script.topic("stranger", Some(1));
    assert_eq!(script.say(&beat("a", 1)), ok(1, "-"), "a topic nobody subscribes to");
    script.topic("late", Some(2));
    assert_eq!(script.say(&beat("a", 1)), ok(2, "t:0 late:0,1"));
    script.topic("t", Some(2));
    assert_eq!(script.say(&beat("a", 2)), ok(3, "t:0,1 late:0,1"));
    let gone = script.assignment("late", &[0, 1]);
    script.topic("late", None);
    assert_eq!(script.say(&beat("a", 3)), ok(3, "t:0,1"), "the epoch waits for it to let go");
    assert_eq!(script.say(&owns("a", 3, gone)), ok(3, "-"));
    let rest = script.assignment("t", &[0, 1]);
    assert_eq!(script.say(&owns("a", 3, rest)), ok(4, "-"));
}

#[test]
fn subscriptions_change_by_name_and_by_pattern() {
    let mut script = Script::new(&[("a1", 1), ("a2", 1), ("b", 1)]);
    let by_pattern = Heartbeat { topics: None, regex: Some("a.*".into()), ..join("m", &[]) };
    assert_eq!(script.say(&by_pattern), ok(1, "a1:0 a2:0"));
    script.topic("a3", Some(1));
    assert_eq!(script.say(&beat("m", 1)), ok(2, "a1:0 a2:0 a3:0"));
    let same = Heartbeat { regex: Some("a.*".into()), ..beat("m", 2) };
    assert_eq!(script.say(&same), ok(2, "-"));
    let known = script.coordinator.known_pattern(&same).expect("it need not be compiled again");
    assert_eq!(known.text(), "a.*");
    let both = Heartbeat { topics: Some(["b".to_owned()].into()), ..beat("m", 2) };
    assert_eq!(script.say(&both), ok(3, "a1:0 a2:0 b:0 a3:0"));
    let none = Heartbeat { regex: Some(String::new()), ..beat("m", 3) };
    assert_eq!(script.say(&none), ok(3, "b:0"));
    let rest = script.assignment("b", &[0]);
    assert_eq!(script.say(&owns("m", 3, rest)), ok(4, "-"));
    assert!(script.group().may_read("b", None) && !script.group().may_read("a1", script.image.id("a1")));
}

#[test]
fn the_assignor_most_members_name_is_used() {
    let mut script = Script::new(&[("t", 4)]);
    let named = |member: &str, name: &str| Heartbeat { assignor: Some(name.into()), ..join(member, &["t"]) };
    script.beat(&join("a", &["t"])).expect("joined");
    assert_eq!(script.group().assignor().name(), "uniform");
    script.beat(&named("b", "range")).expect("joined");
    assert_eq!(script.group().assignor().name(), "range");
    script.beat(&named("c", "uniform")).expect("joined");
    assert_eq!(script.group().assignor().name(), "uniform");
}

#[test]
fn silent_members_and_those_that_do_not_let_go_are_thrown_out() {
    let mut script = Script::new(&[("t", 2)]);
    script.beat(&join("a", &["t"])).expect("joined");
    script.beat(&join("b", &["t"])).expect("joined");
    assert_eq!(script.say(&beat("a", 1)), ok(1, "t:0"));
    // It heartbeats, but holds on to what it was told to give up.
    script.wait(i64::from(REBALANCE_TIMEOUT_MS) - 1);
    assert_eq!(script.say(&beat("a", 1)), ok(1, "-"));
    assert_eq!(script.say(&beat("b", 2)), ok(2, "-"));
    assert_eq!(script.coordinator.next_deadline_ms(), Some(i64::from(REBALANCE_TIMEOUT_MS)));
    script.wait(1);
    assert_eq!(script.say(&beat("a", 1)), Err(ResponseError::UnknownMemberId));
    assert_eq!(script.say(&beat("b", 2)), ok(3, "t:0,1"));
    script.wait(i64::from(LIMITS.times.session_timeout_ms) - 1);
    assert_eq!(script.group().members.len(), 1);
    script.wait(1);
    assert_eq!(script.group().state(), GroupState::Empty);
    assert_eq!(script.say(&beat("b", 3)), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_group_with_times_of_its_own_is_held_to_them_from_the_next_heartbeat_on() {
    let mut script = Script::new(&[("t", 1)]);
    let own = Times { heartbeat_interval_ms: 6000, session_timeout_ms: 50_000 };
    // (times given before a heartbeat, interval told by it, the silence after which the member is gone)
    let steps = [(Some(own), 6000, 50_000), (None, LIMITS.times.heartbeat_interval_ms, 45_000)];
    for (times, interval_ms, silence_ms) in steps {
        let heard = script.beat(&join("a", &["t"])).expect("joined");
        script.coordinator.set_times("g", times);
        script.coordinator.set_times("another", Some(Times { session_timeout_ms: 1, ..own }));
        let again = script.beat(&beat("a", heard.epoch)).expect("heard");
        assert_eq!(again.heartbeat_interval_ms, interval_ms);
        script.wait(silence_ms - 1);
        assert_eq!(script.group().members.len(), 1);
        script.wait(1);
        assert_eq!(script.group().members.len(), 0);
    }
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut script = Script::new(&[("t", 4)]);
    let fixed = |beat: Heartbeat, instance: &str| Heartbeat { instance: Some(instance.into()), ..beat };
    assert_eq!(script.say(&fixed(join("a", &["t"]), "i")), ok(1, "t:0,1,2,3"));
    script.beat(&fixed(join("b", &["t"]), "j")).expect("joined");
    script.beat(&beat("a", 1)).expect("told");
    let kept = script.assignment("t", &[0, 1]);
    assert_eq!(script.say(&owns("a", 1, kept)), ok(2, "-"));
    assert_eq!(script.say(&beat("b", 2)), ok(2, "t:2,3"));

    assert_eq!(script.say(&fixed(beat("a", LEAVE_FOR_NOW), "i")), ok(LEAVE_FOR_NOW, "-"));
    assert_eq!(script.say(&beat("b", 2)), ok(2, "-"), "nobody takes its place");
    assert_eq!(script.say(&fixed(beat("a", 2), "i")), Err(ResponseError::FencedMemberEpoch));
    assert_eq!(script.coordinator.check_commit("g", "a", 2), Some(Err(ResponseError::StaleMemberEpoch)));
    assert_eq!(script.say(&fixed(join("a2", &["t"]), "i")), ok(2, "t:0,1"));
    assert_eq!(script.group().epoch, 2, "nothing was assigned anew");
    assert_eq!(script.say(&fixed(beat("a", 2), "i")), Err(ResponseError::FencedInstanceId));
    assert_eq!(script.say(&beat("a", 2)), Err(ResponseError::UnknownMemberId));

    // It does not come back a second time: at the end of its session it is gone.
    script.beat(&fixed(beat("a2", LEAVE_FOR_NOW), "i")).expect("left");
    script.wait(30_000);
    script.beat(&beat("b", 2)).expect("there");
    script.wait(20_000);
    assert_eq!(script.say(&beat("b", 2)), ok(3, "t:0,1,2,3"));
    assert_eq!(script.say(&fixed(join("a3", &["t"]), "i")), ok(4, ""));
}

#[test]
fn commits_and_fetches_are_held_to_the_epoch() {
    use ResponseError::{StaleMemberEpoch, UnknownMemberId};
    let mut script = Script::new(&[("t", 1)]);
    script.beat(&join("a", &["t"])).expect("joined");
    let coordinator = &script.coordinator;
    assert_eq!(coordinator.check_commit("nobody", "a", 1), None);
    assert_eq!(coordinator.check_commit("g", "a", 1), Some(Ok(())));
    assert_eq!(coordinator.check_commit("g", "a", 0), Some(Err(StaleMemberEpoch)));
    assert_eq!(coordinator.check_commit("g", "b", 1), Some(Err(UnknownMemberId)));
    assert_eq!(coordinator.check_commit("g", "", -1), Some(Err(UnknownMemberId)), "from outside, into a group in use");
    assert_eq!(coordinator.check_fetch("g", "a", 1), Ok(()));
    assert_eq!(coordinator.check_fetch("g", "a", 2), Err(StaleMemberEpoch));
    assert_eq!(coordinator.check_fetch("g", "b", 1), Err(UnknownMemberId));
    assert_eq!(coordinator.check_fetch("nobody", "b", 1), Ok(()));
    script.beat(&beat("a", LEAVE)).expect("left");
    assert_eq!(script.coordinator.check_commit("g", "", -1), Some(Ok(())));
}

#[test]
fn a_group_goes_on_above_the_epochs_of_the_time_before() {
    let mut script = Script::new(&[("t", 1)]);
    script.coordinator = Coordinator::new(LIMITS, vec![("g".to_owned(), 50)]);
    script.reserved.insert("g".to_owned(), 50);
    assert_eq!(script.say(&beat("a", 7)), Err(ResponseError::UnknownMemberId));
    assert_eq!(script.say(&join("a", &["t"])), ok(51, "t:0"));
    // However often it changes, no epoch is given that is not reserved.
    for round in 0..40 {
        let member = format!("m{round}");
        let heard = script.beat(&join(&member, &["t"])).expect("joined");
        script.beat(&beat(&member, LEAVE)).expect("left");
        assert!(heard.epoch <= script.group().epoch && script.group().epoch <= script.reserved["g"]);
    }
}

#[test]
fn only_an_empty_group_is_deleted() {
    let mut script = Script::new(&[]);
    assert_eq!(script.coordinator.delete("g"), Err(ResponseError::GroupIdNotFound));
    script.beat(&join("a", &[])).expect("joined");
    assert_eq!(script.coordinator.delete("g"), Err(ResponseError::NonEmptyGroup));
    script.beat(&beat("a", LEAVE)).expect("left");
    assert_eq!(script.coordinator.delete("g"), Ok(()));
    assert!(script.coordinator.group("g").is_none());
}

/// A member as its client sees itself.
#[derive(Debug, Clone, Default)]
struct Consumer {
    id: String,
    epoch: i32,
    /// What it was told last.
    told: Assignment,
    /// What it reads.
    reads: Assignment,
    /// An answer was lost: it says everything with its next heartbeat.
    unsure: bool,
}

#[derive(Debug, Clone)]
enum Step {
    /// A heartbeat, which says everything or only what it must; its answer may be lost.
    Beat {
        who: usize,
        full: bool,
        lost: bool,
    },
    /// Does what it was told: lets go, and takes.
    Obey {
        who: usize,
    },
    Leave {
        who: usize,
    },
    /// Is not heard of any more; somebody else takes its place.
    Crash {
        who: usize,
    },
    Subscribe {
        who: usize,
        topics: BTreeSet<usize>,
    },
    Wait {
        ms: i64,
    },
    Topic {
        which: usize,
        partitions: Option<i32>,
    },
}

const NAMES: [&str; 3] = ["x", "y", "z"];
const CONSUMERS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..CONSUMERS;
    prop_oneof![
        8 => (who(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(who, full, lost)| Step::Beat { who, full, lost }),
        6 => who().prop_map(|who| Step::Obey { who }),
        1 => who().prop_map(|who| Step::Leave { who }),
        1 => who().prop_map(|who| Step::Crash { who }),
        2 => (who(), prop::collection::btree_set(0..3usize, 0..3))
            .prop_map(|(who, topics)| Step::Subscribe { who, topics }),
        2 => (1..30_000i64).prop_map(|ms| Step::Wait { ms }),
        1 => (0..3usize, prop::option::weighted(0.8, 1..6i32))
            .prop_map(|(which, partitions)| Step::Topic { which, partitions }),
    ]
}

/// A group, its members as they see themselves, and what they subscribe to.
struct Shaken {
    script: Script,
    consumers: Vec<Consumer>,
    subscribed: Vec<BTreeSet<String>>,
    born: usize,
}

impl Shaken {
    fn new() -> Self {
        let mut shaken = Self {
            script: Script::new(&[("x", 3), ("y", 2)]),
            consumers: vec![Consumer::default(); CONSUMERS],
            subscribed: vec![BTreeSet::from(["x".to_owned(), "y".to_owned()]); CONSUMERS],
            born: 0,
        };
        (0..CONSUMERS).for_each(|who| shaken.be_born(who));
        shaken
    }

    fn be_born(&mut self, who: usize) {
        self.born += 1;
        self.consumers[who] = Consumer { id: format!("m{}", self.born), ..Consumer::default() };
    }

    fn beat(&mut self, who: usize, full: bool, lost: bool) {
        let consumer = self.consumers[who].clone();
        let full = full || consumer.unsure || consumer.epoch == JOIN;
        let said = Heartbeat {
            group: "g".into(),
            member: consumer.id.clone(),
            epoch: consumer.epoch,
            rebalance_timeout_ms: full.then_some(REBALANCE_TIMEOUT_MS),
            topics: full.then(|| self.subscribed[who].clone()),
            owned: (full || consumer.reads == consumer.told).then(|| consumer.reads.clone()),
            ..Heartbeat::default()
        };
        match self.script.beat(&said) {
            // It takes nothing of an older answer after it has said that it has nothing of it.
            Ok(_) if lost => self.consumers[who] = Consumer { told: consumer.reads.clone(), unsure: true, ..consumer },
            Ok(heard) => {
                let consumer = &mut self.consumers[who];
                consumer.unsure = false;
                consumer.epoch = heard.epoch;
                if let Some(told) = heard.assignment {
                    consumer.told = told;
                }
            }
            Err(ResponseError::UnknownMemberId | ResponseError::FencedMemberEpoch) => {
                // It gives up everything and joins anew.
                self.consumers[who] = Consumer { id: consumer.id, ..Consumer::default() };
            }
            // A crashed member is thrown out in the end.
            Err(ResponseError::GroupMaxSizeReached) => {}
            Err(error) => panic!("{error:?} for {said:?}"),
        }
    }

    /// First lets go, then takes what it was told, as clients do.
    fn obey(&mut self, who: usize) {
        let consumer = &mut self.consumers[who];
        consumer.reads = consumer.told.clone();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Beat { who, full, lost } => self.beat(who, full, lost),
            Step::Obey { who } => self.obey(who),
            Step::Leave { who } => {
                let id = self.consumers[who].id.clone();
                let _ = self.script.beat(&beat(&id, LEAVE));
                self.be_born(who);
            }
            Step::Crash { who } => self.be_born(who),
            Step::Subscribe { who, topics } => {
                self.subscribed[who] = topics.into_iter().map(|topic| NAMES[topic].to_owned()).collect();
            }
            Step::Wait { ms } => self.script.wait(ms),
            Step::Topic { which, partitions } => {
                let now = self.script.topics.get(NAMES[which]).map(|(_, partitions)| *partitions);
                self.script.topic(NAMES[which], partitions.map(|more| more.max(now.unwrap_or(0))));
            }
        }
        self.check_nothing_is_read_twice();
    }

    /// Among the members the group has: who was thrown out for being late may not know it yet.
    fn check_nothing_is_read_twice(&self) {
        let Some(group) = self.script.coordinator.group("g") else { return };
        let mut read = BTreeSet::new();
        for consumer in self.consumers.iter().filter(|consumer| group.members.contains_key(&consumer.id)) {
            for (topic, partitions) in &consumer.reads {
                for partition in partitions {
                    assert!(read.insert((*topic, *partition)), "{topic} {partition} is read twice");
                }
            }
        }
        let mut held = BTreeSet::new();
        for member in group.members.values() {
            for (topic, partitions) in member.assigned.iter().chain(&member.revoking) {
                for partition in partitions {
                    assert!(held.insert((*topic, *partition)), "{topic} {partition} is held twice");
                }
            }
        }
    }

    /// Everybody heartbeats and obeys for a while: longer than a session, so that the dead are gone.
    fn settle(&mut self) {
        for _ in 0..30 {
            for who in 0..CONSUMERS {
                self.beat(who, true, false);
                self.obey(who);
                self.check_nothing_is_read_twice();
            }
            self.script.wait(2000);
        }
    }

    fn check_settled(&self) {
        let group = self.script.group();
        assert_eq!((group.state(), group.members.len()), (GroupState::Stable, CONSUMERS));
        let mut read = BTreeSet::new();
        for (who, consumer) in self.consumers.iter().enumerate() {
            assert_eq!(Some(&consumer.reads), group.target_of(&consumer.id));
            for (topic, partitions) in &consumer.reads {
                let name = self.script.image.name(*topic).expect("it is there");
                assert!(self.subscribed[who].contains(name));
                read.extend(partitions.iter().map(|partition| (name.to_owned(), *partition)));
            }
        }
        let wanted = self.script.topics.iter().filter(|(name, _)| self.subscribed.iter().any(|s| s.contains(*name)));
        let wanted: BTreeSet<_> =
            wanted.flat_map(|(name, (_, count))| (0..*count).map(|partition| (name.clone(), partition))).collect();
        assert_eq!(read, wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_partition_is_read_twice_and_in_the_end_every_one_is_read(steps in prop::collection::vec(step(), 1..120)) {
        let mut shaken = Shaken::new();
        steps.into_iter().for_each(|step| shaken.take(step));
        shaken.settle();
        shaken.check_settled();
    }
}
