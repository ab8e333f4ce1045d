//! Two runs of one query on two machines: the lock of a machine does not reach the other, so the newer run wins, and the
//! older one stops at its next write.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::program::{Finished, eventually, highwater};

/// What machines share beside the checkpoint: the files they read and the table they write.
const SQL: &str = "CREATE TABLE ev (k STRING, v BIGINT) USING json OPTIONS (path 'in');
CREATE STREAMING TABLE copy USING json OPTIONS (path 'out') AS SELECT * FROM STREAM ev;";

/// A run whose own files are in `storage`, which is one for each machine.
fn command(folder: &Path, environment: &[(&'static str, String)], storage: &str, trigger: &str) -> Command {
    if !folder.join("in").exists() {
        fs::create_dir(folder.join("in")).unwrap();
        fs::write(folder.join("in/a.json"), "{\"k\":\"a\",\"v\":1}\n").unwrap();
        fs::write(folder.join("q.sql"), SQL).unwrap();
    }
    let mut command = highwater(folder, &["run", "q.sql", "--storage", storage, "--trigger", trigger, "-q"]);
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    command
}

/// What a run is told that another one overtook.
pub(crate) fn the_newer_run_wins(environment: &[(&'static str, String)]) {
    let folder = tempfile::tempdir().unwrap();
    let mut older = command(folder.path(), environment, "older", "100 milliseconds");
    let running = older.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the older run has done a batch", || {
        let status = fs::read_to_string(folder.path().join("older/queries/copy.json")).ok()?;
        status.contains("\"batchId\": 0").then_some(())
    });
    let second: Finished = command(folder.path(), environment, "newer", "available-now").output().unwrap().into();
    assert_eq!(second.code, 0, "{}", second.stderr);
    fs::write(folder.path().join("in/b.json"), "{\"k\":\"b\",\"v\":2}\n").unwrap();
    let ended: Finished = running.wait_with_output().unwrap().into();
    assert_eq!(ended.code, 3, "{}", ended.stderr);
    assert!(ended.stderr.contains("a newer run owns this checkpoint: run 2"), "{}", ended.stderr);
}

/// On one machine a second run is refused before it has done anything: they would share a work folder.
pub(crate) fn a_second_run_in_the_same_folder_is_refused(environment: &[(&'static str, String)]) {
    let folder = tempfile::tempdir().unwrap();
    let mut first = command(folder.path(), environment, "storage", "100 milliseconds");
    let mut running = first.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the first run has done a batch", || {
        let status = fs::read_to_string(folder.path().join("storage/queries/copy.json")).ok()?;
        status.contains("\"batchId\": 0").then_some(())
    });
    let second: Finished = command(folder.path(), environment, "storage", "available-now").output().unwrap().into();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(second.code, 3, "{}", second.stderr);
    let expected = format!("query 'copy' is already running as process {}", running.id());
    assert!(second.stderr.contains(&expected), "{}", second.stderr);
}
