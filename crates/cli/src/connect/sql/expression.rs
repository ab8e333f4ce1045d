//! Expressions as SQL.
//!
//! PySpark sends operators as functions of their names. Names of columns that belong to a DataFrame carry the number of its
//! plan, which says the side of a join that is meant.

use super::super::problem::{Problem, Result};
use super::super::types::type_text;
use super::block::{Item, Known, Nature, Scope};
use super::layer::nature_of;
use super::literal::literal;
use super::quoted;
use crate::spark_connect::messages::{
    Boundary, BoundaryKind, Cast, CastTo, Expression, ExpressionKind, Extract, Function, Literal, LiteralKind,
    SortOrder, Window,
};

/// Where the names of an expression are looked for.
pub(super) struct Expressions<'a> {
    pub(super) scopes: &'a [Scope],
    /// What names stand for, where that is not a column of the scopes.
    pub(super) stands_for: Option<&'a StandsFor<'a>>,
}

/// What a column's name, and the plan it is taken from, stand for.
pub(super) type StandsFor<'a> = dyn Fn(&str, Option<i64>) -> Option<String> + 'a;

/// Operators between two operands: PySpark's name and SQL's.
const BINARY: [(&str, &str); 18] = [
    ("==", "="),
    ("=", "="),
    ("!=", "<>"),
    ("<=>", "<=>"),
    ("<", "<"),
    (">", ">"),
    ("<=", "<="),
    (">=", ">="),
    ("and", "AND"),
    ("or", "OR"),
    ("+", "+"),
    ("-", "-"),
    ("*", "*"),
    ("/", "/"),
    ("%", "%"),
    ("&", "&"),
    ("|", "|"),
    ("^", "^"),
];

/// How many conditions stand beside each other: put together by a program they would be a tower, and the planner takes so many.
const MAX_CHAIN: usize = 100;

const PYTHON: &str = "write it with the functions of pyspark.sql.functions or with expr(...)";

impl<'a> Expressions<'a> {
    /// Expressions over the columns of relations.
    pub(super) fn of(scopes: &'a [Scope]) -> Self {
        Self { scopes, stands_for: None }
    }

    /// What stands between commas after `SELECT`.
    pub(super) fn item(&self, expression: &Expression) -> Result<Item> {
        match &expression.kind {
            Some(ExpressionKind::Alias(alias)) => {
                let [name] = alias.names.as_slice() else {
                    return Err(Problem::unsupported("an alias of several names", "give each column its own alias"));
                };
                let nature = alias.expression.as_deref().map_or(Nature::Other, nature_of);
                Ok(Item::named(self.inner(alias.expression.as_deref())?, name).of(nature))
            }
            // A comment at its end must not hide what follows.
            Some(ExpressionKind::Text(text)) => Ok(Item::unnamed(format!("{}{}", text.text, line_end(&text.text)))),
            Some(ExpressionKind::Attribute(attribute)) => {
                let (name, plan) = (&attribute.name, attribute.plan_id);
                let text = self.column(name, plan)?;
                match names(name).as_slice() {
                    [one] if one != "*" => Ok(Item::column(text, one, self.plans_of(one, plan)?)),
                    [first, .., last] if last != "*" => {
                        let named = self.scopes.iter().filter(|scope| scope.is(first));
                        let plan_ids = named.flat_map(|scope| scope.plan_ids.iter().copied()).collect();
                        Ok(Item { plan_ids, name: Some(last.clone()), ..Item::unnamed(text) })
                    }
                    _ => Ok(Item::unnamed(text)),
                }
            }
            _ => {
                let text = self.text(expression)?;
                let shown = self.shown(&text);
                Ok(if shown == text { Item::unnamed(text) } else { Item::named(text, &shown.replace('`', "")) })
            }
        }
    }

    /// A text with the names that PySpark gives to columns, in the place of those they have here.
    fn shown(&self, text: &str) -> String {
        let mut shown = text.to_owned();
        for scope in self.scopes {
            for known in scope.known.iter().flatten().filter(|known| known.inner != known.name) {
                shown = shown.replace(&format!("{}.{}", scope.alias, quoted(&known.inner)), &quoted(&known.name));
            }
        }
        shown
    }

