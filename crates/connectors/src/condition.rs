//! Filters that a database can apply to its own rows, so that only those come over that are wanted.
//!
//! ```text
//!   Expr (of DataFusion) ──of──> Condition ──sql──> text of a WHERE clause, values for its parameters
//! ```
//!
//! Known are comparisons of a column with constants, `IN`, `IS [NOT] NULL`, `AND` and `OR`. The rows are filtered again by
//! who asked, so a database may give too many rows and never too few: what it would compare by other rules than ours is
//! left out by its connector.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// A filter in the words of databases.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// The column has one of the values.
    In { column: String, values: Vec<ScalarValue> },
    /// The column is less or greater than a value, in SQL's sign.
    Compare { column: String, sign: &'static str, value: ScalarValue },
    /// The column has no value, or has one.
    Null { column: String, is_null: bool },
    /// Both.
    And(Box<Self>, Box<Self>),
    /// One of the two.
    Or(Box<Self>, Box<Self>),
}

/// How a database writes the parts of a condition; none for what it is not to be trusted with. `before` is how many
/// parameters stand in front of a part: half of a condition may be left out again, so that nobody else can count them.
pub(crate) trait ConditionSql {
    /// A value of a parameter.
    type Param;

    /// `column IS NULL`, or `IS NOT NULL`.
    fn null(&self, column: &str, is_null: bool) -> Option<String>;

    /// `column IN (...)`.
    fn is_in(&mut self, column: &str, values: &[ScalarValue], before: usize) -> Option<(String, Vec<Self::Param>)>;

    /// `column < value`.
    fn compare(
        &mut self,
        column: &str,
        sign: &str,
        value: &ScalarValue,
        before: usize,
    ) -> Option<(String, Vec<Self::Param>)>;
}

impl Condition {
    /// The condition that a filter is.
    pub(crate) fn of(filter: &Expr) -> Option<Self> {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                Some(Self::And(Box::new(Self::of(left)?), Box::new(Self::of(right)?)))
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Some(Self::Or(Box::new(Self::of(left)?), Box::new(Self::of(right)?)))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (column(left), column(right)) {
                (Some(column), None) => Self::compared(column, *op, constant(right)?),
                (None, Some(column)) => Self::compared(column, op.swap()?, constant(left)?),
                _ => None,
            },
            Expr::InList(list) if !list.negated => {
                let values = list.list.iter().map(constant).collect::<Option<_>>()?;
                Some(Self::In { column: column(&list.expr)?, values })
            }
            Expr::Between(between) if !between.negated => {
                let column = column(&between.expr)?;
                let low = Self::compared(column.clone(), Operator::GtEq, constant(&between.low)?)?;
                let high = Self::compared(column, Operator::LtEq, constant(&between.high)?)?;
                Some(Self::And(Box::new(low), Box::new(high)))
            }
            Expr::IsNull(inner) => Some(Self::Null { column: column(inner)?, is_null: true }),
            Expr::IsNotNull(inner) => Some(Self::Null { column: column(inner)?, is_null: false }),
            _ => None,
        }
    }

    fn compared(column: String, operator: Operator, value: ScalarValue) -> Option<Self> {
        let sign = match operator {
            Operator::Eq => return Some(Self::In { column, values: vec![value] }),
            Operator::Lt => "<",
            Operator::LtEq => "<=",
            Operator::Gt => ">",
            Operator::GtEq => ">=",
            _ => return None,
        };
        Some(Self::Compare { column, sign, value })
    }

    /// The text of a `WHERE` clause with the values of its parameters, in order, behind so many others.
    pub(crate) fn sql<D: ConditionSql>(&self, database: &mut D, before: usize) -> Option<(String, Vec<D::Param>)> {
        match self {
            Self::In { column, values } => database.is_in(column, values, before),
            Self::Compare { column, sign, value } => database.compare(column, sign, value, before),
            Self::Null { column, is_null } => Some((database.null(column, *is_null)?, Vec::new())),
            Self::And(a, b) => Self::both(database, before, a, "AND", b),
            Self::Or(a, b) => Self::both(database, before, a, "OR", b),
        }
    }

    fn both<D: ConditionSql>(
        database: &mut D,
        before: usize,
        a: &Self,
        word: &str,
        b: &Self,
    ) -> Option<(String, Vec<D::Param>)> {
        let (a, mut params) = a.sql(database, before)?;
        let (b, more) = b.sql(database, before + params.len())?;
        params.extend(more);
        Some((format!("({a} {word} {b})"), params))
    }
}

