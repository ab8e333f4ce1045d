//! Every case of `tests/oracle/streams/` emits here, batch by batch, what real Spark 4.3 emitted.
//!
//! ```text
//!   steps ─ a start for each, on 2, 1, 3 threads in turn ──> rows of each step = Spark's
//!         ─ one start, a batch a step ─┐
//!         ─ all rows in one batch ─────┼───> the same rows, or the same newest row a key, at the end
//!         ─ a row a batch ─────────────┤
//!         ─ real time ─────────────────┘
//! ```
//!
//! What Spark refuses is refused here. Differences we know of are in `tests/oracle/streams.known`, each with its
//! reason: a line is `family / case [mode]`, then ` on` and the way it is run if it differs in that way alone, or ` on
//! progress` if the rows agree and what is said of watermark, state and late rows does not. A line that is no longer true
//! fails the test as a missing one does.

mod case;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Cursor;
use std::time::Duration;

use arrow::array::RecordBatch;

use self::case::{Answer, Case, Ran, Step, answers, cases, folder, known};
use super::Trigger;
use crate::plan::functions::{shown, simple_string};
use crate::progress::StreamingQueryProgress;
use crate::sink::{OutputMode, SinkRequest};
use crate::testing::StreamScript;

/// Tests by family, so that one can be asked alone.
macro_rules! families {
    ($($name:ident),* $(,)?) => {
        const FAMILIES: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { check_family(stringify!($name)); })*
    };
}

families!(
    aggregates,
    chained,
    distinct_limit_union,
    joins_inner,
    joins_left,
    joins_right_full_semi,
    joins_self,
    joins_static,
    nested,
    pairs,
    refusals,
    sessions,
    sliding,
    stateless,
    time,
    values,
    watermarks,
    windows,
);

#[test]
fn every_family_is_asked() {
    let files = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path());
    let mut found: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, FAMILIES, "files of tests/oracle/streams, and families of this test");
    let stray: Vec<String> = known("streams.known")
        .into_keys()
        .filter(|line| !FAMILIES.iter().any(|family| line.starts_with(&format!("{family} / "))))
        .collect();
    assert!(stray.is_empty(), "lines of streams.known about no family: {stray:#?}");
}

/// How the steps of a case are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A start and a stop for each step, each on another number of threads than the one before.
    Restarts,
    /// One start; a batch a step; one thread.
    Straight,
    /// One start; one batch; three threads.
    Together,
    /// One start; a batch a row.
    Single,
    /// Batches without an interval.
    RealTime,
}

impl Way {
    const ALL: [Self; 5] = [Self::Restarts, Self::Straight, Self::Together, Self::Single, Self::RealTime];

    fn name(self) -> &'static str {
        match self {
            Self::Restarts => "restarts",
            Self::Straight => "one start",
            Self::Together => "one batch",
            Self::Single => "a row a batch",
            Self::RealTime => "real time",
        }
    }
}

/// What a run gave here.
struct Found {
    ran: Ran,
    request: Option<SinkRequest>,
    /// Whether a row was dropped as late.
    dropped: bool,
}

/// A case in a mode.
struct Asked<'a> {
    case: &'a Case,
    mode: OutputMode,
}

