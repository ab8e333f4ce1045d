//! One `SELECT` while it is being written.
//!
//! Operations of a DataFrame are taken into the `SELECT` below them as long as they mean the same there; otherwise that one
//! becomes a subquery. So the two sides of a join keep their names until something chooses columns, and a subquery of both
//! sides gives columns of one name other names, by which each stays what it was.

use super::quoted;

/// A `SELECT`.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    /// What stands after `SELECT`; everything if nothing is chosen yet.
    pub(super) select: Option<Vec<Item>>,
    /// `DISTINCT` and what belongs to it, in front of that.
    pub(super) distinct: String,
    /// What stands after `FROM`; none for a `SELECT` without.
    pub(super) from: Option<String>,
    /// Conditions of `WHERE`.
    pub(super) filters: Vec<String>,
    /// `GROUP BY`, `ORDER BY`, `LIMIT`.
    pub(super) rest: String,
    /// The relations of `FROM`.
    pub(super) scopes: Vec<Scope>,
}

/// A relation of `FROM`.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// Its name.
    pub(super) alias: String,
    /// Its text without the name.
    pub(super) source: String,
    /// The plans of PySpark it is made of.
    pub(super) plan_ids: Vec<i64>,
    /// Its columns by the plans they come from, where these are not the same for all; maybe not all of them.
    pub(super) known: Option<Vec<Known>>,
    /// Those of its plans by which only some of the columns can be meant.
    pub(super) sides: Vec<i64>,
    /// The names of its columns, as they are called in it, where they are known without asking.
    pub(super) names: Option<Vec<String>>,
}

/// A column of a relation that is made of several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// What it is called in the relation.
    pub(super) inner: String,
    /// What PySpark calls it.
    pub(super) name: String,
    /// The plans by which it can be meant.
    pub(super) plan_ids: Vec<i64>,
}

/// What stands between commas after `SELECT`.
#[derive(Debug, Clone, Default)]
pub(super) struct Item {
    /// The expression.
    pub(super) text: String,
    /// The name that it is given.
    pub(super) alias: Option<String>,
    /// The name that it has, where that is known.
    pub(super) name: Option<String>,
    /// The plans by which it can be meant: those of the column that it is.
    pub(super) plan_ids: Vec<i64>,
    /// What it depends on.
    pub(super) nature: Nature,
}

/// What the value of an expression depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Nature {
    /// On its row alone, each time in the same way.
    Plain,
    /// On other rows, too: it is a function over a window.
    Window,
    /// On more, or on what nobody knows here.
    #[default]
    Other,
}

impl Item {
    /// An expression with a name.
    pub(super) fn named(text: String, name: &str) -> Self {
        Self { text, alias: Some(name.to_owned()), name: Some(name.to_owned()), ..Self::default() }
    }

    /// A column; it is given its name where it has another one there.
    pub(super) fn column(text: String, name: &str, plan_ids: Vec<i64>) -> Self {
        let alias = (!text.ends_with(&quoted(name))).then(|| name.to_owned());
        Self { text, alias, name: Some(name.to_owned()), plan_ids, nature: Nature::Plain }
    }

    /// An expression of which only the planner knows the name.
    pub(super) fn unnamed(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// Of that nature.
    pub(super) fn of(self, nature: Nature) -> Self {
        Self { nature, ..self }
    }

    /// Whether it has that name.
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    fn written(&self) -> String {
        match &self.alias {
            Some(alias) => format!("{} AS {}", self.text, quoted(alias)),
            None => self.text.clone(),
        }
    }
}

impl Scope {
    /// The plans by which a column of it can be meant.
    pub(super) fn plans_of(&self, known: &Known) -> Vec<i64> {
        let of_all = self.plan_ids.iter().filter(|plan| !self.sides.contains(plan));
        known.plan_ids.iter().chain(of_all).copied().collect()
    }

    /// Whether it has that name.
    pub(super) fn is(&self, alias: &str) -> bool {
        self.alias.trim_matches('`').eq_ignore_ascii_case(alias)
    }
}

impl Block {
    /// `SELECT * FROM source AS alias`.
    pub(super) fn of(source: &str, alias: &str, plan_ids: Vec<i64>) -> Self {
        let (alias, source) = (alias.to_owned(), source.to_owned());
        let from = Some(format!("{source} AS {alias}"));
        let scope = Scope { alias, source, plan_ids, known: None, sides: Vec::new(), names: None };
        Self { from, scopes: vec![scope], ..Self::default() }
    }

    /// The whole text.
    pub(super) fn text(&self) -> String {
        let items = self.select.as_ref().map(|items| items.iter().map(Item::written).collect::<Vec<_>>().join(", "));
        let mut text = format!("SELECT {}{}", self.distinct, items.as_deref().unwrap_or("*"));
        if let Some(from) = &self.from {
            text.push_str(" FROM ");
            text.push_str(from);
        }
        if !self.filters.is_empty() {
            text.push_str(" WHERE ");
            text.push_str(&self.filters.join(" AND "));
        }
        text.push_str(&self.rest);
        text
    }

    /// Whether columns can still be chosen in it.
    pub(super) fn is_open(&self) -> bool {
        self.select.is_none() && self.distinct.is_empty() && self.rest.is_empty()
    }

    /// Whether it is a relation and nothing else.
    pub(super) fn is_bare(&self) -> bool {
        self.is_open() && self.filters.is_empty() && self.scopes.len() == 1
    }

    /// Whether columns of it come from several relations, so that one name may mean several of them.
    pub(super) fn is_of_several(&self) -> bool {
        self.scopes.len() > 1 || self.scopes.iter().any(|scope| scope.known.is_some())
    }

    /// Those of its plans by which only some of its columns can be meant.
    pub(super) fn sides(&self) -> Vec<i64> {
        match self.scopes.as_slice() {
            [scope] => scope.sides.clone(),
            _ => self.plan_ids(),
        }
    }

    /// The plans it is made of.
    pub(super) fn plan_ids(&self) -> Vec<i64> {
        self.scopes.iter().flat_map(|scope| scope.plan_ids.iter().copied()).collect()
    }
}
