//! Rules about topics and their partitions.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::facts::{Partition, Topic};
use super::super::{counted, plural};
use super::{Answer, Change, Finding, View, list, object};
use crate::progress::board::{bytes, number};
use crate::topic::naming;

const DAY_MS: i64 = 24 * 3600 * 1000;
const MB: i64 = 1 << 20;
/// What one partition takes without trouble.
const PARTITION_BYTES_PER_S: f64 = 10e6;
/// Below this a topic is as good as idle: how many partitions it has does not matter.
const BUSY_BYTES_PER_S: f64 = 1e6;
const BUSY_RECORDS_PER_S: f64 = 5000.0;
/// What Kafka's own guidance gives as the most a broker should have.
const PARTITIONS_OF_A_BROKER: usize = 4000;
const SKEWED_FROM_BYTES: i64 = 100 * MB;
const SKEW: f64 = 2.0;
/// A broker may lead so much more than its share.
const LEADER_SKEW: f64 = 1.5;
/// Ends of names that Kafka Streams gives topics of state, and the names of Connect and of the schema registry. A word like
/// `state` or `table` says nothing: `order.state.changed` are events, and compaction would remove most of them.
const STATE_ENDS: [&str; 2] = ["-changelog", ".changelog"];
const STATE_NAMES: [&str; 4] = ["_schemas", "connect-configs", "connect-offsets", "connect-status"];

/// A finding for each topic of which some partitions are `wrong`, with their numbers.
fn per_partition(
    view: &View<'_>,
    wrong: impl Fn(&Topic, &Partition) -> bool,
    words: impl Fn(&Topic, &[&Partition]) -> (String, String),
    change: &str,
) -> Vec<Finding> {
    let finding = |topic: &Topic| {
        let found: Vec<&Partition> = topic.partitions.iter().filter(|partition| wrong(topic, partition)).collect();
        if found.is_empty() {
            return None;
        }
        let numbers = list(found.iter().map(|partition| partition.id).take(10));
        let more = if found.len() > 10 { format!(" and {} more", found.len() - 10) } else { String::new() };
        let (what, expected) = words(topic, &found);
        Some(Finding {
            object: object(topic),
            found: format!("{} {numbers}{more}: {what}", plural(found.len(), "partition")),
            expected,
            change: change.to_owned(),
            command: Some(format!("highwater topic describe {} --bootstrap {}", topic.name, view.facts.address)),
        })
    };
    view.facts.topics.iter().filter_map(finding).collect()
}

/// The brokers that should have a copy that is up to date and have not: how many, and which.
fn missing(partitions: &[&Partition]) -> (usize, String) {
    let mut ids: Vec<i32> = partitions
        .iter()
        .flat_map(|partition| partition.replicas.iter().filter(|id| !partition.in_sync.contains(id)))
        .copied()
        .collect();
    ids.sort_unstable();
    ids.dedup();
    (ids.len(), format!("{} {}", plural(ids.len(), "broker"), list(ids)))
}

pub(super) fn offline(view: &View<'_>) -> Answer {
    let words = |_: &Topic, found: &[&Partition]| {
        let copies = &found[0].replicas;
        (format!("no leader; copies on {} {}", plural(copies.len(), "broker"), list(copies)), "a leader".to_owned())
    };
    let change = "start a broker that has an up-to-date copy; an unclean election would lose records";
    Ok(per_partition(view, |_, partition| partition.leader.is_none(), words, change))
}

pub(super) fn under_replicated(view: &View<'_>) -> Answer {
    let wrong = |_: &Topic, partition: &Partition| partition.in_sync.len() < partition.replicas.len();
    let words = |_: &Topic, found: &[&Partition]| {
        (format!("not up to date on {}", missing(found).1), "all copies up to date".to_owned())
    };
    Ok(per_partition(view, wrong, words, "start that broker, or see its log and its disk for why it is behind"))
}

pub(super) fn under_min_isr(view: &View<'_>) -> Answer {
    let least =
        |topic: &Topic| topic.configs.number("min.insync.replicas").and_then(|least| usize::try_from(least).ok());
    let wrong = |topic: &Topic, partition: &Partition| {
        // More than there are copies is another rule's finding.
        least(topic).is_some_and(|least| partition.in_sync.len() < least && least <= partition.replicas.len())
    };
    let words = |topic: &Topic, found: &[&Partition]| {
        let (absent, missing) = missing(found);
        let have = found.iter().map(|partition| partition.in_sync.len()).min().unwrap_or(0);
        (
            format!("{have} up to date, {missing} {} not", if absent == 1 { "is" } else { "are" }),
            format!("{} or more", least(topic).unwrap_or(0)),
        )
    };
    Ok(per_partition(view, wrong, words, "start that broker, or see its log and its disk for why it is behind"))
}