impl Asked<'_> {
    fn zone(&self) -> &str {
        self.case.conf.get("spark.sql.session.timeZone").map_or("UTC", String::as_str)
    }

    fn sql(&self, way: Way) -> String {
        let mut sql = String::new();
        for (key, value) in &self.case.conf {
            let _ = writeln!(sql, "SET {key} = '{value}';");
        }
        let limit = if matches!(way, Way::Straight | Way::Single) { " OPTIONS (batchesPerTrigger '1')" } else { "" };
        for (name, columns) in &self.case.tables {
            let _ = writeln!(sql, "CREATE TABLE {name} {columns} USING test{limit};");
        }
        for (name, (columns, _)) in &self.case.fixed {
            let _ = writeln!(sql, "CREATE TABLE {name} {columns} USING test;");
        }
        let (mode, query) = (self.mode, &self.case.query);
        let _ = writeln!(sql, "CREATE SINK out USING test OPTIONS (outputMode '{mode}');");
        let _ = write!(sql, "CREATE FLOW f AS INSERT INTO out {query}");
        sql
    }

    /// Whether the rows come in an order that means something.
    fn is_ordered(&self) -> bool {
        self.mode == OutputMode::Complete && self.case.query.contains("ORDER BY")
    }

    /// The rows in an order in which they can be compared.
    fn comparable(&self, rows: &[String]) -> Vec<String> {
        let mut rows = rows.to_vec();
        if !self.is_ordered() {
            rows.sort();
        }
        rows
    }

    /// The rows as Spark shows them.
    fn texts(&self, rows: impl IntoIterator<Item = RecordBatch>) -> Vec<String> {
        let mut texts = Vec::new();
        for rows in rows {
            let columns: Vec<_> = rows.columns().iter().map(|column| shown(column, self.zone()).unwrap()).collect();
            texts.extend((0..rows.num_rows()).map(|row| {
                let value = |column: &Vec<Option<String>>| column[row].as_deref().map_or("NULL".to_owned(), escaped);
                columns.iter().map(value).collect::<Vec<_>>().join(" | ")
            }));
        }
        texts
    }

    /// The batches of the input, by step and table; all tables have one in each if `is_even`.
    fn input(&self, script: &StreamScript, is_even: bool) -> Vec<Vec<(String, RecordBatch)>> {
        let step = |parts: &Vec<(String, String)>| {
            let mut batches: Vec<(String, RecordBatch)> =
                parts.iter().map(|(table, rows)| (table.clone(), decoded(script, table, rows))).collect();
            if is_even && !parts.is_empty() {
                let absent = self.case.tables.keys().filter(|table| !parts.iter().any(|(name, _)| name == *table));
                batches.extend(absent.map(|table| (table.clone(), decoded(script, table, ""))));
            }
            batches
        };
        self.case.steps.iter().map(step).collect()
    }

    fn run(&self, way: Way) -> Found {
        let mut script = StreamScript::new(&self.sql(way));
        for (table, (_, rows)) in &self.case.fixed {
            script.table(table).add("0", decoded(&script, table, rows));
        }
        let mut ran = Ran::default();
        let input = self.input(&script, way == Way::Straight);
        if way == Way::Restarts {
            for (number, step) in input.into_iter().enumerate() {
                script.settings.query.parallelism = [2, 1, 3][number % 3];
                step.into_iter().for_each(|(table, rows)| script.table(&table).add("0", rows));
                let out = script.table("out");
                let before = if self.mode == OutputMode::Complete { 0 } else { out.written().len() };
                if !self.step(&mut script, &mut ran, before) {
                    break;
                }
            }
        } else {
            script.settings.query.parallelism = if way == Way::Together { 3 } else { 1 };
            self.add_all(way, &script, input);
            self.run_through(way, &mut script, &mut ran);
        }
        let out = script.table("out");
        let request = out.request();
        if let Some(request) = &request {
            let fields = request.schema.fields().iter();
            let columns = fields.map(|field| format!("{} {}", escaped(field.name()), simple_string(field.data_type())));
            ran.columns = columns.collect::<Vec<_>>().join(", ");
        }
        Found { ran, request, dropped: dropped(&script.progress()) > 0 }
    }

    fn add_all(&self, way: Way, script: &StreamScript, input: Vec<Vec<(String, RecordBatch)>>) {
        for (table, rows) in input.into_iter().flatten() {
            let table = script.table(&table);
            match way {
                Way::Single => (0..rows.num_rows()).for_each(|row| table.add("0", rows.slice(row, 1))),
                _ => table.add("0", rows),
            }
        }
    }

    /// One start for all there is; what is left to do without rows is done at the end.
    fn run_through(&self, way: Way, script: &mut StreamScript, ran: &mut Ran) {
        if way == Way::RealTime && self.case.steps.iter().any(|step| !step.is_empty()) {
            script.settings.query.trigger = Trigger::RealTime(Duration::from_millis(5));
            let total: u64 = self.case.tables.keys().map(|table| script.table(table).input_len() as u64).sum();
            let outcome =
                script.process_until(|progress| progress.last().is_some_and(|last| read_up_to(last) >= total));
            script.settings.query.trigger = Trigger::AvailableNow;
            if let Err(error) = outcome {
                ran.failed = Some(condition(&error));
                return;
            }
        }
        self.step(script, ran, 0);
    }

    /// Processes what there is and takes the rows behind the first so many batches; false if that fails.
    fn step(&self, script: &mut StreamScript, ran: &mut Ran, before: usize) -> bool {
        let out = script.table("out");
        let seen = script.progress().len();
        if let Err(error) = script.try_process() {
            ran.failed = Some(condition(&error));
            return false;
        }
        let rows = out.written().into_iter().skip(before).map(|(_, rows)| rows);
        let note = note(&script.progress()[seen..]);
        ran.steps.push(Step { note, rows: self.texts(rows) });
        true
    }
}

