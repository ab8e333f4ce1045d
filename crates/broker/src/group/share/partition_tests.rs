//! Tables of calls of one share partition, and calls at random against what must always hold.

use proptest::prelude::*;

use super::*;

const LIMIT: i16 = 3;

/// A share partition of a test, which writes what it holds as one line.
struct Script {
    state: SharePartition,
    log_end: i64,
    max_in_flight: i64,
}

fn data(first: i64, last: i64) -> Stretch {
    Stretch { first, last, is_data: true }
}

impl Script {
    fn new(start: i64, log_end: i64) -> Self {
        Self { state: SharePartition::new(start), log_end, max_in_flight: 100 }
    }

    /// Acquires for a member from what the log has, in batches of ten, until time 100.
    fn acquire(&mut self, member: &str, max_records: i64, is_strict: bool) -> Vec<(i64, i64, i16)> {
        let Some(from) = self.state.next_offset(self.max_in_flight) else { return Vec::new() };
        let batches: Vec<Stretch> = (from / 10 * 10..self.log_end)
            .step_by(10)
            .map(|first| data(first, (first + 9).min(self.log_end - 1)))
            .collect();
        self.acquire_of(member, max_records, is_strict, &batches)
    }

    fn acquire_of(&mut self, member: &str, max: i64, is_strict: bool, read: &[Stretch]) -> Vec<(i64, i64, i16)> {
        let from = self.state.next_offset(self.max_in_flight).expect("something to acquire");
        let (member, max_in_flight) = (member.into(), self.max_in_flight);
        let order = Order { member, deadline_ms: 100, max_records: max, is_strict, max_in_flight };
        let acquired = self.state.acquire(&order, from, read);
        self.check();
        acquired.iter().map(|it| (it.first, it.last, it.deliveries)).collect()
    }

    fn ack(&mut self, member: &str, batches: &[(i64, i64, &[Ack])]) -> Result<(), ResponseError> {
        let batches: Vec<AckBatch> = batches
            .iter()
            .map(|(first, last, types)| AckBatch { first: *first, last: *last, types: types.to_vec() })
            .collect();
        let before = self.state.clone();
        let changes = self.state.acknowledge(member, &batches, 200, LIMIT);
        assert_eq!(self.state, before, "nothing changes before it is stored");
        self.state.apply(changes?);
        self.check();
        Ok(())
    }

    fn expire(&mut self, now_ms: i64) {
        let changes = self.state.expired(now_ms, LIMIT);
        self.state.apply(changes);
        self.check();
    }

    /// What holds at any time.
    fn check(&self) {
        let state = &self.state;
        let mut at = state.start;
        let mut before: Option<&Run> = None;
        for (first, run) in &state.runs {
            assert_eq!(*first, at, "the runs have a hole: {state:?}");
            assert!(run.last >= *first && run.deliveries >= 0);
            let is_alike = before.is_some_and(|it| it.state == run.state && it.deliveries == run.deliveries);
            assert!(!is_alike, "runs that could be one: {state:?}");
            (at, before) = (run.last + 1, Some(run));
        }
        assert_eq!(at, state.end, "{state:?}");
        let first = state.runs.values().next().map(|run| &run.state);
        assert!(!matches!(first, Some(State::Acknowledged | State::Archived)), "the start could move: {state:?}");
    }

    /// Everything in flight: offsets, state (with the first letter of who has it), deliveries.
    fn holds(&self) -> String {
        let run = |(first, run): (&i64, &Run)| {
            let state = match &run.state {
                State::Available => "free".to_owned(),
                State::Acquired { member, .. } => member.to_string(),
                State::Acknowledged => "done".to_owned(),
                State::Archived => "gone".to_owned(),
            };
            format!("{first}-{} {state} {}", run.last, run.deliveries)
        };
        self.state.runs.iter().map(run).collect::<Vec<_>>().join(", ")
    }
}

const ACCEPT: &[Ack] = &[Ack::Accept];
const RELEASE: &[Ack] = &[Ack::Release];
const REJECT: &[Ack] = &[Ack::Reject];

#[test]
fn records_are_with_one_member_at_a_time_and_the_start_follows_what_is_finished() {
    let mut script = Script::new(0, 30);
    assert_eq!(script.acquire("a", 10, false), [(0, 9, 1)]);
    assert_eq!(script.acquire("b", 15, false), [(10, 29, 1)], "batches are whole");
    assert_eq!(script.acquire("c", 10, false), []);
    script.ack("b", &[(10, 29, ACCEPT)]).expect("b has them");
    assert_eq!(script.holds(), "0-9 a 1, 10-29 done 1");
    script.ack("a", &[(0, 4, ACCEPT), (5, 5, REJECT), (6, 9, ACCEPT)]).expect("a has them");
    assert_eq!((script.state.start(), script.state.end(), script.state.in_flight()), (30, 30, 0));
}

