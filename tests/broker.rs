//! A broker for one test: the product's own, on a free port, ended with the test.

use std::path::Path;

use crate::program::{Finished, Running};

/// A running broker.
pub(crate) struct TestBroker {
    /// Where clients connect.
    pub(crate) address: String,
    process: Running,
}

impl TestBroker {
    /// Starts one that keeps its data in `folder`.
    pub(crate) fn start(folder: &Path) -> Self {
        let arguments = ["broker", "--listen", "127.0.0.1:0", "--data", "broker", "--fsync", "os"];
        let mut process = Running::start(folder, &arguments);
        let line = process.wait_for("bootstrap address ");
        let rest = line.split("bootstrap address ").nth(1).expect("the line has the address");
        let address = rest.split(';').next().expect("split gives one part at least").to_owned();
        Self { address, process }
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn interrupt(self) -> Finished {
        self.process.interrupt()
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(mut self) {
        self.process.signal("KILL");
        self.process.wait();
    }
}
