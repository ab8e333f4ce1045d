//! Damage on the disk under the broker: said at once and by name, and given up only by whoever asks for it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::broker::TestBroker;
use crate::program::{Finished, run, succeed};

/// A value of which two do not fit into one of the smallest segments.
fn value(letter: char) -> String {
    String::from(letter).repeat(600)
}

fn lines(letters: &str) -> String {
    letters.chars().map(|letter| value(letter) + "\n").collect()
}

/// A topic with a segment for each of `a` to `e`, whose broker has ended.
fn five_segments(folder: &Path) {
    let broker = TestBroker::start(folder);
    succeed(folder, &["topic", "create", "t", "--bootstrap", &broker.address, "--config", "segment.bytes=1024"]);
    for letter in 'a'..='e' {
        broker.produce("t", &lines(&letter.to_string()));
    }
    broker.interrupt();
    assert_eq!(segments(folder).len(), 5);
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.join("broker/t-0")).unwrap().map(|file| file.unwrap().path());
    let mut logs: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    logs.sort();
    logs
}

/// Flips a bit of a byte.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn start(folder: &Path) -> Finished {
    run(folder, &["broker", "--listen", "127.0.0.1:0", "--data", "broker"])
}

fn consume(folder: &Path, broker: &TestBroker) -> Finished {
    run(folder, &["topic", "consume", "t", "-e", "--bootstrap", &broker.address])
}

/// Checksums differ with the clock: they are not compared.
fn without_checksums(text: &str) -> String {
    regex::Regex::new("0x[0-9a-f]+").unwrap().replace_all(text, "0x").into_owned()
}

const WAYS_OUT: &str = "Data behind it would be lost, so the broker does not start. Restore the file from a backup; or \
     move the partition's directory away to start it empty; or start once with `--truncate-corrupt-logs` to give up \
     everything from that position on";

#[test]
fn a_damaged_segment_in_the_middle_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    five_segments(folder.path());
    let damaged = &segments(folder.path())[1];
    flip(damaged, 300);
    let refused = start(folder.path());
    let expected = format!(
        "error: topic t partition 0 is damaged: broker/t-0/00000000000000000001.log at position 0: the checksum is 0x, \
         computed 0x (offset 1; valid data goes on in broker/t-0/00000000000000000002.log at position 0). {WAYS_OUT}\n"
    );
    assert_eq!((refused.code, without_checksums(&refused.stderr)), (1, expected));
    // Nothing was changed: with the file as it was, everything is there.
    flip(damaged, 300);
    let broker = TestBroker::start(folder.path());
    assert_eq!(consume(folder.path(), &broker).stdout, lines("abcde"));
}

#[test]
fn damage_is_given_up_by_whoever_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    five_segments(folder.path());
    flip(&segments(folder.path())[1], 300);
    let arguments = ["broker", "--listen", "127.0.0.1:0", "--data", "broker", "--truncate-corrupt-logs"];
    let mut giving_up = crate::program::Running::start(folder.path(), &arguments);
    assert!(giving_up.wait_for("cutting the log").contains("position=0"));
    giving_up.wait_for("bootstrap address");
    assert_eq!(giving_up.interrupt().code, 0);
    let broker = TestBroker::start(folder.path());
    broker.produce("t", &lines("z"));
    assert_eq!(consume(folder.path(), &broker).stdout, lines("az"));
}

