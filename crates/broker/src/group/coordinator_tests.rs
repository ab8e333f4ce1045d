//! The coordinator as tables of calls: who does what at which time, and who is answered.

use kafka_protocol::ResponseError;

use super::*;

const LIMITS: Limits = Limits {
    min_session_timeout_ms: 10,
    max_session_timeout_ms: 100_000,
    initial_rebalance_delay_ms: 0,
    new_member_join_timeout_ms: 20_000,
    max_groups: 3,
    max_members: 3,
};
const SESSION_MS: i64 = 1000;
const REBALANCE_MS: i64 = 5000;

/// A coordinator with a clock and a short way to say things.
struct Script {
    coordinator: Coordinator,
    now: i64,
    next_token: Token,
}

impl Script {
    fn new() -> Self {
        Self::with(LIMITS)
    }

    fn with(limits: Limits) -> Self {
        Self { coordinator: Coordinator::new(limits), now: 0, next_token: 0 }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    /// A join whose member already has its id, or gets `new` at once.
    fn join_as(&mut self, change: impl FnOnce(&mut Join)) -> (Token, Vec<Reply>) {
        let token = self.token();
        let mut join = Join {
            group: "g".into(),
            member: String::new(),
            instance: None,
            client_id: "client".into(),
            client_host: "/host".into(),
            session_timeout_ms: SESSION_MS as i32,
            rebalance_timeout_ms: REBALANCE_MS as i32,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"sub"))],
            new_member: format!("n{token}"),
            must_know_member: false,
            can_skip_assignment: true,
        };
        change(&mut join);
        (token, self.coordinator.join(self.now, token, join))
    }

    fn join_new(&mut self, id: &str) -> (Token, Vec<Reply>) {
        self.join_as(|join| join.new_member = id.into())
    }

    fn rejoin(&mut self, id: &str) -> (Token, Vec<Reply>) {
        self.join_as(|join| join.member = id.into())
    }

    fn sync(&mut self, id: &str, generation: i32, assignments: &[(&str, &'static str)]) -> (Token, Vec<Reply>) {
        let token = self.token();
        let assignments =
            assignments.iter().map(|(id, text)| ((*id).to_owned(), Bytes::from_static(text.as_bytes()))).collect();
        let sync = Sync {
            group: "g".into(),
            member: id.into(),
            instance: None,
            generation,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments,
        };
        (token, self.coordinator.sync(self.now, token, sync))
    }

    fn heartbeat(&mut self, id: &str, generation: i32) -> Result<(), ResponseError> {
        let caller = Caller { group: "g", member: id, instance: None, generation };
        self.coordinator.heartbeat(self.now, caller)
    }

    fn tick_after(&mut self, ms: i64) -> Vec<Reply> {
        self.now += ms;
        self.coordinator.tick(self.now)
    }

    fn state(&self) -> GroupState {
        self.coordinator.group("g").expect("the group").state
    }

    /// Brings the members into a stable generation; the first leads.
    fn stable(&mut self, ids: &[&str]) -> i32 {
        for (at, id) in ids.iter().enumerate() {
            self.join_new(id);
            for earlier in &ids[..at] {
                self.rejoin(earlier);
            }
        }
        let generation = self.coordinator.group("g").expect("the group").generation;
        let assignments: Vec<(&str, &'static str)> = ids.iter().map(|id| (*id, "part")).collect();
        for id in ids {
            self.sync(id, generation, &assignments);
        }
        assert_eq!(self.state(), GroupState::Stable);
        generation
    }
}

/// A token, and the generation, leader and number of members told to it, or the error.
type JoinTold<'a> = (Token, Result<(i32, &'a str, usize), ResponseError>);

fn joins(replies: &[Reply]) -> Vec<JoinTold<'_>> {
    let told = replies.iter().filter_map(|reply| match reply {
        Reply::Joined(token, Ok(joined)) => {
            Some((*token, Ok((joined.generation, joined.leader.as_str(), joined.members.len()))))
        }
        Reply::Joined(token, Err(refused)) => Some((*token, Err(refused.error))),
        Reply::Synced(..) => None,
    });
    told.collect()
}

