//! HDFS, by a real one: name node and data node from Maven Central, started by `MiniHdfs.java`. The jars are fetched by
//! `make hdfs-test`, which names their folder in `HIGHWATER_HDFS_JARS`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use highwater_engine::checkpoint::RemoteSettings;

use super::fencing::{a_second_run_in_the_same_folder_is_refused, the_newer_run_wins};
use super::state::{Place, large_state_comes_back_whole};
use crate::crash::{Kills, tables_survive};
use crate::program::{highwater, root};

/// How many kills; more by `HIGHWATER_KILLS`.
const KILLS: usize = 12;

/// A running HDFS; ends with its input.
struct Hdfs {
    address: String,
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    _folder: tempfile::TempDir,
}

impl Hdfs {
    fn start() -> Self {
        let jars = std::env::var("HIGHWATER_HDFS_JARS").expect("HIGHWATER_HDFS_JARS: use make hdfs-test");
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("java");
        command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-cp", &format!("{jars}/*")]);
        command.arg(root().join("tests/remote/MiniHdfs.java")).arg(folder.path()).current_dir(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().expect("java runs");
        let (commands, answers) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let mut hdfs = Self { address: String::new(), process, commands, answers, _folder: folder };
        hdfs.address = hdfs.answer();
        hdfs
    }

    /// The next address it tells.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        while self.answers.read_line(&mut line).unwrap() > 0 {
            if line.starts_with("hdfs://") {
                return line.trim().to_owned();
            }
            line.clear();
        }
        panic!("the HDFS ended: {:?}", self.process.wait());
    }

    /// Stops the name node and starts it again.
    fn restart(&mut self) {
        writeln!(self.commands.as_ref().unwrap(), "restart").unwrap();
        assert_eq!(self.answer(), self.address);
    }

    fn environment(&self, folder: &str) -> Vec<(&'static str, String)> {
        vec![("HIGHWATER_CHECKPOINTS", format!("{}/{folder}", self.address))]
    }
}

impl Drop for Hdfs {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "needs Java and ninety megabytes from Maven Central: make hdfs-test"]
fn checkpoints_on_hdfs() {
    let mut hdfs = Hdfs::start();
    let environment = hdfs.environment("kills");
    tables_survive(&Kills { count: KILLS, within: Duration::from_millis(4000), environment: &environment });
    the_newer_run_wins(&hdfs.environment("two-machines"));
    a_second_run_in_the_same_folder_is_refused(&hdfs.environment("one-machine"));
    a_user_without_the_right_is_told(&hdfs);
    let place = Place {
        location: format!("{}/state", hdfs.address),
        options: Vec::new(),
        remote: RemoteSettings { part_bytes: 1 << 20, ..RemoteSettings::default() },
    };
    large_state_comes_back_whole(&place, || hdfs.restart());
}

fn a_user_without_the_right_is_told(hdfs: &Hdfs) {
    let folder = tempfile::tempdir().unwrap();
    let sql =
        "CREATE TABLE r USING rate; CREATE SINK n USING noop; CREATE FLOW f AS INSERT INTO n SELECT * FROM STREAM r;";
    let mut command = highwater(folder.path(), &["run", "-e", sql, "--storage", "storage", "--trigger", "once", "-q"]);
    command.envs(hdfs.environment("forbidden")).env("HADOOP_USER_NAME", "nobody");
    let finished = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&finished.stderr);
    assert_eq!(finished.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("/forbidden/f/run/1: the user or the credentials are not allowed to"), "{stderr}");
}
