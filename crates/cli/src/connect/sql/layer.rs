//! Operations on a `SELECT` that chooses columns already, taken into it.
//!
//! ```text
//!   SELECT a, b + 1 AS c FROM t     withColumn("d", col("c") * 2)
//!   SELECT a, (b + 1) AS c, ((b + 1) * 2) AS d FROM t
//! ```
//!
//! PySpark programs add columns in loops, and a subquery for each is a tower that is slow to plan, or too high for it. Taken in
//! is only what means the same there: what depends on nothing but its row, and is the same each time it is computed. So names
//! can stand for what they were made of, in conditions of `WHERE`, too. Functions over windows may stand beside such columns,
//! but nothing is made of them here. What grows too large is not taken in; neither is text of the user's, which may name
//! anything.

use super::super::problem::Result;
use super::block::{Block, Item, Nature, Scope};
use super::expression::{Expressions, names};
use super::quoted;
use super::step::nesting;
use crate::spark_connect::messages::{Alias, Expression, ExpressionKind, Function};

/// How deep parentheses of an item may stand in each other, and how deep `CASE`: the planner takes a few more of both.
const MAX_PARENTHESES: usize = 12;
const MAX_CASES: usize = 4;

/// How long the text of an item may be: where a name stands more than once for a long text, it doubles with each operation.
const MAX_TEXT_BYTES: usize = 4096;

/// Functions of one row that are the same each time. What is not here is chosen in a `SELECT` of its own.
const PLAIN: &[&str] = &[
    "!",
    "!=",
    "%",
    "&",
    "*",
    "+",
    "-",
    "/",
    "<",
    "<=",
    "<=>",
    "=",
    "==",
    ">",
    ">=",
    "^",
    "abs",
    "acos",
    "add_months",
    "and",
    "array",
    "array_contains",
    "ascii",
    "asin",
    "atan",
    "atan2",
    "base64",
    "between",
    "bround",
    "cbrt",
    "ceil",
    "ceiling",
    "char_length",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "cos",
    "cosh",
    "create_map",
    "date_add",
    "date_format",
    "date_sub",
    "date_trunc",
    "datediff",
    "day",
    "dayofmonth",
    "dayofweek",
    "dayofyear",
    "degrees",
    "div",
    "e",
    "endswith",
    "exp",
    "expm1",
    "floor",
    "format_string",
    "from_unixtime",
    "get_json_object",
    "greatest",
    "hash",
    "hex",
    "hour",
    "if",
    "ifnull",
    "ilike",
    "in",
    "initcap",
    "instr",
    "isnan",
    "isnotnull",
    "isnull",
    "last_day",
    "lcase",
    "least",
    "left",
    "length",
    "levenshtein",
    "like",
    "ln",
    "locate",
    "log",
    "log10",
    "log1p",
    "log2",
    "lower",
    "lpad",
    "ltrim",
    "map",
    "md5",
    "minute",
    "mod",
    "month",
    "months_between",
    "named_struct",
    "nanvl",
    "negative",
    "not",
    "nullif",
    "nvl",
    "nvl2",
    "or",
    "overlay",
    "pi",
    "pmod",
    "pow",
    "power",
    "quarter",
    "radians",
    "regexp_extract",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rint",
    "rlike",
    "round",
    "rpad",
    "rtrim",
    "second",
    "sha1",
    "sha2",
    "shiftleft",
    "shiftright",
    "sign",
    "signum",
    "sin",
    "sinh",
    "size",
    "split",
    "split_part",
    "sqrt",
    "startswith",
    "substr",
    "substring",
    "substring_index",
    "tan",
    "tanh",
    "to_date",
    "to_timestamp",
    "translate",
    "trim",
    "trunc",
    "ucase",
    "unbase64",
    "unhex",
    "upper",
    "weekday",
    "weekofyear",
    "when",
    "xxhash64",
    "year",
    "|",
    "~",
];