fn syncs(replies: &[Reply]) -> Vec<(Token, Result<&[u8], ResponseError>)> {
    let told = replies.iter().filter_map(|reply| match reply {
        Reply::Synced(token, Ok(synced)) => Some((*token, Ok(&synced.assignment[..]))),
        Reply::Synced(token, Err(error)) => Some((*token, Err(*error))),
        Reply::Joined(..) => None,
    });
    told.collect()
}

#[test]
fn a_lone_member_joins_and_is_assigned() {
    let mut script = Script::new();
    let (token, replies) = script.join_new("a");
    assert_eq!(joins(&replies), [(token, Ok((1, "a", 1)))]);
    assert_eq!(script.heartbeat("a", 1), Ok(()));
    let (token, replies) = script.sync("a", 1, &[("a", "all"), ("stranger", "ignored")]);
    assert_eq!(syncs(&replies), [(token, Ok(&b"all"[..]))]);
    // Asked again, it is answered again.
    let (token, replies) = script.sync("a", 1, &[]);
    assert_eq!(syncs(&replies), [(token, Ok(&b"all"[..]))]);
}

#[test]
fn a_second_member_waits_for_the_first_to_rejoin() {
    let mut script = Script::new();
    script.stable(&["a"]);
    let (second, replies) = script.join_new("b");
    assert!(replies.is_empty());
    assert_eq!(script.heartbeat("a", 1), Err(ResponseError::RebalanceInProgress));
    let (first, replies) = script.rejoin("a");
    assert_eq!(joins(&replies), [(first, Ok((2, "a", 2))), (second, Ok((2, "a", 0)))]);
    // The follower's assignment waits for the leader's.
    let (follower, replies) = script.sync("b", 2, &[]);
    assert!(replies.is_empty());
    let (leader, replies) = script.sync("a", 2, &[("a", "x"), ("b", "y")]);
    assert_eq!(syncs(&replies), [(leader, Ok(&b"x"[..])), (follower, Ok(&b"y"[..]))]);
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_left_behind() {
    let mut script = Script::new();
    script.stable(&["a"]);
    let (token, _) = script.join_new("b");
    // Its heartbeats go on, but it never joins.
    for _ in 0..9 {
        assert!(script.tick_after(SESSION_MS / 2).is_empty());
        assert_eq!(script.heartbeat("a", 1), Err(ResponseError::RebalanceInProgress));
    }
    let replies = script.tick_after(SESSION_MS / 2);
    assert_eq!(joins(&replies), [(token, Ok((2, "b", 1)))]);
    assert_eq!(script.heartbeat("a", 1), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_silent_member_is_thrown_out_and_the_group_rebalances_without_it() {
    let mut script = Script::new();
    let generation = script.stable(&["a", "b"]);
    script.now += SESSION_MS - 1;
    assert_eq!(script.heartbeat("b", generation), Ok(()));
    assert!(script.tick_after(1).is_empty());
    assert_eq!(script.state(), GroupState::PreparingRebalance);
    let (token, replies) = script.rejoin("b");
    assert_eq!(joins(&replies), [(token, Ok((generation + 1, "b", 1)))]);
}

#[test]
fn the_last_member_gone_leaves_the_group_empty_and_a_new_one_starts_higher() {
    let mut script = Script::new();
    let generation = script.stable(&["a"]);
    let (left, _) = script.coordinator.leave(script.now, "g", "a", None);
    assert_eq!((left, script.state()), (Ok(()), GroupState::Empty));
    assert_eq!(script.coordinator.next_deadline_ms(), None);
    let (token, replies) = script.join_new("b");
    assert_eq!(joins(&replies), [(token, Ok((generation + 2, "b", 1)))]);
}

#[test]
fn a_new_clients_first_join_only_gets_it_an_id() {
    let mut script = Script::new();
    let (token, replies) = script.join_as(|join| {
        join.new_member = "a".into();
        join.must_know_member = true;
    });
    let refused = JoinRefused { error: ResponseError::MemberIdRequired, member: "a".into() };
    assert_eq!(replies, [Reply::Joined(token, Err(refused))]);
    // Another member's join waits for the id to be used, or to be forgotten.
    let (other, replies) = script.join_new("b");
    assert!(replies.is_empty());
    let replies = script.tick_after(SESSION_MS);
    assert_eq!(joins(&replies), [(other, Ok((1, "b", 1)))]);
    let (late, replies) = script.rejoin("a");
    assert_eq!(joins(&replies), [(late, Err(ResponseError::UnknownMemberId))]);
}

#[test]
fn the_first_rebalance_of_a_group_waits_for_more_members() {
    let mut script = Script::with(Limits { initial_rebalance_delay_ms: 100, ..LIMITS });
    let (a, replies) = script.join_new("a");
    assert!(replies.is_empty());
    assert!(script.tick_after(60).is_empty());
    let (b, replies) = script.join_new("b");
    assert!(replies.is_empty());
    // The second member made it wait anew.
    assert!(script.tick_after(60).is_empty());
    let replies = script.tick_after(40);
    assert_eq!(joins(&replies), [(a, Ok((1, "a", 2))), (b, Ok((1, "a", 0)))]);
}

#[test]
fn a_join_that_cannot_be_is_refused() {
    let refused = |change: &dyn Fn(&mut Join)| {
        let mut script = Script::new();
        script.stable(&["a"]);
        let (_, replies) = script.join_as(|join| change(join));
        joins(&replies)[0].1.err()
    };
    assert_eq!(refused(&|j| j.group.clear()), Some(ResponseError::InvalidGroupId));
    assert_eq!(refused(&|j| j.session_timeout_ms = 9), Some(ResponseError::InvalidSessionTimeout));
    assert_eq!(refused(&|j| j.session_timeout_ms = 100_001), Some(ResponseError::InvalidSessionTimeout));
    assert_eq!(refused(&|j| j.protocols.clear()), Some(ResponseError::InconsistentGroupProtocol));
    assert_eq!(refused(&|j| j.protocol_type = "connect".into()), Some(ResponseError::InconsistentGroupProtocol));
    assert_eq!(refused(&|j| j.protocols[0].0 = "other".into()), Some(ResponseError::InconsistentGroupProtocol));
    assert_eq!(refused(&|j| j.member = "stranger".into()), Some(ResponseError::UnknownMemberId));
    assert_eq!(
        refused(&|j| (j.group, j.member) = ("new".into(), "stranger".into())),
        Some(ResponseError::UnknownMemberId)
    );
}

#[test]
fn groups_and_members_are_limited() {
    let mut script = Script::new();
    for id in ["a", "b", "c"] {
        script.join_new(id);
    }
    let (token, replies) = script.join_new("d");
    assert_eq!(joins(&replies), [(token, Err(ResponseError::GroupMaxSizeReached))]);
    for (group, fits) in [("g2", true), ("g3", true), ("g4", false)] {
        let (_, replies) = script.join_as(|join| join.group = group.into());
        assert_eq!(joins(&replies)[0].1.is_ok(), fits, "{group}");
    }
    script.coordinator.leave(0, "g2", "n5", None).0.expect("left");
    script.coordinator.forget_idle(|_| false);
    let (_, replies) = script.join_as(|join| join.group = "g4".into());
    assert!(joins(&replies)[0].1.is_ok());
}

#[test]
fn the_protocol_most_members_prefer_is_chosen_among_those_all_know() {
    let chosen = |lists: &[&[&str]]| {
        let mut script = Script::with(Limits { initial_rebalance_delay_ms: 10, ..LIMITS });
        for list in lists {
            script.join_as(|join| {
                join.protocols = list.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect();
            });
        }
        script.tick_after(10);
        script.coordinator.group("g").and_then(|group| group.protocol.clone()).expect("chosen")
    };
    assert_eq!(chosen(&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]]), "sticky");
    assert_eq!(chosen(&[&["range", "sticky"], &["sticky"]]), "sticky");
    assert_eq!(chosen(&[&["b", "a"], &["a", "b"]]), "a");
}

#[test]
fn a_lost_join_reply_is_given_again_without_a_rebalance() {
    let mut script = Script::new();
    script.stable(&["a", "b"]);
    let (token, replies) = script.rejoin("b");
    assert_eq!(joins(&replies), [(token, Ok((2, "a", 0)))]);
    assert_eq!(script.state(), GroupState::Stable);
    // The leader that joins again, or a changed subscription, starts one.
    script.rejoin("a");
    assert_eq!(script.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_changed_subscription_rebalances() {
    let mut script = Script::new();
    script.stable(&["a", "b"]);
    let (_, replies) = script.join_as(|join| {
        join.member = "b".into();
        join.protocols[0].1 = Bytes::from_static(b"more topics");
    });
    assert!(replies.is_empty());
    assert_eq!(script.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_rebalance_cancels_the_syncs_that_wait() {
    let mut script = Script::new();
    script.stable(&["a"]);
    script.join_new("b");
    script.rejoin("a");
    let (waiting, _) = script.sync("b", 2, &[]);
    let (_, replies) = script.join_new("c");
    assert_eq!(syncs(&replies), [(waiting, Err(ResponseError::RebalanceInProgress))]);
}

#[test]
fn a_leader_that_never_assigns_is_thrown_out() {
    let mut script = Script::new();
    script.stable(&["a"]);
    script.join_new("b");
    script.rejoin("a");
    let (waiting, _) = script.sync("b", 2, &[]);
    let mut replies = Vec::new();
    while replies.is_empty() && script.now < 2 * REBALANCE_MS {
        replies = script.tick_after(SESSION_MS / 2);
        let _ = script.heartbeat("a", 2);
    }
    assert_eq!(syncs(&replies), [(waiting, Err(ResponseError::RebalanceInProgress))]);
    assert_eq!(script.heartbeat("a", 2), Err(ResponseError::UnknownMemberId));
    let (token, replies) = script.rejoin("b");
    assert_eq!(joins(&replies), [(token, Ok((3, "b", 1)))]);
}

#[test]
fn syncs_and_heartbeats_of_another_generation_or_member_are_refused() {
    let mut script = Script::new();
    script.stable(&["a"]);
    let result = |(_, replies): (Token, Vec<Reply>)| syncs(&replies)[0].1.err();
    assert_eq!(result(script.sync("a", 0, &[])), Some(ResponseError::IllegalGeneration));
    assert_eq!(result(script.sync("z", 1, &[])), Some(ResponseError::UnknownMemberId));
    assert_eq!(script.heartbeat("a", 2), Err(ResponseError::IllegalGeneration));
    assert_eq!(script.heartbeat("z", 1), Err(ResponseError::UnknownMemberId));
    script.join_new("b");
    assert_eq!(result(script.sync("a", 1, &[])), Some(ResponseError::RebalanceInProgress));
}

fn static_join(script: &mut Script, new: &str) -> (Token, Vec<Reply>) {
    script.join_as(|join| {
        join.instance = Some("i".into());
        join.new_member = new.into();
    })
}

#[test]
fn a_static_member_takes_its_old_place_without_a_rebalance() {
    let mut script = Script::new();
    static_join(&mut script, "old");
    script.sync("old", 1, &[("old", "all")]);
    let (token, replies) = static_join(&mut script, "new");
    assert_eq!(joins(&replies), [(token, Ok((1, "new", 1)))]);
    assert_eq!(script.state(), GroupState::Stable);
    assert_eq!(script.heartbeat("new", 1), Ok(()));
    let (token, replies) = script.sync("new", 1, &[]);
    assert_eq!(syncs(&replies), [(token, Ok(&b"all"[..]))]);
    // Whoever still uses the old id is told that it was replaced.
    let old = Caller { group: "g", member: "old", instance: Some("i"), generation: 1 };
    assert_eq!(script.coordinator.heartbeat(0, old), Err(ResponseError::FencedInstanceId));
    assert_eq!(script.coordinator.leave(0, "g", "old", Some("i")).0, Err(ResponseError::FencedInstanceId));
    assert_eq!(script.coordinator.leave(0, "g", "", Some("i")).0, Ok(()));
    assert_eq!(script.state(), GroupState::Empty);
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_until_its_session_ends() {
    let mut script = Script::new();
    static_join(&mut script, "s");
    script.sync("s", 1, &[]);
    let (waiting, replies) = script.join_new("b");
    assert!(replies.is_empty());
    let replies = script.tick_after(SESSION_MS);
    assert_eq!(joins(&replies), [(waiting, Ok((2, "b", 1)))]);
}

#[test]
fn a_static_member_that_owned_something_else_takes_its_place_and_one_that_follows_something_else_does_not() {
    let back = |protocols: &[&str]| {
        let mut script = Script::new();
        static_join(&mut script, "old");
        script.sync("old", 1, &[("old", "all")]);
        script.join_as(|join| {
            join.instance = Some("i".into());
            join.protocols = protocols.iter().map(|name| ((*name).to_owned(), Bytes::from_static(b"owned"))).collect();
        });
        (script.state(), script.coordinator.group("g").expect("the group").generation)
    };
    assert_eq!(back(&["range"]), (GroupState::Stable, 1));
    // It must still share a protocol; another choice is settled anew.
    assert_eq!(back(&["sticky", "range"]), (GroupState::CompletingRebalance, 2));
}

#[test]
fn a_static_leader_of_an_older_client_is_not_told_that_it_leads() {
    let told = |can_skip| {
        let mut script = Script::new();
        static_join(&mut script, "old");
        script.sync("old", 1, &[("old", "all")]);
        let (_, replies) = script.join_as(|join| {
            (join.instance, join.new_member) = (Some("i".into()), "new".into());
            join.can_skip_assignment = can_skip;
        });
        match &replies[..] {
            [Reply::Joined(_, Ok(joined))] => (joined.leader.clone(), joined.skip_assignment, joined.members.len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told(true), ("new".to_owned(), true, 1));
    assert_eq!(told(false), ("old".to_owned(), false, 0));
}

#[test]
fn a_static_member_replaced_before_it_was_assigned_starts_a_new_generation() {
    let mut script = Script::new();
    static_join(&mut script, "old");
    let (waiting, replies) = script.sync("old", 0, &[]);
    assert_eq!(syncs(&replies), [(waiting, Err(ResponseError::IllegalGeneration))]);
    // The leader may already assign to the old id.
    let (token, replies) = static_join(&mut script, "new");
    assert_eq!(joins(&replies), [(token, Ok((2, "new", 1)))]);
    let old = Caller { group: "g", member: "old", instance: Some("i"), generation: 1 };
    assert_eq!(script.coordinator.heartbeat(0, old), Err(ResponseError::FencedInstanceId));
}

#[test]
fn an_instance_that_nobody_has_is_unknown() {
    let mut script = Script::new();
    script.stable(&["a"]);
    let caller = Caller { group: "g", member: "a", instance: Some("other"), generation: 1 };
    assert_eq!(script.coordinator.heartbeat(0, caller), Err(ResponseError::UnknownMemberId));
    assert_eq!(script.coordinator.leave(0, "g", "", Some("other")).0, Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_member_that_never_asks_for_its_assignment_is_thrown_out() {
    let mut script = Script::new();
    script.stable(&["a"]);
    script.join_new("b");
    script.rejoin("a");
    script.sync("a", 2, &[("a", "x"), ("b", "y")]);
    assert_eq!(script.state(), GroupState::Stable);
    for _ in 0..2 * REBALANCE_MS / SESSION_MS {
        assert_eq!((script.heartbeat("a", 2), script.heartbeat("b", 2)), (Ok(()), Ok(())));
        assert!(script.tick_after(SESSION_MS / 2).is_empty());
    }
    assert_eq!(script.state(), GroupState::PreparingRebalance);
    assert_eq!(script.heartbeat("b", 2), Err(ResponseError::UnknownMemberId));
    assert_eq!(script.heartbeat("a", 2), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn a_new_member_that_waits_too_long_is_thrown_out() {
    let mut script = Script::with(Limits { new_member_join_timeout_ms: 3000, ..LIMITS });
    script.stable(&["a"]);
    let (token, replies) = script.join_new("b");
    assert!(replies.is_empty());
    let mut replies = Vec::new();
    while replies.is_empty() && script.now < REBALANCE_MS {
        let _ = script.heartbeat("a", 1);
        replies = script.tick_after(SESSION_MS / 2);
    }
    assert_eq!((joins(&replies), script.now), (vec![(token, Err(ResponseError::UnknownMemberId))], 3000));
}

#[test]
fn cooperative_members_rebalance_twice_and_go_on_meanwhile() {
    let mut script = Script::new();
    script.stable(&["a"]);
    let (b, _) = script.join_new("b");
    let (a, replies) = script.rejoin("a");
    assert_eq!(joins(&replies), [(a, Ok((2, "a", 2))), (b, Ok((2, "a", 0)))]);
    // First what has to be given up is taken, then it is given on.
    for (generation, given) in [(2, ""), (3, "p1")] {
        script.sync("a", generation, &[("a", "p0"), ("b", given)]);
        let (token, replies) = script.sync("b", generation, &[]);
        assert_eq!(syncs(&replies), [(token, Ok(given.as_bytes()))]);
        if generation == 2 {
            script.join_as(|join| {
                join.member = "a".into();
                join.protocols[0].1 = Bytes::from_static(b"owns p0");
            });
            assert_eq!(script.heartbeat("b", 2), Err(ResponseError::RebalanceInProgress));
            script.rejoin("b");
        }
    }
    assert_eq!((script.state(), script.heartbeat("b", 3)), (GroupState::Stable, Ok(())));
}

#[test]
fn commits_are_for_members_of_the_generation_or_for_groups_without() {
    let mut script = Script::new();
    let commit = |script: &mut Script, member: &str, generation| {
        script.coordinator.check_commit(script.now, Caller { group: "g", member, instance: None, generation })
    };
    assert_eq!(commit(&mut script, "", -1), Ok(()));
    assert_eq!(commit(&mut script, "a", 1), Err(ResponseError::IllegalGeneration));
    script.join_new("a");
    assert_eq!(commit(&mut script, "a", 1), Err(ResponseError::RebalanceInProgress));
    script.sync("a", 1, &[]);
    assert_eq!(commit(&mut script, "a", 1), Ok(()));
    assert_eq!(commit(&mut script, "", -1), Err(ResponseError::UnknownMemberId));
    assert_eq!(commit(&mut script, "a", 0), Err(ResponseError::IllegalGeneration));
    assert_eq!(commit(&mut script, "stranger", -1), Err(ResponseError::UnknownMemberId));
    // While others join, the members of the generation may still commit what they have read.
    script.join_new("b");
    assert_eq!(commit(&mut script, "a", 1), Ok(()));
}

#[test]
fn only_a_group_without_members_can_be_deleted() {
    let mut script = Script::new();
    assert_eq!(script.coordinator.delete("g"), Err(ResponseError::GroupIdNotFound));
    script.stable(&["a"]);
    assert_eq!(script.coordinator.delete("g"), Err(ResponseError::NonEmptyGroup));
    script.coordinator.leave(0, "g", "a", None).0.expect("left");
    assert_eq!(script.coordinator.delete("g"), Ok(()));
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Act {
        Join(u8, bool),
        /// A static member comes back without its id.
        Return(u8),
        Sync(u8),
        Heartbeat(u8),
        Leave(u8),
        Wait(i64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0..4u8, any::<bool>()).prop_map(|(who, fixed)| Act::Join(who, fixed)),
            (0..4u8).prop_map(Act::Return),
            (0..4u8).prop_map(Act::Sync),
            (0..4u8).prop_map(Act::Heartbeat),
            (0..4u8).prop_map(Act::Leave),
            (1..3000i64).prop_map(Act::Wait),
        ]
    }

    /// What one run of acts led to.
    #[derive(Default)]
    struct Seen {
        replies: Vec<Reply>,
        /// What the leader of a generation assigned, when it was its turn to.
        assigned: BTreeMap<(i32, String), Bytes>,
        /// Who waits for the assignment of which generation.
        asked: BTreeMap<Token, (i32, String)>,
        generation: i32,
    }

    impl Seen {
        fn sync(&mut self, script: &mut Script, id: &str, generation: i32) {
            let group = script.coordinator.group("g");
            let awaited = group.is_some_and(|group| {
                group.state == GroupState::CompletingRebalance && group.leader.as_deref() == Some(id)
            });
            let members: Vec<String> = group.map(|group| group.members.keys().cloned().collect()).unwrap_or_default();
            // Each member's part names the generation and the member.
            let parts: Vec<String> = members.iter().map(|member| format!("{generation} {member}")).collect();
            if awaited {
                let part = |(member, part): (&String, &String)| ((generation, member.clone()), part.clone().into());
                self.assigned.extend(members.iter().zip(&parts).map(part));
            }
            let token = script.token();
            self.asked.insert(token, (generation, id.to_owned()));
            let sync = Sync {
                group: "g".into(),
                member: id.into(),
                instance: None,
                generation,
                protocol_type: None,
                protocol: None,
                assignments: members.into_iter().zip(parts.into_iter().map(Bytes::from)).collect(),
            };
            self.replies.extend(script.coordinator.sync(script.now, token, sync));
        }

        fn act(&mut self, script: &mut Script, act: &Act) {
            let generation = script.coordinator.group("g").map_or(0, |group| group.generation);
            let instance = |who: u8| format!("m{who}");
            let group = script.coordinator.group("g");
            let id = |who: u8| group.and_then(|g| g.instances.get(&instance(who)).cloned()).unwrap_or(instance(who));
            match *act {
                Act::Join(who, fixed) => {
                    let id = id(who);
                    let known = group.is_some_and(|g| g.members.contains_key(&id));
                    let join = script.join_as(|join| {
                        join.instance = (fixed && !known).then(|| instance(who));
                        join.new_member.clone_from(&id);
                        join.member = if known { id } else { String::new() };
                    });
                    self.replies.extend(join.1);
                }
                Act::Return(who) => {
                    let old = id(who);
                    self.replies.extend(script.join_as(|join| join.instance = Some(instance(who))).1);
                    // It inherits what the one before was given.
                    let new = script.coordinator.group("g").and_then(|g| g.instances.get(&instance(who)).cloned());
                    if let Some((new, part)) = new.zip(self.assigned.get(&(generation, old)).cloned()) {
                        self.assigned.insert((generation, new), part);
                    }
                }
                Act::Sync(who) => {
                    let id = id(who);
                    self.sync(script, &id, generation);
                }
                Act::Heartbeat(who) => {
                    let id = id(who);
                    let _ = script.heartbeat(&id, generation);
                }
                Act::Leave(who) => {
                    let id = id(who);
                    self.replies.extend(script.coordinator.leave(script.now, "g", &id, None).1);
                }
                Act::Wait(ms) => self.replies.extend(script.tick_after(ms)),
            }
        }

        /// What must hold after every act.
        fn check(&mut self, script: &Script) {
            let Some(group) = script.coordinator.group("g") else { return };
            assert!(group.generation >= self.generation, "generations never go back");
            self.generation = group.generation;
            if let Some(leader) = &group.leader {
                assert!(group.members.contains_key(leader), "the leader is a member");
            }
            assert!(group.unsynced.iter().all(|id| group.members.contains_key(id)), "only members are waited for");
        }
    }

    proptest! {
        /// Whatever the members do: every request is answered exactly once in the end, one
        /// generation never has two leaders, and a member gets what its leader gave it.
        #[test]
        fn every_request_is_answered_once(acts in prop::collection::vec(act(), 1..80)) {
            let mut script = Script::with(Limits { initial_rebalance_delay_ms: 50, ..LIMITS });
            let mut seen = Seen::default();
            for act in acts {
                seen.act(&mut script, &act);
                seen.check(&script);
            }
            // Time alone ends every wait: a minute, a second at a time.
            for _ in 0..60 {
                seen.replies.extend(script.tick_after(1000));
                seen.check(&script);
            }
            let mut tokens: Vec<Token> = seen.replies.iter().map(|reply| match reply {
                Reply::Joined(token, _) | Reply::Synced(token, _) => *token,
            }).collect();
            tokens.sort_unstable();
            prop_assert_eq!(tokens, (1..=script.next_token).collect::<Vec<_>>());
            prop_assert_eq!(script.coordinator.next_deadline_ms(), None, "nothing is waited for");
            let mut leaders: std::collections::HashMap<i32, &str> = std::collections::HashMap::new();
            for reply in &seen.replies {
                match reply {
                    // One that came back leads under a new id, and is told that it need not assign.
                    Reply::Joined(_, Ok(joined)) if !joined.members.is_empty() && !joined.skip_assignment => {
                        let leader = leaders.entry(joined.generation).or_insert(&joined.leader);
                        prop_assert_eq!(*leader, joined.leader.as_str());
                    }
                    Reply::Synced(token, Ok(synced)) => {
                        prop_assert_eq!(seen.assigned.get(&seen.asked[token]), Some(&synced.assignment));
                    }
                    _ => {}
                }
            }
        }
    }
}
