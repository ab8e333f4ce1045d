//! What a query can read from and write to: table definitions, and the connectors that give them life.
//!
//! A [`TableDefinition`] is what `CREATE TABLE ... USING format OPTIONS (...)` says; a [`Connector`] turns it into a
//! [`Table`], which can be opened as a stream ([`Table::source`]), as a target ([`Table::sink`]) or as a static table
//! ([`Table::batch`]). The engine knows no connector by name: the registry is handed in.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::logical_expr::ScalarUDF;

use crate::checkpoint::ObjectStoreRegistry;
use crate::error::{EngineError, Result, nearest};
use crate::sink::{OutputMode, Sink, SinkRequest};
use crate::source::{Offset, Source, SourceRequest};

/// A table as the statement that made it describes it.
#[derive(Debug, Clone)]
pub struct TableDefinition {
    /// The table's name.
    pub name: String,
    /// `USING format`, in lower case.
    pub format: String,
    /// The columns, if the statement gives them.
    pub schema: Option<SchemaRef>,
    /// `OPTIONS (...)`.
    pub options: Options,
    /// `PARTITIONED BY (...)`.
    pub partition_columns: Vec<String>,
}

/// Connects one kind of outside system.
pub trait Connector: Send + Sync {
    /// The word after `USING`.
    fn format(&self) -> &str;

    /// Checks the definition's options and gives the table. Opens nothing that the schema does not need.
    fn table(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>>;

    /// Whether `table` looks for the columns outside when the definition gives none.
    fn finds_columns(&self, definition: &TableDefinition) -> bool {
        let _ = definition;
        false
    }

    /// Options whose value is a secret: they are given as a reference, `${env:NAME}` or `${file:PATH}`, and not otherwise.
    fn secret_options(&self) -> &[&str] {
        &[]
    }

    /// Whether `table` needs the values of the secrets that options refer to.
    fn needs_secrets(&self) -> bool {
        true
    }
}

/// An outside table. What it cannot be opened as, it refuses with an error that says so.
pub trait Table: Send + Sync {
    /// The table's columns; for a table that is only written to and was given no columns, empty.
    fn schema(&self) -> SchemaRef;

    /// Opens the table as a stream.
    fn source(&self, request: SourceRequest) -> Result<Box<dyn Source>>;

    /// Opens the table as the target of a query.
    fn sink(&self, request: SinkRequest) -> Result<Box<dyn Sink>>;

    /// The output modes `sink` takes.
    fn output_modes(&self) -> &[OutputMode];

    /// Whether `sink` can take rows away again, each by its keys: what an `AUTO CDC` flow needs.
    fn takes_deletes(&self) -> bool {
        false
    }

    /// The table as it is now, for joins with static tables and for `SELECT` outside of streams.
    fn batch(&self) -> Result<Arc<dyn TableProvider>>;

    /// Looks whether the outside system is there and says in a few words what it found; changes nothing. Asked before
    /// a run, so that what is missing is known then. A table that has nothing outside finds nothing.
    fn probe(&self, role: Role) -> Result<Option<String>> {
        let _ = role;
        Ok(None)
    }

    /// Refuses to be read as a stream, where `source` would for what the table is. Looks at nothing outside.
    fn check_source(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses rows that `sink` would refuse for what they are. Looks at nothing outside; the request has no query id.
    fn check_sink(&self, request: &SinkRequest) -> Result<()> {
        let _ = request;
        Ok(())
    }

    /// What [`Table::probe`] does of a target, and refuses what `sink` would refuse as the outside is now. Changes
    /// nothing; the request of a query that never ran has no query id.
    fn probe_sink(&self, request: &SinkRequest) -> Result<Option<String>> {
        let _ = request;
        self.probe(Role::Sink)
    }

    /// Refuses a position that a source could not go on from as the outside is now, and says in a few words what the
    /// table has there that it had not. Changes nothing.
    fn probe_position(&self, position: &Offset) -> Result<Option<String>> {
        let _ = position;
        Ok(None)
    }
}

/// What a query wants of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To read it as a stream.
    Source,
    /// To read it as it is.
    Static,
    /// To write to it.
    Sink,
}

/// Connectors by format, and the SQL functions that need what connectors know (`from_json`).
#[derive(Default, Clone)]
pub struct ConnectorRegistry {
    connectors: BTreeMap<String, Arc<dyn Connector>>,
    functions: Vec<Arc<ScalarUDF>>,
    /// What checkpoints can be kept in beside a folder of this machine.
    pub object_stores: ObjectStoreRegistry,
}

impl ConnectorRegistry {
    /// Adds a function.
    pub fn register_function(&mut self, function: Arc<ScalarUDF>) {
        self.functions.push(function);
    }

    /// The functions.
    pub fn functions(&self) -> &[Arc<ScalarUDF>] {
        &self.functions
    }