/// Columns with new ones among them or behind them.
pub(super) fn with_added(block: &Block, aliases: &[Alias]) -> Result<Option<Block>> {
    let Some(layer) = Layer::of(block) else { return Ok(None) };
    let mut added: Vec<(&str, Item)> = Vec::new();
    for alias in aliases {
        let ([name], Some(expression)) = (alias.names.as_slice(), alias.expression.as_deref()) else { return Ok(None) };
        let Some(item) = layer.computed(name, expression)? else { return Ok(None) };
        added.push((name, item));
    }
    let kept = layer.items.iter().map(|item| {
        let new = added.iter().find(|(name, _)| item.is(name));
        new.map_or_else(|| layer.kept(item), |(_, new)| new.clone())
    });
    let is_there = |name: &str| layer.items.iter().any(|item| item.is(name));
    let new = added.iter().filter(|(name, _)| !is_there(name)).map(|(_, item)| item.clone());
    Ok(Some(layer.with(kept.chain(new).collect())))
}

/// Columns and expressions with names.
pub(super) fn chosen(block: &Block, expressions: &[Expression]) -> Result<Option<Block>> {
    let Some(layer) = Layer::of(block) else { return Ok(None) };
    let mut items = Vec::new();
    for expression in expressions {
        match &expression.kind {
            Some(ExpressionKind::Star(star)) if star.target.is_none() && star.plan_id.is_none() => {
                items.extend(layer.items.iter().map(|item| layer.kept(item)));
            }
            Some(ExpressionKind::Attribute(attribute)) => match names(&attribute.name).as_slice() {
                [name] => {
                    let Some(item) = layer.item(name, attribute.plan_id) else { return Ok(None) };
                    // The name is the one that is asked for, where it differs in case.
                    let alias = (item.text != quoted(name)).then(|| name.clone());
                    items.push(Item { alias, name: Some(name.clone()), ..layer.kept(item) });
                }
                _ => return Ok(None),
            },
            Some(ExpressionKind::Alias(alias)) => {
                let ([name], Some(inner)) = (alias.names.as_slice(), alias.expression.as_deref()) else {
                    return Ok(None);
                };
                let Some(item) = layer.computed(name, inner)? else { return Ok(None) };
                items.push(item);
            }
            _ => return Ok(None),
        }
    }
    Ok((!items.is_empty()).then(|| layer.with(items)))
}

/// The rows of which a condition is true.
pub(super) fn filtered(block: &Block, condition: &Expression) -> Result<Option<Block>> {
    let Some(layer) = Layer::of(block) else { return Ok(None) };
    // What a window sees are the rows before the condition.
    if layer.items.iter().any(|item| item.nature != Nature::Plain) {
        return Ok(None);
    }
    let Some((text, Nature::Plain)) = layer.text(condition)? else { return Ok(None) };
    let mut block = block.clone();
    block.filters.push(text);
    Ok(Some(block))
}

/// The same columns under the names that `name` gives them.
pub(super) fn renamed(block: &Block, name: impl Fn(&str) -> Option<String>) -> Option<Block> {
    let layer = Layer::of(block)?;
    let renamed = |item: &Item| match item.name.as_deref().and_then(&name) {
        // Who knows the DataFrame below knows the column by another name.
        Some(new) => Item { plan_ids: Vec::new(), alias: Some(new.clone()), name: Some(new), ..item.clone() },
        None => layer.kept(item),
    };
    Some(layer.with(layer.items.iter().map(renamed).collect()))
}

/// The columns but for some.
pub(super) fn without(block: &Block, is_dropped: impl Fn(&Item) -> bool) -> Option<Block> {
    let layer = Layer::of(block)?;
    let kept: Vec<Item> = layer.items.iter().filter(|item| !is_dropped(item)).map(|item| layer.kept(item)).collect();
    (!kept.is_empty()).then(|| layer.with(kept))
}

/// Whether an expression over the columns of a relation is of its row alone.
pub(super) fn nature_of(expression: &Expression) -> Nature {
    nature(expression, &|_, _| Nature::Plain)
}

/// A `SELECT` whose columns can stand for what they are made of.
struct Layer<'a> {
    block: &'a Block,
    items: &'a [Item],
    scope: &'a Scope,
}

impl<'a> Layer<'a> {
    fn of(block: &'a Block) -> Option<Self> {
        let (Some(items), [scope]) = (block.select.as_deref(), block.scopes.as_slice()) else { return None };
        let is_clear = |item: &Item| {
            let name = item.name.as_deref();
            item.nature != Nature::Other
                && name.is_some_and(|name| items.iter().filter(|other| other.is(name)).count() == 1)
        };
        let is_choice = block.distinct.is_empty() && block.rest.is_empty();
        (is_choice && items.iter().all(is_clear)).then_some(Self { block, items, scope })
    }

