//! What the rows of an operator's state are made of, and what they were made of before the query was changed.
//!
//! ```text
//!   layout 0   key k INT      count(1) #0   min(v) INT #1             rows without a tag
//!   layout 1   key k BIGINT   min(v) BIGINT #1   sum(v) #2            rows tagged 1
//!                                  │               └ begins empty in rows of layout 0
//!                                  └ cast when a row of layout 0 is read; count(1) #0 is passed over
//! ```
//!
//! A changed query writes its rows in the newest layout, and reads each row by the layout it was written in: nothing is
//! written anew when the query opens, whatever the size of its state, and rows of earlier batches stay readable. Layouts
//! are in the checkpoint's metadata before the first row of them is. What takes the place of what is decided in
//! [`evolve`]; how keys and values become bytes is [`codec`].

pub(crate) mod codec;
pub(crate) mod evolve;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::OperatorSpec;
use super::state_table::ipc;
use crate::error::Result;
pub(crate) use evolve::{Note, widens};

/// Layouts there can be: the number has seven bits in a row.
const MOST: usize = 128;

/// What the state rows of an operator are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Layout {
    /// What can never change: the kind of operator, how it divides time.
    kind: String,
    /// The columns of the key.
    #[serde(with = "ipc::schema")]
    keys: SchemaRef,
    /// What the values of each of its tables are made of.
    tables: Vec<Vec<Part>>,
    /// What it may have to take back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    given: Given,
}

/// Rows that an operator may have to take back: by the operator that gives them, what becomes of them on the way to their
/// keys, step by step. A row has to come back as it was given, so that none of it may change while the state is kept.
pub(crate) type Given = BTreeMap<String, Vec<String>>;

/// What takes columns of its own in a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    /// Its lasting number within the table; given by the history.
    number: u32,
    /// What people call it: `sum(v)`.
    name: String,
    kind: PartKind,
    /// The types of a function's arguments.
    #[serde(with = "ipc::schema")]
    arguments: SchemaRef,
    /// Its columns in a value.
    #[serde(with = "ipc::schema")]
    state: SchemaRef,
}

/// What a part is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum PartKind {
    /// The state of an aggregate function.
    #[serde(rename_all = "camelCase")]
    Function {
        /// The function with its constants, but for types.
        call: String,
        /// Whether its state is made of values as they came, so that they can be cast.
        keeps_values: bool,
    },
    /// A column of a row that is kept as it is.
    #[serde(rename_all = "camelCase")]
    Column {
        /// Whether a row may be without it.
        is_nullable: bool,
    },
}

/// All layouts that rows of an operator may be in, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct History(Vec<Layout>);

impl Layout {
    /// `tables` are the values of each table; keys are named for people.
    pub(crate) fn new(kind: String, keys: Vec<(String, DataType)>, tables: Vec<Vec<Part>>) -> Self {
        let mut layout = Self { kind, keys: schema(keys), tables, given: Given::new() };
        for table in &mut layout.tables {
            (0..).zip(table).for_each(|(number, part)| part.number = number);
        }
        layout
    }

    /// The layout of an operator that may have to take back such rows.
    pub(crate) fn taking_back(self, given: Given) -> Self {
        Self { given, ..self }
    }

    /// The operators that give it rows which it may have to take back.
    pub(crate) fn givers(&self) -> impl Iterator<Item = &String> {
        self.given.keys()
    }

    fn key_types(&self) -> Vec<DataType> {
        types(&self.keys)
    }
}

impl Part {
    /// An aggregate function. `call` is it with its constants, but for types.
    pub(crate) fn function(
        name: String,
        call: String,
        keeps_values: bool,
        arguments: &[DataType],
        state: &[DataType],
    ) -> Self {
        let unnamed = |types: &[DataType]| schema(types.iter().map(|kind| (String::new(), kind.clone())).collect());
        let (arguments, state) = (unnamed(arguments), unnamed(state));
        Self { number: 0, name, kind: PartKind::Function { call, keeps_values }, arguments, state }
    }

    /// The columns of a row that is kept as it is.
    pub(crate) fn columns(row: &Schema) -> Vec<Self> {
        let part = |field: &Arc<Field>| Self {
            number: 0,
            name: field.name().clone(),
            kind: PartKind::Column { is_nullable: field.is_nullable() },
            arguments: schema(Vec::new()),
            state: schema(vec![(String::new(), field.data_type().clone())]),
        };
        row.fields().iter().map(part).collect()
    }

    fn state_types(&self) -> Vec<DataType> {
        types(&self.state)
    }
}

impl History {
    /// Of rows that begin now.
    pub(crate) fn new(layout: Layout) -> Self {
        Self(vec![layout])
    }

    /// That of an operator that was not changed, if nothing else is known.
    pub(crate) fn of(known: Option<&Arc<Self>>, spec: &dyn OperatorSpec) -> Result<Arc<Self>> {
        match known {
            Some(known) => Ok(Arc::clone(known)),
            None => {
                Ok(Arc::new(Self::new(spec.layout()?.unwrap_or_else(|| Layout::new(String::new(), vec![], vec![])))))
            }
        }
    }

    fn now(&self) -> Option<&Layout> {
        self.0.last()
    }
}

fn schema(columns: Vec<(String, DataType)>) -> SchemaRef {
    Arc::new(Schema::new(columns.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect::<Vec<_>>()))
}

fn types(schema: &Schema) -> Vec<DataType> {
    schema.fields().iter().map(|field| field.data_type().clone()).collect()
}
