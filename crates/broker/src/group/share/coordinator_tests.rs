//! Tables of heartbeats of share groups.

use super::*;

const LIMITS: Limits = Limits { heartbeat_interval_ms: 5000, session_timeout_ms: 45_000, max_members: 3 };

struct Script {
    coordinator: Coordinator,
    image: TopicImage,
    now_ms: i64,
}

type Said = Result<(i32, Option<Vec<(u128, Vec<i32>)>>), ResponseError>;

impl Script {
    /// With a group `g`, and topics by their names, ids and partitions.
    fn new(topics: &[(&str, u128, i32)]) -> Self {
        let coordinator = Coordinator::new(["g".to_owned()]);
        let mut script = Self { coordinator, image: TopicImage::default(), now_ms: 0 };
        script.topics(1, topics);
        script
    }

    fn topics(&mut self, version: u64, topics: &[(&str, u128, i32)]) {
        let topics = topics.iter().map(|(name, id, count)| ((*name).to_owned(), Uuid::from_u128(*id), *count));
        self.image = TopicImage::new(version, topics);
    }

    fn beat(&mut self, member: &str, epoch: i32, topics: Option<&[&str]>) -> Said {
        let topics = topics.map(|topics| topics.iter().map(|topic| (*topic).to_owned()).collect());
        let beat = Heartbeat { group: "g".into(), member: member.into(), epoch, topics, ..Heartbeat::default() };
        beat.check().map_err(|refused| refused.error)?;
        let heard = self.coordinator.heartbeat(self.now_ms, &LIMITS, &self.image, &beat);
        let heard = heard.map_err(|refused| refused.error)?;
        let told = heard.assignment.map(|assignment| {
            assignment.into_iter().map(|(topic, of)| (topic.as_u128(), of.into_iter().collect())).collect()
        });
        Ok((heard.epoch, told))
    }
}

#[test]
fn a_member_is_told_what_it_reads_when_that_changes() {
    let mut script = Script::new(&[("t", 1, 2)]);
    let group = |script: &Script| script.coordinator.group("g").map(|group| (group.state(), group.epoch));
    assert_eq!(group(&script), Some(("Empty", 0)));
    assert_eq!(script.beat("a", 0, Some(&["t"])), Ok((1, Some(vec![(1, vec![0, 1])]))));
    assert_eq!(script.beat("a", 1, None), Ok((1, None)));
    assert_eq!(script.beat("b", 0, Some(&["t"])), Ok((2, Some(vec![(1, vec![1])]))));
    assert_eq!(script.beat("a", 1, None), Ok((2, Some(vec![(1, vec![0])]))));
    assert_eq!(script.beat("a", 1, None), Ok((2, None)), "the answer that named the epoch may have been lost");
    assert_eq!(script.beat("a", 2, Some(&["t"])), Ok((2, Some(vec![(1, vec![0])]))), "who says all is told all");
    assert_eq!(group(&script), Some(("Stable", 2)));
    // Partitions come, and a topic that was waited for.
    script.topics(2, &[("t", 1, 4)]);
    assert_eq!(script.beat("a", 2, Some(&["t", "u"])), Ok((3, Some(vec![(1, vec![0, 2])]))));
    script.topics(3, &[("t", 1, 4), ("u", 2, 1)]);
    assert_eq!(script.beat("a", 3, None), Ok((4, Some(vec![(1, vec![0, 2]), (2, vec![0])]))));
    // A change of other topics is none.
    script.topics(4, &[("t", 1, 4), ("u", 2, 1), ("v", 3, 1)]);
    assert_eq!(script.beat("a", 4, None), Ok((4, None)));
    // Who leaves is read for.
    assert_eq!(script.beat("b", -1, None), Ok((-1, None)));
    assert_eq!(script.beat("a", 4, None), Ok((5, Some(vec![(1, vec![0, 1, 2, 3]), (2, vec![0])]))));
    assert_eq!(script.beat("a", 5, Some(&[])), Ok((6, Some(vec![]))));
}

#[test]
fn a_member_that_is_silent_is_thrown_out() {
    let mut script = Script::new(&[("t", 1, 2)]);
    script.beat("a", 0, Some(&["t"])).expect("joins");
    script.now_ms = 44_999;
    script.beat("b", 0, Some(&["t"])).expect("joins");
    assert_eq!(script.coordinator.tick(44_999), []);
    assert_eq!(script.coordinator.next_deadline_ms(), Some(45_000));
    assert_eq!(script.coordinator.tick(45_000), [("g".to_owned(), "a".to_owned())]);
    assert_eq!(script.beat("a", 1, None), Err(ResponseError::UnknownMemberId));
    assert_eq!(script.beat("b", 2, None), Ok((3, Some(vec![(1, vec![0, 1])]))));
    assert_eq!(script.coordinator.delete("g"), Err(ResponseError::NonEmptyGroup));
    script.beat("b", -1, None).expect("leaves");
    assert_eq!(script.coordinator.delete("g"), Ok(()));
    assert_eq!(script.coordinator.delete("g"), Err(ResponseError::GroupIdNotFound));
    assert_eq!(script.beat("b", 0, Some(&["t"])), Err(ResponseError::GroupIdNotFound));
}

#[test]
fn what_makes_no_sense_is_refused_and_members_are_limited() {
    let mut script = Script::new(&[("t", 1, 2)]);
    let invalid = Err(ResponseError::InvalidRequest);
    assert_eq!(script.beat("", 0, Some(&["t"])), invalid);
    assert_eq!(script.beat("a", 0, None), invalid);
    assert_eq!(script.beat("a", 0, Some(&[])), invalid);
    assert_eq!(script.beat("a", -2, None), invalid);
    assert_eq!(script.beat("a", 1, None), Err(ResponseError::UnknownMemberId));
    assert_eq!(script.beat("a", -1, None), Err(ResponseError::UnknownMemberId));
    for member in ["a", "b", "c"] {
        script.beat(member, 0, Some(&["t"])).expect("joins");
    }
    assert_eq!(script.beat("d", 0, Some(&["t"])), Err(ResponseError::GroupMaxSizeReached));
    assert_eq!(script.beat("a", 7, None), Err(ResponseError::FencedMemberEpoch));
    assert!(script.beat("a", 0, Some(&["t"])).is_ok(), "a member may join again");
}
