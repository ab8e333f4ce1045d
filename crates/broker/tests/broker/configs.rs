//! Settings of topics, of the broker and of groups: described, altered while it runs, heeded, and kept.

use std::sync::Arc;

use highwater_broker::{Broker, BrokerSettings, ManualClock};
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterConfigsRequest, ConsumerGroupHeartbeatRequest, DescribeConfigsRequest, GroupId,
    IncrementalAlterConfigsRequest, ListConfigResourcesRequest, alter_configs_request, describe_configs_request,
};

use crate::batch::Batch;
use crate::client::{Client, text, topic_name};
use crate::topics::create_with;
use crate::{settings, start};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

const UNKNOWN_TOPIC: i16 = 3;
const TOO_LARGE: i16 = 10;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;

type Changes<'a> = &'a [(&'a str, i8, Option<&'a str>)];

fn request(kind: i8, name: &str, changes: Changes<'_>) -> IncrementalAlterConfigsRequest {
    let configs = changes.iter().map(|&(name, operation, value)| {
        AlterableConfig::default().with_name(text(name)).with_config_operation(operation).with_value(value.map(text))
    });
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

/// Alters settings; answers the code and the reason.
async fn alter(client: &mut Client, kind: i8, name: &str, changes: Changes<'_>) -> (i16, String) {
    let altered = client.call(&request(kind, name, changes), 1).await.responses.remove(0);
    (altered.error_code, altered.error_message.map(|reason| reason.to_string()).unwrap_or_default())
}

/// Sets one setting, which must succeed.
async fn set(client: &mut Client, kind: i8, name: &str, setting: &str, value: &str) {
    assert_eq!(alter(client, kind, name, &[(setting, SET, Some(value))]).await, (0, String::new()));
}

async fn describe(client: &mut Client, kind: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let mut response = client.call(&request, 4).await;
    assert_eq!(response.results[0].error_code, 0);
    response.results.remove(0).configs
}

/// Where a value is from, and what is beneath it.
fn synonyms(configs: &[DescribeConfigsResourceResult], name: &str) -> Vec<String> {
    let config = configs.iter().find(|config| *config.name == *name).unwrap();
    assert!(!config.is_sensitive && config.documentation.as_ref().is_some_and(|text| !text.is_empty()));
    assert_eq!((&config.value, config.config_source), (&config.synonyms[0].value, config.synonyms[0].source));
    let all = config.synonyms.iter();
    all.map(|s| format!("{}={} from {}", &*s.name, &**s.value.as_ref().unwrap(), s.source)).collect()
}

#[tokio::test]
async fn lists_are_appended_to_and_subtracted_from() {
    let (_dir, _broker, mut client) = start().await;
    client.create("t").await;
    let policy = async |client: &mut Client| {
        let configs = describe(client, TOPIC, "t").await;
        let found = configs.iter().find(|config| &*config.name == "cleanup.policy").unwrap();
        found.value.as_ref().unwrap().to_string()
    };
    for (changes, code, expected) in [
        (&[("cleanup.policy", APPEND, Some("compact"))][..], 0, "delete,compact"),
        (&[("cleanup.policy", SUBTRACT, Some("delete"))], 0, "compact"),
        (&[("cleanup.policy", SUBTRACT, Some("compact"))], 40, "compact"),
        (&[("cleanup.policy", APPEND, Some("compost"))], 40, "compact"),
        (&[("retention.ms", APPEND, Some("1"))], 40, "compact"),
        (&[("cleanup.policy", APPEND, None)], 42, "compact"),
        (&[("cleanup.policy", SET, None)], 42, "compact"),
        (&[("cleanup.policy", 9, Some("delete"))], 42, "compact"),
        (&[("nonsense", DELETE, None)], 40, "compact"),
        (&[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)], 42, "compact"),
        (&[("cleanup.policy", DELETE, None)], 0, "delete"),
    ] {
        assert_eq!(alter(&mut client, TOPIC, "t", changes).await.0, code, "{changes:?}");
        assert_eq!(policy(&mut client).await, expected, "{changes:?}");
    }
}

#[tokio::test]
async fn settings_are_described_with_where_they_come_from() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(BrokerSettings { retention_ms: 7, ..settings(dir.path()) }).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    create_with(&mut client, "t", &[("retention.ms", "5"), ("segment.ms", "60")]).await;
    let configs = describe(&mut client, TOPIC, "t").await;
    let broker_has = ["log.retention.ms=7 from 4", "log.retention.ms=604800000 from 5"];
    assert_eq!(synonyms(&configs, "retention.ms"), [&["retention.ms=5 from 1"][..], &broker_has].concat());
    assert_eq!(synonyms(&configs, "segment.ms"), ["segment.ms=60 from 1", "log.roll.ms=604800000 from 5"]);
    assert_eq!(synonyms(&configs, "flush.ms"), [format!("log.flush.interval.ms={} from 5", i64::MAX)]);
    assert!(configs.iter().all(|config| !config.read_only));
    let configs = describe(&mut client, BROKER, "0").await;
    let altered = ["log.retention.ms", "max.connections", "message.max.bytes"];
    assert!(configs.iter().filter(|config| altered.contains(&&*config.name)).all(|config| !config.read_only));
    assert!(configs.iter().any(|config| &*config.name == "broker.id" && config.read_only));
    assert_eq!(synonyms(&configs, "log.retention.ms"), broker_has);
    assert_eq!(synonyms(&configs, "auto.create.topics.enable"), ["auto.create.topics.enable=true from 5"]);
    for name in ["num.partitions", "message.max.bytes", "log.cleaner.dedupe.buffer.size", "log.dirs"] {
        assert!(!synonyms(&configs, name).is_empty());
    }
    assert!(describe(&mut client, BROKER, "").await.is_empty());
}