    /// An expression inside another one.
    pub(super) fn text(&self, expression: &Expression) -> Result<String> {
        let Some(kind) = &expression.kind else {
            return Err(Problem::unsupported("an expression of this kind", PYTHON));
        };
        match kind {
            ExpressionKind::Literal(value) => literal(value),
            ExpressionKind::Attribute(attribute) => self.column(&attribute.name, attribute.plan_id),
            ExpressionKind::Function(function) | ExpressionKind::Call(function) => self.function(function),
            ExpressionKind::Text(text) => Ok(format!("({}{})", text.text, line_end(&text.text))),
            ExpressionKind::Star(star) => match (&star.target, star.plan_id) {
                (Some(target), _) => Ok(format!("{}.*", parts(target.trim_end_matches(".*")).join("."))),
                (None, Some(plan)) if self.scopes.len() > 1 => Ok(format!("{}*", self.qualifier(Some(plan)))),
                (None, _) => Ok("*".to_owned()),
            },
            ExpressionKind::Alias(alias) => self.inner(alias.expression.as_deref()),
            ExpressionKind::Cast(cast) => self.cast(cast),
            ExpressionKind::SortOrder(order) => self.order(order),
            ExpressionKind::Window(window) => self.window(window),
            ExpressionKind::Extract(extract) => self.extract(extract),
            ExpressionKind::UserFunction(function) => {
                Err(Problem::unsupported(format!("the Python function '{}' (a UDF)", function.text), PYTHON))
            }
            other => Err(Problem::unsupported(name_of(other), PYTHON)),
        }
    }

    /// A key of `ORDER BY`.
    pub(super) fn order(&self, order: &SortOrder) -> Result<String> {
        let direction = if order.direction == 2 { "DESC" } else { "ASC" };
        let nulls = match (order.nulls, order.direction) {
            (1, _) => " NULLS FIRST",
            (2, _) => " NULLS LAST",
            _ => "",
        };
        Ok(format!("{} {direction}{nulls}", self.inner(order.child.as_deref())?))
    }

    /// What an expression is without its alias.
    pub(super) fn unnamed(&self, expression: &Expression) -> Result<String> {
        match &expression.kind {
            Some(ExpressionKind::Alias(alias)) => self.inner(alias.expression.as_deref()),
            _ => self.text(expression),
        }
    }

    pub(super) fn list(&self, expressions: &[Expression]) -> Result<Vec<String>> {
        expressions.iter().map(|expression| self.text(expression)).collect()
    }

    fn inner(&self, expression: Option<&Expression>) -> Result<String> {
        self.text(expression.ok_or_else(|| Problem::argument("an expression is missing in the plan"))?)
    }

    /// A column by its name, and by the plan that it is taken from.
    pub(super) fn column(&self, name: &str, plan: Option<i64>) -> Result<String> {
        if let Some(text) = self.stands_for.and_then(|stands_for| stands_for(name, plan)) {
            return Ok(text);
        }
        let (names, parts) = (names(name), parts(name));
        // `alias.name`, or a name with the names of fields behind it.
        for first in 0..names.len().min(2) {
            if let Some((scope, known)) = self.known(&names[..first], &names[first], plan)? {
                let mut path = vec![scope.alias.clone(), quoted(&known.inner)];
                path.extend_from_slice(&parts[first + 1..]);
                return Ok(path.join("."));
            }
        }
        Ok(format!("{}{}", self.qualifier(plan), parts.join(".")))
    }

    /// The column of that name in a relation that is made of several, by its alias or by the plan; none where the names say
    /// enough.
    fn known(&self, alias: &[String], name: &str, plan: Option<i64>) -> Result<Option<(&Scope, &Known)>> {
        let is = |known: &Known| known.name.eq_ignore_ascii_case(name);
        let is_alias = |scope: &Scope| alias.iter().all(|alias| scope.is(alias));
        let is_of_plan = |scope: &Scope| plan.is_some_and(|plan| scope.plan_ids.contains(&plan));
        let mut scopes: Vec<&Scope> = self.scopes.iter().filter(|scope| is_alias(scope)).collect();
        if scopes.iter().filter(|scope| is_of_plan(scope)).count() == 1 {
            scopes.retain(|scope| is_of_plan(scope));
        }
        let has_twins =
            |scope: &&Scope| scope.known.iter().flatten().any(|known| known.inner != known.name && is(known));
        let &[scope] = scopes.as_slice() else {
            // A name that means several columns of one relation is none of another's alone.
            return if scopes.iter().any(has_twins) { Err(ambiguous(name)) } else { Ok(None) };
        };
        let known = scope.known.iter().flatten().filter(|known| is(known));
        let named: Vec<&Known> = known.collect();
        let meant = |known: &&Known| plan.is_some_and(|plan| known.plan_ids.contains(&plan));
        let of_plan: Vec<&Known> = named.iter().copied().filter(meant).collect();
        let is_a_side = || plan.is_some_and(|plan| scope.sides.contains(&plan));
        match (of_plan.as_slice(), named.as_slice()) {
            (_, []) => Ok(None),
            ([one], _) => Ok(Some((scope, *one))),
            ([], _) if is_a_side() => Err(Problem::analysis(format!(
                "[CANNOT_RESOLVE_DATAFRAME_COLUMN] the column \"{name}\" of that DataFrame is not among the columns here"
            ))),
            ([], [one]) => Ok(Some((scope, *one))),
            _ => Err(ambiguous(name)),
        }
    }

