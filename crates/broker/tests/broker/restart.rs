//! What a stop, a crash and a bad disk leave behind.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_broker::{Broker, BrokerError, BrokerSettings, CorruptLogPolicy, ErrorKind, ManualClock};
use tempfile::TempDir;

use crate::batch::Batch;
use crate::client::Client;
use crate::{settings, start, start_with};

fn log_file(dir: &Path, base_offset: u64) -> PathBuf {
    dir.join("t-0").join(format!("{base_offset:020}.log"))
}

/// A broker again in the same directory.
async fn restart(dir: &TempDir) -> (Broker, Client) {
    restart_with(dir, |_| {}).await.unwrap()
}

async fn restart_with(
    dir: &TempDir,
    change: impl FnOnce(&mut BrokerSettings),
) -> Result<(Broker, Client), BrokerError> {
    let mut settings = settings(dir.path());
    change(&mut settings);
    let broker = Broker::start(settings).await?;
    let client = Client::connect(broker.local_addr()).await;
    Ok((broker, client))
}

/// A directory with five batches, one record each, after a crash or a clean stop.
async fn five_batches(clean: bool) -> (TempDir, usize) {
    let (dir, broker, mut client) = start().await;
    client.create("t").await;
    for value in ["a", "b", "c", "d", "e"] {
        client.append("t", Batch::of([value]).bytes()).await;
    }
    if clean {
        broker.shutdown().await.unwrap();
    } else {
        drop(broker);
    }
    let size = fs::metadata(log_file(dir.path(), 0)).unwrap().len() as usize;
    (dir, size)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0xff;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn everything_survives_a_clean_stop_and_a_crash() {
    for clean in [true, false] {
        let (dir, _) = five_batches(clean).await;
        let (broker, mut client) = restart(&dir).await;
        assert_eq!(client.read_all("t", 0).await, ["a", "b", "c", "d", "e"]);
        assert_eq!(client.append("t", Batch::of(["f"]).bytes()).await, 5);
        broker.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn producer_sequences_survive_a_stop_a_crash_and_a_lost_snapshot() {
    for (clean, keep_snapshot) in [(true, true), (true, false), (false, true)] {
        let (dir, broker, mut client) = start().await;
        client.create("t").await;
        let send = |sequence| Batch::of(["v"]).by_producer(77, 0, sequence).bytes();
        for sequence in 0..3 {
            client.append("t", send(sequence)).await;
        }
        if clean {
            broker.shutdown().await.unwrap();
        } else {
            drop(broker);
        }
        if !keep_snapshot {
            fs::remove_file(dir.path().join("t-0/00000000000000000003.snapshot")).unwrap();
        }
        let (_broker, mut client) = restart(&dir).await;
        assert_eq!(client.append("t", send(1)).await, 1, "known again");
        assert_eq!(client.produce("t", send(5)).await.error_code, 45);
        assert_eq!(client.append("t", send(3)).await, 3);
    }
}

#[tokio::test]
async fn a_torn_end_is_cut_at_every_byte() {
    let (original, size) = five_batches(false).await;
    let whole = fs::read(log_file(original.path(), 0)).unwrap();
    let batch = size / 5;
    for cut in 1..=batch {
        let dir = tempfile::tempdir().unwrap();
        copy_dir(original.path(), dir.path());
        fs::write(log_file(dir.path(), 0), &whole[..size - cut]).unwrap();
        let (broker, mut client) = restart(&dir).await;
        assert_eq!(client.read_all("t", 0).await, ["a", "b", "c", "d"], "cut {cut}");
        assert_eq!(client.append("t", Batch::of(["again"]).bytes()).await, 4);
        drop(broker);
    }
}

#[tokio::test]
async fn garbage_and_zeros_behind_the_end_are_cut() {
    for tail in [vec![0u8; 5000], (0..5000u32).map(|at| at as u8).collect()] {
        let (dir, size) = five_batches(false).await;
        let path = log_file(dir.path(), 0);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(tail);
        fs::write(&path, bytes).unwrap();
        let (_broker, mut client) = restart(&dir).await;
        assert_eq!(client.read_all("t", 0).await.len(), 5);
        assert_eq!(fs::metadata(&path).unwrap().len() as usize, size);
    }
}

#[tokio::test]
async fn damage_in_the_middle_stops_the_start_and_says_where() {
    let (dir, size) = five_batches(false).await;
    let path = log_file(dir.path(), 0);
    let second = size / 5;
    // In the records, in the checksum, in the length, in the base offset.
    for at in [second + 66, second + 18, second + 10, second + 3] {
        flip(&path, at);
        let error = restart_with(&dir, |_| {}).await.map(|_| ()).expect_err("damaged");
        assert_eq!(error.kind(), ErrorKind::RestoreData);
        let message = error.to_string();
        let position = format!("position {second}");
        for part in ["topic t partition 0", "00000000000000000000.log", &position, "backup", "truncate"] {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        flip(&path, at);
    }
    flip(&path, second + 66);
    let truncate = |settings: &mut BrokerSettings| settings.corrupt_log = CorruptLogPolicy::Truncate;
    let (broker, mut client) = restart_with(&dir, truncate).await.unwrap();
    assert_eq!(client.read_all("t", 0).await, ["a"]);
    assert_eq!(client.append("t", Batch::of(["on"]).bytes()).await, 1);
    drop(broker);
    let (_broker, mut client) = restart(&dir).await;
    assert_eq!(client.read_all("t", 0).await, ["a", "on"]);
}

#[tokio::test]
async fn a_flushed_end_that_is_gone_is_damage_and_no_torn_end() {
    let (dir, size) = five_batches(true).await;
    let file = OpenOptions::new().write(true).open(log_file(dir.path(), 0)).unwrap();
    file.set_len(size as u64 - 10).unwrap();
    let message = restart_with(&dir, |_| {}).await.map(|_| ()).expect_err("damaged").to_string();
    assert!(message.contains("offset 4"), "{message}");
    file.set_len((size / 5) as u64 * 4).unwrap();
    let message = restart_with(&dir, |_| {}).await.map(|_| ()).expect_err("damaged").to_string();
    assert!(message.contains("ends at offset 4, expected 5"), "{message}");
}

#[tokio::test]
async fn damage_while_running_is_an_error_of_the_fetch() {
    let (dir, _broker, mut client) = start().await;
    client.create("t").await;
    for value in ["a", "b", "c"] {
        client.append("t", Batch::of([value]).bytes()).await;
    }
    let path = log_file(dir.path(), 0);
    let size = fs::metadata(&path).unwrap().len() as usize;
    flip(&path, size / 3 + 65);
    let response = client.fetch(&crate::client::fetch_request("t", 0, 0, 1)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 2);
}

#[tokio::test]
async fn segments_roll_are_found_by_offset_and_time_and_survive_without_indexes() {
    let small = |settings: &mut BrokerSettings| settings.segment_bytes = 2048;
    let (dir, broker, mut client) = start_with(small).await;
    client.create("t").await;
    for at in 0..100i64 {
        client.append("t", Batch::sized(400).at([at * 10]).bytes()).await;
    }
    broker.shutdown().await.unwrap();
    let logs = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir.join("t-0")).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|e| e == "log")).collect()
    };
    assert!(logs(dir.path()).len() > 20);
    for remove_indexes in [false, true] {
        if remove_indexes {
            for log in logs(dir.path()) {
                let _ = fs::remove_file(log.with_extension("index"));
                let _ = fs::remove_file(log.with_extension("timeindex"));
            }
        }
        let (broker, mut client) = restart_with(&dir, small).await.unwrap();
        for at in [0, 1, 50, 99] {
            assert_eq!(client.list_offset("t", at * 10).await, (at, at * 10));
            assert_eq!(client.list_offset("t", at * 10 - 9 * i64::from(at > 0)).await.0, at);
            assert_eq!(client.read_all("t", at).await.len() as i64, 100 - at);
        }
        broker.shutdown().await.unwrap();
    }
    // With whole segments behind it, an end that is missing is damage and never torn.
    let mut paths = logs(dir.path());
    paths.sort();
    let file = OpenOptions::new().write(true).open(&paths[3]).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();
    let message = restart_with(&dir, small).await.map(|_| ()).expect_err("damaged").to_string();
    assert!(message.contains(&paths[3].display().to_string()), "{message}");
}