/// Those of the filters that a database can apply, as one text with its parameters; empty if there are none.
pub(crate) fn where_clause<D: ConditionSql>(filters: &[Expr], database: &mut D) -> (String, Vec<D::Param>) {
    let (mut texts, mut params) = (Vec::new(), Vec::new());
    for condition in filters.iter().filter_map(Condition::of) {
        if let Some((text, values)) = condition.sql(database, params.len()) {
            texts.push(text);
            params.extend(values);
        }
    }
    if texts.is_empty() { (String::new(), params) } else { (format!(" WHERE {}", texts.join(" AND ")), params) }
}

fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) => Some(column.name.clone()),
        _ => None,
    }
}

fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::{col, lit};

    use super::*;

    struct Plain;

    impl ConditionSql for Plain {
        type Param = String;

        fn null(&self, column: &str, is_null: bool) -> Option<String> {
            Some(format!("{column} IS {}NULL", if is_null { "" } else { "NOT " }))
        }

        fn is_in(&mut self, column: &str, values: &[ScalarValue], before: usize) -> Option<(String, Vec<String>)> {
            (column != "odd").then_some(())?;
            Some((format!("{column} IN ?{}", before + 1), values.iter().map(ToString::to_string).collect()))
        }

        fn compare(
            &mut self,
            column: &str,
            sign: &str,
            value: &ScalarValue,
            before: usize,
        ) -> Option<(String, Vec<String>)> {
            Some((format!("{column} {sign} ?{}", before + 1), vec![value.to_string()]))
        }
    }

    #[test]
    fn what_is_known_is_handed_down() {
        let check = |filters: &[Expr], expected: &str, values: &[&str]| {
            let (text, params) = where_clause(filters, &mut Plain);
            assert_eq!((text.trim_start(), params), (expected, values.iter().map(ToString::to_string).collect()));
        };
        check(&[col("a").eq(lit(1)), lit(2).gt(col("b"))], "WHERE a IN ?1 AND b < ?2", &["1", "2"]);
        check(&[col("a").in_list(vec![lit("x"), lit("y")], false)], "WHERE a IN ?1", &["x", "y"]);
        check(&[col("a").eq(lit(1)).or(col("b").is_null())], "WHERE (a IN ?1 OR b IS NULL)", &["1"]);
        check(&[col("a").between(lit(1), lit(3))], "WHERE (a >= ?1 AND a <= ?2)", &["1", "3"]);
        // What is not known is left to who asked; half of an OR would leave rows out.
        check(&[col("odd").eq(lit(1)), col("b").is_not_null()], "WHERE b IS NOT NULL", &[]);
        check(&[col("odd").eq(lit(1)).or(col("b").is_null())], "", &[]);
        // Nor does the half that is left out have a number.
        let half = col("a").eq(lit(1)).or(col("odd").eq(lit(2)));
        check(&[half, col("b").eq(lit(3)), col("c").gt(lit(4))], "WHERE b IN ?1 AND c > ?2", &["3", "4"]);
        check(&[col("a").not_eq(lit(1)), col("a").eq(col("b")), col("a").in_list(vec![lit(1)], true)], "", &[]);
        check(&[col("a").eq(lit(ScalarValue::Int64(None)))], "", &[]);
    }
}
