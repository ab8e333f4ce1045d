//! Sessions as a script: requests go in, what is read and told comes out.

use super::*;

/// A cache, the time, and the epoch rules of a client.
struct Script {
    cache: SessionCache,
    now_ms: i64,
    ids: i32,
}

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn topic(text: &str, partitions: &[(i32, i64)]) -> FetchTopic {
    let partitions = partitions
        .iter()
        .map(|&(index, offset)| FetchPartition::default().with_partition(index).with_fetch_offset(offset));
    FetchTopic::default().with_topic(name(text)).with_partitions(partitions.collect())
}

fn request(session_id: i32, epoch: i32, topics: Vec<FetchTopic>) -> Asked {
    Asked { session_id, epoch, by_id: false, topics, forgotten: Vec::new() }
}

fn told(index: i32, high_watermark: i64) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_high_watermark(high_watermark)
        .with_last_stable_offset(high_watermark)
        .with_log_start_offset(0)
        .with_records(Some(Bytes::new()))
}

fn response(text: &str, partitions: Vec<PartitionData>) -> Vec<FetchableTopicResponse> {
    vec![FetchableTopicResponse::default().with_topic(name(text)).with_partitions(partitions)]
}

/// (topic, partition, offset) of what is to be read.
fn wanted(topics: &[FetchTopic]) -> Vec<(String, i32, i64)> {
    let all = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(move |one| (topic.topic.to_string(), one.partition, one.fetch_offset))
    });
    all.collect()
}

fn indexes(responses: &[FetchableTopicResponse]) -> Vec<i32> {
    responses.iter().flat_map(|topic| topic.partitions.iter().map(|data| data.partition_index)).collect()
}

impl Script {
    fn with(slots: usize, max_partitions: usize) -> Self {
        Self { cache: SessionCache::new(slots, max_partitions), now_ms: 0, ids: 0 }
    }

    fn finish(&mut self, scope: Scope, responses: Vec<FetchableTopicResponse>) -> Result<Answer, (i32, ResponseError)> {
        let ids = &mut self.ids;
        self.cache.finish(self.now_ms, scope, responses, || {
            *ids += 1;
            *ids
        })
    }

    /// A full fetch of `partitions` of topic t, all of them at high watermark 10.
    fn full(&mut self, partitions: &[i32]) -> i32 {
        let asked: Vec<_> = partitions.iter().map(|&index| (index, 10)).collect();
        let (scope, _) = self.cache.open(self.now_ms, request(0, 0, vec![topic("t", &asked)])).expect("opened");
        let data = partitions.iter().map(|&index| told(index, 10)).collect();
        self.finish(scope, response("t", data)).expect("finished").session_id
    }

    /// An incremental fetch that changes nothing and reads `data`; the partitions it tells of.
    fn poll(&mut self, id: i32, epoch: i32, data: Vec<PartitionData>) -> Vec<i32> {
        let (scope, _) = self.cache.open(self.now_ms, request(id, epoch, Vec::new())).expect("opened");
        let answer = self.finish(scope, response("t", data)).expect("finished");
        assert_eq!(answer.session_id, id);
        indexes(&answer.responses)
    }

    fn refused(&mut self, asked: Asked) -> ResponseError {
        self.cache.open(self.now_ms, asked).expect_err("refused")
    }
}

#[test]
fn only_news_is_told() {
    let mut script = Script::with(10, 100);
    let id = script.full(&[0, 1]);
    let steps: Vec<(&str, PartitionData, Vec<i32>)> = vec![
        ("nothing new", told(1, 10), vec![]),
        ("the high watermark", told(1, 11), vec![1]),
        ("the same again", told(1, 11), vec![]),
        ("the last stable offset", told(1, 11).with_last_stable_offset(9), vec![1]),
        ("the log start", told(1, 11).with_last_stable_offset(9).with_log_start_offset(3), vec![1]),
        (
            "records",
            told(1, 11).with_last_stable_offset(9).with_log_start_offset(3).with_records(Some(Bytes::from("r"))),
            vec![1],
        ),
        ("an error", told(1, -1).with_error_code(1), vec![1]),
        ("the error again", told(1, -1).with_error_code(1), vec![1]),
        ("the end of the error", told(1, 11), vec![1]),
        ("and nothing", told(1, 11), vec![]),
    ];
    for (epoch, (what, data, expected)) in (1..).zip(steps) {
        assert_eq!(script.poll(id, epoch, vec![told(0, 10), data]), expected, "{what}");
    }
}