    /// The plans by which a column can be meant.
    fn plans_of(&self, name: &str, plan: Option<i64>) -> Result<Vec<i64>> {
        if let Some((scope, known)) = self.known(&[], name, plan)? {
            return Ok(scope.plans_of(known));
        }
        let of_plan = |scope: &&Scope| plan.is_none_or(|plan| scope.plan_ids.contains(&plan));
        Ok(self.scopes.iter().filter(of_plan).flat_map(|scope| scope.plan_ids.iter().copied()).collect())
    }

    /// The side of a join that a plan is on, with a point; nothing where there is one relation, or where both are meant.
    fn qualifier(&self, plan: Option<i64>) -> String {
        let Some(plan) = plan.filter(|_| self.scopes.len() > 1) else { return String::new() };
        let mut among = self.scopes.iter().filter(|scope| scope.plan_ids.contains(&plan));
        match (among.next(), among.next()) {
            (Some(scope), None) => format!("{}.", scope.alias),
            _ => String::new(),
        }
    }

    fn function(&self, function: &Function) -> Result<String> {
        let arguments = self.list(&function.arguments)?;
        let name = function.name.as_str();
        let operator = BINARY.iter().find(|(python, _)| python.eq_ignore_ascii_case(name));
        if let (Some((_, operator)), [first, second]) = (operator, arguments.as_slice()) {
            let is_chain = matches!(*operator, "AND" | "OR")
                && function.arguments.first().is_some_and(|one| is_call(one, name))
                && first.matches(operator).count() % MAX_CHAIN != 0;
            let first = if is_chain { within_parentheses(first) } else { first };
            return Ok(format!("({first} {operator} {second})"));
        }
        Ok(match (name.to_ascii_lowercase().as_str(), arguments.as_slice()) {
            ("not" | "!", [value]) => format!("(NOT {value})"),
            ("negative", [value]) => format!("(- {value})"),
            ("~", [value]) => format!("(~ {value})"),
            ("isnull", [value]) => format!("({value} IS NULL)"),
            ("isnotnull", [value]) => format!("({value} IS NOT NULL)"),
            // No list is as empty as Python's. Spark says false, also of NULL.
            ("in", [_]) => "false".to_owned(),
            ("in", [value, choices @ ..]) => format!("({value} IN ({}))", choices.join(", ")),
            ("like", [value, pattern]) => format!("({value} LIKE {pattern})"),
            ("ilike", [value, pattern]) => format!("({value} ILIKE {pattern})"),
            ("when", cases) => case(cases),
            (plain, _) => {
                let distinct = if function.is_distinct { "DISTINCT " } else { "" };
                format!("{}({distinct}{})", function_name(plain)?, arguments.join(", "))
            }
        })
    }

    fn cast(&self, cast: &Cast) -> Result<String> {
        let to = match &cast.to {
            Some(CastTo::Text(text)) => type_word(text)?,
            Some(CastTo::Type(data_type)) => type_text(data_type)?,
            None => return Err(Problem::argument("a cast says no type")),
        };
        // The third mode is Spark's try_cast.
        let word = if cast.mode == 3 { "TRY_CAST" } else { "CAST" };
        Ok(format!("{word}({} AS {to})", self.inner(cast.expression.as_deref())?))
    }

    fn window(&self, window: &Window) -> Result<String> {
        let mut over = Vec::new();
        if !window.partitions.is_empty() {
            over.push(format!("PARTITION BY {}", self.list(&window.partitions)?.join(", ")));
        }
        if !window.orders.is_empty() {
            let orders = window.orders.iter().map(|order| self.order(order)).collect::<Result<Vec<_>>>()?;
            over.push(format!("ORDER BY {}", orders.join(", ")));
        }
        if let Some(frame) = &window.frame {
            let unit = if frame.kind == 1 { "ROWS" } else { "RANGE" };
            let lower = self.boundary(frame.lower.as_deref(), "PRECEDING")?;
            let upper = self.boundary(frame.upper.as_deref(), "FOLLOWING")?;
            over.push(format!("{unit} BETWEEN {lower} AND {upper}"));
        }
        Ok(format!("{} OVER ({})", self.inner(window.function.as_deref())?, over.join(" ")))
    }

