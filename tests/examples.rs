//! Every project of `examples/`, run as its README says on events that are the same each time; what must come out is
//! computed here a second time, in the plainest way.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::broker::TestBroker;
use crate::program::{root, succeed};

/// The projects a test below runs; a new one must have its own.
const TESTED: [&str; 5] = ["access-log", "fraud", "iot", "sensor-readings", "user-behaviour"];

/// Half a minute of events, out of order by up to a second and none late.
const EVENTS: [&str; 12] = [
    "--count",
    "3000",
    "--seed",
    "7",
    "--start",
    "2024-01-01T00:01:00Z",
    "--event-rate",
    "100",
    "--late-share",
    "0",
    "--partitions",
    "1",
];

/// How far behind the newest event the watermark of the examples is.
const DELAY_MS: i64 = 2000;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A folder with the examples in it: they keep their tables beside themselves.
pub(crate) fn examples() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in TESTED {
        // Not the tables of somebody who tried the example out.
        let (from, to) = (root().join("examples").join(name), folder.path().join("examples").join(name));
        copy(&from, &to);
        let _ = fs::remove_dir_all(to.join("data"));
    }
    folder
}

/// Events of a kind: in the topic, and here as they were sent.
pub(crate) fn generate(folder: &Path, broker: &TestBroker, kind: &str, topic: &str) -> Vec<Value> {
    let with = |more: &[&str]| {
        let arguments: Vec<&str> = ["datagen", kind].iter().chain(&EVENTS).chain(more).copied().collect();
        succeed(folder, &arguments)
    };
    with(&["--topic", topic, "--bootstrap", &broker.address]);
    with(&[]).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn run_example(folder: &Path, name: &str, broker: &TestBroker) {
    let (path, bootstrap) = (format!("examples/{name}"), format!("bootstrap={}", broker.address));
    let arguments = ["run", &path, "--param", &bootstrap, "--trigger", "available-now"];
    succeed(folder, &arguments);
    // A second time there is nothing to do, and nothing is done twice.
    succeed(folder, &arguments);
}

fn query(folder: &Path, sql: &str, example: &str) -> Vec<Value> {
    let storage = format!("examples/{example}/data");
    let rows = succeed(folder, &["sql", sql, "--storage", &storage, "--output", "json"]);
    rows.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The minute, second and fraction of a timestamp of the first hour, in milliseconds.
fn millis(timestamp: &Value) -> i64 {
    let text = timestamp.as_str().unwrap();
    let time = text.strip_prefix("2024-01-01T00:").unwrap_or_else(|| panic!("{text} is in the first hour"));
    let minute: i64 = time[..2].parse().unwrap();
    let seconds: f64 = time[3..].trim_end_matches('Z').parse().unwrap();
    minute * 60_000 + (seconds * 1000.0).round() as i64
}

/// Where the windows begin that an event is in.
fn windows(event: &Value, size_ms: i64, slide_ms: i64) -> Vec<i64> {
    let at = millis(&event["ts"]);
    let newest = at - at.rem_euclid(slide_ms);
    (0..size_ms / slide_ms).map(|n| newest - n * slide_ms).collect()
}

/// The events of each window and group that are final when all events are read.
fn grouped<'a>(
    events: &'a [Value],
    (size_ms, slide_ms): (i64, i64),
    group: &str,
) -> BTreeMap<(i64, String), Vec<&'a Value>> {
    let watermark = events.iter().map(|event| millis(&event["ts"])).max().unwrap() - DELAY_MS;
    let mut groups: BTreeMap<(i64, String), Vec<&Value>> = BTreeMap::new();
    for event in events {
        for start in windows(event, size_ms, slide_ms).into_iter().filter(|start| start + size_ms <= watermark) {
            groups.entry((start, event[group].as_str().unwrap().to_owned())).or_default().push(event);
        }
    }
    groups
}

/// Money in whole cents.
fn cents(value: &Value) -> i64 {
    (value.as_f64().unwrap() * 100.0).round() as i64
}

fn numbers(events: &[&Value], field: &str) -> Vec<f64> {
    events.iter().map(|event| event[field].as_f64().unwrap()).collect()
}

fn min(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn close(found: &Value, expected: f64) -> bool {
    found.as_f64().is_some_and(|found| (found - expected).abs() <= 1e-9 * expected.abs().max(1.0))
}

#[test]
fn every_example_is_tested() {
    let mut found: Vec<String> = fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, TESTED);
}

