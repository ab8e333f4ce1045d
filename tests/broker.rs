//! A broker for one test: the product's own, on a free port, ended with the test; or the cluster whose address is in
//! `HIGHWATER_TEST_KAFKA`, without the topics of the test before.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::program::{Finished, Running, highwater, run_with_input, succeed, with_small_files};

/// A running broker.
pub(crate) struct TestBroker {
    /// Where clients connect.
    pub(crate) address: String,
    folder: PathBuf,
    host: Host,
}

/// Who serves.
enum Host {
    /// A process of the test's own.
    Own(Running),
    /// A cluster, while no other test has it.
    Cluster { _turn: MutexGuard<'static, ()> },
}

/// The cluster the tests are run against, if it is not the embedded broker.
pub(crate) fn cluster_address() -> Option<String> {
    std::env::var("HIGHWATER_TEST_KAFKA").ok()
}

/// Waits until no other test uses the cluster, and removes what they left there.
pub(crate) fn take_turn(folder: &Path, address: &str) -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let topics = succeed(folder, &["topic", "list", "--bootstrap", address, "--output", "json"]);
    for topic in topics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")) {
        let name = topic["topic"].as_str().expect("a name");
        succeed(folder, &["topic", "delete", name, "--bootstrap", address]);
    }
    turn
}

impl TestBroker {
    /// Starts one that keeps its data in `folder`, or takes the cluster.
    pub(crate) fn start(folder: &Path) -> Self {
        match cluster_address() {
            Some(address) => {
                let host = Host::Cluster { _turn: take_turn(folder, &address) };
                Self { address, folder: folder.to_owned(), host }
            }
            None => Self::over(folder, "broker"),
        }
    }

    /// Starts one over data that is there, in a folder below `folder`.
    pub(crate) fn over(folder: &Path, data: &str) -> Self {
        Self::listening(folder, Running::start(folder, &arguments("127.0.0.1:0", data)))
    }

    /// Starts one whose files stay smaller than `blocks` of the shell's.
    pub(crate) fn with_small_files(folder: &Path, blocks: u32) -> Self {
        let command = highwater(folder, &arguments("127.0.0.1:0", "broker"));
        Self::listening(folder, Running::spawn(with_small_files(&command, blocks)))
    }

    /// Starts one on a port that stays free while it is down: none of those the system hands out.
    pub(crate) fn start_on_own_port(folder: &Path) -> Self {
        let port = own_port();
        Self::listening(folder, Running::start(folder, &arguments(&format!("127.0.0.1:{port}"), "broker")))
    }

    fn listening(folder: &Path, mut process: Running) -> Self {
        let line = process.wait_for("bootstrap address ");
        let rest = line.split("bootstrap address ").nth(1).expect("the line has the address");
        let address = rest.split(';').next().expect("split gives one part at least").to_owned();
        Self { address, folder: folder.to_owned(), host: Host::Own(process) }
    }

    fn process(&mut self) -> &mut Running {
        match &mut self.host {
            Host::Own(process) => process,
            Host::Cluster { .. } => panic!("a test that disturbs its broker starts one of its own"),
        }
    }

    /// Sends lines to a topic, as one batch where they are few.
    pub(crate) fn produce(&self, topic: &str, lines: &str) {
        let arguments = ["topic", "produce", topic, "--bootstrap", &self.address, "--compression", "none"];
        let sent = run_with_input(&self.folder, &arguments, lines);
        assert_eq!(sent.code, 0, "{}", sent.stderr);
    }

    /// Waits for a line of its log.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        self.process().wait_for(text)
    }

    /// Starts it again where it was, after [`TestBroker::crash`].
    pub(crate) fn restart(&mut self) {
        let process = Running::start(&self.folder, &arguments(&self.address, "broker"));
        *self = Self::listening(&self.folder, process);
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn interrupt(self) -> Finished {
        match self.host {
            Host::Own(process) => process.interrupt(),
            Host::Cluster { .. } => panic!("a test that disturbs its broker starts one of its own"),
        }
    }

    /// Ends it at once, as a power cut does.
    pub(crate) fn crash(&mut self) {
        self.process().signal("KILL");
        self.process().wait();
    }

    /// Ends it at once and for good.
    pub(crate) fn kill(mut self) {
        self.crash();
    }
}

/// A port that is free, and stays so while nobody listens: none of those the system hands out.
pub(crate) fn own_port() -> u16 {
    // No two tests of this process look at the same port.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("it is below 10,000");
    let mut ports = (0..1000).map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed));
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("one of a thousand ports is free")
}

fn arguments<'a>(listen: &'a str, data: &'a str) -> [&'a str; 7] {
    ["broker", "--listen", listen, "--data", data, "--fsync", "os"]
}