#[tokio::test]
async fn retention_deletes_from_the_front_and_the_offsets_stay() {
    let clock = Arc::new(ManualClock::at(1_000_000));
    let dir = tempfile::tempdir().unwrap();
    let settings = BrokerSettings { segment_bytes: 2048, retention_ms: 60_000, ..settings(dir.path()) };
    let broker = Broker::start_with_clock(settings.clone(), clock.clone()).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    client.create("t").await;
    for at in 0..20i64 {
        client.append("t", Batch::sized(500).at([1_000_000 + at * 5_000]).bytes()).await;
    }
    broker.enforce_retention().await;
    assert_eq!(client.list_offset("t", -2).await.0, 0);
    clock.advance(110_000);
    broker.enforce_retention().await;
    let (start, _) = client.list_offset("t", -2).await;
    assert!((5..=10).contains(&start), "{start}");
    let gone = client.fetch(&crate::client::fetch_request("t", 0, 0, 1)).await;
    assert_eq!(gone.responses[0].partitions[0].error_code, 1);
    assert_eq!(client.read_all("t", start).await.len() as i64, 20 - start);
    // Everything ages out in the end, and the next offset is still 20.
    clock.advance(1_000_000);
    broker.enforce_retention().await;
    assert_eq!((client.list_offset("t", -2).await.0, client.list_offset("t", -1).await.0), (20, 20));
    broker.shutdown().await.unwrap();
    let broker = Broker::start_with_clock(settings, clock).await.unwrap();
    let mut client = Client::connect(broker.local_addr()).await;
    assert_eq!(client.append("t", Batch::of(["next"]).bytes()).await, 20);
}

