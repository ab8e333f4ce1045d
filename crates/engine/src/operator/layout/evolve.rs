//! Whether the state of an operator fits the query of now, and what becomes of each of its parts.
//!
//! | the query of now | the state |
//! |---|---|
//! | has wider types (`INT` to `BIGINT`, `FLOAT` to `DOUBLE`, `DECIMAL` with more digits) | is cast as it is read |
//! | has a function more | that function begins with the next batch, the others go on |
//! | has a function or a kept column less | that part is dropped |
//! | keeps a column more that may be NULL | it is NULL in earlier rows |
//! | has the same functions or columns in another order | is found by what they are |
//! | has the same function of another expression | goes on, unless rows may be taken back |
//! | has anything else | does not fit, and the answer says why |
//!
//! Of an operator that may have to take rows back (`AggregateSpec::takes_back`) all rows must come back as they were given:
//! what is done to them on the way, keys, arguments and filters may not change, and no function may begin. A row that was
//! never counted would be taken back, or one that was counted would stay.
//!
//! A function is the same by its text. One whose text is not there goes on from one of the same kind whose text is gone;
//! if it cannot be told which, that is said.

use std::collections::BTreeSet;
use std::fmt;

use arrow::datatypes::{DataType, Fields, Schema};

use super::{Given, History, Layout, MOST, Part, PartKind};
use crate::plan::ddl::type_name;
use crate::sink::BatchId;

/// What becomes of a part of an operator's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// It has a wider type; what it is, from, to.
    Widened(String, DataType, DataType),
    /// A function begins with the next batch.
    Begins(String),
    /// A function is as it was.
    Keeps(String),
    /// A kept column is NULL in earlier rows.
    Gained(String),
    /// A function or column is forgotten.
    Dropped(String),
    /// A function goes on as another expression of the same kind.
    GoesOn(String, String),
}

impl Note {
    /// In words, when `batch` is the next.
    pub(crate) fn describe(&self, batch: BatchId) -> String {
        match self {
            Self::Widened(what, from, to) => format!("{what} {} to {}", type_name(from), type_name(to)),
            Self::Begins(name) => format!("{name} begins with batch {batch}"),
            Self::Keeps(name) => format!("{name} keeps its state"),
            Self::Gained(name) => format!("column {name} is NULL in rows from before batch {batch}"),
            Self::Dropped(name) => format!("{name} is dropped"),
            Self::GoesOn(from, to) => format!("{from} goes on as {to}"),
        }
    }
}

/// Why state does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit(pub(crate) String);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn misfit<T>(why: impl Into<String>) -> Result<T, Misfit> {
    Err(Misfit(why.into()))
}

impl History {
    /// The history of an operator that has layout `now` from now on. Without notes nothing changes for the rows.
    pub(crate) fn evolve(&self, now: &Layout) -> Result<(Self, Vec<Note>), Misfit> {
        let Some(last) = self.now() else { return Ok((Self::new(now.clone()), Vec::new())) };
        let mut notes = Vec::new();
        let layout = self.successor(last, now, &mut notes)?;
        let mut layouts = self.0.clone();
        let is_same = is_same_to_rows(last, &layout);
        if is_same {
            // Names are not in the rows.
            layouts.pop();
            notes.clear();
        } else if layouts.len() == MOST {
            return misfit(format!("it was changed {} times, which is as often as its rows can tell", MOST - 1));
        }
        layouts.push(layout);
        Ok((Self(layouts), notes))
    }

    fn successor(&self, last: &Layout, now: &Layout, notes: &mut Vec<Note>) -> Result<Layout, Misfit> {
        if last.kind != now.kind || last.tables.len() != now.tables.len() {
            return misfit(format!("it is of {}, and was of {}", now.kind, last.kind));
        }
        evolve_keys(&last.keys, &now.keys, notes)?;
        same_given(&last.given, &now.given)?;
        let mut layout = now.clone();
        for (at, (old, new)) in last.tables.iter().zip(&mut layout.tables).enumerate() {
            let numbers = self.0.iter().filter_map(|layout| layout.tables.get(at)).flatten().map(|part| part.number);
            let next = numbers.max().map_or(0, |number| number + 1);
            evolve_parts(old, new, next, !now.given.is_empty(), notes)?;
        }
        Ok(layout)
    }
}