#[test]
fn partitions_are_added_changed_and_forgotten() {
    let mut script = Script::with(10, 100);
    let id = script.full(&[0, 1]);
    let mut asked = request(id, 1, vec![topic("t", &[(1, 20)]), topic("u", &[(0, 5)])]);
    asked.forgotten = vec![ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![0, 7])];
    let (scope, topics) = script.cache.open(0, asked).expect("opened");
    assert_eq!(wanted(&topics), [("t".to_owned(), 1, 20), ("u".to_owned(), 0, 5)]);
    // A partition the client has not been told of is news, and a forgotten one is not.
    let read = [response("t", vec![told(0, 99), told(1, 10)]), response("u", vec![told(0, 0)])].concat();
    let answer = script.finish(scope, read).expect("finished");
    assert_eq!(answer.responses.iter().map(|topic| topic.topic.to_string()).collect::<Vec<_>>(), ["u"]);
    assert_eq!(script.cache.partitions, 2);

    let mut last = request(id, 2, Vec::new());
    last.forgotten = vec![
        ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![1]),
        ForgottenTopic::default().with_topic(name("u")).with_partitions(vec![0]),
    ];
    let (scope, topics) = script.cache.open(0, last).expect("opened");
    assert!(matches!(scope, Scope::Alone) && topics.is_empty(), "a session of nothing ends");
    assert_eq!((script.cache.sessions.len(), script.cache.partitions), (0, 0));
}

#[test]
fn a_partition_that_gave_records_is_read_last() {
    let mut script = Script::with(10, 100);
    let id = script.full(&[0, 1, 2]);
    script.poll(id, 1, vec![told(0, 10).with_records(Some(Bytes::from("r"))), told(1, 10), told(2, 10)]);
    let (_, topics) = script.cache.open(0, request(id, 2, Vec::new())).expect("opened");
    assert_eq!(wanted(&topics).iter().map(|(_, index, _)| *index).collect::<Vec<_>>(), [1, 2, 0]);
}

#[test]
fn ids_and_epochs_are_held_to() {
    let mut script = Script::with(10, 100);
    let id = script.full(&[0]);
    assert_eq!(script.refused(request(id + 1, 1, Vec::new())), ResponseError::FetchSessionIdNotFound);
    assert_eq!(script.refused(request(0, 1, Vec::new())), ResponseError::FetchSessionIdNotFound);
    for epoch in [2, 7, i32::MAX, -2, i32::MIN] {
        assert_eq!(script.refused(request(id, epoch, Vec::new())), ResponseError::InvalidFetchSessionEpoch, "{epoch}");
    }
    let by_id = Asked { by_id: true, ..request(id, 1, Vec::new()) };
    assert_eq!(script.refused(by_id), ResponseError::FetchSessionTopicIdError);
    assert!(script.poll(id, 1, vec![told(0, 10)]).is_empty());
    assert_eq!(script.refused(request(id, 1, Vec::new())), ResponseError::InvalidFetchSessionEpoch, "once each");
}

#[test]
fn epochs_wrap_to_one() {
    let mut script = Script::with(10, 100);
    let id = script.full(&[0]);
    script.cache.sessions.get_mut(&id).expect("there").epoch = i32::MAX;
    script.poll(id, i32::MAX, vec![told(0, 10)]);
    script.poll(id, 1, vec![told(0, 10)]);
}

#[test]
fn the_older_of_two_requests_at_once_loses() {
    let mut script = Script::with(10, 100);
    let id = script.full(&[0]);
    let (older, _) = script.cache.open(0, request(id, 1, Vec::new())).expect("opened");
    let (newer, _) = script.cache.open(0, request(id, 2, Vec::new())).expect("opened");
    let refused = script.finish(older, response("t", vec![told(0, 12)])).expect_err("overtaken");
    assert_eq!(refused, (id, ResponseError::InvalidFetchSessionEpoch));
    let answer = script.finish(newer, response("t", vec![told(0, 12)])).expect("finished");
    assert_eq!(indexes(&answer.responses), [0]);
}

