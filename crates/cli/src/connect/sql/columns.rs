//! Operations that choose, name, replace and drop columns.

use arrow::datatypes::DataType;
use highwater_engine::plan::ddl;

use super::super::problem::{Problem, Result};
use super::block::{Block, Item, Nature};
use super::layer::{self, nature_of};
use super::literal::literal;
use super::quoted;
use super::relation::{Writer, expressions};
use crate::spark_connect::messages::{
    Alias, DropColumns, DropNa, Expression, ExpressionKind, FillNa, Literal, LiteralKind, Relation, Rename, WithColumns,
};

/// A column of a block: how it is meant there, its name, and the plans it can be meant by.
pub(super) struct ColumnOf {
    pub(super) text: String,
    pub(super) name: String,
    /// Its type, where that was asked for.
    data_type: Option<DataType>,
    pub(super) plan_ids: Vec<i64>,
}

impl ColumnOf {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    fn is_floating(&self) -> bool {
        self.data_type.as_ref().is_some_and(DataType::is_floating)
    }

    pub(super) fn item(&self) -> Item {
        Item::column(self.text.clone(), &self.name, self.plan_ids.clone())
    }
}

impl Writer<'_> {
    /// The columns of a block, each as it is named there.
    pub(super) fn columns(&self, block: &Block) -> Result<Vec<ColumnOf>> {
        self.columns_as(block, false)
    }

    /// The same with their types.
    fn typed_columns(&self, block: &Block) -> Result<Vec<ColumnOf>> {
        self.columns_as(block, true)
    }

    fn columns_as(&self, block: &Block, with_types: bool) -> Result<Vec<ColumnOf>> {
        if !block.is_of_several() {
            let names = match block.scopes.as_slice() {
                [scope] if block.is_open() => scope.names.as_deref(),
                _ => None,
            };
            let column = |(name, data_type): (String, Option<DataType>)| ColumnOf {
                text: quoted(&name),
                name,
                data_type,
                plan_ids: block.plan_ids(),
            };
            let fields = self.fields(names.filter(|_| !with_types), || block.text())?;
            return Ok(fields.into_iter().map(column).collect());
        }
        let mut columns = Vec::new();
        for scope in &block.scopes {
            let text = || format!("SELECT * FROM {} AS {}", scope.source, scope.alias);
            let fields = self.fields(scope.names.as_deref().filter(|_| !with_types), text)?;
            columns.extend(fields.into_iter().map(|(inner, data_type)| {
                let text = format!("{}.{}", scope.alias, quoted(&inner));
                let known = scope.known.iter().flatten().find(|known| known.inner == inner);
                let name = known.map_or(&inner, |known| &known.name).clone();
                let plan_ids = known.map_or_else(|| scope.plan_ids.clone(), |known| scope.plans_of(known));
                ColumnOf { text, name, data_type, plan_ids }
            }));
        }
        Ok(columns)
    }

    /// Names and types: names that are known, or what the planner says of a query.
    fn fields(&self, known: Option<&[String]>, query: impl Fn() -> String) -> Result<Vec<(String, Option<DataType>)>> {
        if let Some(names) = known {
            return Ok(names.iter().map(|name| (name.clone(), None)).collect());
        }
        let fields = self.names.columns(&self.steps.with(query()))?;
        Ok(fields.into_iter().map(|field| (field.name().clone(), Some(field.data_type().clone()))).collect())
    }

    /// What is chosen of a block.
    pub(super) fn items(&self, block: &Block, list: &[Expression]) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for expression in list {
            match &expression.kind {
                Some(ExpressionKind::Star(star)) if block.is_of_several() => {
                    let meant = |column: &&ColumnOf| star.plan_id.is_none_or(|plan| column.plan_ids.contains(&plan));
                    let alias = star.target.as_deref().map(|target| target.trim_end_matches(".*"));
                    let of = |column: &&ColumnOf| {
                        alias.is_none_or(|alias| column.text.starts_with(&format!("{}.", quoted(alias))))
                    };
                    let columns = self.columns(block)?;
                    items.extend(columns.iter().filter(meant).filter(of).map(ColumnOf::item));
                }
                _ => items.push(expressions(block).item(expression)?),
            }
        }
        Ok(items)
    }

    pub(super) fn with_columns(&self, with: &WithColumns) -> Result<Block> {
        let below = self.input(with.input.as_deref())?;
        if let Some(block) = layer::with_added(&below, &with.aliases)? {
            return Ok(block);
        }
        let mut block = self.opened(below)?;
        let mut added: Vec<(&str, Item)> = Vec::new();
        for alias in &with.aliases {
            let (name, item) = aliased(&block, alias)?;
            added.push((name, item));
        }
        let columns = self.columns(&block)?;
        let is_there = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let kept = columns.iter().map(|column| {
            let new = added.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
            new.map_or_else(|| column.item(), |(_, item)| item.clone())
        });
        let new = added.iter().filter(|(name, _)| !is_there(name)).map(|(_, item)| item.clone());
        block.select = Some(kept.chain(new).collect());
        Ok(block)
    }

    pub(super) fn renamed_all(&self, input: Option<&Relation>, names: &[String]) -> Result<Block> {
        let mut block = self.open(input)?;
        let columns = self.columns(&block)?;
        if columns.len() != names.len() {
            return Err(Problem::argument(format!("toDF has {} names for {} columns", names.len(), columns.len())));
        }
        let items =
            columns.into_iter().zip(names).map(|(column, name)| Item::named(column.text, name).of(Nature::Plain));
        block.select = Some(items.collect());
        Ok(block)
    }

    pub(super) fn rename(&self, rename: &Rename) -> Result<Block> {
        let mut pairs: Vec<(&str, &str)> =
            rename.renames.iter().map(|pair| (pair.from.as_str(), pair.to.as_str())).collect();
        pairs.extend(rename.map.iter().map(|(from, to)| (from.as_str(), to.as_str())));
        let new_name =
            |name: &str| pairs.iter().find(|(from, _)| from.eq_ignore_ascii_case(name)).map(|(_, to)| (*to).to_owned());
        let below = self.input(rename.input.as_deref())?;
        if let Some(block) = layer::renamed(&below, new_name) {
            return Ok(block);
        }
        let mut block = self.opened(below)?;
        let items = self.columns(&block)?.into_iter().map(|column| match new_name(&column.name) {
            Some(new) => Item::named(column.text, &new).of(Nature::Plain),
            None => column.item(),
        });
        block.select = Some(items.collect());
        Ok(block)
    }

    /// Columns that are not there are none to drop, as in Spark.
    pub(super) fn drop_columns(&self, drop: &DropColumns) -> Result<Block> {
        let below = self.input(drop.input.as_deref())?;
        let is_dropped = |item: &Item| drop.names.iter().any(|name| item.is(name));
        if drop.columns.is_empty()
            && let Some(block) = layer::without(&below, is_dropped)
        {
            return Ok(block);
        }
        let mut block = self.opened(below)?;
        let columns = self.columns(&block)?;
        let mut dropped: Vec<(String, Option<i64>)> = drop.names.iter().map(|name| (name.clone(), None)).collect();
        for column in &drop.columns {
            let Some(ExpressionKind::Attribute(attribute)) = &column.kind else {
                return Err(Problem::unsupported("drop of an expression", "name the columns to drop"));
            };
            // One side's column where a side is meant.
            let is_a_side = |plan: &i64| block.is_of_several() && columns.iter().any(|one| one.plan_ids.contains(plan));
            dropped.push((attribute.name.trim_matches('`').to_owned(), attribute.plan_id.filter(is_a_side)));
        }
        let is_dropped = |column: &&ColumnOf| {
            dropped.iter().any(|(name, plan)| {
                name.eq_ignore_ascii_case(&column.name) && plan.is_none_or(|plan| column.plan_ids.contains(&plan))
            })
        };
        let kept: Vec<Item> = columns.iter().filter(|column| !is_dropped(column)).map(ColumnOf::item).collect();
        if kept.is_empty() {
            return Err(Problem::unsupported("a DataFrame without columns", "keep one of them"));
        }
        block.select = Some(kept);
        Ok(block)
    }

    pub(super) fn fill(&self, fill: &FillNa) -> Result<Block> {
        let mut block = self.open(fill.input.as_deref())?;
        let columns = self.typed_columns(&block)?;
        let named = |column: &ColumnOf| fill.columns.iter().position(|name| name.eq_ignore_ascii_case(&column.name));
        if let Some(stranger) = fill.columns.iter().find(|name| !columns.iter().any(|column| column.is(name))) {
            return Err(unknown_column(stranger, &columns));
        }
        let value_of = |column: &ColumnOf| match fill.values.as_slice() {
            // One value is for the columns of its own kind.
            [value] => {
                let is_named = fill.columns.is_empty() || named(column).is_some();
                (is_named && column.data_type.as_ref().is_some_and(|own| is_of_kind(value, own))).then_some(value)
            }
            values => values.get(named(column)?),
        };
        let item = |column: &ColumnOf| -> Result<Item> {
            let (Some(value), Some(data_type)) = (value_of(column), &column.data_type) else {
                return Ok(column.item());
            };
            let (data_type, value) = (ddl::type_name(data_type), literal(value)?);
            let present = if column.is_floating() {
                format!("(CASE WHEN isnan({0}) THEN NULL ELSE {0} END)", column.text)
            } else {
                column.text.clone()
            };
            let text = format!("coalesce({present}, CAST({value} AS {data_type}))");
            Ok(Item::named(text, &column.name).of(Nature::Plain))
        };
        block.select = Some(columns.iter().map(item).collect::<Result<_>>()?);
        Ok(block)
    }

    /// What is not a number is as good as missing, as in Spark.
    pub(super) fn drop_nulls(&self, drop: &DropNa) -> Result<Block> {
        let mut block = self.open(drop.input.as_deref())?;
        let columns = self.typed_columns(&block)?;
        if let Some(stranger) = drop.columns.iter().find(|name| !columns.iter().any(|column| column.is(name))) {
            return Err(unknown_column(stranger, &columns));
        }
        let is_looked_at =
            |column: &&ColumnOf| drop.columns.is_empty() || drop.columns.iter().any(|name| column.is(name));
        let looked_at: Vec<&ColumnOf> = columns.iter().filter(is_looked_at).collect();
        let present = looked_at.iter().map(|column| {
            let nan = if column.is_floating() { format!(" OR isnan({})", column.text) } else { String::new() };
            format!("(CASE WHEN {} IS NULL{nan} THEN 0 ELSE 1 END)", column.text)
        });
        let least = drop.min_non_nulls.map_or(looked_at.len(), |least| usize::try_from(least).unwrap_or(0));
        block.filters.push(format!("({} >= {least})", present.collect::<Vec<_>>().join(" + ")));
        Ok(block)
    }
}

/// Whether a value that is put in the place of nulls is for columns of that type.
fn is_of_kind(value: &Literal, data_type: &DataType) -> bool {
    match value.kind {
        Some(LiteralKind::String(_)) => data_type.is_string(),
        Some(LiteralKind::Boolean(_)) => matches!(data_type, DataType::Boolean),
        _ => data_type.is_numeric(),
    }
}

fn unknown_column(name: &str, columns: &[ColumnOf]) -> Problem {
    let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    Problem::analysis(format!(
        "[UNRESOLVED_COLUMN.WITH_SUGGESTION] A column with name `{name}` cannot be resolved\nthere are: {}",
        known.join(", ")
    ))
}

/// A column with its new name, as an item of `SELECT`.
fn aliased<'a>(block: &Block, alias: &'a Alias) -> Result<(&'a str, Item)> {
    let ([name], Some(expression)) = (alias.names.as_slice(), alias.expression.as_deref()) else {
        return Err(Problem::unsupported("a column with several names", "give each column its own name"));
    };
    Ok((name, Item::named(expressions(block).text(expression)?, name).of(nature_of(expression))))
}
