//! Journals that are torn, damaged, of before and of later, and disks that fail.

use std::os::fd::OwnedFd;

use super::*;

const KIND: Kind = Kind { name: "numbers", version: 2, holds: "a test" };

fn open(path: &Path) -> Result<(Journal, Vec<u32>), BrokerError> {
    let mut numbers = Vec::new();
    Ok((Journal::open(path.to_owned(), KIND, |number| numbers.push(number))?, numbers))
}

fn lines(entries: &[&str]) -> Vec<u8> {
    entries.iter().flat_map(|json| format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())).into_bytes()).collect()
}

/// What a journal of these bytes says, and again after one more entry and a restart.
fn check(content: &[u8], expected: Result<&[u32], &str>) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("n.log");
    fs::write(&path, content).expect("written");
    let shown = String::from_utf8_lossy(content).into_owned();
    match (open(&path), expected) {
        (Ok((journal, numbers)), Ok(expected)) => {
            assert_eq!(numbers, expected, "{shown}");
            journal.write().append(&77).expect("appended");
            drop(journal);
            let (journal, numbers) = open(&path).expect("opened again");
            assert_eq!(numbers, [expected, &[77]].concat(), "{shown}");
            assert_eq!(journal.entries(), numbers.len(), "{shown}");
            let head = lines(&[r#"{"highwater":"numbers","version":2}"#]);
            assert!(fs::read(&path).expect("read").starts_with(&head), "{shown}: the version is not in the first line");
        }
        (Err(error), Err(expected)) => {
            let error = error.to_string().replace(&dir.path().display().to_string(), "");
            assert_eq!(error, expected, "{shown}");
            assert_eq!(fs::read(&path).expect("read"), content, "{shown}: a file that is refused is not touched");
        }
        (found, _) => panic!("{shown}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn what_is_torn_is_cut_and_what_is_not_understood_is_refused() {
    let head = r#"{"highwater":"numbers","version":2}"#;
    let whole = lines(&[head, "1", "2"]);
    check(&whole, Ok(&[1, 2]));
    check(&[], Ok(&[]));
    check(&lines(&[head]), Ok(&[]));
    let before = lines(&["1", "2"]);
    check(&before, Ok(&[1, 2]));
    check(&lines(&[r#"{"highwater":"numbers","version":1}"#, "1", "2"]), Ok(&[1, 2]));

    let line = lines(&["2"]).len();
    for cut in 1..=line {
        check(&whole[..whole.len() - cut], Ok(&[1]));
        check(&before[..before.len() - cut], Ok(&[1]));
    }
    for cut in 0..lines(&[head]).len() {
        check(&whole[..cut], Ok(&[]));
    }
    // Several lines that nobody knows to be on the disk, of which a crash has left zeros.
    check(&[&whole[..], &[0; 40], b"\n", &[0; 40], b"\n"].concat(), Ok(&[1, 2]));

    let damaged = |position: usize, at: &str| {
        let mut bytes = whole.clone();
        bytes[position] ^= 1;
        let error = format!(
            "file /n.log cannot be used: the line at position {at} is damaged; restore it from a backup, or move it away \
             if what it records (a test) may be lost"
        );
        check(&bytes, Err(&error));
    };
    damaged(20, "0");
    damaged(whole.len() - line - 2, &(whole.len() - 2 * line).to_string());
}

#[test]
fn another_version_is_named_and_nothing_of_it_is_dropped() {
    let head = r#"{"highwater":"numbers","version":2}"#;
    let way_out = "another version of Highwater has written it. Start that version, or restore the copy from before the \
                   upgrade, of the whole data directory (docs/operations/upgrade.md)";
    let newer = format!("file /n.log holds version 3, expected version 2 or one before it: {way_out}");
    // The first line may say more by then, and what is behind it may be anything.
    check(&lines(&[r#"{"highwater":"numbers","version":3,"since":"0.9"}"#, "[]"]), Err(&newer));
    check(&lines(&[r#"{"highwater":"numbers","version":3}"#]), Err(&newer));
    let position = lines(&[head, "1"]).len();
    let unknown = format!(
        "file /n.log holds an entry at position {position} that is whole and not understood (invalid type: string \
         \"x\", expected u32 at line 1 column 3), expected entries of version 2: {way_out}"
    );
    check(&lines(&[head, "1", r#""x""#]), Err(&unknown));
    check(&lines(&[head, "1", r#""x""#, "2"]), Err(&unknown));
    check(
        &lines(&[r#"{"highwater":"letters","version":2}"#, "1"]),
        Err(
            "file /n.log cannot be used: it is the journal \"letters\", expected \"numbers\"; restore it from a backup, or \
             move it away if what it records (a test) may be lost",
        ),
    );
}

#[test]
fn after_a_failed_fsync_no_other_is_believed() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (journal, _) = open(&dir.path().join("j.log")).expect("opened");
    journal.write().append(&1).expect("appended");
    journal.sync().expect("synced");
    // A pipe takes bytes and has no disk.
    let (_reader, pipe) = io::pipe().expect("a pipe");
    let file = std::mem::replace(&mut journal.file.lock().file, File::from(OwnedFd::from(pipe)));
    journal.write().append(&2).expect("appended");
    journal.sync().expect_err("no disk");
    journal.file.lock().file = file;
    journal.write().append(&3).expect("appended");
    let error = journal.sync().expect_err("once is enough").to_string();
    assert!(error.contains("j.log has failed before; restart the broker"), "{error}");
}
