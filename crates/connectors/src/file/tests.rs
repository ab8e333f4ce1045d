//! The file tables as a whole: sources over files that come and go, sinks through the contract.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use highwater_engine::plan::catalog::{Table, TableDefinition};
use highwater_engine::sink::OutputMode;
use highwater_engine::source::{Offset, OffsetRange, Source};
use tempfile::TempDir;

use crate::contract::{all_columns, check, definition, drain, id_name, put, request, rows, select, table};

fn path_of(folder: &TempDir) -> String {
    folder.path().join("table").to_string_lossy().into_owned()
}

/// Writes a file with a modification time in seconds.
fn drop_file(folder: &Path, name: &str, text: impl AsRef<[u8]>, modified: u64) {
    fs::create_dir_all(folder).expect("a folder");
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    let file = fs::File::options().write(true).open(&path).expect("open");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_735_689_600 + modified)).expect("a time");
}

struct Stream {
    source: Box<dyn Source>,
    at: Offset,
}

impl Stream {
    fn open(table: &dyn Table, metadata: &Path) -> Self {
        let mut source = table.source(all_columns(table, metadata)).expect("a source");
        let at = source.initial_offset().expect("initial");
        Self { source, at }
    }

    /// The rows of the next batch; none if there is nothing to read.
    fn next(&mut self) -> Option<Vec<String>> {
        let end = self.source.plan_batch(&self.at, None).expect("planned");
        if end == self.at {
            return None;
        }
        let range = OffsetRange { start: self.at.clone(), end: end.clone() };
        self.at = end;
        Some(drain(self.source.read(&range).expect("readers")))
    }
}

#[test]
fn each_format_keeps_the_sink_contract() {
    for format in ["json", "csv", "parquet"] {
        let folder = tempfile::tempdir().expect("a folder");
        check(&definition(format, None, &[("path", &path_of(&folder))]));
        let left = fs::read_dir(folder.path().join("table/_highwater")).expect("private").count();
        assert_eq!(left, 2, "one folder a query");
    }
}

#[test]
fn partitioned_tables_keep_the_sink_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut partitioned = definition("parquet", None, &[("path", &path_of(&folder)), ("compression", "zstd")]);
    partitioned.partition_columns = vec!["name".to_owned()];
    check(&partitioned);
    assert!(folder.path().join("table/name=many").is_dir());
}

fn wide_schema() -> SchemaRef {
    let stamp = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("price", DataType::Float64, true),
        Field::new("paid", DataType::Boolean, true),
        Field::new("at", stamp, true),
        Field::new("name", DataType::Utf8, true),
    ]))
}

#[test]
fn what_is_written_is_read_back_by_streams_and_by_select() {
    let source_folder = tempfile::tempdir().expect("a folder");
    let lines = "{\"id\":1,\"price\":2.5,\"paid\":true,\"at\":\"2025-01-01T10:00:00.123Z\",\"name\":\"a,b \\\"c\\\"\"}\n{\"id\":2}\n";
    drop_file(source_folder.path(), "in.json", lines, 0);
    let input = table(&definition("json", Some(wide_schema()), &[("path", &source_folder.path().to_string_lossy())]));
    let metadata = tempfile::tempdir().expect("a folder");
    let mut source = input.source(all_columns(input.as_ref(), metadata.path())).expect("a source");
    let start = source.initial_offset().expect("initial");
    let end = source.plan_batch(&start, None).expect("planned");
    let mut readers = source.read(&OffsetRange { start, end }).expect("readers");
    let batch = readers[0].next_batch().expect("read").expect("rows");
    let expected = crate::contract::texts(std::slice::from_ref(&batch));
    assert_eq!(expected[0], "1 2.5 true 2025-01-01T10:00:00.123Z a,b \"c\"");
    for (format, header) in [("json", "x"), ("csv", "true"), ("parquet", "x")] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = path_of(&folder);
        let mut options = vec![("path", path.as_str())];
        if header == "true" {
            options.push(("header", "true"));
        }
        let output = table(&definition(format, Some(wide_schema()), &options));
        let mut sink = output.sink(request("q", wide_schema(), OutputMode::Append, &[])).expect("a sink");
        put(sink.as_mut(), 0, std::slice::from_ref(&batch));
        assert_eq!(select(output.as_ref(), "SELECT * FROM t"), expected, "{format}");
        assert_eq!(select(output.as_ref(), "SELECT count(*) FROM t WHERE id > 1"), ["1"], "{format}");
        let metadata = tempfile::tempdir().expect("a folder");
        let mut stream = Stream::open(output.as_ref(), metadata.path());
        assert_eq!(stream.next(), Some(expected.clone()), "{format}");
        assert_eq!(stream.next(), None, "{format}");
    }
}

