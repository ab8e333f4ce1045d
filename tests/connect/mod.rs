//! Unmodified PySpark programs on `highwater connect`: what they print is what they print on a real Spark.
//!
//! `make connect-test` makes the environment of the client (`scripts/setup-connect`) and names its Python in
//! `HIGHWATER_PYSPARK`. The programs are `programs/*.py`; `golden.py` asked a real Spark 4.3 for `golden/*.txt`.

mod guarded;
mod outside;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Running, root};

/// What every program begins with.
const HEAD: &str = "from pyspark.sql import SparkSession\nfrom pyspark.sql import functions as F\nspark = \
                    SparkSession.builder.getOrCreate()\n";

/// A server in a folder of its own, and its address.
fn server(folder: &Path) -> (Running, String) {
    server_with(folder, &[])
}

/// The same with more said on its command line.
fn server_with(folder: &Path, arguments: &[&str]) -> (Running, String) {
    let all = [&["connect", "--listen", "127.0.0.1:0", "--storage", "data", "--log", "info"], arguments].concat();
    let mut running = Running::start(folder, &all);
    let line = running.wait_for("Spark Connect at sc://");
    let address = line.split("sc://").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();
    (running, format!("sc://{address}"))
}

/// The Python that has PySpark's client.
fn python() -> String {
    std::env::var("HIGHWATER_PYSPARK").expect("HIGHWATER_PYSPARK is not set: use make connect-test")
}

/// What a program prints.
fn printed(program: &Path, address: &str) -> Result<String, String> {
    printed_with(program, address, &[])
}

/// The same with more in its environment.
fn printed_with(program: &Path, address: &str, environment: &[(&str, &str)]) -> Result<String, String> {
    let mut command = Command::new(python());
    command.arg(program).env("SPARK_REMOTE", address).env("TZ", "UTC").envs(environment.iter().copied());
    let run = command.output().unwrap();
    if run.status.success() {
        return Ok(String::from_utf8_lossy(&run.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&run.stderr).into_owned())
}

fn programs() -> Vec<PathBuf> {
    let folder = root().join("tests/connect/programs");
    let mut programs: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    programs.retain(|path| path.extension().is_some_and(|extension| extension == "py"));
    programs.sort();
    programs
}

#[test]
#[ignore = "needs PySpark's client from PyPI: make connect-test"]
fn pyspark_programs_print_what_they_print_on_spark() {
    let folder = tempfile::tempdir().unwrap();
    let (_running, address) = server(folder.path());
    let programs = programs();
    assert!(programs.len() >= 30, "there are {} programs", programs.len());
    let mut wrong = Vec::new();
    for program in programs {
        let name = program.file_stem().unwrap().to_string_lossy().into_owned();
        let golden = root().join(format!("tests/connect/golden/{name}.txt"));
        let expected = fs::read_to_string(&golden).unwrap_or_else(|_| panic!("{} is missing", golden.display()));
        match printed(&program, &address) {
            Ok(found) if found == expected => {}
            Ok(found) => wrong.push(format!("{name}: expected\n{expected}found\n{found}")),
            Err(error) => wrong.push(format!("{name} failed:\n{error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A program that is refused says what of it is not done here, as the exception that PySpark has for it.
#[test]
#[ignore = "needs PySpark's client from PyPI: make connect-test"]
fn what_is_python_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (_running, address) = server(folder.path());
    let check = |body: &str, expected: &str| {
        let program = folder.path().join("program.py");
        fs::write(&program, format!("{HEAD}{body}\n")).unwrap();
        let error = printed(&program, &address).expect_err(body);
        assert!(error.contains("UnsupportedOperationException") && error.contains(expected), "{body}\n{error}");
    };
    check("spark.range(3).select(F.udf(lambda x: x)('id')).show()", "(a UDF)");
    check("spark.range(3).mapInPandas(lambda rows: rows, 'id BIGINT').show()", "mapInPandas");
    check("spark.range(3).groupBy('id').applyInPandas(lambda rows: rows, 'id BIGINT').show()", "applyInPandas");
    check("spark.range(3).write.parquet('/nowhere')", "df.write");
    let rate = "rate = spark.readStream.format('rate').load()\n";
    check(&format!("{rate}rate.writeStream.foreach(lambda row: None).start()"), "foreach");
    let processor = "from pyspark.sql.streaming import StatefulProcessor\nclass P(StatefulProcessor):\n    def init(self, \
                     handle): pass\n    def handleInputRows(self, key, rows, timers): return iter([])\n    def close(self): \
                     pass\n";
    let stateful = "rate.groupBy('value').transformWithStateInPandas(P(), 'value BIGINT', 'append', 'none')";
    check(&format!("{rate}{processor}{stateful}.writeStream.format('console').start()"), "transformWithState");
    check(
        "spark.readStream.format('rate').load().writeStream.foreachBatch(lambda rows, batch: None).start()",
        "foreachBatch",
    );
}