#[tokio::test]
async fn settings_of_the_broker_are_altered_heeded_and_kept() {
    let (dir, broker, mut client) = start().await;
    client.create("t").await;
    let produced = async |client: &mut Client| client.produce("t", Batch::sized(500).bytes()).await.error_code;
    let name = "message.max.bytes";
    let default = format!("{name}={} from 5", 1024 * 1024 + 12);
    // Each broker's own wins over that of all brokers; the topic's wins over both.
    let steps: [(i8, &str, &str, Option<&str>, i16, &[&str]); 7] = [
        (BROKER, "", name, Some("400"), TOO_LARGE, &["message.max.bytes=400 from 3"]),
        (BROKER, "0", name, Some("900"), 0, &["message.max.bytes=900 from 2", "message.max.bytes=400 from 3"]),
        (BROKER, "0", name, None, TOO_LARGE, &["message.max.bytes=400 from 3"]),
        (TOPIC, "t", "max.message.bytes", Some("900"), 0, &["message.max.bytes=400 from 3"]),
        (TOPIC, "t", "max.message.bytes", None, TOO_LARGE, &["message.max.bytes=400 from 3"]),
        (BROKER, "", name, None, 0, &[]),
        (BROKER, "0", name, Some("300"), TOO_LARGE, &["message.max.bytes=300 from 2"]),
    ];
    for (kind, owner, setting, value, code, expected) in steps {
        let operation = if value.is_some() { SET } else { DELETE };
        let change = [(setting, operation, value)];
        assert_eq!(alter(&mut client, kind, owner, &change).await, (0, String::new()));
        assert_eq!(produced(&mut client).await, code, "{change:?}");
        let found = synonyms(&describe(&mut client, BROKER, "0").await, name);
        assert_eq!(found, [expected, &[&*default]].concat(), "{change:?}");
    }
    assert!(describe(&mut client, BROKER, "").await.is_empty());
    set(&mut client, BROKER, "", "log.flush.interval.ms", "7000").await;
    broker.shutdown().await.unwrap();
    let broker = Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(produced(&mut client).await, TOO_LARGE, "after a restart");
    let altered = describe(&mut client, BROKER, "").await;
    assert_eq!(synonyms(&altered, "log.flush.interval.ms"), ["log.flush.interval.ms=7000 from 3"]);
    let of_topic = describe(&mut client, TOPIC, "t").await;
    assert_eq!(synonyms(&of_topic, "flush.ms")[0], "log.flush.interval.ms=7000 from 3");
    assert_eq!(synonyms(&of_topic, "max.message.bytes"), ["message.max.bytes=300 from 2", &default]);
    // The old request replaces all: what it does not name goes back.
    let resource = |value| {
        let config = alter_configs_request::AlterableConfig::default().with_name(text("background.threads"));
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text("0"))
            .with_configs(vec![config.with_value(Some(text(value)))]);
        AlterConfigsRequest::default().with_resources(vec![resource])
    };
    for (request, code, produces) in [
        (resource("none"), INVALID_REQUEST, TOO_LARGE),
        (resource("3").with_validate_only(true), 0, TOO_LARGE),
        (resource("3"), 0, 0),
    ] {
        assert_eq!(client.call(&request, 2).await.responses[0].error_code, code);
        assert_eq!(produced(&mut client).await, produces);
    }
    let altered = describe(&mut client, BROKER, "0").await;
    assert_eq!(
        synonyms(&altered, "background.threads"),
        ["background.threads=3 from 2", "background.threads=10 from 5"]
    );
}

#[tokio::test]
async fn retention_follows_the_broker_where_a_topic_has_none_of_its_own() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start_with_clock(settings(dir.path()), clock.clone()).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    create_with(&mut client, "own", &[("retention.ms", "-1")]).await;
    client.create("follows").await;
    for topic in ["own", "follows"] {
        client.append(topic, Batch::of(["a"]).bytes()).await;
    }
    clock.advance(10_000);
    for (retention, start) in [(None, 0), (Some("5000"), 1)] {
        if let Some(retention) = retention {
            set(&mut client, BROKER, "", "log.retention.ms", retention).await;
        }
        broker.enforce_retention().await;
        assert_eq!(client.list_offset("follows", -2).await.0, start, "{retention:?}");
        assert_eq!(client.list_offset("own", -2).await.0, 0);
    }
}