#[test]
fn files_come_in_the_order_of_their_times_within_the_limit() {
    let (folder, metadata) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for (name, time) in [("c.json", 1), ("a.json", 2), ("b.json", 3)] {
        drop_file(folder.path(), name, format!("{{\"id\":{time},\"name\":\"{name}\"}}\n"), time);
    }
    drop_file(folder.path(), "_hidden.json", "{}", 0);
    drop_file(folder.path(), ".hidden.json", "{}", 0);
    drop_file(folder.path(), "other.txt", "{}", 0);
    let options =
        [("path", &*folder.path().to_string_lossy()), ("maxFilesPerTrigger", "2"), ("pathGlobFilter", "*.json")];
    let table = table(&definition("json", Some(id_name()), &options));
    let mut stream = Stream::open(table.as_ref(), metadata.path());
    assert_eq!(stream.source.latest_offset().expect("latest").to_string(), "{\"logOffset\":1}");
    assert_eq!(stream.next().expect("rows"), ["1 c.json", "2 a.json"]);
    drop_file(folder.path(), "d.json", "{\"id\":4,\"name\":\"d\"}", 4);
    assert_eq!(stream.next().expect("rows"), ["3 b.json"]);

    // A restart knows the files of every offset, and those it has seen.
    let mut again = Stream::open(table.as_ref(), metadata.path());
    assert_eq!(again.next().expect("rows"), ["1 c.json", "2 a.json"]);
    assert_eq!(again.next().expect("rows"), ["3 b.json"]);
    assert_eq!(again.next().expect("rows"), ["4 d"]);
    assert_eq!(again.next(), None);
    let until = again.source.initial_offset().expect("initial");
    let none = again.source.plan_batch(&until, Some(&until)).expect("planned");
    assert_eq!(none, until, "never past until");
}

#[test]
fn a_file_that_vanished_is_named() {
    let (folder, metadata) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    drop_file(folder.path(), "a.json", "{\"id\":1}\n", 1);
    drop_file(folder.path(), "b.json", "{\"id\":2}\n", 2);
    let path = folder.path().to_string_lossy().into_owned();
    let strict = table(&definition("json", Some(id_name()), &[("path", &path)]));
    let mut stream = Stream::open(strict.as_ref(), metadata.path());
    let end = stream.source.plan_batch(&stream.at, None).expect("planned");
    fs::remove_file(folder.path().join("a.json")).expect("removed");
    let range = OffsetRange { start: stream.at.clone(), end };
    let mut errors = Vec::new();
    for mut reader in stream.source.read(&range).expect("readers") {
        errors.extend(reader.next_batch().err().map(|error| error.to_string()));
    }
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("a.json' belongs to this batch but is gone"), "{}", errors[0]);
    let lenient = table(&definition("json", Some(id_name()), &[("path", &path), ("ignoreMissingFiles", "true")]));
    let mut stream = Stream::open(lenient.as_ref(), metadata.path());
    assert_eq!(stream.next().expect("rows"), ["2 null"]);
}

