//! The binary under test: built when needed, run in a folder of its own, with nothing of the caller's environment
//! that changes what it does.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How often a test looks whether what it waits for has happened.
const LOOK: Duration = Duration::from_millis(100);

/// The root of the source tree.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The binary: `HIGHWATER_BIN`, or the one of this profile, brought up to date once.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("HIGHWATER_BIN") {
            return path.into();
        }
        // This test stands in TARGET/PROFILE/deps.
        let test = std::env::current_exe().expect("the test knows its own path");
        let folder = test.parent().and_then(Path::parent).expect("a test stands two folders deep");
        let profile = if folder.ends_with("release") { "release" } else { "dev" };
        let mut build = Command::new(env!("CARGO"));
        // All targets, as the tests themselves were built: other features would mean other dependencies.
        build.args(["build", "--quiet", "--workspace", "--all-targets", "--profile", profile]);
        build.current_dir(root());
        build.env("CARGO_TARGET_DIR", folder.parent().expect("a profile stands in the target folder"));
        // What cargo tells a test of its package would make `ring`, and all that needs it, be built again: its build
        // script asks to be run whenever the folder of the package changes.
        let of_the_package = |name: &str| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| of_the_package(&name.to_string_lossy())) {
            build.env_remove(name);
        }
        assert!(build.status().expect("cargo runs").success(), "the binary does not build");
        folder.join("highwater")
    })
}

/// A command of the binary in `folder`.
pub(crate) fn highwater(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env("NO_COLOR", "1").env("TERM", "dumb");
    for (name, _) in std::env::vars_os() {
        if ["HIGHWATER_", "AWS_", "HADOOP_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    // What fails is to be seen at once; who tests retries says so with --retries. Spark has its own.
    if arguments.first() == Some(&"run") && !arguments.contains(&"--engine") {
        command.env("HIGHWATER_RETRIES", "0");
    }
    command
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; -1 after a signal.
    pub(crate) code: i32,
    /// What was written as data.
    pub(crate) stdout: String,
    /// What was written for people.
    pub(crate) stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(folder: &Path, arguments: &[&str]) -> Finished {
    highwater(folder, arguments).output().expect("the binary runs").into()
}

/// Runs a command that must succeed; gives its stdout.
pub(crate) fn succeed(folder: &Path, arguments: &[&str]) -> String {
    let finished = run(folder, arguments);
    assert_eq!(finished.code, 0, "{arguments:?} failed:\n{}", finished.stderr);
    finished.stdout
}

/// The same program, which may write no file larger than `blocks` of the shell's: what a full disk is to it, for any
/// user and on any file system.
pub(crate) fn with_small_files(command: &Command, blocks: u32) -> Command {
    let mut limited = Command::new("sh");
    let script = format!("ulimit -f {blocks}; trap '' XFSZ; exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    limited.current_dir(command.get_current_dir().expect("the command has its folder"));
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// Looks again and again until there is something to see.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(LOOK);
    }
}

/// Runs a command with `input` on its stdin.
pub(crate) fn run_with_input(folder: &Path, arguments: &[&str], input: &str) -> Finished {
    let mut child = highwater(folder, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).expect("the binary reads its stdin");
    drop(stdin);
    child.wait_with_output().expect("the binary ends").into()
}

/// A process that runs until the test ends it.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Running {
    /// Starts a command; its stderr is read line by line.
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::spawn(highwater(folder, arguments))
    }

    /// Starts a command that was made elsewhere.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: String::new() }
    }

    /// Waits for a line of stderr that contains `text`, and gives it.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line with '{text}' came; stderr so far:\n{}", self.seen),
            }
        }
    }

    /// Whether it has not ended by itself.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// Waits for something that it does; what it has said is told when it ends instead, or takes too long.
    pub(crate) fn wait_until(&mut self, what: &str, mut is_done: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_done() {
            if Instant::now() > deadline || !self.is_running() {
                self.seen.extend(self.lines.try_iter().map(|line| line + "\n"));
                panic!("{what}: not in {PATIENCE:?}; the process runs: {}, and said\n{}", self.is_running(), self.seen);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Sends a signal by its name, such as INT.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "signal {name} cannot be sent");
    }

    /// Presses Ctrl-C and waits for the end.
    pub(crate) fn interrupt(mut self) -> Finished {
        self.signal("INT");
        self.wait()
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> Finished {
        let status = self.child.wait().expect("the binary ends");
        self.seen.extend(self.lines.iter().map(|line| line + "\n"));
        Finished { code: status.code().unwrap_or(-1), stdout: String::new(), stderr: self.seen.clone() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already in most cases; otherwise the test failed and the process must not stay.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a file of the source tree.
pub(crate) fn read(path: &Path) -> String {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    text
}
