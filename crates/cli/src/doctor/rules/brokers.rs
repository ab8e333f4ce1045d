//! Rules about brokers and their settings.

use kafka_protocol::messages::ApiKey;

use super::super::facts::Broker;
use super::super::{counted, plural};
use super::{Answer, Change, Finding, View, is_at_least, list};

/// As long as a batch of a Highwater sink may be open.
const SINK_TRANSACTION_MS: i64 = 300_000;
const WEEK_MINUTES: i64 = 7 * 24 * 60;
const NETWORK_THREADS: i64 = 3;
const IO_THREADS: i64 = 8;

pub(super) fn controller(view: &View<'_>) -> Answer {
    if view.facts.controller.is_some_and(|id| id >= 0) {
        return Ok(Vec::new());
    }
    Ok(vec![Finding {
        object: "cluster".to_owned(),
        found: "no active controller".to_owned(),
        expected: "one of the controllers is active".to_owned(),
        change: "see which controllers are up and whether they reach each other; more than half of them must"
            .to_owned(),
        command: Some(format!("kafka-metadata-quorum.sh --bootstrap-server {} describe --status", view.facts.address)),
    }])
}

pub(super) fn count(view: &View<'_>) -> Answer {
    let brokers = view.facts.brokers.len();
    if brokers >= super::COPIES {
        return Ok(Vec::new());
    }
    Ok(vec![Finding {
        object: "cluster".to_owned(),
        found: counted(brokers, "broker"),
        expected: "3 or more".to_owned(),
        change: "add brokers, then copies; one broker is for work that may be lost or repeated".to_owned(),
        command: None,
    }])
}

pub(super) fn default_replication(view: &View<'_>) -> Answer {
    let copies = view.copies().to_string();
    let fine = is_at_least(i64::try_from(view.copies()).unwrap_or(i64::MAX));
    view.broker_setting("default.replication.factor", &copies, fine, Change::Restart(&copies))
}

pub(super) fn internal_topics(view: &View<'_>) -> Answer {
    let copies = view.copies().to_string();
    let mut found = Vec::new();
    let mut is_told = false;
    let mut add = |answer: Answer| {
        if let Ok(more) = answer {
            is_told = true;
            found.extend(more);
        }
    };
    for key in ["offsets.topic.replication.factor", "transaction.state.log.replication.factor"] {
        let fine = is_at_least(i64::try_from(view.copies()).unwrap_or(i64::MAX));
        add(view.broker_setting(key, &copies, fine, Change::Restart(&copies)));
    }
    if view.copies() > 2 {
        add(view.broker_setting("transaction.state.log.min.isr", "2", is_at_least(2), Change::Restart("2")));
    }
    let own = ["__consumer_offsets", "__transaction_state"];
    for topic in view.facts.topics.iter().filter(|topic| own.contains(&topic.name.as_str())) {
        is_told = true;
        if let Some(policy) = topic.configs.text("cleanup.policy").filter(|_| !topic.is_compacted()) {
            found.push(view.topic_setting(topic, "cleanup.policy", policy, "compact", "compact"));
        }
    }
    if is_told { Ok(found) } else { Err("no broker tells the settings") }
}

pub(super) fn threads(view: &View<'_>) -> Answer {
    let (network, io) = (NETWORK_THREADS.to_string(), IO_THREADS.to_string());
    let expected = |least: &str| format!("{least} or more");
    let change = Change::Dynamic(&network);
    let mut found =
        view.broker_setting("num.network.threads", &expected(&network), is_at_least(NETWORK_THREADS), change)?;
    let change = Change::Dynamic(&io);
    found.extend(view.broker_setting("num.io.threads", &expected(&io), is_at_least(IO_THREADS), change)?);
    Ok(found)
}

pub(super) fn auto_create(view: &View<'_>) -> Answer {
    let fine = |value: &str| value.eq_ignore_ascii_case("false");
    view.broker_setting("auto.create.topics.enable", "false", fine, Change::Restart("false"))
}

pub(super) fn transaction_timeout(view: &View<'_>) -> Answer {
    let least = SINK_TRANSACTION_MS.to_string();
    let (expected, fine) = (format!("{least} or more"), is_at_least(SINK_TRANSACTION_MS));
    view.broker_setting("transaction.max.timeout.ms", &expected, fine, Change::Restart(&least))
}

pub(super) fn offsets_retention(view: &View<'_>) -> Answer {
    let least = WEEK_MINUTES.to_string();
    let (expected, fine) = (format!("{least} or more"), is_at_least(WEEK_MINUTES));
    view.broker_setting("offsets.retention.minutes", &expected, fine, Change::Restart(&least))
}

pub(super) fn versions(view: &View<'_>) -> Answer {
    let brokers: Vec<&Broker> = view.facts.brokers.iter().filter(|broker| !broker.apis.is_empty()).collect();
    let Some(first) = brokers.first() else { return Err("no broker tells its versions") };
    let mut found = Vec::new();
    let others: Vec<i32> = brokers.iter().filter(|broker| broker.apis != first.apis).map(|broker| broker.id).collect();
    if !others.is_empty() {
        found.push(Finding {
            object: format!("{} {}", plural(others.len(), "broker"), list(&others)),
            found: format!("other versions of requests than broker {}", first.id),
            expected: "all brokers of one version".to_owned(),
            change: "finish the upgrade: restart the brokers that are left with the new version, in turn".to_owned(),
            command: None,
        });
    }
    // A single broker that knows no quorum of controllers is the embedded one, which needs none.
    let has_quorum = first.apis.contains_key(&(ApiKey::DescribeQuorum as i16));
    if !has_quorum && brokers.len() > 1 {
        found.push(Finding {
            object: "cluster".to_owned(),
            found: "brokers that know no KRaft (Kafka before 3.3, or on ZooKeeper)".to_owned(),
            expected: "Kafka 3.9 or newer, on KRaft".to_owned(),
            change: "migrate to KRaft with Kafka 3.9, then upgrade".to_owned(),
            command: None,
        });
    }
    let levels: Vec<(i16, i16)> = brokers.iter().filter_map(|broker| broker.metadata_level).collect();
    let in_force = levels.iter().map(|(in_force, _)| *in_force).max();
    if let (Some(in_force), Some(newest)) = (in_force, levels.iter().map(|(_, newest)| *newest).min())
        && in_force < newest
        && others.is_empty()
    {
        let address = &view.facts.address;
        found.push(Finding {
            object: "cluster".to_owned(),
            found: format!("metadata.version {in_force}"),
            expected: format!("{newest}, which all brokers know"),
            change: "raise the level once the new version has proven itself; there is no way back".to_owned(),
            command: Some(format!(
                "kafka-features.sh --bootstrap-server {address} upgrade --feature metadata.version={newest}"
            )),
        });
    }
    Ok(found)
}