#[test]
fn malformed_lines_become_dead_letters_in_each_mode() {
    let folder = tempfile::tempdir().expect("a folder");
    drop_file(folder.path(), "a.json", "{\"id\":1}\nnot json\n\n{\"id\":\"x\"}\n{\"id\":2}\n", 1);
    let path = folder.path().to_string_lossy().into_owned();
    for (mode, rows, dropped) in [("PERMISSIVE", 4, 0), ("DROPMALFORMED", 2, 2)] {
        let table = table(&definition("json", Some(id_name()), &[("path", &path), ("mode", mode)]));
        let metadata = tempfile::tempdir().expect("a folder");
        let mut source = table.source(all_columns(table.as_ref(), metadata.path())).expect("a source");
        let start = source.initial_offset().expect("initial");
        let end = source.plan_batch(&start, None).expect("planned");
        let mut readers = source.read(&OffsetRange { start, end }).expect("readers");
        let reader = &mut readers[0];
        let mut found = 0;
        while let Some(batch) = reader.next_batch().expect("read") {
            found += batch.num_rows();
        }
        let report = reader.report();
        assert_eq!((found, report.records, report.malformed, report.dropped), (rows, 4, 2, dropped), "{mode}");
        let letters = reader.take_dead_letters();
        let places: Vec<(i64, &[u8])> = letters.iter().map(|letter| (letter.offset, letter.value.as_slice())).collect();
        assert_eq!(places, [(2, b"not json".as_slice()), (4, b"{\"id\":\"x\"}")], "{mode}");
        assert!(letters.iter().all(|letter| letter.origin.ends_with("a.json")));
    }
    let table = table(&definition("json", Some(id_name()), &[("path", &path), ("mode", "failfast")]));
    let metadata = tempfile::tempdir().expect("a folder");
    let mut source = table.source(all_columns(table.as_ref(), metadata.path())).expect("a source");
    let start = source.initial_offset().expect("initial");
    let end = source.plan_batch(&start, None).expect("planned");
    let error = source.read(&OffsetRange { start, end }).expect("readers")[0].next_batch().expect_err("refused");
    assert!(error.to_string().contains("a.json', line 2 does not parse"), "{error}");
}

/// A file in the wrong format: what cannot be read is handed on bit by bit.
#[test]
fn no_more_malformed_lines_are_kept_than_a_batch_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = format!("{}\n", "x".repeat(1 << 20)).repeat(10);
    drop_file(folder.path(), "a.json", format!("{}{long}{{\"id\":1}}\n", "not json\n".repeat(20_000)), 1);
    let path = folder.path().to_string_lossy().into_owned();
    for (mode, rows) in [("PERMISSIVE", 20_011), ("DROPMALFORMED", 1)] {
        let table = table(&definition("json", Some(id_name()), &[("path", &path), ("mode", mode)]));
        let metadata = tempfile::tempdir().expect("a folder");
        let mut source = table.source(all_columns(table.as_ref(), metadata.path())).expect("a source");
        let start = source.initial_offset().expect("initial");
        let end = source.plan_batch(&start, None).expect("planned");
        let (mut found, mut malformed) = (0, 0);
        for mut reader in source.read(&OffsetRange { start, end }).expect("readers") {
            while let Some(batch) = reader.next_batch().expect("read") {
                found += batch.num_rows();
                let letters = reader.take_dead_letters();
                malformed += letters.len();
                let bytes: usize = letters.iter().map(|letter| letter.value.len()).sum();
                assert!(letters.len() <= 8192 && bytes < 6 << 20, "{mode}: {} of {bytes} bytes", letters.len());
            }
            assert!(reader.take_dead_letters().is_empty(), "{mode}");
        }
        assert_eq!((found, malformed), (rows, 20_010), "{mode}");
    }
}

#[test]
fn files_are_cleaned_when_their_batch_is_committed() {
    for (mode, archived) in [("delete", false), ("archive", true)] {
        let (folder, metadata) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let input = folder.path().join("in");
        drop_file(&input, "a.json", "{\"id\":1}\n", 1);
        let (path, archive) = (input.to_string_lossy(), folder.path().join("old").to_string_lossy().into_owned());
        let mut options = vec![("path", &*path), ("cleanSource", mode)];
        if archived {
            options.push(("sourceArchiveDir", &archive));
        }
        let table = table(&definition("json", Some(id_name()), &options));
        let mut stream = Stream::open(table.as_ref(), metadata.path());
        assert_eq!(stream.next().expect("rows"), ["1 null"]);
        assert!(input.join("a.json").exists(), "not before the commit");
        stream.source.commit(&stream.at.clone()).expect("committed");
        assert!(!input.join("a.json").exists());
        let moved = Path::new(&archive).join(input.strip_prefix("/").expect("absolute")).join("a.json");
        assert_eq!(moved.exists(), archived);
    }
}

