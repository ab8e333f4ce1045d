//! TLS and passwords, by the options the documentation names: tables, their sinks, and the other verbs.

use std::fs;
use std::path::Path;

use super::Cluster;
use crate::program::{Finished, highwater, succeed};

/// The options of a table that speaks to the cluster as alice; the password is where it belongs.
fn options(cluster: &Cluster, mechanism: &str, more: &str) -> String {
    let (address, ca) = (cluster.known["sasl_ssl"].as_str().unwrap(), cluster.known["ca"].as_str().unwrap());
    format!(
        "kafka.bootstrap.servers '{address}', 'kafka.security.protocol' = 'SASL_SSL', 'kafka.ssl.ca.location' = '{ca}',
         'kafka.sasl.mechanism' = '{mechanism}', 'kafka.sasl.username' = 'alice',
         'kafka.sasl.password' = '${{env:KAFKA_PASSWORD}}', {more}"
    )
}

fn run_as_alice(folder: &Path, arguments: &[&str], password: &str) -> Finished {
    highwater(folder, arguments).env("KAFKA_PASSWORD", password).output().unwrap().into()
}

#[test]
#[ignore = "needs a Kafka cluster: make kafka-test"]
fn tables_are_read_and_written_over_tls_with_each_mechanism() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cluster = Cluster::take(folder);
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let part = mechanism.to_lowercase();
        let (from, to) = (format!("secure.{part}.sent"), format!("secure.{part}.copied"));
        cluster.create(folder, &from, "3");
        cluster.create(folder, &to, "3");
        let lines: String = (0..50).map(|n| format!("{n}\n")).collect();
        fs::write(folder.join("lines"), lines).unwrap();
        let produce = ["topic", "produce", &from, "lines", "--bootstrap", &cluster.address];
        succeed(folder, &produce);
        let (read, write) = (
            options(&cluster, mechanism, &format!("subscribe '{from}', startingOffsets 'earliest'")),
            options(&cluster, mechanism, &format!("topic '{to}', transactional 'true'")),
        );
        let sql = format!(
            "CREATE TABLE ev USING kafka OPTIONS ({read}); CREATE SINK out USING kafka OPTIONS ({write});
             CREATE FLOW f AS INSERT INTO out SELECT value FROM STREAM ev;"
        );
        fs::write(folder.join("q.sql"), sql).unwrap();
        let run = ["run", "q.sql", "--storage", &part, "--trigger", "available-now"];
        let refused = run_as_alice(folder, &run, "wrong-password");
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains("does not let this client in: Authentication failed"), "{}", refused.stderr);
        assert!(refused.stderr.contains("help: check 'kafka.sasl.mechanism'"), "{}", refused.stderr);
        assert!(!refused.stderr.contains("wrong-password"), "{}", refused.stderr);
        for _ in 0..2 {
            let done = run_as_alice(folder, &run, "alice-secret");
            assert_eq!(done.code, 0, "{mechanism}: {}", done.stderr);
        }
        assert_eq!(consumed(folder, &cluster, mechanism, &to), (0..50).collect::<Vec<u32>>(), "{mechanism}");
    }
}

/// What is in a topic, as bob sees it.
fn consumed(folder: &Path, cluster: &Cluster, mechanism: &str, topic: &str) -> Vec<u32> {
    let properties = [
        "security.protocol=SASL_SSL".to_owned(),
        format!("ssl.ca.location={}", cluster.known["ca"].as_str().unwrap()),
        format!("sasl.mechanism={mechanism}"),
        "sasl.username=bob".to_owned(),
        "sasl.password=bob-secret".to_owned(),
    ];
    let mut arguments = vec!["topic", "consume", topic, "-e", "-b", cluster.known["sasl_ssl"].as_str().unwrap()];
    properties.iter().for_each(|property| arguments.extend(["-X", property]));
    let mut found: Vec<u32> = succeed(folder, &arguments).lines().map(|line| line.parse().unwrap()).collect();
    found.sort_unstable();
    found
}

#[test]
#[ignore = "needs a Kafka cluster: make kafka-test"]
fn a_broker_that_is_not_known_is_not_spoken_to() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let cluster = Cluster::take(folder);
    let check = |change: (&str, &str), expected: &str| {
        let options = options(&cluster, "PLAIN", "subscribe 'none'").replace(change.0, change.1);
        let sql = format!(
            "CREATE TABLE ev USING kafka OPTIONS ({options}); CREATE SINK out USING noop;
             CREATE FLOW f AS INSERT INTO out SELECT value FROM STREAM ev;"
        );
        let run = ["run", "-e", &sql, "--storage", "st", "--trigger", "available-now"];
        let refused = run_as_alice(folder, &run, "alice-secret");
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{expected} is not in {}", refused.stderr);
    };
    let ca = cluster.known["ca"].as_str().unwrap();
    // Another authority than the one the brokers' certificate comes from.
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=somebody else", "-keyout", "other.key", "-out", "other.pem"])
        .current_dir(folder)
        .output();
    assert!(made.is_ok_and(|made| made.status.success()), "openssl makes a certificate");
    check((ca, "other.pem"), "no TLS with Kafka broker localhost:");
    check((ca, "missing.pem"), "certificate file missing.pem: it cannot be read");
    check(("'PLAIN'", "'GSSAPI'"), "expected one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512");
    check(("${env:KAFKA_PASSWORD}", "alice-secret"), "option 'kafka.sasl.password' holds the secret itself");
}