#[test]
fn fraud_alerts_are_the_bursts_of_the_payments() {
    let folder = examples();
    let broker = TestBroker::start(folder.path());
    let payments = generate(folder.path(), &broker, "payments", "payments.card.authorized");
    run_example(folder.path(), "fraud", &broker);
    let mut expected: Vec<(i64, String, usize, i64, i64)> = grouped(&payments, (10_000, 5000), "card_id")
        .into_iter()
        .map(|((start, card), events)| {
            let amounts: Vec<i64> = events.iter().map(|event| cents(&event["amount"])).collect();
            (start, card, events.len(), amounts.iter().sum(), amounts.iter().copied().max().unwrap())
        })
        .filter(|(_, _, payments, total, _)| *payments >= 4 && *total >= 150_000)
        .collect();
    let consume = ["topic", "consume", "payments.fraud.suspected", "-e", "--bootstrap", &broker.address];
    let alerts = succeed(folder.path(), &consume);
    let mut found: Vec<(i64, String, usize, i64, i64)> = alerts
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|alert: Value| {
            assert_eq!(millis(&alert["window_end"]) - millis(&alert["window_start"]), 10_000);
            let payments = usize::try_from(alert["payments"].as_u64().unwrap()).unwrap();
            let card = alert["card_id"].as_str().unwrap().to_owned();
            let (total, largest) = (cents(&alert["total_amount"]), cents(&alert["largest_amount"]));
            (millis(&alert["window_start"]), card, payments, total, largest)
        })
        .collect();
    expected.sort();
    found.sort();
    assert!(expected.len() > 1, "the payments have no bursts");
    assert_eq!(found, expected);
}

#[test]
fn page_traffic_is_what_was_clicked() {
    let folder = examples();
    let broker = TestBroker::start(folder.path());
    let clicks = generate(folder.path(), &broker, "clicks", "web.page.viewed");
    run_example(folder.path(), "user-behaviour", &broker);
    // Only pages of the file are joined.
    let pages = fs::read_to_string(folder.path().join("examples/user-behaviour/pages.csv")).unwrap();
    let pages: BTreeMap<&str, (&str, &str)> = pages
        .lines()
        .skip(1)
        .map(|line| line.split(',').collect::<Vec<_>>())
        .map(|fields| (fields[0], (fields[1], fields[2])))
        .collect();
    let mut expected = grouped(&clicks, (5000, 5000), "page");
    expected.retain(|(_, page), _| pages.contains_key(page.as_str()));
    let found = query(folder.path(), "SELECT * FROM page_traffic ORDER BY window_start, page", "user-behaviour");
    assert!(expected.len() > 20);
    assert_eq!(found.len(), expected.len());
    for (row, ((start, page), views)) in found.iter().zip(&expected) {
        let mut users: Vec<&Value> = views.iter().map(|view| &view["user_id"]).collect();
        users.sort_by_key(|user| user.as_str());
        users.dedup();
        let (title, section) = pages[page.as_str()];
        let text = |column: &str| row[column].as_str().unwrap().to_owned();
        assert_eq!((millis(&row["window_start"]), &text("page")), (*start, page));
        assert_eq!((text("title").as_str(), text("section").as_str()), (title, section));
        assert_eq!(row["views"].as_u64(), Some(views.len() as u64), "{row}");
        // Counted approximately, with a standard deviation of 5 %.
        let (visitors, users) = (row["visitors"].as_f64().unwrap(), users.len() as f64);
        assert!((visitors - users).abs() <= 0.2 * users, "{users} visitors, not {row}");
        assert!(close(&row["mean_time_on_page_ms"], mean(&numbers(views, "time_on_page_ms"))), "{row}");
    }
    assert!(folder.path().join("user-behaviour.db").exists(), "the database is where the README looks for it");
}

#[test]
fn device_windows_are_what_was_measured() {
    let folder = examples();
    let broker = TestBroker::start(folder.path());
    let readings = generate(folder.path(), &broker, "sensors", "iot.sensor.measured");
    run_example(folder.path(), "iot", &broker);
    let expected = grouped(&readings, (5000, 5000), "device_id");
    let found = query(folder.path(), "SELECT * FROM device_windows ORDER BY window_start, device_id", "iot");
    assert!(expected.len() > 100);
    assert_eq!(found.len(), expected.len());
    for (row, ((start, device), readings)) in found.iter().zip(&expected) {
        let temperatures = numbers(readings, "temperature");
        assert_eq!((millis(&row["window_start"]), row["device_id"].as_str()), (*start, Some(device.as_str())));
        assert_eq!(row["site"], readings[0]["site"]);
        assert_eq!(row["readings"].as_u64(), Some(readings.len() as u64), "{row}");
        assert!(close(&row["mean_temperature"], mean(&temperatures)), "{row}");
        for (column, value) in [
            ("min_temperature", min(&temperatures)),
            ("max_temperature", max(&temperatures)),
            ("max_vibration", max(&numbers(readings, "vibration"))),
            ("min_battery", min(&numbers(readings, "battery"))),
        ] {
            assert_eq!(row[column].as_f64(), Some(value), "{column} of {row}");
        }
    }
}