    fn boundary(&self, boundary: Option<&Boundary>, side: &str) -> Result<String> {
        Ok(match boundary.and_then(|boundary| boundary.kind.as_ref()) {
            Some(BoundaryKind::CurrentRow(_)) => "CURRENT ROW".to_owned(),
            Some(BoundaryKind::Unbounded(_)) | None => format!("UNBOUNDED {side}"),
            // PySpark counts rows before the current one as negative.
            Some(BoundaryKind::Value(value)) => match whole_number(value) {
                Some(rows) if rows < 0 => format!("{} PRECEDING", rows.unsigned_abs()),
                _ => format!("{} FOLLOWING", self.text(value)?),
            },
        })
    }

    /// A field of a struct is a name after a point, which a map takes too.
    fn extract(&self, extract: &Extract) -> Result<String> {
        let child = self.inner(extract.child.as_deref())?;
        let key = extract.key.as_deref();
        let name = match key.and_then(|key| key.kind.as_ref()) {
            Some(ExpressionKind::Literal(Literal { kind: Some(LiteralKind::String(name)) })) => name,
            _ => return Ok(format!("{child}[{}]", self.inner(key)?)),
        };
        let is_name = child.ends_with('`');
        Ok(if is_name { format!("{child}.{}", quoted(name)) } else { format!("({child}).{}", quoted(name)) })
    }
}

fn is_call(expression: &Expression, name: &str) -> bool {
    matches!(&expression.kind, Some(ExpressionKind::Function(function)) if function.name.eq_ignore_ascii_case(name))
}

/// An operation without the parentheses around it.
fn within_parentheses(text: &str) -> &str {
    text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text)
}

fn ambiguous(name: &str) -> Problem {
    Problem::analysis(format!(
        "[AMBIGUOUS_REFERENCE] Reference `{name}` is ambiguous, there are several columns of that name\ntake it from the \
         DataFrame it belongs to, or rename one of them before the join"
    ))
}

fn whole_number(expression: &Expression) -> Option<i64> {
    let Some(ExpressionKind::Literal(literal)) = &expression.kind else { return None };
    match literal.kind {
        Some(LiteralKind::Integer(number)) => Some(i64::from(number)),
        Some(LiteralKind::Long(number)) => Some(number),
        _ => None,
    }
}

fn case(cases: &[String]) -> String {
    let mut text = "CASE".to_owned();
    for pair in cases.chunks(2) {
        match pair {
            [condition, value] => text.push_str(&format!(" WHEN {condition} THEN {value}")),
            [value] => text.push_str(&format!(" ELSE {value}")),
            _ => {}
        }
    }
    text + " END"
}

/// What ends the line of a text that may end with a comment.
fn line_end(text: &str) -> &'static str {
    if text.contains("--") { "\n" } else { "" }
}

/// The parts of a name, each in quotes.
pub(super) fn parts(name: &str) -> Vec<String> {
    names(name).iter().map(|part| if part == "*" { part.clone() } else { quoted(part) }).collect()
}

/// The parts of a name: points within backticks belong to a part.
pub(super) fn names(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for letter in name.chars() {
        match letter {
            '`' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            other => {
                if let Some(part) = parts.last_mut() {
                    part.push(other);
                }
            }
        }
    }
    parts
}

/// The name of a function: letters, for it stands in the query as it is.
fn function_name(name: &str) -> Result<&str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.bytes().all(is_word) {
        return Ok(name);
    }
    Err(Problem::unsupported(format!("the function '{name}'"), PYTHON))
}

/// A type's text, which stands in the query as it is.
fn type_word(text: &str) -> Result<String> {
    match highwater_engine::plan::ddl::parse_type(text) {
        Ok(data_type) => Ok(highwater_engine::plan::ddl::type_name(&data_type)),
        Err(error) => Err(Problem::analysis(error.to_string())),
    }
}

fn name_of(kind: &ExpressionKind) -> &'static str {
    match kind {
        ExpressionKind::Lambda(_) | ExpressionKind::LambdaVariable(_) => {
            "a Python lambda over the elements of a column"
        }
        ExpressionKind::Regex(_) => "colRegex",
        ExpressionKind::UpdateFields(_) => "withField and dropFields",
        ExpressionKind::NamedArgument(_) => "an argument by name",
        ExpressionKind::TypedAggregate(_) => "a typed aggregate",
        ExpressionKind::Subquery(_) => "a DataFrame as a subquery",
        _ => "an expression of this kind",
    }
}