/// How many batches of their input the sources have read.
fn read_up_to(progress: &StreamingQueryProgress) -> u64 {
    progress.sources.iter().filter_map(|source| source.end_offset.as_u64()).sum()
}

fn dropped(progress: &[StreamingQueryProgress]) -> u64 {
    progress.iter().flat_map(|progress| &progress.state_operators).map(|s| s.num_rows_dropped_by_watermark).sum()
}

/// What stands beside the number of a step in an answer.
fn note(progress: &[StreamingQueryProgress]) -> String {
    let Some(last) = progress.last() else { return String::new() };
    let watermark = last.event_time.watermark.as_ref().map(|at| format!("watermark {}", at.replace(".000Z", "Z")));
    let states: Vec<String> = last.state_operators.iter().map(|state| state.num_rows_total.to_string()).collect();
    let state = (!states.is_empty()).then(|| format!("state {}", states.join(" ")));
    let dropped = dropped(progress);
    let dropped = (dropped > 0).then(|| format!("dropped {dropped}"));
    [watermark, state, dropped].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn decoded(script: &StreamScript, table: &str, json: &str) -> RecordBatch {
    let columns = script.table(table).columns();
    let reader = arrow::json::ReaderBuilder::new(columns.clone()).build(Cursor::new(json.as_bytes())).unwrap();
    let rows: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{json}: {error}"));
    arrow::compute::concat_batches(&columns, &rows).unwrap()
}

fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    text.replace(" | ", " \\| ")
}

/// The condition an error names, if it names one.
fn condition(error: &str) -> String {
    let named = error.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(name, _)| name);
    let is_condition =
        |name: &&str| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "_.".contains(c));
    named.filter(is_condition).map_or_else(|| format!("- {error}"), str::to_owned)
}

fn check_family(family: &str) {
    let (answers, known) = (answers(family), known("streams.known"));
    let known: BTreeMap<&str, &str> = known
        .iter()
        .filter_map(|(line, reason)| Some((line.strip_prefix(family)?.strip_prefix(" / ")?, reason.as_str())))
        .collect();
    let (mut differ, mut counts) = (BTreeMap::new(), [0, 0]);
    for case in &cases(family) {
        for mode in case.modes.iter().copied() {
            let title = format!("{} [{mode}]", case.name);
            let answer =
                answers.get(&title).unwrap_or_else(|| panic!("{family} has no answer to '{title}'; ask Spark"));
            judge(&Asked { case, mode }, &title, answer, &answers, &mut differ, &mut counts);
        }
    }
    let mut report = String::new();
    for (what, how) in differ.iter().filter(|(what, _)| !known.contains_key(what.as_str())) {
        let _ = writeln!(report, "{family} / {what}\n{how}");
    }
    for what in known.keys().filter(|what| !differ.contains_key(**what)) {
        let _ = writeln!(report, "no longer different, take it out of streams.known: {family} / {what}");
    }
    assert!(report.is_empty(), "{} agree, {} differ\n{report}", counts[0], differ.len());
}