#[test]
fn a_number_of_records_is_a_hint_or_a_limit() {
    let mut script = Script::new(3, 30);
    assert_eq!(script.acquire("a", 2, true), [(3, 4, 1)]);
    assert_eq!(script.acquire("b", 2, true), [(5, 6, 1)]);
    assert_eq!(script.acquire("c", 1, false), [(7, 9, 1)], "to the end of the batch");
    script.max_in_flight = 9;
    assert_eq!(script.acquire("d", 100, false), [(10, 11, 1)], "never more than may be in flight");
    assert_eq!(script.acquire("d", 100, false), []);
    script.ack("a", &[(3, 4, ACCEPT)]).expect("a has them");
    assert_eq!(script.acquire("d", 100, false), [(12, 13, 1)]);
}

#[test]
fn what_is_given_back_is_handed_out_again_until_there_were_enough() {
    let mut script = Script::new(0, 10);
    for delivery in 1..=LIMIT {
        assert_eq!(script.acquire("a", 10, false).first().map(|it| it.2), Some(delivery));
        script.ack("a", &[(0, 9, RELEASE)]).expect("a has them");
    }
    assert_eq!((script.acquire("a", 10, false), script.state.start()), (vec![], 10), "the last was for good");

    // By lock timeouts as well, each counted.
    let mut script = Script::new(0, 10);
    script.acquire("a", 10, false);
    assert_eq!(script.state.next_deadline_ms(), Some(100));
    script.expire(99);
    assert_eq!(script.holds(), "0-9 a 1");
    script.expire(100);
    assert_eq!(script.holds(), "0-9 free 1");
    assert_eq!(script.ack("a", &[(0, 9, ACCEPT)]), Err(ResponseError::InvalidRecordState), "too late");
    assert_eq!(script.acquire("b", 10, false), [(0, 9, 2)]);

    // Not by the end of a session: what is left of it was never looked at.
    script.ack("b", &[(0, 0, ACCEPT)]).expect("b has it");
    let changes = script.state.returned("b");
    script.state.apply(changes);
    assert_eq!(script.holds(), "1-9 free 1");
}

#[test]
fn locks_are_renewed() {
    let mut script = Script::new(0, 10);
    script.acquire("a", 10, false);
    script.ack("a", &[(2, 3, &[Ack::Renew])]).expect("a has them");
    script.expire(100);
    assert_eq!(script.holds(), "0-1 free 1, 2-3 a 1, 4-9 free 1");
    script.ack("a", &[(2, 3, ACCEPT)]).expect("a still has them");
    script.expire(i64::MAX);
    assert_eq!(script.holds(), "0-1 free 1, 2-3 done 1, 4-9 free 1");
}

#[test]
fn acknowledgements_are_taken_all_or_none() {
    let invalid = Err(ResponseError::InvalidRequest);
    let state = Err(ResponseError::InvalidRecordState);
    let mut script = Script::new(5, 30);
    script.acquire("a", 5, false);
    script.acquire("b", 10, false);
    let before = script.holds();
    for (batches, expected) in [
        (vec![(5, 9, ACCEPT), (10, 10, ACCEPT)], state),
        (vec![(5, 30, ACCEPT)], state),
        (vec![(20, 21, ACCEPT)], state),
        (vec![(6, 5, ACCEPT)], invalid),
        (vec![(-1, 5, ACCEPT)], invalid),
        (vec![(5, i64::MAX, &[] as &[Ack])], invalid),
        (vec![(5, 7, &[Ack::Accept, Ack::Release])], invalid),
        (vec![(i64::MAX - 1, i64::MAX, &[Ack::Accept, Ack::Release])], state),
        (vec![(0, i64::MAX, ACCEPT)], invalid),
        (vec![(1, i64::MAX, ACCEPT)], state),
        (vec![(7, 9, ACCEPT), (5, 6, ACCEPT)], invalid),
        (vec![(5, 7, ACCEPT), (7, 9, ACCEPT)], invalid),
    ] {
        assert_eq!(script.ack("a", &batches), expected, "{batches:?}");
        assert_eq!(script.holds(), before);
    }
    // One for each offset, and some that are finished already.
    let each = [Ack::Accept, Ack::Release, Ack::Release, Ack::Gap, Ack::Accept];
    script.ack("a", &[(0, 4, ACCEPT), (5, 9, &each)]).expect("a has them");
    assert_eq!(script.holds(), "6-7 free 1, 8-8 gone 1, 9-9 done 1, 10-19 b 1");
    assert_eq!(script.ack("a", &[(9, 9, ACCEPT)]), state, "once");
}

