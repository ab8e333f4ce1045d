//! The real-time trigger: partitions that come later, limits, and what a batch asks of its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch};
use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
use serde_json::json;

use super::execution::Control;
use super::real_time::{LOOK, Tails};
use crate::clock::{Clock, ManualClock};
use crate::error::Result;
use crate::query::Trigger;
use crate::source::{Offset, OffsetRange, PartitionReader, ReadReport, Source, TailReader, TailRows, Unread};
use crate::testing::StreamScript;

/// A topic whose partitions are made by the test, which also says what each of them gives.
#[derive(Clone, Default)]
struct Topic {
    partitions: Arc<Mutex<BTreeMap<String, Receiver<i64>>>>,
    looks: Arc<Mutex<usize>>,
}

impl Topic {
    fn add_partition(&self, name: &str) -> Sender<i64> {
        let (rows, taken) = unbounded();
        self.partitions.lock().insert(name.to_owned(), taken);
        rows
    }
}

impl Source for Topic {
    fn description(&self) -> String {
        "Topic".to_owned()
    }

    fn initial_offset(&mut self) -> Result<Offset> {
        Ok(Offset(json!({})))
    }

    fn latest_offset(&mut self) -> Result<Offset> {
        self.initial_offset()
    }

    fn plan_batch(&mut self, start: &Offset, _: Option<&Offset>) -> Result<Offset> {
        Ok(start.clone())
    }

    fn read(&mut self, _: &OffsetRange) -> Result<Vec<Box<dyn PartitionReader>>> {
        Ok(Vec::new())
    }

    fn follow(&mut self, _: &Offset, known: &BTreeSet<String>) -> Result<Option<Vec<Box<dyn TailReader>>>> {
        *self.looks.lock() += 1;
        let partitions = self.partitions.lock().clone();
        let new = partitions.into_iter().filter(|(name, _)| !known.contains(name));
        Ok(Some(new.map(|(name, rows)| Box::new(Tail { name, rows, end: 0 }) as Box<dyn TailReader>).collect()))
    }

    fn followed(&mut self, _: &Offset, ends: &BTreeMap<String, i64>) -> Result<Offset> {
        Ok(Offset(json!(ends)))
    }

    fn unread(&mut self, _: &Offset) -> Result<Unread> {
        Ok(Unread::default())
    }
}

struct Tail {
    name: String,
    rows: Receiver<i64>,
    end: i64,
}

impl TailReader for Tail {
    fn partition(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> Result<Option<TailRows>> {
        let Ok(value) = self.rows.recv_timeout(Duration::from_millis(10)) else { return Ok(None) };
        self.end += 1;
        let rows = RecordBatch::try_from_iter([("v", Arc::new(Int64Array::from(vec![value])) as _)])?;
        let report = ReadReport { records: 1, ..ReadReport::default() };
        Ok(Some(TailRows { rows, end: self.end, report, dead_letters: Vec::new() }))
    }
}

/// Waits for rows and makes a batch of them; where the batches so far end.
fn batch(tails: &mut Tails, sources: &mut [Box<dyn Source>], clock: &Arc<dyn Clock>, limit: Option<u64>) -> String {
    let control = Arc::new(Control::default());
    while !tails.wait() {}
    for mut job in tails.jobs(Duration::from_millis(30), &[limit], clock, &control) {
        while job.reader.next_batch().unwrap().is_some() {}
    }
    let starts = [Offset(json!({}))];
    tails.ends(sources, &starts).unwrap()[0].to_string()
}

#[test]
fn partitions_that_are_new_are_found_after_a_while() {
    let topic = Topic::default();
    let first = topic.add_partition("p0");
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(topic.clone())];
    let (manual, starts) = (Arc::new(ManualClock::new(0)), [Offset(json!({}))]);
    let clock: Arc<dyn Clock> = manual.clone();
    let mut tails = Tails::open(&mut sources, &starts, clock.as_ref()).unwrap().unwrap();
    let second = topic.add_partition("p1");
    second.send(7).unwrap();
    first.send(1).unwrap();
    let almost = LOOK.checked_sub(Duration::from_millis(1)).unwrap();
    for (passes, looks) in [(Duration::ZERO, 1), (almost, 1), (Duration::from_millis(1), 2)] {
        manual.advance(passes);
        tails.look(&mut sources, &starts, clock.as_ref()).unwrap();
        assert_eq!(*topic.looks.lock(), looks);
    }
    // Rows of both are an event that ends the wait: nobody has to sleep for them.
    let mut ends = batch(&mut tails, &mut sources, &clock, None);
    while ends != r#"{"p0":1,"p1":1}"# {
        ends = batch(&mut tails, &mut sources, &clock, None);
    }
    assert!(LOOK <= Duration::from_secs(10));
}

#[test]
fn a_batch_takes_no_more_records_than_it_may() {
    let topic = Topic::default();
    let rows = topic.add_partition("p0");
    (0..7).for_each(|value| rows.send(value).unwrap());
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(topic)];
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(0));
    let mut tails = Tails::open(&mut sources, &[Offset(json!({}))], clock.as_ref()).unwrap().unwrap();
    let mut ends = Vec::new();
    while ends.last().is_none_or(|end| end != r#"{"p0":7}"#) {
        ends.push(batch(&mut tails, &mut sources, &clock, Some(3)));
    }
    let numbers: Vec<i64> = ends.iter().map(|end| end[6..7].parse().unwrap()).collect();
    let sizes: Vec<i64> = numbers.iter().scan(0, |last, end| Some(end - std::mem::replace(last, *end))).collect();
    assert!(sizes.iter().all(|size| (1..=3).contains(size)), "{sizes:?}");
}

#[test]
fn a_limit_holds_over_restarts_and_leaves_nothing_out() {
    let sql = "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (rowsInRealTime '5');
               CREATE SINK out USING test;
               CREATE FLOW f AS INSERT INTO out SELECT v FROM STREAM ev";
    let mut script = StreamScript::new(sql);
    script.settings.query.trigger = Trigger::RealTime(Duration::from_millis(20));
    // Answers of two rows: two fit into a batch, and the third waits for the next.
    for n in 0..9 {
        script = script.add("ev", &format!("{{\"v\": {}}}\n{{\"v\": {}}}", 2 * n, 2 * n + 1));
    }
    for wanted in [8, 18] {
        let read = |progress: &[crate::progress::StreamingQueryProgress]| -> u64 {
            progress.iter().map(|batch| batch.num_input_rows).sum()
        };
        script.process_until(|progress| read(progress) >= wanted).unwrap();
    }
    let sizes: Vec<u64> = script.progress().iter().map(|batch| batch.num_input_rows).collect();
    assert!(sizes.iter().all(|size| *size <= 4), "{sizes:?}");
    let expected: Vec<String> = (0..18).map(|v: i64| v.to_string()).collect();
    script.check("out", &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_batch_asks_once_what_there_is_to_read() {
    for watermark in ["", "WATERMARK ts DELAY OF INTERVAL 1 SECOND"] {
        let script = StreamScript::new(&format!(
            "CREATE TABLE ev (k STRING, v BIGINT, ts TIMESTAMP) USING test OPTIONS (batchesPerTrigger '1');
             CREATE SINK out USING test;
             CREATE FLOW f AS INSERT INTO out SELECT v FROM STREAM ev {watermark}"
        ));
        let row = r#"{"v": 1, "ts": "2024-01-01T00:00:00Z"}"#;
        let script = script.add("ev", row).add("ev", row).add("ev", row).process();
        assert_eq!(script.progress().len(), 3);
        assert_eq!(script.table("ev").asked(), 3, "{watermark}");
    }
}