#[test]
fn a_full_fetch_replaces_its_session_and_a_final_one_ends_it() {
    let mut script = Script::with(10, 100);
    let first = script.full(&[0]);
    let (scope, _) = script.cache.open(0, request(first, 0, vec![topic("t", &[(0, 10)])])).expect("opened");
    let second = script.finish(scope, response("t", vec![told(0, 10)])).expect("finished").session_id;
    assert!(second != first && second > 0);
    assert_eq!(script.refused(request(first, 1, Vec::new())), ResponseError::FetchSessionIdNotFound);
    let (scope, topics) = script.cache.open(0, request(second, -1, vec![topic("t", &[(0, 10)])])).expect("opened");
    assert_eq!(topics.len(), 1);
    let answer = script.finish(scope, response("t", vec![told(0, 10)])).expect("finished");
    assert_eq!((answer.session_id, indexes(&answer.responses)), (0, vec![0]));
    assert!(script.cache.sessions.is_empty());
}

#[test]
fn a_full_cache_gives_way_to_the_idle_and_to_the_larger_only() {
    let mut script = Script::with(2, 100);
    let (a, b) = (script.full(&[0]), script.full(&[0, 1]));
    assert_eq!(script.full(&[0, 1, 2]), 0, "nothing has lived long enough");
    // Both have lived for two minutes and are in use: only a larger session replaces the smallest.
    script.now_ms = 100_000;
    script.poll(a, 1, vec![told(0, 10)]);
    script.now_ms = EVICT_AFTER_MS + 1;
    script.poll(a, 2, vec![told(0, 10)]);
    script.poll(b, 1, vec![told(0, 10), told(1, 10)]);
    assert_eq!(script.full(&[0]), 0, "no larger");
    let c = script.full(&[0, 1]);
    assert!(c > 0);
    assert_eq!(script.refused(request(a, 3, Vec::new())), ResponseError::FetchSessionIdNotFound);
    // What nobody used for two minutes goes for anybody.
    script.now_ms += EVICT_AFTER_MS + 1;
    script.poll(c, 1, vec![told(0, 10)]);
    assert!(script.full(&[0]) > 0);
    assert_eq!(script.refused(request(b, 2, Vec::new())), ResponseError::FetchSessionIdNotFound);
    assert_eq!((script.cache.sessions.len(), script.cache.partitions), (2, 3));
}

#[test]
fn partitions_are_limited_over_all_sessions() {
    let mut script = Script::with(10, 4);
    let id = script.full(&[0, 1, 2]);
    assert!(id > 0);
    assert_eq!(script.full(&[0, 1]), 0);
    assert_eq!(script.full(&[0, 1, 2, 3, 4]), 0);
    assert!(script.full(&[0]) > 0);
    let grown = request(id, 1, vec![topic("u", &[(0, 0)])]);
    assert_eq!(script.refused(grown), ResponseError::FetchSessionIdNotFound, "the session is given up");
    assert_eq!((script.cache.sessions.len(), script.cache.partitions), (1, 1));
    assert_eq!(Script::with(0, 100).full(&[0]), 0, "no slots");
}

#[test]
fn names_no_topic_can_have_are_not_kept() {
    let mut script = Script::with(10, 100);
    let long = "x".repeat(300);
    let (scope, topics) = script.cache.open(0, request(0, 0, vec![topic(&long, &[(0, 0)])])).expect("opened");
    assert_eq!(topics.len(), 1, "it is answered all the same");
    assert_eq!(script.finish(scope, response(&long, vec![told(0, -1)])).expect("finished").session_id, 0);
}

#[test]
fn a_session_replaced_while_its_fetch_waited_answers_without_one() {
    let mut script = Script::with(1, 100);
    let id = script.full(&[0]);
    let (scope, _) = script.cache.open(0, request(id, 1, Vec::new())).expect("opened");
    script.now_ms = EVICT_AFTER_MS + 1;
    assert!(script.full(&[0]) > id);
    let answer = script.finish(scope, response("t", vec![told(0, 10)])).expect("finished");
    assert_eq!((answer.session_id, indexes(&answer.responses)), (0, vec![0]));
}