#[tokio::test]
async fn the_limits_of_connections_are_altered_for_those_that_come_next() {
    let (_dir, broker, mut client) = start().await;
    for name in ["max.connections", "max.connections.per.ip"] {
        set(&mut client, BROKER, "0", name, "1").await;
        let mut next = Client::connect(broker.local_addr()).await;
        assert!(next.receive_frame().await.is_none(), "{name}");
        set(&mut client, BROKER, "0", name, "1000").await;
        describe(&mut Client::connect(broker.local_addr()).await, BROKER, "0").await;
    }
}

#[tokio::test]
async fn what_cannot_be_altered_is_refused_with_the_reason() {
    let (_dir, _broker, mut client) = start().await;
    let one = |name, value| [(name, SET, Some(value))];
    for (kind, name, changes, code, expected) in [
        (
            BROKER,
            "0",
            &one("log.dirs", "/tmp")[..],
            INVALID_REQUEST,
            "log.dirs cannot be altered while the broker runs",
        ),
        (BROKER, "0", &one("log.retention.sm", "1"), INVALID_REQUEST, "is not served; those that can be altered are"),
        (BROKER, "", &one("log.retention.ms", "-2"), INVALID_REQUEST, "is \"-2\", expected a number from -1"),
        (BROKER, "0", &[("log.retention.ms", APPEND, Some("1"))], INVALID_REQUEST, "is no list"),
        (BROKER, "7", &one("log.retention.ms", "1"), INVALID_REQUEST, "there is no broker 7, only 0"),
        (GROUP, "", &one("consumer.session.timeout.ms", "50000"), INVALID_REQUEST, "a group needs a name"),
        (GROUP, "g", &one("consumer.session.timeout.ms", "1"), INVALID_CONFIG, "expected a number from 45000 to 60000"),
        (GROUP, "g", &one("session.timeout.ms", "1"), INVALID_CONFIG, "served are consumer.heartbeat.interval.ms"),
        (TOPIC, "nowhere", &one("retention.ms", "1"), UNKNOWN_TOPIC, "there is no topic nowhere"),
        (8, "0", &one("root", "DEBUG"), INVALID_REQUEST, "resource type 8 has no settings"),
    ] {
        let (found, reason) = alter(&mut client, kind, name, changes).await;
        assert_eq!(found, code, "{changes:?}: {reason}");
        assert!(reason.contains(expected), "{reason}");
    }
    assert!(describe(&mut client, BROKER, "").await.is_empty());
    // All changes of a resource or none.
    let changes = [("log.retention.ms", SET, Some("5")), ("log.segment.bytes", SET, Some("5"))];
    assert_eq!(alter(&mut client, BROKER, "", &changes).await.0, INVALID_REQUEST);
    assert!(describe(&mut client, BROKER, "").await.is_empty());
}

#[tokio::test]
async fn settings_of_a_group_are_told_to_its_members_and_kept() {
    let (dir, broker, mut client) = start().await;
    client.create("t").await;
    let beat = |member: &str, epoch: i32| {
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(text("g")))
            .with_member_id(text(member))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(30_000)
            .with_subscribed_topic_names(Some(vec![topic_name("t")]))
            .with_topic_partitions(Some(Vec::new()))
    };
    let interval = async |client: &mut Client, epoch| {
        let heard = client.call(&beat("m", epoch), 1).await;
        assert_eq!(heard.error_code, 0, "{heard:?}");
        heard.heartbeat_interval_ms
    };
    let listed = async |client: &mut Client| {
        let request = ListConfigResourcesRequest::default().with_resource_types(vec![GROUP]);
        let found = client.call(&request, 1).await.config_resources;
        found.iter().map(|found| found.resource_name.to_string()).collect::<Vec<_>>()
    };
    let name = "consumer.heartbeat.interval.ms";
    let beneath = "group.consumer.heartbeat.interval.ms=5000 from 5".to_owned();
    assert_eq!(interval(&mut client, 0).await, 5000);
    assert_eq!(synonyms(&describe(&mut client, GROUP, "g").await, name), std::slice::from_ref(&beneath));
    assert!(listed(&mut client).await.is_empty());

    set(&mut client, GROUP, "g", name, "7000").await;
    set(&mut client, GROUP, "not.there.yet", "consumer.session.timeout.ms", "50000").await;
    assert_eq!(interval(&mut client, 1).await, 7000);
    broker.shutdown().await.unwrap();
    let broker = Broker::start(settings(dir.path())).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(interval(&mut client, 0).await, 7000, "after a restart");
    let own = format!("{name}=7000 from 8");
    assert_eq!(synonyms(&describe(&mut client, GROUP, "g").await, name), [own, beneath]);
    assert_eq!(listed(&mut client).await, ["g", "not.there.yet"]);
    assert_eq!(alter(&mut client, GROUP, "g", &[(name, DELETE, None)]).await.0, 0);
    assert_eq!(interval(&mut client, 0).await, 5000);
    assert_eq!(listed(&mut client).await, ["not.there.yet"]);
}
