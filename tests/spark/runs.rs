//! Runs that are repeated, and runs whose connection breaks: nothing is read twice, and nothing is missed.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::migration::{each_once, produce, project};
use super::{run_on_spark, server, spark_rows, unique};
use crate::broker::TestBroker;
use crate::program::{Running, eventually, highwater, run, succeed};

fn topic(folder: &Path) -> TestBroker {
    let broker = TestBroker::start(folder);
    succeed(folder, &["topic", "create", "numbers", "--partitions", "3", "--bootstrap", &broker.address]);
    broker
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn a_trigger_repeats_the_run_over_what_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let broker = topic(folder.path());
    produce(&broker, 0, 500);
    let table = unique("repeated");
    let project = project(folder.path(), "repeated", &table, &broker.address, "earliest");
    let project = project.to_str().unwrap();
    let server = server();
    let process =
        Running::spawn(highwater(folder.path(), &["run", project, "--trigger", "2 seconds", "--engine", &server]));
    let has = |rows: usize| eventually("the rows on Spark", || (spark_rows(&table).len() >= rows).then_some(()));
    for end in [500, 1000, 1500] {
        has(end);
        each_once(&spark_rows(&table), 0, end);
        produce(&broker, end, end + 500);
    }
    has(2000);
    let finished = process.interrupt();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    // A run of its own goes on there, and one over nothing new adds nothing.
    produce(&broker, 2000, 2300);
    for _ in 0..2 {
        let finished = run_on_spark(folder.path(), project, &[]);
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        each_once(&spark_rows(&table), 0, 2300);
    }
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn a_run_is_taken_up_again_when_the_connection_breaks() {
    let folder = tempfile::tempdir().unwrap();
    let broker = topic(folder.path());
    produce(&broker, 0, 6000);
    let table = unique("broken");
    let project = project(folder.path(), "broken", &table, &broker.address, "earliest");
    let checkpoint = project.join(format!("storage/_checkpoints/spark_catalog/default/{table}/{table}/0"));
    let way = Way::to(server().trim_start_matches("sc://"));
    let address = format!("sc://{}", way.address);
    let arguments = ["run", project.to_str().unwrap(), "--trigger", "available-now", "--engine", &address];
    let mut process = Running::spawn(highwater(folder.path(), &arguments));
    for batch in [1, 6] {
        eventually("batches on Spark", || checkpoint.join(format!("commits/{batch}")).exists().then_some(()));
        way.cut();
        process.wait_for("the run on Spark is taken up again");
    }
    let finished = process.wait();
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    each_once(&spark_rows(&table), 0, 6000);
}

#[test]
#[ignore = "needs a Spark cluster: make spark-test"]
fn a_server_that_is_gone_is_said_with_the_way_on() {
    let folder = tempfile::tempdir().unwrap();
    let broker = topic(folder.path());
    produce(&broker, 0, 6000);
    let table = unique("gone");
    let project = project(folder.path(), "gone", &table, &broker.address, "earliest");
    let checkpoint = project.join(format!("storage/_checkpoints/spark_catalog/default/{table}/{table}/0"));
    let way = Way::to(server().trim_start_matches("sc://"));
    let address = format!("sc://{}", way.address);
    let arguments = ["run", project.to_str().unwrap(), "--trigger", "available-now", "--engine", &address];
    let mut process = Running::spawn(highwater(folder.path(), &arguments));
    eventually("batches on Spark", || checkpoint.join("commits/1").exists().then_some(()));
    way.close();
    let finished = process.wait();
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    for expected in ["no connection could be had again within 60 s", "a run goes on where the last one has committed"] {
        assert!(finished.stderr.contains(expected), "'{expected}' is not in\n{}", finished.stderr);
    }
    // It says the truth.
    let finished =
        run(folder.path(), &["run", project.to_str().unwrap(), "--trigger", "available-now", "--engine", &server()]);
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    each_once(&spark_rows(&table), 0, 6000);
}

/// A way to a server that can be cut: connections through it break, new ones are taken.
struct Way {
    address: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
    is_closed: Arc<AtomicBool>,
}

impl Way {
    fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = Arc::new(Mutex::new(Vec::new()));
        let is_closed = Arc::new(AtomicBool::new(false));
        let way = Self { address, open: open.clone(), is_closed: is_closed.clone() };
        let server = server.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if is_closed.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(there) = TcpStream::connect(&server) else { continue };
                let pairs = [(&client, &there), (&there, &client)];
                for (from, to) in pairs.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap())) {
                    std::thread::spawn(move || pass_on(from, to));
                }
                open.lock().unwrap().extend([client, there]);
            }
        });
        way
    }

    /// Breaks what is open.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            // One that has ended already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Breaks what is open, and takes nothing more.
    fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.cut();
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