fn is_same_to_rows(a: &Layout, b: &Layout) -> bool {
    let parts = |layout: &Layout| -> Vec<Vec<(u32, Vec<DataType>)>> {
        let part = |part: &Part| (part.number, part.state_types());
        layout.tables.iter().map(|table| table.iter().map(part).collect()).collect()
    };
    a.key_types() == b.key_types() && parts(a) == parts(b)
}

fn evolve_keys(old: &Schema, new: &Schema, notes: &mut Vec<Note>) -> Result<(), Misfit> {
    let names = |keys: &Schema| {
        let names: Vec<&str> = keys.fields().iter().map(|key| key.name().as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    if old.fields().len() != new.fields().len() {
        return misfit(format!("its keys were {}, and are {}", names(old), names(new)));
    }
    for (was, is) in old.fields().iter().zip(new.fields()) {
        if was.name() != is.name() && old.fields().iter().any(|other| other.name() == is.name()) {
            return misfit(format!("its keys {} are in another order, {}", names(old), names(new)));
        }
        let (from, to) = (was.data_type(), is.data_type());
        if !widens(from, to) {
            let (was, is, from, to) = (was.name(), is.name(), type_name(from), type_name(to));
            let renamed = if was == is { String::new() } else { format!("{is} ") };
            return misfit(format!("key {was} {from} is {renamed}{to} now, which is not wider"));
        }
        if !from.equals_datatype(to) {
            notes.push(Note::Widened(format!("key {}", is.name()), from.clone(), to.clone()));
        }
    }
    Ok(())
}

/// Refuses another way of rows that may have to be taken back.
fn same_given(old: &Given, new: &Given) -> Result<(), Misfit> {
    let names = |given: &Given| given.keys().cloned().collect::<Vec<_>>().join(", ");
    match (old.is_empty(), new.is_empty()) {
        (true, false) => misfit(format!("its rows were there to stay, and those of {} may be taken back", names(new))),
        (false, true) => misfit(format!("its rows were those of {}, which may be taken back", names(old))),
        _ if !old.keys().eq(new.keys()) => misfit(format!(
            "the rows that it may have to take back were those of {}, and are of {}",
            names(old),
            names(new)
        )),
        _ => old.iter().zip(new.values()).try_for_each(|((giver, was), is)| same_way(giver, was, is)),
    }
}

fn same_way(giver: &str, was: &[String], is: &[String]) -> Result<(), Misfit> {
    if was == is {
        return Ok(());
    }
    // Only what differs: the steps before and after are the same.
    let first = was.iter().zip(is).take_while(|(a, b)| a == b).count();
    let last = was[first..].iter().rev().zip(is[first..].iter().rev()).take_while(|(a, b)| a == b).count();
    let shown = |way: &[String]| match &way[first..way.len() - last] {
        [] => "as they were".to_owned(),
        steps => format!("by {}", steps.join(", ")),
    };
    misfit(format!(
        "rows of {giver} came to it {}, and would be taken back {}, so that they are not the same",
        shown(was),
        shown(is)
    ))
}

/// Gives the parts of now the numbers of those they go on from, and new ones from `next` on.
fn evolve_parts(
    old: &[Part],
    new: &mut [Part],
    next: u32,
    takes_back: bool,
    notes: &mut Vec<Note>,
) -> Result<(), Misfit> {
    let mut pairs: Vec<Option<usize>> = Vec::new();
    let mut used = BTreeSet::new();
    for part in new.iter() {
        let is_it = |(at, known): &(usize, &Part)| {
            !used.contains(at) && known.name == part.name && known.kind.is_kind_of(&part.kind)
        };
        let found = old.iter().enumerate().find(is_it).map(|(at, _)| at);
        used.extend(found);
        pairs.push(found);
    }
    let went_on = pair_others(old, new, &mut pairs, &mut used, notes)?;
    let changes = pairs.iter().any(Option::is_none) || used.len() < old.len();
    let mut next = next;
    for (part, pair) in new.iter_mut().zip(&pairs) {
        match pair.map(|at| &old[at]) {
            Some(was) => {
                part.number = was.number;
                check_types(was, part, notes)?;
                if part.is_function() && changes && !went_on.contains(&was.number) {
                    notes.push(Note::Keeps(part.name.clone()));
                }
            }
            None => {
                part.number = next;
                next += 1;
                notes.push(begins(part, takes_back)?);
            }
        }
    }
    let gone = old.iter().enumerate().filter(|(at, _)| !used.contains(at));
    notes.extend(gone.map(|(_, part)| Note::Dropped(part.title())));
    if changes && let Some(made) = new.iter().chain(old).find(|part| !part.is_function() && part.name.starts_with("__"))
    {
        return misfit(format!("it keeps other columns, and what became of {} cannot be told", made.name));
    }
    Ok(())
}

/// Functions whose text changed: each goes on from one of the same kind, in their order, if there are as many. Gives the
/// numbers of those.
fn pair_others(
    old: &[Part],
    new: &[Part],
    pairs: &mut [Option<usize>],
    used: &mut BTreeSet<usize>,
    notes: &mut Vec<Note>,
) -> Result<BTreeSet<u32>, Misfit> {
    let mut went_on = BTreeSet::new();
    for at in 0..new.len() {
        if pairs[at].is_some() || !new[at].is_function() {
            continue;
        }
        let kind = &new[at].kind;
        let before: Vec<usize> =
            (0..old.len()).filter(|i| !used.contains(i) && old[*i].kind.is_kind_of(kind)).collect();
        let after: Vec<usize> =
            (0..new.len()).filter(|i| pairs[*i].is_none() && new[*i].kind.is_kind_of(kind)).collect();
        if before.is_empty() {
            continue;
        }
        if before.len() != after.len() {
            let names = |parts: &[Part], at: &[usize]| {
                at.iter().map(|at| parts[*at].name.clone()).collect::<Vec<_>>().join(", ")
            };
            return misfit(format!(
                "which of {} goes on as {} cannot be told: change them one after the other",
                names(old, &before),
                names(new, &after)
            ));
        }
        for (before, after) in before.into_iter().zip(after) {
            pairs[after] = Some(before);
            used.insert(before);
            went_on.insert(old[before].number);
            notes.push(Note::GoesOn(old[before].name.clone(), new[after].name.clone()));
        }
    }
    Ok(went_on)
}

fn check_types(was: &Part, is: &Part, notes: &mut Vec<Note>) -> Result<(), Misfit> {
    let keeps_values = matches!(&is.kind, PartKind::Column { .. } | PartKind::Function { keeps_values: true, .. });
    let (from, to) = match is.is_function() {
        true => (&was.arguments, &is.arguments),
        false => (&was.state, &is.state),
    };
    let all = |a: &Schema, b: &Schema, fits: fn(&DataType, &DataType) -> bool| {
        a.fields().len() == b.fields().len()
            && a.fields().iter().zip(b.fields()).all(|(a, b)| fits(a.data_type(), b.data_type()))
    };
    let is_equal =
        all(from, to, |a, b| a.equals_datatype(b)) && all(&was.state, &is.state, |a, b| a.equals_datatype(b));
    if is_equal {
        return Ok(());
    }
    let shown = |schema: &Schema| {
        schema.fields().iter().map(|field| type_name(field.data_type())).collect::<Vec<_>>().join(", ")
    };
    if !keeps_values || !all(from, to, widens) || !all(&was.state, &is.state, widens) {
        let (title, from, to) = (is.title(), shown(from), shown(to));
        let of = if is.is_function() { " of" } else { "" };
        let why = if keeps_values { "which is not wider" } else { "and its state cannot be cast" };
        return misfit(format!("{title} was{of} {from} and is{of} {to}, {why}"));
    }
    for (a, b) in from.fields().iter().zip(to.fields()).filter(|(a, b)| !a.data_type().equals_datatype(b.data_type())) {
        notes.push(Note::Widened(is.title(), a.data_type().clone(), b.data_type().clone()));
    }
    Ok(())
}

fn begins(part: &Part, takes_back: bool) -> Result<Note, Misfit> {
    match part.kind {
        PartKind::Function { .. } if takes_back => misfit(format!(
            "{} would begin without the rows there are, and these may have to be taken back out of it",
            part.name
        )),
        PartKind::Function { .. } => Ok(Note::Begins(part.name.clone())),
        PartKind::Column { is_nullable: true } => Ok(Note::Gained(part.name.clone())),
        PartKind::Column { is_nullable: false } => {
            misfit(format!("column {} may not be NULL, and earlier rows do not have it", part.name))
        }
    }
}

impl Part {
    fn is_function(&self) -> bool {
        matches!(self.kind, PartKind::Function { .. })
    }

    fn title(&self) -> String {
        if self.is_function() { self.name.clone() } else { format!("column {}", self.name) }
    }
}

impl PartKind {
    fn is_kind_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Function { call: a, .. }, Self::Function { call: b, .. }) => a == b,
            (Self::Column { .. }, Self::Column { .. }) => true,
            _ => false,
        }
    }
}