/// Asks one case in one mode in all ways.
fn judge(
    asked: &Asked<'_>,
    title: &str,
    answer: &Answer,
    answers: &BTreeMap<String, Answer>,
    differ: &mut BTreeMap<String, String>,
    counts: &mut [usize; 2],
) {
    let refusal = StreamScript::refusal(&asked.sql(Way::Restarts));
    let spark = match (answer, refusal) {
        (Answer::Refused(_), Some(_)) => {
            counts[0] += 1;
            return;
        }
        (Answer::Refused(reason), None) => {
            differ.insert(title.to_owned(), format!("   Spark refuses it: {reason}\n   here  it is accepted"));
            return;
        }
        (Answer::Ran(_), Some(refusal)) => {
            differ.insert(title.to_owned(), format!("   Spark runs it\n   here  {refusal}"));
            return;
        }
        (Answer::Ran(ran), None) => ran,
    };
    for way in Way::ALL {
        let found = asked.run(way);
        let difference = if way == Way::Restarts {
            stepwise_difference(asked, spark, &found.ran)
        } else if asked.case.depends_on_batches || spark.dropped() || found.dropped {
            continue;
        } else {
            Final::of(asked, answers, &found).difference(asked, spark, &found)
        };
        counts[usize::from(way != Way::Restarts)] += usize::from(difference.is_none());
        if way == Way::Restarts
            && difference.is_none()
            && let Some(difference) = note_difference(spark, &found.ran)
        {
            differ.insert(format!("{title} on progress"), difference);
        }
        let Some(difference) = difference else { continue };
        if way == Way::Restarts {
            differ.insert(title.to_owned(), difference);
            return;
        }
        differ.insert(format!("{title} on {}", way.name()), difference);
    }
}

/// The first difference, step by step.
fn stepwise_difference(asked: &Asked<'_>, spark: &Ran, found: &Ran) -> Option<String> {
    if !found.columns.is_empty() && spark.columns != found.columns {
        return Some(format!("   Spark has columns {}\n   here           {}", spark.columns, found.columns));
    }
    for (number, step) in spark.steps.iter().enumerate() {
        let Some(here) = found.steps.get(number) else { break };
        let (rows, here) = (asked.comparable(&step.rows), asked.comparable(&here.rows));
        if rows != here {
            return Some(differing_rows(&format!("step {}, {}", number + 1, step.note), &rows, &here));
        }
    }
    if spark.failed != found.failed || spark.steps.len() != found.steps.len() {
        let end = |ran: &Ran| format!("{} steps, then {}", ran.steps.len(), ran.failed.as_deref().unwrap_or("the end"));
        return Some(format!("   Spark {}\n   here  {}", end(spark), end(found)));
    }
    None
}

/// The first difference of what the progress says: watermark, rows of state, and whether rows were late.
fn note_difference(spark: &Ran, found: &Ran) -> Option<String> {
    let steps = spark.steps.iter().zip(&found.steps).enumerate().filter(|(_, (_, here))| !here.note.is_empty());
    steps
        .map(|(number, (spark, here))| (number + 1, comparable_note(&spark.note), comparable_note(&here.note)))
        .find(|(_, spark, here)| spark != here)
        .map(|(step, spark, here)| format!("   step {step}\n   Spark {spark}\n   here  {here}"))
}

