//! Which tables and views are read as streams, which as they are, and which as both.
//!
//! A view of Spark's is either: one that is wanted as both is sent twice, the second time as `NAME__batch`, with the words
//! `STREAM` of its query left out and the names in it replaced by their like.

use std::collections::{BTreeMap, BTreeSet};

use highwater_engine::plan::outline::{OutlineKind, OutlineStatement, TableRead};

use super::sources::quoted;
use super::text::Edit;

/// How something is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flavour {
    /// As its statement says: what has `STREAM` before it as a stream.
    Stream,
    /// As it is, down to where it comes from.
    Batch,
}

/// What is wanted of each view and outside table, by its name in lower case.
#[derive(Debug, Default)]
pub(super) struct Flavours {
    wanted: BTreeMap<String, BTreeSet<Flavour>>,
    /// The names of views and outside tables, in lower case, and whether it is a view.
    known: BTreeMap<String, bool>,
}

impl Flavours {
    /// Follows what flows read down to the outside; `is_whole` says which are computed whole.
    pub(super) fn of(statements: &[OutlineStatement], is_whole: impl Fn(&OutlineStatement) -> bool) -> Self {
        let mut flavours = Self::default();
        let mut views = BTreeMap::new();
        for statement in statements {
            match &statement.kind {
                OutlineKind::Source(table) => drop(flavours.known.insert(table.name.to_lowercase(), false)),
                OutlineKind::View { name } => {
                    flavours.known.insert(name.to_lowercase(), true);
                    views.insert(name.to_lowercase(), statement);
                }
                _ => {}
            }
        }
        let is_view = |statement: &&OutlineStatement| matches!(statement.kind, OutlineKind::View { .. });
        let mut open: Vec<(&OutlineStatement, Flavour)> = statements
            .iter()
            .filter(|statement| !is_view(statement))
            .map(|statement| (statement, if is_whole(statement) { Flavour::Batch } else { Flavour::Stream }))
            .collect();
        while let Some((statement, flavour)) = open.pop() {
            for read in &statement.reads {
                let key = read.name.to_lowercase();
                let Some(wanted) = flavours.flavour_of(read, flavour) else { continue };
                let is_new = flavours.wanted.entry(key.clone()).or_default().insert(wanted);
                if let (true, Some(view)) = (is_new, views.get(&key)) {
                    open.push((view, wanted));
                }
            }
        }
        flavours
    }

    /// How a table or view is read in a statement of `flavour`; nothing for what is neither outside nor a view.
    fn flavour_of(&self, read: &TableRead, flavour: Flavour) -> Option<Flavour> {
        let is_view = *self.known.get(&read.name.to_lowercase())?;
        let as_it_is = flavour == Flavour::Batch || (!is_view && read.stream.is_none());
        Some(if as_it_is { Flavour::Batch } else { Flavour::Stream })
    }

    /// What is wanted of a table or view.
    pub(super) fn wanted(&self, name: &str) -> Vec<Flavour> {
        self.wanted.get(&name.to_lowercase()).into_iter().flatten().copied().collect()
    }

    /// The name it is sent under.
    pub(super) fn sent_name(&self, name: &str, flavour: Flavour) -> String {
        if flavour == Flavour::Batch && self.wanted(name).len() > 1 {
            format!("{name}__batch")
        } else {
            name.to_owned()
        }
    }

    /// What is changed in a statement of `flavour`.
    pub(super) fn edits(&self, statement: &OutlineStatement, flavour: Flavour) -> Vec<Edit> {
        let mut edits = Vec::new();
        for read in &statement.reads {
            let name = &statement.words[read.word];
            if let (Flavour::Batch, Some(stream)) = (flavour, read.stream) {
                edits.push(Edit::replace(statement.words[stream].bytes.clone(), ""));
            }
            let Some(wanted) = self.flavour_of(read, flavour) else { continue };
            // What the project itself says of an outside table goes over what the catalog may have of that name.
            let is_view = self.known.get(&read.name.to_lowercase()) == Some(&true);
            if read.is_qualified && is_view {
                continue;
            }
            let sent = self.sent_name(&read.name, wanted);
            if sent != read.name || read.is_qualified {
                // Columns may be named by the table's own name, unless it has another.
                let keeps_name = read.has_alias || sent == read.name;
                let alias = if keeps_name { String::new() } else { format!(" AS {}", quoted(&read.name)) };
                let bytes = statement.words[first_word(statement, read.word)].bytes.start..name.bytes.end;
                edits.push(Edit::replace(bytes, format!("{}{alias}", quoted(&sent))));
            }
        }
        edits
    }
}

/// The first word of a name with dots, by its last.
fn first_word(statement: &OutlineStatement, last: usize) -> usize {
    let mut first = last;
    while first >= 2 && statement.words[first - 1].text == "." {
        first -= 2;
    }
    first
}