pub(super) fn replication_factor(view: &View<'_>) -> Answer {
    let wanted = view.copies();
    let topics = view.facts.topics.iter().filter(|topic| topic.replication() < wanted);
    Ok(topics
        .map(|topic| Finding {
            object: object(topic),
            found: format!("{} cop{}", topic.replication(), if topic.replication() == 1 { "y" } else { "ies" }),
            expected: wanted.to_string(),
            change: "copy its partitions to more brokers".to_owned(),
            command: Some(reassign(view, topic, wanted)),
        })
        .collect())
}

/// The command that gives a topic more copies: those it has, and the brokers behind them in turn.
fn reassign(view: &View<'_>, topic: &Topic, wanted: usize) -> String {
    let brokers: Vec<i32> = view.facts.brokers.iter().map(|broker| broker.id).collect();
    let mut partitions = String::new();
    for partition in &topic.partitions {
        let mut replicas = partition.replicas.clone();
        let after = replicas.last().and_then(|last| brokers.iter().position(|id| id == last)).map_or(0, |at| at + 1);
        let others = brokers.iter().cycle().skip(after).take(brokers.len());
        for id in others {
            if replicas.len() < wanted && !replicas.contains(id) {
                replicas.push(*id);
            }
        }
        let comma = if partitions.is_empty() { "" } else { "," };
        let _ = write!(
            partitions,
            r#"{comma}{{"topic":"{}","partition":{},"replicas":[{}]}}"#,
            topic.name,
            partition.id,
            replicas.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        );
    }
    format!(
        "echo '{{\"version\":1,\"partitions\":[{partitions}]}}' > copies.json && kafka-reassign-partitions.sh \
         --bootstrap-server {} --reassignment-json-file copies.json --execute",
        view.facts.address
    )
}

pub(super) fn min_insync(view: &View<'_>) -> Answer {
    let wrong = |topic: &Topic, least: i64| least < 2 && topic.replication() >= 3;
    Ok(by_setting(view, "min.insync.replicas", wrong, |_| ("2 or more".to_owned(), "2".to_owned())))
}

pub(super) fn min_insync_trap(view: &View<'_>) -> Answer {
    let copies = |topic: &Topic| i64::try_from(topic.replication()).unwrap_or(i64::MAX);
    let wrong = |topic: &Topic, least: i64| least > 1 && least >= copies(topic);
    let change = |topic: &Topic| {
        let most = (copies(topic) - 1).max(1);
        (format!("{most} at most, with {} copies", copies(topic)), most.to_string())
    };
    Ok(by_setting(view, "min.insync.replicas", wrong, change))
}

/// A finding for each topic of which a setting that is a number is wrong.
fn by_setting(
    view: &View<'_>,
    key: &str,
    wrong: impl Fn(&Topic, i64) -> bool,
    change: impl Fn(&Topic) -> (String, String),
) -> Vec<Finding> {
    let finding = |topic: &Topic| {
        let value = topic.configs.number(key).filter(|value| wrong(topic, *value))?;
        let (expected, to) = change(topic);
        Some(view.topic_setting(topic, key, &value.to_string(), &expected, &to))
    };
    view.facts.topics.iter().filter_map(finding).collect()
}

pub(super) fn unclean_election(view: &View<'_>) -> Answer {
    let key = "unclean.leader.election.enable";
    let brokers =
        view.broker_setting(key, "false", |value| value.eq_ignore_ascii_case("false"), Change::Dynamic("false"));
    let told = view.facts.topics.iter().any(|topic| topic.configs.text(key).is_some());
    let mut found = match brokers {
        Ok(found) => found,
        Err(_) if told => Vec::new(),
        Err(why) => return Err(why),
    };
    let topics = view.facts.topics.iter().filter(|topic| topic.configs.is_on(key) == Some(true));
    found.extend(topics.map(|topic| view.topic_setting(topic, key, "true", "false", "false")));
    Ok(found)
}