/// What a later version has written is not damage, and not the torn end of a crash either: nothing of it is dropped.
#[test]
fn a_journal_of_a_later_version_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    TestBroker::start_on_own_port(folder.path()).interrupt();
    let way_out = "another version of Highwater has written it. Start that version, or restore the copy from before the \
                   upgrade, of the whole data directory (docs/operations/upgrade.md)";
    let check = |file: &str, change: &dyn Fn(&str) -> String, expected: &str| {
        let path = folder.path().join("broker").join(file);
        let before = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(&before)).unwrap();
        let refused = start(folder.path());
        let expected = format!("error: file broker/{file} holds {expected}: {way_out}\n");
        assert_eq!((refused.code, refused.stderr), (1, expected));
        assert_eq!(fs::read_to_string(&path).unwrap(), change(&before), "it is as that version left it");
        fs::write(&path, before).unwrap();
    };
    let newer = |_: &str| "7bfa367f {\"highwater\":\"offsets\",\"version\":2}\n".to_owned();
    check("offsets.log", &newer, "version 2, expected version 1 or one before it");
    let unknown = |before: &str| before.to_owned() + "d05fb003 {\"group\":\"g\",\"color\":\"red\"}\n";
    let head = fs::metadata(folder.path().join("broker/share-groups.log")).unwrap().len();
    let expected = format!(
        "an entry at position {head} that is whole and not understood (unknown field `color`, expected one of `group`, \
         `topic`, `partition`, `start`, `changes`, `removed` at line 1 column 20), expected entries of version 1"
    );
    check("share-groups.log", &unknown, &expected);
    // With the files as they were it starts.
    TestBroker::over(folder.path(), "broker");
}

#[test]
fn a_damaged_end_is_cut_after_a_crash_and_refused_after_a_clean_stop() {
    let folder = tempfile::tempdir().unwrap();
    five_segments(folder.path());
    let last = segments(folder.path()).pop().unwrap();
    flip(&last, 300);
    let refused = start(folder.path());
    let expected = format!(
        "error: topic t partition 0 is damaged: broker/t-0/00000000000000000004.log at position 0: the checksum is 0x, \
         computed 0x (offset 4). {WAYS_OUT}\n"
    );
    assert_eq!((refused.code, without_checksums(&refused.stderr)), (1, expected));
    flip(&last, 300);
    // The last record of a crash was never said to be on the disk: a torn one is cut off.
    let broker = TestBroker::start(folder.path());
    broker.produce("t", &lines("f"));
    broker.kill();
    flip(&segments(folder.path()).pop().unwrap(), 300);
    let broker = TestBroker::start(folder.path());
    assert_eq!(consume(folder.path(), &broker).stdout, lines("abcde"));
    broker.produce("t", &lines("g"));
    assert_eq!(consume(folder.path(), &broker).stdout, lines("abcdeg"));
}

#[test]
fn damage_that_only_shows_when_it_is_read_ends_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(folder.path());
    // Enough batches that the index lets the start pass over the first ones.
    for letter in 'a'..='j' {
        broker.produce("t", &value(letter).repeat(4));
    }
    broker.interrupt();
    let log = folder.path().join("broker/t-0/00000000000000000000.log");
    let second = fs::read(&log).unwrap().len() / 10;
    flip(&log, second + 300);
    let mut broker = TestBroker::start(folder.path());
    let address = broker.address.clone();
    let read = consume(folder.path(), &broker);
    let expected = format!(
        "error: records of topic 't' on {address} are damaged\nhelp: the broker's log says in which file and where; -o N \
         goes on at a later offset\n"
    );
    assert_eq!((read.code, read.stderr), (1, expected));
    let line = broker.wait_for("records cannot be read");
    assert!(line.contains("topic=\"t\" partition=0"), "{line}");
    assert!(line.contains(&format!("00000000000000000000.log is damaged at position {second}")), "{line}");
    let sql = format!(
        "CREATE TABLE ev (value BINARY) USING kafka OPTIONS (
            kafka.bootstrap.servers '{address}', subscribe 't', startingOffsets 'earliest');
         CREATE STREAMING TABLE t AS SELECT value FROM STREAM ev"
    );
    let queried = run(folder.path(), &["run", "-e", &sql, "--storage", "st", "--trigger", "available-now"]);
    assert_eq!(queried.code, 1, "{}", queried.stderr);
    for part in
        ["query 't': Kafka records of t-0 at offset ", "are damaged: the broker cannot read them", "help: check"]
    {
        assert!(queried.stderr.contains(part), "'{part}' is not in\n{}", queried.stderr);
    }
    broker.interrupt();
    let arguments = ["broker", "--listen", "127.0.0.1:0", "--data", "broker", "--truncate-corrupt-logs"];
    let mut giving_up = crate::program::Running::start(folder.path(), &arguments);
    let cut = giving_up.wait_for("cutting the log");
    assert!(cut.contains(&format!("position={second}")), "{cut}");
}
