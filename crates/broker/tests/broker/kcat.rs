//! kcat, a client nobody here wrote: produce, consume and groups as a user would.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use highwater_broker::FsyncMode;

use crate::security::{Authority, start_sasl_ssl};
use crate::start_with;

/// Whether kcat is there; where it is not, says so.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn is_installed() -> bool {
    let found = Command::new("kcat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        eprintln!("skipped: kcat is not installed");
    }
    found.is_ok()
}

/// Runs kcat against the broker with a deadline of its own; answers what it printed.
async fn kcat(address: SocketAddr, args: &[&str], input: &str) -> String {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut command = Command::new("timeout");
    command.args(["60", "kcat", "-b", &address.to_string()]).args(args);
    // `cargo test` points it at the librdkafka of this workspace, which is built without TLS.
    command.env_remove("LD_LIBRARY_PATH");
    let run = move || run(command, file);
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn run(mut command: Command, input: File) -> String {
    let output = command.stdin(input).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn lines(count: usize) -> String {
    (0..count).map(|at| format!("record {at} of the lot\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_codec_goes_through() {
    if !is_installed() {
        return;
    }
    let (_dir, broker, _client) = start_with(|settings| settings.fsync = FsyncMode::Always).await;
    let sent = lines(5000);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let compression = format!("compression.codec={codec}");
        kcat(broker.local_addr(), &["-P", "-t", codec, "-X", &compression], &sent).await;
        let got = kcat(broker.local_addr(), &["-C", "-t", codec, "-o", "beginning", "-e", "-q"], "").await;
        assert!(got == sent, "{codec}: {} bytes came back of {}", got.len(), sent.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_producer_and_a_group_that_goes_on_where_it_was() {
    if !is_installed() {
        return;
    }
    let (_dir, broker, _client) = start_with(|settings| settings.default_partitions = 3).await;
    let address = broker.local_addr();
    let consume = ["-G", "readers", "-e", "-q", "-X", "auto.offset.reset=earliest", "t"];
    kcat(address, &["-P", "-t", "t", "-X", "enable.idempotence=true"], &lines(3000)).await;
    let first = kcat(address, &consume, "").await;
    assert_eq!(sorted(&first), sorted(&lines(3000)));
    kcat(address, &["-P", "-t", "t"], "one more\n").await;
    assert_eq!(kcat(address, &consume, "").await, "one more\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time() {
    if !is_installed() {
        return;
    }
    let (_dir, broker, _client) = start_with(|_| {}).await;
    let address = broker.local_addr();
    kcat(address, &["-P", "-t", "t"], &lines(10)).await;
    assert!(kcat(address, &["-Q", "-t", "t:0:0"], "").await.contains("offset 0"));
    assert!(kcat(address, &["-Q", "-t", "t:0:-1"], "").await.contains("offset 10"));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_scram_and_plain() {
    if !is_installed() {
        return;
    }
    let authority = Authority::new();
    let (_dir, broker) = start_sasl_ssl(&authority, &["root"]).await;
    let ca = format!("ssl.ca.location={}", authority.path("ca.pem").display());
    for mechanism in ["SCRAM-SHA-512", "PLAIN"] {
        let mechanism = format!("sasl.mechanisms={mechanism}");
        let secure = [
            "-X",
            "security.protocol=SASL_SSL",
            "-X",
            &ca,
            "-X",
            &mechanism,
            "-X",
            "sasl.username=root",
            "-X",
            "sasl.password=root",
        ];
        let with = |args: &[&'static str]| -> Vec<String> {
            args.iter().chain(&secure).map(|arg| (*arg).to_owned()).collect()
        };
        let (produce, consume) = (with(&["-P", "-t", "t"]), with(&["-C", "-t", "t", "-o", "-100", "-e", "-q"]));
        let sent = lines(100);
        kcat(broker.local_addr(), &produce.iter().map(String::as_str).collect::<Vec<_>>(), &sent).await;
        let got = kcat(broker.local_addr(), &consume.iter().map(String::as_str).collect::<Vec<_>>(), "").await;
        assert_eq!(got, sent, "{mechanism}");
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}