#[test]
fn offsets_without_records_are_passed_over() {
    let mut script = Script::new(0, 100);
    let nothing = |first, last| Stretch { first, last, is_data: false };
    let read = [data(2, 3), nothing(4, 4), data(8, 9), nothing(10, 12)];
    assert_eq!(script.acquire_of("a", 50, false, &read), [(2, 3, 1), (8, 9, 1)]);
    assert_eq!(script.holds(), "2-3 a 1, 4-7 gone 0, 8-9 a 1, 10-12 gone 0");
    script.ack("a", &[(2, 3, ACCEPT), (8, 8, ACCEPT), (9, 9, RELEASE)]).expect("a has them");
    // Compaction took the record that was given back, and its batch.
    assert_eq!(script.acquire_of("a", 50, false, &[data(20, 20)]), [(20, 20, 1)]);
    assert_eq!((script.state.start(), script.holds().as_str()), (20, "20-20 a 1"));
}

#[test]
fn a_log_that_begins_later_or_ends_earlier_takes_records_along() {
    let mut script = Script::new(0, 30);
    script.acquire("a", 20, false);
    script.ack("a", &[(10, 14, ACCEPT)]).expect("a has them");
    script.state.begin_at(5);
    assert_eq!(script.holds(), "5-9 a 1, 10-14 done 1, 15-19 a 1");
    script.state.begin_at(11);
    assert_eq!((script.state.start(), script.holds().as_str()), (15, "15-19 a 1"));
    script.state.end_at(18);
    assert_eq!((script.state.end(), script.holds().as_str()), (18, "15-17 a 1"));
    script.ack("a", &[(5, 17, ACCEPT)]).expect("what is gone needs none");
    script.state.begin_at(40);
    assert_eq!((script.state.start(), script.state.end()), (40, 40));
    script.state.end_at(30);
    assert_eq!((script.state.start(), script.state.end()), (30, 30), "what was read is not in the log any more");
}

#[derive(Debug, Clone)]
enum Step {
    Acquire(u8, i64, bool),
    Ack(u8, i64, i64, u8),
    Expire,
    Return(u8),
    Begin(i64),
    Store,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 1..30i64, any::<bool>()).prop_map(|(member, max, strict)| Step::Acquire(member, max, strict)),
        8 => (0..3u8, 0..100i64, 0..12i64, 0..5u8).prop_map(|(m, first, more, ack)| Step::Ack(m, first, more, ack)),
        1 => Just(Step::Expire),
        1 => (0..3u8).prop_map(Step::Return),
        1 => (0..60i64).prop_map(Step::Begin),
        1 => Just(Step::Store),
    ]
}

const MEMBERS: [&str; 3] = ["a", "b", "c"];
const ACKS: [Ack; 5] = [Ack::Gap, Ack::Accept, Ack::Release, Ack::Reject, Ack::Renew];

proptest! {
    /// Whatever is called, nothing accepted is handed out again, and nobody gets what another has.
    #[test]
    fn a_record_that_is_finished_stays_finished(steps in prop::collection::vec(steps(), 1..60)) {
        let mut script = Script::new(0, 100);
        script.max_in_flight = 40;
        let mut holder: std::collections::BTreeMap<i64, u8> = std::collections::BTreeMap::new();
        let mut finished = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Acquire(member, max, is_strict) => {
                    let mut count = 0;
                    for (first, last, _) in script.acquire(MEMBERS[usize::from(member)], max, is_strict) {
                        count += last - first + 1;
                        for offset in first..=last {
                            prop_assert!(!finished.contains(&offset), "{offset} was finished");
                            prop_assert_eq!(holder.insert(offset, member), None);
                        }
                    }
                    prop_assert!(!is_strict || count <= max);
                    prop_assert!(script.state.in_flight() <= 40);
                }
                Step::Ack(member, first, more, ack) => {
                    let last = first + more;
                    let ack = ACKS[usize::from(ack)];
                    let start = script.state.start();
                    let holds = (first.max(start)..=last).all(|offset| holder.get(&offset) == Some(&member));
                    let done = script.ack(MEMBERS[usize::from(member)], &[(first, last, &[ack])]);
                    prop_assert_eq!(done.is_ok(), holds);
                    if holds && ack != Ack::Renew {
                        for offset in first.max(start)..=last {
                            holder.remove(&offset);
                            if ack != Ack::Release {
                                finished.insert(offset);
                            }
                        }
                    }
                }
                Step::Expire => {
                    script.expire(i64::MAX);
                    holder.clear();
                }
                Step::Return(member) => {
                    let changes = script.state.returned(MEMBERS[usize::from(member)]);
                    script.state.apply(changes);
                    script.check();
                    holder.retain(|_, has| *has != member);
                }
                Step::Begin(start) => {
                    script.state.begin_at(start);
                    script.check();
                    holder.retain(|offset, _| *offset >= start);
                }
                Step::Store => {
                    // A restart: what is stored, and nobody has anything.
                    let mut again = SharePartition::new(script.state.start());
                    again.apply(script.state.changes());
                    script.state = again;
                    script.check();
                    holder.clear();
                }
            }
        }
    }
}