    /// Adds a connector; a later one of the same format replaces the earlier.
    pub fn register(&mut self, connector: Arc<dyn Connector>) {
        self.connectors.insert(connector.format().to_ascii_lowercase(), connector);
    }

    /// The connector of `format`.
    pub fn get(&self, format: &str) -> Result<&Arc<dyn Connector>> {
        self.connectors.get(&format.to_ascii_lowercase()).ok_or_else(|| {
            let known: Vec<&str> = self.formats().collect();
            let help = match nearest(format, self.formats()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("choose one of {}", known.join(", ")),
            };
            EngineError::config(format!("there is no connector for USING {format}")).help(help)
        })
    }

    /// All connectors, in the order of their formats.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Connector>> {
        self.connectors.values()
    }

    /// The table of a definition, its secrets put in place.
    pub(crate) fn open(&self, definition: &TableDefinition) -> Result<Arc<dyn Table>> {
        let connector = self.get(&definition.format)?;
        definition.options.refuse_bare_secrets(&format!("table '{}'", definition.name), connector.secret_options())?;
        if connector.needs_secrets() {
            return connector.table(&resolve_secrets(definition)?);
        }
        connector.table(definition)
    }

    /// The formats there are, in order.
    pub fn formats(&self) -> impl Iterator<Item = &str> {
        self.connectors.keys().map(String::as_str)
    }
}

/// `OPTIONS (...)`: keys are compared without case, as in Spark, and each must be asked for: a key nobody read is a
/// mistake and is refused by [`OptionReader::finish`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Sets a key; the last value wins.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let key = key.into();
        self.0.retain(|known, _| !known.eq_ignore_ascii_case(&key));
        self.0.insert(key, value.into());
    }

    /// The value of a key, whatever its case.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }

    /// All keys and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The same with `${env:NAME}` and `${file:PATH}` replaced by what they point to.
    pub fn resolved(&self, object: &str) -> Result<Self> {
        let mut resolved = Self::default();
        for (key, value) in self.iter() {
            let value = resolve_references(value).map_err(|what| {
                EngineError::config(format!("{object}: option '{key}' refers to {what}"))
                    .help("set the variable or make the file readable, then start again")
            })?;
            resolved.set(key, value);
        }
        Ok(resolved)
    }

    /// Refuses options that hold a secret and not where it is: it would be stored and shown with them.
    pub(crate) fn refuse_bare_secrets(&self, object: &str, keys: &[&str]) -> Result<()> {
        for key in keys {
            let Some(value) = self.get(key) else { continue };
            if is_reference(value) || has_reference_for_password(value) {
                continue;
            }
            // The value is not repeated: it is the secret.
            let message = format!("{object}: option '{key}' holds the secret itself, expected a reference");
            return Err(EngineError::config(message).help(format!(
                "put it into an environment variable or a file, and write '${{env:NAME}}' or '${{file:PATH}}' for '{key}'"
            )));
        }
        Ok(())
    }

    /// A reader that remembers which keys were asked for.
    pub fn reader<'a>(&'a self, object: impl Into<String>) -> OptionReader<'a> {
        OptionReader { object: object.into(), options: self, known: Vec::new() }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut options = Self::default();
        pairs.into_iter().for_each(|(key, value)| options.set(key, value));
        options
    }
}

fn is_reference(value: &str) -> bool {
    let reference = value.trim().strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    reference.is_some_and(|reference| reference.starts_with("env:") || reference.starts_with("file:"))
}

/// Whether the value is like Java's `Module required username="app" password="${env:NAME}";`.
fn has_reference_for_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once(" password=") else { return false };
    let rest = rest.strip_prefix('"').unwrap_or(rest);
    rest.split_once('}').is_some_and(|(reference, _)| is_reference(&format!("{reference}}}")))
}

/// The definition with `${env:NAME}` and `${file:PATH}` in its options replaced by what they point to. Done just before
/// a connector sees them, so that a secret is never stored or printed.
fn resolve_secrets(definition: &TableDefinition) -> Result<TableDefinition> {
    let options = definition.options.resolved(&format!("table '{}'", definition.name))?;
    Ok(TableDefinition { options, ..definition.clone() })
}