pub(super) fn leader_balance(view: &View<'_>) -> Answer {
    let mut led: BTreeMap<i32, usize> = view.facts.brokers.iter().map(|broker| (broker.id, 0)).collect();
    let (mut all, mut elsewhere) = (0, 0);
    for partition in view.facts.topics.iter().flat_map(|topic| &topic.partitions) {
        let Some(leader) = partition.leader else { continue };
        *led.entry(leader).or_default() += 1;
        all += 1;
        elsewhere += usize::from(partition.replicas.first().is_some_and(|preferred| *preferred != leader));
    }
    let share = all as f64 / led.len().max(1) as f64;
    let mut found = Vec::new();
    let address = &view.facts.address;
    if elsewhere * 10 > all {
        found.push(Finding {
            object: "cluster".to_owned(),
            found: format!("{elsewhere} of {all} partitions are not led by their preferred leaders"),
            expected: "a tenth at most".to_owned(),
            change: "let the preferred leaders be elected".to_owned(),
            command: Some(format!(
                "kafka-leader-election.sh --bootstrap-server {address} --election-type preferred --all-topic-partitions"
            )),
        });
    }
    // Few partitions cannot be shared out evenly.
    let heavy = led.iter().filter(|(_, count)| share >= 4.0 && **count as f64 > share * LEADER_SKEW);
    found.extend(heavy.map(|(id, count)| Finding {
        object: format!("broker {id}"),
        found: format!("leads {count} partitions of {all}"),
        expected: format!("about {share:.0}"),
        change: "move partitions, or their preferred leaders, to the other brokers".to_owned(),
        command: Some(format!(
            "kafka-reassign-partitions.sh --bootstrap-server {address} --topics-to-move-json-file topics.json \
             --broker-list {} --generate",
            led.keys().map(ToString::to_string).collect::<Vec<_>>().join(",")
        )),
    }));
    Ok(found)
}

pub(super) fn partition_count(view: &View<'_>) -> Answer {
    let mut found = Vec::new();
    for topic in view.topics() {
        let Some(growth) = topic.growth() else { continue };
        let (rate, have) = (growth.bytes_per_s.unwrap_or(0.0), topic.partitions.len());
        if rate < BUSY_BYTES_PER_S && growth.records_per_s < BUSY_RECORDS_PER_S {
            continue;
        }
        let by_rate = (rate / PARTITION_BYTES_PER_S).ceil() as usize;
        let wanted = by_rate.max(view.limits.parallelism);
        if have < wanted {
            let rate = bytes(rate as u64);
            found.push(Finding {
                object: object(topic),
                found: format!(
                    "{} for {} records/s, {rate}/s",
                    counted(have, "partition"),
                    number(growth.records_per_s)
                ),
                expected: format!(
                    "{wanted} ({}; 10 MB/s a partition)",
                    counted(view.limits.parallelism, "worker")
                ),
                change: "add partitions; records of one key then go to another partition, so do it before there is state by key"
                    .to_owned(),
                command: Some(view.alter(&topic.name, &format!("--partitions {wanted}"))),
            });
        }
    }
    let mut copies: BTreeMap<i32, usize> = BTreeMap::new();
    for partition in view.facts.topics.iter().flat_map(|topic| &topic.partitions) {
        partition.replicas.iter().for_each(|id| *copies.entry(*id).or_default() += 1);
    }
    let heavy = copies.into_iter().filter(|(_, count)| *count > PARTITIONS_OF_A_BROKER);
    found.extend(heavy.map(|(id, count)| Finding {
        object: format!("broker {id}"),
        found: format!("{count} copies of partitions"),
        expected: format!("{PARTITIONS_OF_A_BROKER} at most"),
        change: "add brokers, or make topics with fewer partitions".to_owned(),
        command: None,
    }));
    Ok(found)
}

pub(super) fn partition_skew(view: &View<'_>) -> Answer {
    let sizes =
        |topic: &Topic| topic.partitions.iter().filter_map(|partition| partition.size_bytes).collect::<Vec<i64>>();
    if view.facts.topics.iter().all(|topic| sizes(topic).is_empty()) && !view.facts.topics.is_empty() {
        return Err("no broker tells the sizes of partitions");
    }
    let finding = |topic: &Topic| {
        let sizes = sizes(topic);
        let total: i64 = sizes.iter().sum();
        let share = total as f64 / sizes.len().max(1) as f64;
        let (largest, id) = topic.partitions.iter().filter_map(|one| Some((one.size_bytes?, one.id))).max()?;
        if sizes.len() < 2 || total < SKEWED_FROM_BYTES || largest as f64 <= share * SKEW {
            return None;
        }
        let show = |size: f64| bytes(size as u64);
        Some(Finding {
            object: object(topic),
            found: format!("partition {id} has {} of {}", show(largest as f64), show(total as f64)),
            expected: format!("about {}, twice that at most", show(share)),
            change: "choose a key with more values, or none; see which keys are frequent".to_owned(),
            command: Some(format!(
                "highwater topic consume {} --bootstrap {} -e -f '%k\\n' | sort | uniq -c | sort -rn | head",
                topic.name, view.facts.address
            )),
        })
    };
    Ok(view.topics().filter_map(finding).collect())
}

pub(super) fn retention(view: &View<'_>) -> Answer {
    let finding = |topic: &Topic| {
        let time_ms = topic.configs.number("retention.ms")?;
        let size = topic.configs.number("retention.bytes").unwrap_or(-1);
        if topic.is_compacted() {
            return None;
        }
        if time_ms < 0 && size < 0 {
            let expected = "a time, or retention.bytes";
            return Some(view.topic_setting(
                topic,
                "retention.ms",
                "-1 without retention.bytes",
                expected,
                "604800000",
            ));
        }
        if (0..DAY_MS).contains(&time_ms) {
            let expected = "a day (86400000) or more";
            return Some(view.topic_setting(topic, "retention.ms", &time_ms.to_string(), expected, "604800000"));
        }
        None
    };
    Ok(view.topics().filter_map(finding).collect())
}