#[test]
fn columns_are_inferred_for_tables_and_refused_for_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    let day = folder.path().join("day=7");
    drop_file(&day, "a.json", "{\"b\":1,\"a\":[{\"x\":true}]}\n{\"b\":2.5}\n", 1);
    let inferred = table(&definition("json", None, &[("path", &folder.path().to_string_lossy())]));
    let columns: Vec<String> =
        inferred.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    assert_eq!(columns.len(), 3, "{columns:?}");
    assert_eq!((columns[1].as_str(), columns[2].as_str()), ("b Float64", "day Int32"));
    assert_eq!(select(inferred.as_ref(), "SELECT b, day FROM t"), ["1.0 7", "2.5 7"]);
    let error = inferred.source(all_columns(inferred.as_ref(), folder.path())).err().expect("refused");
    assert!(error.to_string().contains("the schema must be specified"), "{error}");
    drop_file(folder.path(), "b.csv", "x,y\n1,2.5\n3,\"a,b\"\n", 1);
    let file = folder.path().join("b.csv").to_string_lossy().into_owned();
    let csv = table(&definition("csv", None, &[("path", &file), ("header", "true"), ("inferSchema", "true")]));
    assert_eq!(select(csv.as_ref(), "SELECT sum(x), max(y) FROM t"), ["4 a,b"]);
}

#[test]
fn compressed_files_and_globs_are_read() {
    use std::io::Write;
    let folder = tempfile::tempdir().expect("a folder");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{\"id\":1,\"name\":\"packed\"}\n").expect("packed");
    drop_file(&folder.path().join("x1"), "a.json.gz", packed.finish().expect("packed"), 1);
    drop_file(&folder.path().join("x2"), "b.json", "{\"id\":2,\"name\":\"plain\"}", 2);
    let glob = folder.path().join("x*/*.json*").to_string_lossy().into_owned();
    let both = table(&definition("json", Some(id_name()), &[("path", &glob)]));
    assert_eq!(select(both.as_ref(), "SELECT id, name FROM t"), ["1 packed", "2 plain"]);
    let mut with_file = id_name().fields().to_vec();
    with_file.push(Arc::new(Field::new("_file", DataType::Utf8, true)));
    let named = table(&definition("json", Some(Arc::new(Schema::new(with_file))), &[("path", &glob)]));
    assert_eq!(select(named.as_ref(), "SELECT id FROM t WHERE _file LIKE '%/b.json'"), ["2"]);
}

#[test]
fn wrong_options_and_modes_are_refused() {
    let cases: [(&str, &[(&str, &str)], &str); 5] = [
        ("json", &[], "needs the option 'path'"),
        ("json", &[("path", "/x"), ("header", "true")], "has no option of the name 'header'"),
        ("json", &[("path", "/x"), ("multiLine", "true")], "expected one record a line"),
        ("csv", &[("path", "/x"), ("maxFilesPerTrigger", "0")], "expected a whole number above 0"),
        ("parquet", &[("path", "s3://b/x")], "expected a path of this machine"),
    ];
    for (format, options, expected) in cases {
        let registry = crate::registry::connectors();
        let definition: TableDefinition = definition(format, Some(id_name()), options);
        let error = registry.get(format).expect("a connector").table(&definition).err().expect("refused");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let table = table(&definition("json", Some(id_name()), &[("path", "/x")]));
    let error = table.sink(request("q", id_name(), OutputMode::Update, &["id"])).err().expect("refused");
    assert!(error.to_string().contains("takes output mode append, found update"), "{error}");
}

#[test]
fn rows_go_to_several_files_when_there_are_many() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = path_of(&folder);
    let table = table(&definition("json", Some(id_name()), &[("path", &path), ("maxRecordsPerFile", "2")]));
    let mut sink = table.sink(request("q", id_name(), OutputMode::Append, &[])).expect("a sink");
    put(sink.as_mut(), 0, &[rows(&[(1, "a"), (2, "b"), (3, "c")]), rows(&[(4, "d"), (5, "e")])]);
    let files = fs::read_dir(&path).expect("listed").filter_map(Result::ok);
    let parts = files.filter(|file| file.file_name().to_string_lossy().starts_with("part-")).count();
    assert_eq!(parts, 3);
    assert_eq!(select(table.as_ref(), "SELECT id FROM t"), ["1", "2", "3", "4", "5"]);
}
