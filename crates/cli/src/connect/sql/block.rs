//! One `SELECT` while it is being written.
//!
//! Operations of a DataFrame are taken into the `SELECT` below them as long as they mean the same there; otherwise that one
//! becomes a subquery. So the two sides of a join keep their names until something chooses columns.

/// A `SELECT`.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    /// What stands after `SELECT`; everything if nothing is chosen yet.
    pub(super) select: Option<String>,
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
}

impl Block {
    /// `SELECT * FROM source AS alias`.
    pub(super) fn of(source: &str, alias: &str, plan_ids: Vec<i64>) -> Self {
        let scope = Scope { alias: alias.to_owned(), source: source.to_owned(), plan_ids };
        Self { from: Some(format!("{source} AS {alias}")), scopes: vec![scope], ..Self::default() }
    }

    /// The whole text.
    pub(super) fn text(&self) -> String {
        let mut text = format!("SELECT {}", self.select.as_deref().unwrap_or("*"));
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
        self.select.is_none() && self.rest.is_empty()
    }

    /// Whether it is a relation and nothing else.
    pub(super) fn is_bare(&self) -> bool {
        self.is_open() && self.filters.is_empty() && self.scopes.len() == 1
    }

    /// The plans it is made of.
    pub(super) fn plan_ids(&self) -> Vec<i64> {
        self.scopes.iter().flat_map(|scope| scope.plan_ids.iter().copied()).collect()
    }
}