pub(super) fn segment_size(view: &View<'_>) -> Answer {
    let finding = |topic: &Topic| {
        let get = |key: &str| topic.configs.number(key);
        let size = get("segment.bytes")?;
        let kept = get("retention.bytes").unwrap_or(-1);
        if kept > 0 && size > kept / 2 {
            let expected = format!("half of retention.bytes={kept} at most");
            let to = (kept / 4).max(MB).to_string();
            return Some(view.topic_setting(topic, "segment.bytes", &size.to_string(), &expected, &to));
        }
        if size < MB {
            let expected = "1048576 or more";
            return Some(view.topic_setting(topic, "segment.bytes", &size.to_string(), expected, "1073741824"));
        }
        let (time_ms, kept_ms) = (get("segment.ms")?, get("retention.ms")?);
        if kept_ms > 0 && time_ms > kept_ms && !topic.is_compacted() {
            let expected = format!("retention.ms={kept_ms} at most");
            let to = (kept_ms / 4).max(60_000).to_string();
            return Some(view.topic_setting(topic, "segment.ms", &time_ms.to_string(), &expected, &to));
        }
        None
    };
    Ok(view.topics().filter_map(finding).collect())
}

pub(super) fn compaction(view: &View<'_>) -> Answer {
    let holds_state = |topic: &&Topic| {
        let name = topic.name.as_str();
        let named = STATE_NAMES.contains(&name) || STATE_ENDS.iter().any(|end| name.ends_with(end));
        named || view.limits.state_topics.iter().any(|pattern| pattern.matches(name))
    };
    let finding = |topic: &Topic| {
        let policy = topic.configs.text("cleanup.policy").filter(|_| !topic.is_compacted())?;
        Some(view.topic_setting(topic, "cleanup.policy", policy, "compact", "compact"))
    };
    Ok(view.topics().filter(holds_state).filter_map(finding).collect())
}

pub(super) fn compression(view: &View<'_>) -> Answer {
    let finding = |topic: &Topic| {
        let codec =
            topic.configs.text("compression.type").filter(|codec| !["producer", "lz4", "zstd"].contains(codec))?;
        Some(view.topic_setting(topic, "compression.type", codec, "producer, lz4 or zstd", "producer"))
    };
    Ok(view.topics().filter_map(finding).collect())
}

pub(super) fn message_size(view: &View<'_>) -> Answer {
    let of_topics = view.facts.topics.iter().filter_map(|topic| topic.configs.number("max.message.bytes"));
    let of_brokers = view.facts.brokers.iter().filter_map(|broker| broker.configs.number("message.max.bytes"));
    let Some(largest) = of_topics.chain(of_brokers).max() else { return Err("no broker tells the settings") };
    // A broker without copies to fetch has no such setting.
    if view.facts.brokers.len() == 1 {
        return Ok(Vec::new());
    }
    // The overhead of a batch is in the defaults of Kafka, which are 12 bytes more.
    let (expected, to) = (format!("{largest} or more, the largest max.message.bytes"), largest.to_string());
    let fine = |value: &str| value.trim().parse::<i64>().is_ok_and(|bytes| bytes >= largest - 12);
    let mut found = view.broker_setting("replica.fetch.max.bytes", &expected, fine, Change::Restart(&to))?;
    let key = "replica.fetch.response.max.bytes";
    found.extend(view.broker_setting(key, &expected, fine, Change::Restart(&to)).unwrap_or_default());
    Ok(found)
}

pub(super) fn names(view: &View<'_>) -> Answer {
    if !view.limits.names {
        return Err("switched off");
    }
    let all: Vec<&str> = view.topics().map(|topic| topic.name.as_str()).collect();
    let mut found = Vec::new();
    for name in &all {
        let finding = |found: String, expected: String, change: &str| Finding {
            object: format!("topic {name}"),
            found,
            expected,
            change: change.to_owned(),
            command: None,
        };
        if let Some(complaint) = naming::lint(name) {
            let change =
                "a topic cannot be renamed: give the next one such a name, and move readers when it has the data";
            found.push(finding(complaint.found, complaint.better, change));
        }
        if let Some(other) = naming::collision(name, all.iter().copied()) {
            let is = format!("one with '{other}' in metrics: {}", naming::metric_name(name));
            found.push(finding(
                is,
                "names that differ in more than . and _".to_owned(),
                "replace one of the two topics",
            ));
        }
    }
    Ok(found)
}