#[tokio::test]
async fn retention_by_size_keeps_at_least_the_limit() {
    let (_dir, broker, mut client) = start_with(|settings| {
        settings.segment_bytes = 2048;
        settings.retention_bytes = 5000;
        settings.retention_ms = -1;
    })
    .await;
    client.create("t").await;
    for _ in 0..50 {
        client.append("t", Batch::sized(500).bytes()).await;
    }
    broker.enforce_retention().await;
    let (start, _) = client.list_offset("t", -2).await;
    let left_bytes = (50 - start) * 570;
    assert!((5000..8000).contains(&left_bytes), "{left_bytes}");
}

#[tokio::test]
async fn one_broker_a_directory_and_one_a_port() {
    let (dir, broker, _client) = start().await;
    let error = Broker::start(settings(dir.path())).await.map(|_| ()).expect_err("in use");
    assert!(matches!(error, BrokerError::DataDirInUse { .. }));
    assert!(error.to_string().contains(&dir.path().display().to_string()));

    let other = tempfile::tempdir().unwrap();
    let same_port = BrokerSettings { listen: broker.local_addr(), ..settings(other.path()) };
    let message = Broker::start(same_port).await.map(|_| ()).expect_err("in use").to_string();
    for part in [broker.local_addr().to_string().as_str(), "--listen"] {
        assert!(message.contains(part), "{message}");
    }
    let open = BrokerSettings { listen: ([0, 0, 0, 0], 0).into(), ..settings(other.path()) };
    let message = Broker::start(open).await.map(|_| ()).expect_err("not loopback").to_string();
    assert!(message.contains("loopback"), "{message}");

    broker.shutdown().await.unwrap();
    restart(&dir).await;
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_torn_closed_segment_with_nothing_behind_it_is_cut() {
    let small = |settings: &mut BrokerSettings| settings.segment_bytes = 2048;
    let (dir, broker, mut client) = start_with(small).await;
    client.create("t").await;
    for _ in 0..6 {
        client.append("t", Batch::sized(400).bytes()).await;
    }
    drop(broker);
    // Power went while the closed segment was not yet on the disk, and the next was still empty.
    let closed = log_file(dir.path(), 0);
    let next = log_file(dir.path(), 4);
    let file = OpenOptions::new().write(true).open(&closed).unwrap();
    file.set_len(fs::metadata(&closed).unwrap().len() - 7).unwrap();
    fs::write(&next, b"").unwrap();
    let _ = fs::remove_file(dir.path().join("t-0/checkpoint.json"));
    let (_broker, mut client) = restart_with(&dir, small).await.unwrap();
    assert_eq!(client.read_all("t", 0).await.len(), 3);
    assert_eq!(client.append("t", Batch::of(["on"]).bytes()).await, 3);
}

#[tokio::test]
async fn segments_that_are_all_gone_are_missed() {
    let (dir, _) = five_batches(true).await;
    fs::remove_file(log_file(dir.path(), 0)).unwrap();
    let message = restart_with(&dir, |_| {}).await.map(|_| ()).expect_err("missed").to_string();
    assert!(message.contains("up to offset 5"), "{message}");
}