    fn with(&self, items: Vec<Item>) -> Block {
        Block { select: Some(items), ..self.block.clone() }
    }

    /// The column of a name, unless a side of a join is meant that it is not of.
    fn item(&self, name: &str, plan: Option<i64>) -> Option<&'a Item> {
        let item = self.items.iter().find(|item| item.is(name))?;
        let is_of_another = plan.is_some_and(|plan| self.scope.sides.contains(&plan) && !item.plan_ids.contains(&plan));
        (!is_of_another).then_some(item)
    }

    /// A column that stays; the DataFrames that were made since have it, too.
    fn kept(&self, item: &Item) -> Item {
        let of_all = self.scope.plan_ids.iter().filter(|plan| !self.scope.sides.contains(plan));
        let mut plan_ids = item.plan_ids.clone();
        plan_ids.extend(of_all.filter(|plan| !item.plan_ids.contains(plan)));
        Item { plan_ids, ..item.clone() }
    }

    fn computed(&self, name: &str, expression: &Expression) -> Result<Option<Item>> {
        let Some((text, nature)) = self.text(expression)? else { return Ok(None) };
        Ok(Some(Item { nature, ..Item::named(text, name) }))
    }

    /// An expression over what the columns are made of; none if it cannot be said so, or becomes too large.
    fn text(&self, expression: &Expression) -> Result<Option<(String, Nature)>> {
        let of_column = |name: &str, plan: Option<i64>| match names(name).as_slice() {
            [name] => self.item(name, plan).map_or(Nature::Other, |item| item.nature),
            _ => Nature::Other,
        };
        // Of a window nothing is made in the `SELECT` that has it.
        let plain = |name: &str, plan: Option<i64>| match of_column(name, plan) {
            Nature::Plain => Nature::Plain,
            _ => Nature::Other,
        };
        let nature = nature(expression, &plain);
        if nature == Nature::Other {
            return Ok(None);
        }
        let stands_for = |name: &str, plan: Option<i64>| {
            let item = self.item(names(name).first()?, plan)?;
            let is_name = item.text.ends_with('`') || item.text.ends_with(')');
            Some(if is_name { item.text.clone() } else { format!("({})", item.text) })
        };
        let text = Expressions { scopes: &self.block.scopes, stands_for: Some(&stands_for) }.unnamed(expression)?;
        let (parentheses, cases) = nesting(&text);
        let is_small = text.len() <= MAX_TEXT_BYTES && parentheses <= MAX_PARENTHESES && cases <= MAX_CASES;
        Ok(is_small.then_some((text, nature)))
    }
}

fn nature(expression: &Expression, of_column: &dyn Fn(&str, Option<i64>) -> Nature) -> Nature {
    let inner = |expression: Option<&Expression>| expression.map_or(Nature::Other, |inner| nature(inner, of_column));
    let all = |list: &[Expression]| list.iter().map(|one| nature(one, of_column)).max().unwrap_or(Nature::Plain);
    match &expression.kind {
        Some(ExpressionKind::Literal(_)) => Nature::Plain,
        Some(ExpressionKind::Attribute(attribute)) => of_column(&attribute.name, attribute.plan_id),
        Some(ExpressionKind::Function(function) | ExpressionKind::Call(function)) if is_plain(function) => {
            all(&function.arguments)
        }
        Some(ExpressionKind::Alias(alias)) => inner(alias.expression.as_deref()),
        Some(ExpressionKind::Cast(cast)) => inner(cast.expression.as_deref()),
        Some(ExpressionKind::SortOrder(order)) => inner(order.child.as_deref()),
        Some(ExpressionKind::Extract(extract)) => inner(extract.child.as_deref()).max(inner(extract.key.as_deref())),
        Some(ExpressionKind::Window(window)) => {
            let over = match window.function.as_deref().and_then(|function| function.kind.as_ref()) {
                Some(ExpressionKind::Function(function)) => all(&function.arguments),
                _ => Nature::Other,
            };
            let orders = window.orders.iter().map(|order| inner(order.child.as_deref())).max();
            let of_all = over.max(all(&window.partitions)).max(orders.unwrap_or(Nature::Plain));
            if of_all == Nature::Plain { Nature::Window } else { Nature::Other }
        }
        _ => Nature::Other,
    }
}

fn is_plain(function: &Function) -> bool {
    !function.is_distinct && PLAIN.contains(&function.name.to_ascii_lowercase().as_str())
}