#[test]
fn sensor_readings_become_hours_also_when_files_come_later() {
    let folder = examples();
    let readings = folder.path().join("readings");
    fs::create_dir(&readings).unwrap();
    let write = |name: &str, rows: &str| fs::write(readings.join(name), format!("timestamp,value\n{rows}")).unwrap();
    write("kitchen.csv", "2024-01-01 00:10:00,20\n2024-01-01 00:50:00,22\n2024-01-01 01:00:00,30\n");
    write("notes.txt", "2024-01-01 00:10:00,99\n");
    let run = ["run", "examples/sensor-readings", "--param", "path=readings"];
    let hourly = || {
        let sql = "SELECT hour, sensor, readings, mean, min, max, deviation FROM hourly ORDER BY hour, sensor";
        let storage = "examples/sensor-readings/data";
        succeed(folder.path(), &["sql", sql, "--storage", storage, "--output", "csv"])
    };
    succeed(folder.path(), &run);
    let first = "hour,sensor,readings,mean,min,max,deviation\n\
         2024-01-01T00:00:00.000Z,kitchen,2,21.0,20.0,22.0,1.4142135623730951\n\
         2024-01-01T01:00:00.000Z,kitchen,1,30.0,30.0,30.0,\n";
    assert_eq!(hourly(), first);
    write("cellar.csv", "2024-01-01 01:30:00,8\n2024-01-01 01:45:00,9\n2024-01-01 01:50:00,10\n");
    succeed(folder.path(), &run);
    assert_eq!(
        hourly(),
        first.to_owned().replace(
            "2024-01-01T01:00:00.000Z,kitchen",
            "2024-01-01T01:00:00.000Z,cellar,3,9.0,8.0,10.0,1.0\n2024-01-01T01:00:00.000Z,kitchen"
        )
    );
}

/// Four lines of an access log.
pub(crate) fn access_log() -> String {
    let line = |client: &str, time: &str, request: &str, status: u16, size: &str| {
        format!(
            "{client} - - [17/May/2015:{time} +0000] \"{request} HTTP/1.1\" {status} {size} \"-\" \"Mozilla/5.0\"\n"
        )
    };
    let log = [
        line("10.0.0.1", "10:05:03", "GET /a.png?x=1", 200, "100"),
        line("10.0.0.2", "10:05:43", "GET /", 404, "-"),
        line("10.0.0.1", "10:20:00", "POST /login", 500, "50"),
        line("10.0.0.1", "11:00:00", "GET /a.png", 200, "300"),
    ];
    log.concat()
}

#[test]
fn an_access_log_becomes_traffic_errors_and_visits() {
    let folder = examples();
    fs::write(folder.path().join("access.log"), access_log()).unwrap();
    succeed(folder.path(), &["run", "examples/access-log", "--param", "path=access.log"]);
    let check = |sql: &str, expected: &str| {
        let arguments = ["sql", sql, "--storage", "examples/access-log/data", "--output", "csv"];
        assert_eq!(succeed(folder.path(), &arguments), expected, "{sql}");
    };
    check(
        "SELECT * FROM traffic_per_path ORDER BY path",
        "path,requests,size_bytes\n/,1,\n/a.png,2,400\n/login,1,50\n",
    );
    check(
        "SELECT * FROM traffic_per_hour ORDER BY hour",
        "hour,requests,clients,errors,error_rate\n2015-05-17T10:00:00.000Z,3,2,2,0.6666666666666666\n\
         2015-05-17T11:00:00.000Z,1,1,0,0.0\n",
    );
    check(
        "SELECT * FROM visits ORDER BY visit_window, client",
        "visit_window,client,requests,first_request,last_request,paths\n\
         2015-05-17T10:00:00.000Z,10.0.0.1,2,2015-05-17T10:05:03.000Z,2015-05-17T10:20:00.000Z,2\n\
         2015-05-17T10:00:00.000Z,10.0.0.2,1,2015-05-17T10:05:43.000Z,2015-05-17T10:05:43.000Z,1\n\
         2015-05-17T11:00:00.000Z,10.0.0.1,1,2015-05-17T11:00:00.000Z,2015-05-17T11:00:00.000Z,1\n",
    );
}