/// How many rows were late is another question: Spark counts them after a first aggregation. Nor is the order in which
/// operators are listed compared.
fn comparable_note(note: &str) -> String {
    let part = |part: &str| match part.split_once(' ') {
        Some(("state", counts)) => {
            let mut counts: Vec<&str> = counts.split(' ').collect();
            counts.sort_unstable();
            format!("state {}", counts.join(" "))
        }
        Some(("dropped", _)) => "dropped".to_owned(),
        _ => part.to_owned(),
    };
    note.split(", ").map(part).collect::<Vec<_>>().join(", ")
}

fn differing_rows(at: &str, spark: &[String], here: &[String]) -> String {
    let list = |rows: &[String]| rows.iter().fold(String::new(), |list, row| list + "\n      " + row);
    format!("   {at}\n   Spark{}\n   here{}", list(spark), list(here))
}

/// What stands at the end whatever the batches were.
enum Final {
    /// Every row that came.
    All,
    /// The newest rows of each key: update mode of groups.
    Newest,
    /// The newest result.
    Whole,
}

impl Final {
    /// In update mode a query without keys that has an answer in append mode too never takes a row back.
    fn of(asked: &Asked<'_>, answers: &BTreeMap<String, Answer>, found: &Found) -> Self {
        let append = answers.get(&format!("{} [append]", asked.case.name));
        let has_keys = found.request.as_ref().is_some_and(|request| !request.key_columns.is_empty());
        match asked.mode {
            OutputMode::Append => Self::All,
            OutputMode::Complete => Self::Whole,
            OutputMode::Update if !has_keys && matches!(append, Some(Answer::Ran(_))) => Self::All,
            OutputMode::Update => Self::Newest,
        }
    }

    fn difference(&self, asked: &Asked<'_>, spark: &Ran, found: &Found) -> Option<String> {
        if spark.failed.is_some() || found.ran.failed.is_some() {
            let said = |failed: &Option<String>| failed.clone().unwrap_or_else(|| "nothing".to_owned());
            let (spark, here) = (said(&spark.failed), said(&found.ran.failed));
            return (spark != here).then(|| format!("   Spark fails with {spark}\n   here  with {here}"));
        }
        let keys = self.key_columns(found)?;
        if matches!(self, Self::Newest) && spark.steps.iter().any(|step| has_equal_keys(&step.rows, &keys)) {
            return None;
        }
        let (spark, here) = (self.rows(asked, spark, &keys), self.rows(asked, &found.ran, &keys));
        (spark != here).then(|| differing_rows("at the end", &spark, &here))
    }

    /// Where the key of a row stands; nothing if it cannot be told.
    fn key_columns(&self, found: &Found) -> Option<Vec<usize>> {
        let Self::Newest = self else { return Some(Vec::new()) };
        let request = found.request.as_ref()?;
        let fields = request.schema.fields();
        let place = |name: &String| fields.iter().position(|field| field.name() == name);
        request.key_columns.iter().map(place).collect()
    }

    fn rows(&self, asked: &Asked<'_>, ran: &Ran, keys: &[usize]) -> Vec<String> {
        let rows: Vec<String> = match self {
            Self::Whole => ran.steps.last().map(|step| step.rows.clone()).unwrap_or_default(),
            Self::All => ran.steps.iter().flat_map(|step| step.rows.clone()).collect(),
            Self::Newest => {
                let all = ran.steps.iter().flat_map(|step| &step.rows);
                all.map(|row| (key(row, keys), row.clone())).collect::<BTreeMap<_, _>>().into_values().collect()
            }
        };
        asked.comparable(&rows)
    }
}

fn key(row: &str, columns: &[usize]) -> Vec<String> {
    let values: Vec<&str> = row.split(" | ").collect();
    columns.iter().map(|at| values[*at].to_owned()).collect()
}

/// Whether the rows of a key are several, as after a join: then none of them is the newest.
fn has_equal_keys(rows: &[String], columns: &[usize]) -> bool {
    let keys: BTreeSet<Vec<String>> = rows.iter().map(|row| key(row, columns)).collect();
    keys.len() < rows.len()
}