fn resolve_references(value: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((reference, tail)) = after.split_once('}') else { break };
        out.push_str(before);
        match reference.split_once(':') {
            Some(("env", name)) => {
                out.push_str(
                    &std::env::var(name).map_err(|_| format!("the environment variable {name}, which is not set"))?,
                );
            }
            Some(("file", path)) => {
                let text = std::fs::read_to_string(path).map_err(|error| format!("the file {path}: {error}"))?;
                out.push_str(text.trim_end());
            }
            _ => {
                out.push_str("${");
                out.push_str(reference);
                out.push('}');
            }
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// Reads options one by one, then refuses what was left over.
#[derive(Debug)]
pub struct OptionReader<'a> {
    object: String,
    options: &'a Options,
    known: Vec<String>,
}

impl<'a> OptionReader<'a> {
    /// The text of an option.
    pub fn text(&mut self, key: &str) -> Option<&'a str> {
        self.known.push(key.to_owned());
        self.options.get(key)
    }

    /// The text of an option that must be there.
    pub fn required(&mut self, key: &str, example: &str) -> Result<&'a str> {
        let object = self.object.clone();
        self.text(key).ok_or_else(|| {
            EngineError::config(format!("{object} needs the option '{key}'"))
                .help(format!("add it: OPTIONS ('{key}' = '{example}')"))
        })
    }

    /// An option parsed from its text; `expected` names the form, e.g. "a whole number".
    pub fn parsed<T: std::str::FromStr>(&mut self, key: &str, expected: &str) -> Result<Option<T>> {
        let object = self.object.clone();
        self.text(key)
            .map(|text| {
                text.trim().parse().map_err(|_| {
                    EngineError::config(format!("{object}: option '{key}' is '{text}', expected {expected}"))
                })
            })
            .transpose()
    }

    /// A boolean option with its default.
    pub fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        let object = self.object.clone();
        match self.text(key).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => {
                Err(EngineError::config(format!("{object}: option '{key}' is '{other}', expected true or false")))
            }
        }
    }

    /// All options whose key begins with `prefix` (`kafka.`), with the prefix cut off.
    pub fn with_prefix(&mut self, prefix: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (key, value) in self.options.iter() {
            if key.len() > prefix.len()
                && key.is_char_boundary(prefix.len())
                && key[..prefix.len()].eq_ignore_ascii_case(prefix)
            {
                self.known.push(key.to_owned());
                found.push((key[prefix.len()..].to_owned(), value.to_owned()));
            }
        }
        found
    }

    /// Refuses the options nobody asked for, with the nearest known one.
    pub fn finish(self) -> Result<()> {
        let unknown =
            self.options.iter().map(|(key, _)| key).find(|key| !self.known.iter().any(|k| k.eq_ignore_ascii_case(key)));
        let Some(key) = unknown else { return Ok(()) };
        let error = EngineError::config(format!("{} has no option of the name '{key}'", self.object));
        Err(match near_names(key, &self.known).as_slice() {
            [] if self.known.is_empty() => error.help("it takes none: leave it out"),
            [] => error.help(format!("its options are {}", self.known.join(", "))),
            near => error.help(format!("did you mean '{}'?", near.join("' or '"))),
        })
    }
}

/// The known names that somebody who wrote `name` may have meant: the nearest, or else those that share a part with it.
fn near_names<'a>(name: &str, known: &'a [String]) -> Vec<&'a str> {
    /// A shorter part is in too many names.
    const PART: usize = 4;
    if let Some(near) = nearest(name, known.iter().map(String::as_str)) {
        return vec![near];
    }
    let name = name.to_lowercase();
    let shares = |known: &&str| {
        let known = known.to_lowercase();
        name.len().min(known.len()) >= PART && (known.contains(&name) || name.contains(&known))
    };
    known.iter().map(String::as_str).filter(shares).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_references() {
        let check = |value: &str, is_fine: bool| {
            let options: Options = [("password", value)].into_iter().collect();
            let refused = options.refuse_bare_secrets("table 't'", &["user", "password"]);
            let refused = refused.map_err(|error| error.to_string());
            let expected = "table 't': option 'password' holds the secret itself, expected a reference";
            assert_eq!(refused, if is_fine { Ok(()) } else { Err(expected.to_owned()) }, "{value}");
        };
        check("${env:PG_PASSWORD}", true);
        check("${file:/run/secrets/pg}", true);
        check("some.Module required username=\"app\" password=\"${env:PG_PASSWORD}\";", true);
        check("some.Module required username=\"${env:USER}\" password=\"hunter2\";", false);
        for bare in ["hunter2", "", "${PG_PASSWORD}", "x${env:PG_PASSWORD}"] {
            check(bare, false);
        }
    }

    #[test]
    fn an_unknown_option_names_its_nearest_neighbour() {
        let options: Options = [("subscribe", "t"), ("startingOffset", "earliest")].into_iter().collect();
        let mut reader = options.reader("table ev (USING kafka)");
        assert_eq!(reader.text("SUBSCRIBE"), Some("t"));
        assert_eq!(reader.text("startingOffsets"), None);
        let error = reader.finish().unwrap_err();
        assert_eq!(error.to_string(), "table ev (USING kafka) has no option of the name 'startingOffset'");
        assert_eq!(error.next_step(), Some("did you mean 'startingOffsets'?"));
    }

    #[test]
    fn names_that_share_a_part_are_told_where_none_is_a_slip_away() {
        let known = ["timestampFormat", "timestampNTZFormat", "path", "sep"].map(str::to_owned);
        assert_eq!(near_names("timestampformt", &known), ["timestampFormat"]);
        assert_eq!(near_names("format", &known), ["timestampFormat", "timestampNTZFormat"]);
        assert_eq!(near_names("separator", &known), [""; 0]);
    }
}