/// Whether every value of `from` is one of `to`, in a cast that changes nothing of it.
pub(crate) fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, List, Struct};
    match (from, to) {
        (Int8, Int16 | Int32 | Int64) | (Int16, Int32 | Int64) | (Int32, Int64) | (Float32, Float64) => true,
        (Decimal128(p, s), Decimal128(wider_p, wider_s)) => {
            let digits = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
            wider_s >= s && digits(*wider_p, *wider_s) >= digits(*p, *s)
        }
        (List(from), List(to)) => widens(from.data_type(), to.data_type()),
        (Struct(from), Struct(to)) => fields_widen(from, to),
        (from, to) => from.equals_datatype(to),
    }
}

fn fields_widen(from: &Fields, to: &Fields) -> bool {
    let fits = |(a, b): (&std::sync::Arc<arrow::datatypes::Field>, &std::sync::Arc<arrow::datatypes::Field>)| {
        a.name() == b.name() && widens(a.data_type(), b.data_type())
    };
    from.len() == to.len() && from.iter().zip(to).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `k INT, j STRING | sum(v) INT; avg(w) DOUBLE`, or `k INT | column v INT`; where rows may be taken back ` | ` and the
    /// steps they come by from `top-0` follow, or ` | other: ` and steps.
    fn layout(text: &str) -> Layout {
        let kind = |word: &str| match word {
            "INT" => DataType::Int32,
            "BIGINT" => DataType::Int64,
            "DOUBLE" => DataType::Float64,
            _ => DataType::Utf8,
        };
        let (keys, parts) = text.split_once(" | ").unwrap();
        let (parts, given) = parts.split_once(" | ").map_or((parts, None), |(parts, given)| (parts, Some(given)));
        let way = |given: &str| {
            let (giver, steps) = given.split_once(": ").unwrap_or(("top-0", given));
            (giver.to_owned(), steps.split("; ").map(str::to_owned).collect())
        };
        let key = |text: &str| text.rsplit_once(' ').map(|(name, word)| (name.to_owned(), kind(word)));
        let part = |text: &str| {
            let (name, word) = text.rsplit_once(' ').unwrap();
            match name.strip_prefix("column ") {
                Some(name) => Part::columns(&Schema::new(vec![arrow::datatypes::Field::new(
                    name.trim_end_matches('!'),
                    kind(word),
                    !name.ends_with('!'),
                )]))
                .remove(0),
                None => {
                    // With what is taken back the arguments belong to it.
                    let call = if given.is_some() { name } else { name.split('(').next().unwrap() }.to_owned();
                    let keeps_values = call != "sketch";
                    Part::function(name.to_owned(), call, keeps_values, &[kind(word)], &[kind(word)])
                }
            }
        };
        let keys = keys.split(", ").filter_map(key).collect();
        let parts = parts.split("; ").filter(|text| !text.is_empty()).map(part).collect();
        Layout::new("groups".to_owned(), keys, vec![parts]).taking_back(given.map(way).into_iter().collect())
    }

    /// Numbers of the newest layout's parts, how many layouts there are, and the notes; or why it does not fit.
    fn check(steps: &[&str], expected: &str) {
        let mut history = History::new(layout(steps[0]));
        let mut found = String::new();
        for step in &steps[1..] {
            match history.evolve(&layout(step)) {
                Ok((next, notes)) => {
                    let numbers: Vec<String> =
                        next.0.last().unwrap().tables[0].iter().map(|part| part.number.to_string()).collect();
                    let notes: Vec<String> = notes.iter().map(|note| note.describe(7)).collect();
                    found = format!("[{}] of {}: {}", numbers.join(" "), next.0.len(), notes.join("; "));
                    history = next;
                }
                Err(why) => found = why.to_string(),
            }
        }
        assert_eq!(found.trim_end(), expected, "{steps:?}");
    }

    #[test]
    fn what_is_the_same_stays() {
        check(&["k INT | sum(v) INT", "k INT | sum(v) INT"], "[0] of 1:");
        check(&["k INT | sum(v) INT", "j INT | sum(v * 2) INT"], "[0] of 1:");
        check(&["k INT | sum(a) INT; sum(b) INT", "k INT | sum(b) INT; sum(a) INT"], "[1 0] of 2:");
        check(&["k INT | sum(a) INT; sum(b) INT", "k INT | sum(a) INT; sum(c) INT"], "[0 1] of 1:");
    }

    #[test]
    fn what_is_wider_is_cast() {
        check(&["k INT | min(v) INT", "k BIGINT | min(v) INT"], "[0] of 2: key k INT to BIGINT");
        check(&["k INT | min(v) INT", "k INT | min(v) BIGINT"], "[0] of 2: min(v) INT to BIGINT");
        check(&["k INT | column v INT", "k INT | column v BIGINT"], "[0] of 2: column v INT to BIGINT");
        check(&["k BIGINT | min(v) INT", "k INT | min(v) INT"], "key k BIGINT is INT now, which is not wider");
        check(
            &["k INT | min(v) INT", "k INT | min(v) STRING"],
            "min(v) was of INT and is of STRING, which is not wider",
        );
        let sketch = "sketch(v) was of INT and is of BIGINT, and its state cannot be cast";
        check(&["k INT | sketch(v) INT", "k INT | sketch(v) BIGINT"], sketch);
    }

    #[test]
    fn functions_come_and_go() {
        let begins = "[0 1] of 2: count(1) keeps its state; sum(v) begins with batch 7";
        check(&["k INT | count(1) INT", "k INT | count(1) INT; sum(v) INT"], begins);
        let dropped = "[1] of 2: sum(v) keeps its state; count(1) is dropped";
        check(&["k INT | count(1) INT; sum(v) INT", "k INT | sum(v) INT"], dropped);
        // One that comes back is a new one: rows from before do not have all of it.
        let again = ["k INT | max(v) INT; sum(v) INT", "k INT | max(v) INT", "k INT | max(v) INT; sum(v) INT"];
        check(&again, "[0 2] of 3: max(v) keeps its state; sum(v) begins with batch 7");
        let goes_on = "[0 1] of 2: sum(a) goes on as sum(b); max(a) begins with batch 7";
        check(&["k INT | sum(a) INT", "k INT | sum(b) INT; max(a) INT"], goes_on);
        let which = "which of sum(a) goes on as sum(b), sum(c) cannot be told: change them one after the other";
        check(&["k INT | sum(a) INT", "k INT | sum(b) INT; sum(c) INT"], which);
    }

    #[test]
    fn columns_come_and_go() {
        let gained = "[0 1] of 2: column w is NULL in rows from before batch 7";
        check(&["k INT | column v INT", "k INT | column v INT; column w INT"], gained);
        check(&["k INT | column v INT; column w INT", "k INT | column w INT"], "[1] of 2: column v is dropped");
        let never_null = "column w may not be NULL, and earlier rows do not have it";
        check(&["k INT | column v INT", "k INT | column v INT; column w! INT"], never_null);
        let made = "it keeps other columns, and what became of __common_expr_1 cannot be told";
        check(&["k INT | column __common_expr_1 INT", "k INT | column __common_expr_1 INT; column w INT"], made);
    }

    #[test]
    fn keys_mean_what_they_meant() {
        check(&["k INT | sum(v) INT", "k INT, j INT | sum(v) INT"], "its keys were k, and are k, j");
        let order = "its keys k, j are in another order, j, k";
        check(&["k INT, j INT | sum(v) INT", "j INT, k INT | sum(v) INT"], order);
    }

    #[test]
    fn what_may_be_taken_back_stays_what_it_is() {
        check(&["n INT | count(1) INT | GROUP BY n", "n INT | count(1) INT | GROUP BY n"], "[0] of 1:");
        let dropped = ["n INT | sum(v) INT; count(1) INT | GROUP BY n", "n INT | count(1) INT | GROUP BY n"];
        check(&dropped, "[1] of 2: count(1) keeps its state; sum(v) is dropped");
        check(
            &["n INT | count(1) INT | WHERE n > 5; GROUP BY n", "n INT | count(1) INT | WHERE n > 3; GROUP BY n"],
            "rows of top-0 came to it by WHERE n > 5, and would be taken back by WHERE n > 3, so that they are not the same",
        );
        check(
            &["n INT | count(1) INT | GROUP BY n", "n INT | count(1) INT | WHERE n > 3; GROUP BY n"],
            "rows of top-0 came to it as they were, and would be taken back by WHERE n > 3, so that they are not the same",
        );
        check(
            &["n INT | count(1) INT | GROUP BY n", "n INT | count(1) INT | other: GROUP BY n"],
            "the rows that it may have to take back were those of top-0, and are of other",
        );
        check(
            &["n INT | count(1) INT", "n INT | count(1) INT | GROUP BY n"],
            "its rows were there to stay, and those of top-0 may be taken back",
        );
        check(
            &["n INT | count(1) INT | GROUP BY n", "n INT | count(1) INT"],
            "its rows were those of top-0, which may be taken back",
        );
        let begins = " would begin without the rows there are, and these may have to be taken back out of it";
        let sum = "n INT | sum(v) INT | GROUP BY n";
        check(&[sum, "n INT | sum(v) INT; count(1) INT | GROUP BY n"], &format!("count(1){begins}"));
        check(&[sum, "n INT | sum(w) INT | GROUP BY n"], &format!("sum(w){begins}"));
    }

    #[test]
    fn decimals_widen_when_no_digit_is_lost() {
        let check = |from: (u8, i8), to: (u8, i8), expected: bool| {
            let decimal = |(precision, scale)| DataType::Decimal128(precision, scale);
            assert_eq!(widens(&decimal(from), &decimal(to)), expected, "{from:?} {to:?}");
        };
        check((10, 2), (12, 2), true);
        check((10, 2), (12, 4), true);
        check((10, 2), (12, 5), false);
        check((10, 2), (10, 3), false);
        check((10, 2), (9, 2), false);
    }
}
