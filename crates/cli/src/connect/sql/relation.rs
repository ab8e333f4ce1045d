//! Relations as `SELECT`s.

use std::cell::Cell;

use super::super::problem::{Problem, Result};
use super::block::{Block, Scope};
use super::expression::Expressions;
use super::literal::{literal, quoted_text};
use super::{Names, quoted, read};
use crate::spark_connect::messages::{
    Aggregate, Alias, Deduplicate, DropColumns, DropNa, Expression, ExpressionKind, FillNa, Join, LiteralKind, Project,
    Range, Relation, RelationKind, Rename, SetOperation, Sort, Sql, WithColumns, WithWatermark,
};

const PYTHON: &str = "use columns, expr(...) and spark.sql, or run this program on Spark itself";

/// How deep relations may stand in each other: they come from anyone, and are read with a stack.
const MAX_DEPTH: usize = 100;

/// How many numbers of a range are made as one array.
const ONE_SEQUENCE: i128 = 10_000_000;

/// Writes one plan.
pub(super) struct Writer<'a> {
    names: &'a dyn Names,
    aliases: Cell<usize>,
    depth: Cell<usize>,
}

/// A column of a block: how it is meant there, its name, and the place of its relation.
struct ColumnOf {
    text: String,
    name: String,
    scope: Option<usize>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(names: &'a dyn Names) -> Self {
        Self { names, aliases: Cell::new(0), depth: Cell::new(0) }
    }

    /// The `SELECT` of a relation.
    pub(super) fn block(&self, relation: &Relation) -> Result<Block> {
        if self.depth.get() >= MAX_DEPTH {
            return Err(Problem::argument(format!("the plan is deeper than {MAX_DEPTH} relations")));
        }
        self.depth.set(self.depth.get() + 1);
        let written = self.written(relation);
        self.depth.set(self.depth.get() - 1);
        let mut block = written?;
        // Whoever names this DataFrame means what its block gives; of a join only what comes from one side.
        if let Some(plan) = relation.common.as_ref().and_then(|common| common.plan_id)
            && let [scope] = block.scopes.as_mut_slice()
        {
            scope.plan_ids.push(plan);
        }
        Ok(block)
    }

    fn written(&self, relation: &Relation) -> Result<Block> {
        let Some(kind) = &relation.kind else {
            return Err(Problem::unsupported("a relation of this kind", PYTHON));
        };
        match kind {
            RelationKind::Read(read) => Ok(self.relation(&read::source(read, self.names)?, Vec::new())),
            RelationKind::Local(rows) => Ok(self.relation(&quoted(&self.names.keep_rows(rows)?), Vec::new())),
            RelationKind::Sql(sql) => self.sql(sql),
            RelationKind::Range(range) => self.range(range),
            RelationKind::Project(project) => self.project(project),
            RelationKind::Filter(filter) => {
                let mut block = self.open(filter.input.as_deref())?;
                let condition = filter.condition.as_ref().ok_or_else(missing)?;
                let text = expressions(&block).text(condition)?;
                block.filters.push(text);
                Ok(block)
            }
            RelationKind::Join(join) => self.join(join),
            RelationKind::SetOperation(operation) => self.set_operation(operation),
            RelationKind::Sort(sort) => self.sort(sort),
            RelationKind::Limit(limit) => self.limited(limit.input.as_deref(), &format!(" LIMIT {}", limit.rows)),
            RelationKind::Offset(offset) => {
                let block = self.subquery(offset.input.as_deref())?;
                Ok(Block { rest: format!(" OFFSET {}", offset.rows), ..block })
            }
            RelationKind::Aggregate(aggregate) => self.aggregate(aggregate),
            RelationKind::Deduplicate(deduplicate) => self.deduplicate(deduplicate),
            RelationKind::SubqueryAlias(alias) => {
                let block = self.input(alias.input.as_deref())?;
                Ok(Block::of(&format!("({})", block.text()), &quoted(&alias.alias), block.plan_ids()))
            }
            RelationKind::Repartition(over) | RelationKind::RepartitionBy(over) | RelationKind::Hint(over) => {
                self.input(over.input.as_deref())
            }
            RelationKind::WithRelations(with) => self.input(with.root.as_deref()),
            RelationKind::WithColumns(with) => self.with_columns(with),
            RelationKind::ToDf(to_df) => self.renamed_all(to_df.input.as_deref(), &to_df.names),
            RelationKind::Rename(rename) => self.rename(rename),
            RelationKind::Drop(drop) => self.drop_columns(drop),
            RelationKind::WithWatermark(watermark) => self.watermark(watermark),
            RelationKind::FillNa(fill) => self.fill(fill),
            RelationKind::DropNa(drop) => self.drop_nulls(drop),
            RelationKind::Tail(_) | RelationKind::ShowString(_) | RelationKind::HtmlString(_) => {
                Err(Problem::unsupported("tail or show inside of another DataFrame", "use it last"))
            }
            other => Err(Problem::unsupported(name_of(other), PYTHON)),
        }
    }

    fn input(&self, relation: Option<&Relation>) -> Result<Block> {
        self.block(relation.ok_or_else(missing)?)
    }

    /// The relation as a block in which columns can still be chosen.
    fn open(&self, relation: Option<&Relation>) -> Result<Block> {
        let block = self.input(relation)?;
        if block.is_open() { Ok(block) } else { Ok(self.nested(&block)) }
    }

    /// The relation as a subquery of a block in which nothing is said yet.
    fn subquery(&self, relation: Option<&Relation>) -> Result<Block> {
        let block = self.input(relation)?;
        if block.is_bare() { Ok(block) } else { Ok(self.nested(&block)) }
    }

    fn nested(&self, block: &Block) -> Block {
        self.relation(&format!("({})", block.text()), block.plan_ids())
    }

    fn relation(&self, source: &str, plan_ids: Vec<i64>) -> Block {
        self.aliases.set(self.aliases.get() + 1);
        Block::of(source, &format!("__t{}", self.aliases.get()), plan_ids)
    }

    fn sql(&self, sql: &Sql) -> Result<Block> {
        let given = sql.args.len() + sql.pos_args.len() + sql.named_arguments.len() + sql.pos_arguments.len();
        if given > 0 {
            return Err(Problem::unsupported("spark.sql with args", "write the values into the text of the query"));
        }
        // On a line of its own, for the text may end with a comment.
        let text = sql.query.trim().trim_end_matches(';');
        Ok(self.relation(&format!("({text}\n)"), Vec::new()))
    }

    fn range(&self, range: &Range) -> Result<Block> {
        let (start, step) = (range.start.unwrap_or(0), range.step);
        if step == 0 {
            return Err(Problem::argument("the step of a range is 0, expected another number"));
        }
        let rows = (i128::from(range.end) - i128::from(start)) / i128::from(step);
        let exact = rows * i128::from(step) + i128::from(start) == i128::from(range.end);
        let last =
            if exact { i128::from(range.end) - i128::from(step) } else { i128::from(start) + rows * i128::from(step) };
        let is_empty = if step > 0 { range.end <= start } else { range.end >= start };
        let count = (last - i128::from(start)) / i128::from(step) + 1;
        let text = if is_empty {
            "(SELECT CAST(0 AS BIGINT) AS id WHERE false)".to_owned()
        } else if count > ONE_SEQUENCE {
            long_range(start, step, count)
        } else {
            format!(
                "(SELECT explode(sequence(CAST({start} AS BIGINT), CAST({last} AS BIGINT), CAST({step} AS BIGINT))) AS id)"
            )
        };
        Ok(self.relation(&text, Vec::new()))
    }

    fn project(&self, project: &Project) -> Result<Block> {
        let Some(input) = project.input.as_deref() else {
            let items = items(&Block::default(), &project.expressions)?;
            return Ok(self.nested(&Block { select: Some(items.join(", ")), ..Block::default() }));
        };
        let mut block = self.open(Some(input))?;
        // SQL has no rows without columns, which `isEmpty` asks for: one that nobody reads stands for none.
        let items = items(&block, &project.expressions)?;
        block.select = Some(if items.is_empty() { "NULL AS `__none`".to_owned() } else { items.join(", ") });
        Ok(block)
    }

    fn join(&self, join: &Join) -> Result<Block> {
        let side = |relation: Option<&Relation>| -> Result<Block> {
            let block = self.input(relation)?;
            let is_join = block.is_open() && block.filters.is_empty();
            if is_join { Ok(block) } else { Ok(self.nested(&block)) }
        };
        let left = side(join.left.as_deref())?;
        // Only the left side may stay a join: joins associate to the left.
        let right = self.subquery(join.right.as_deref())?;
        let words = match join.join_type {
            0 | 1 => "JOIN",
            2 => "FULL OUTER JOIN",
            3 => "LEFT OUTER JOIN",
            4 => "RIGHT OUTER JOIN",
            5 => "LEFT ANTI JOIN",
            6 => "LEFT SEMI JOIN",
            7 => "CROSS JOIN",
            other => return Err(Problem::unsupported(format!("the join type {other}"), PYTHON)),
        };
        let one_side = matches!(join.join_type, 5 | 6);
        let mut scopes: Vec<Scope> = left.scopes.iter().chain(&right.scopes).cloned().collect();
        let (from, to) = (left.from.as_deref().unwrap_or_default(), right.from.as_deref().unwrap_or_default());
        let on = match (&join.condition, join.using.as_slice()) {
            (Some(condition), _) => format!(" ON {}", Expressions { scopes: &scopes }.text(condition)?),
            (None, []) => String::new(),
            (None, using) => {
                let columns: Vec<String> = using.iter().map(|name| quoted(name)).collect();
                format!(" USING ({})", columns.join(", "))
            }
        };
        let words = if on.is_empty() && join.join_type <= 1 { "CROSS JOIN" } else { words };
        let from = format!("{from} {words} {to}{on}");
        if one_side {
            scopes = left.scopes;
        }
        let block = Block { from: Some(from), scopes, ..Block::default() };
        // Columns of USING are there once: both sides are one relation from here on.
        if join.using.is_empty() { Ok(block) } else { Ok(self.nested(&block)) }
    }

    fn set_operation(&self, operation: &SetOperation) -> Result<Block> {
        let word = match operation.kind {
            1 => "INTERSECT",
            2 => "UNION",
            3 => "EXCEPT",
            other => return Err(Problem::unsupported(format!("the set operation {other}"), PYTHON)),
        };
        let left = self.input(operation.left.as_deref())?;
        let mut right = self.input(operation.right.as_deref())?;
        if operation.by_name == Some(true) {
            right = self.in_order_of(&left, right, operation.allow_missing == Some(true))?;
        }
        if operation.kind != 2 && operation.is_all == Some(true) {
            return self.counted_set_operation(word, &left, &right);
        }
        let all = if operation.is_all == Some(true) { " ALL" } else { "" };
        let both = |block: &Block| {
            if block.rest.is_empty() { block.text() } else { self.nested(block).text() }
        };
        Ok(self.relation(&format!("({} {word}{all} {})", both(&left), both(&right)), Vec::new()))
    }

    /// `INTERSECT ALL` and `EXCEPT ALL` count how often a row is there: its copies are numbered, which makes each of them
    /// another row.
    fn counted_set_operation(&self, word: &str, left: &Block, right: &Block) -> Result<Block> {
        let columns = |block: &Block| -> Result<String> {
            let names = self.names.columns(&block.text())?;
            Ok(names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", "))
        };
        let numbered = |block: &Block, columns: &str| {
            let number = format!("row_number() OVER (PARTITION BY {columns} ORDER BY {columns}) AS __row");
            Block { select: Some(format!("{columns}, {number}")), ..self.nested(block) }.text()
        };
        let (left_columns, right_columns) = (columns(left)?, columns(right)?);
        let both = format!("({} {word} {})", numbered(left, &left_columns), numbered(right, &right_columns));
        Ok(Block { select: Some(left_columns), ..self.relation(&both, Vec::new()) })
    }

    /// The columns of `right` in the order of those of `left`.
    fn in_order_of(&self, left: &Block, right: Block, may_miss: bool) -> Result<Block> {
        if may_miss {
            return Err(Problem::unsupported(
                "unionByName with allowMissingColumns",
                "add the missing columns with withColumn(name, lit(None)) first",
            ));
        }
        let columns = self.names.columns(&left.text())?;
        let items: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
        Ok(Block { select: Some(items.join(", ")), ..self.nested(&right) })
    }

    fn sort(&self, sort: &Sort) -> Result<Block> {
        let mut block = self.open(sort.input.as_deref())?;
        let orders = sort.orders.iter().map(|order| expressions(&block).order(order)).collect::<Result<Vec<_>>>()?;
        block.rest = format!(" ORDER BY {}", orders.join(", "));
        Ok(block)
    }

    /// A `LIMIT` belongs to the order below it.
    fn limited(&self, input: Option<&Relation>, limit: &str) -> Result<Block> {
        let mut block = self.input(input)?;
        if block.rest.contains(" LIMIT ") || block.rest.contains(" OFFSET ") {
            block = self.nested(&block);
        }
        block.rest.push_str(limit);
        Ok(block)
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Block> {
        let mut block = self.open(aggregate.input.as_deref())?;
        let mut selected = items(&block, &aggregate.groups)?;
        selected.extend(items(&block, &aggregate.aggregates)?);
        let keys = aggregate.groups.iter().map(|group| expressions(&block).unnamed(group));
        let keys = keys.collect::<Result<Vec<_>>>()?.join(", ");
        block.rest = match aggregate.group_type {
            _ if aggregate.groups.is_empty() => String::new(),
            0 | 1 => format!(" GROUP BY {keys}"),
            2 => format!(" GROUP BY ROLLUP({keys})"),
            3 => format!(" GROUP BY CUBE({keys})"),
            _ => return Err(Problem::unsupported("pivot and groupingSets", "write them with spark.sql: PIVOT (...)")),
        };
        block.select = Some(selected.join(", "));
        Ok(block)
    }

    fn deduplicate(&self, deduplicate: &Deduplicate) -> Result<Block> {
        let mut block = self.open(deduplicate.input.as_deref())?;
        if deduplicate.within_watermark == Some(true) && !self.names.is_streaming(&block.text())? {
            return Err(Problem::analysis(
                "dropDuplicatesWithinWatermark is not supported with batch DataFrames/DataSets\nuse dropDuplicates",
            ));
        }
        if deduplicate.columns.is_empty() {
            block.select = Some("DISTINCT *".to_owned());
            return Ok(block);
        }
        let keys: Vec<String> = deduplicate.columns.iter().map(|name| quoted(name)).collect();
        let keys = keys.join(", ");
        let text = block.text();
        if self.names.is_streaming(&text)? {
            block.select = Some(format!("DISTINCT ON ({keys}) *"));
            return Ok(block);
        }
        // Of a table any row of the keys may stay; in a stream it is the first.
        let columns: Vec<String> = self.names.columns(&text)?.iter().map(|name| quoted(name)).collect();
        block.select = Some(format!("*, row_number() OVER (PARTITION BY {keys} ORDER BY {keys}) AS __row"));
        let mut first = self.nested(&block);
        first.filters.push("__row = 1".to_owned());
        first.select = Some(columns.join(", "));
        Ok(first)
    }

    fn watermark(&self, watermark: &WithWatermark) -> Result<Block> {
        let block = self.subquery(watermark.input.as_deref())?;
        let [scope] = block.scopes.as_slice() else { return Err(missing()) };
        let source = format!(
            "{} WATERMARK {} DELAY OF INTERVAL {}",
            scope.source,
            quoted(&watermark.event_time),
            quoted_text(&watermark.delay)
        );
        Ok(self.relation(&source, block.plan_ids()))
    }

    /// The columns of a block, each as it is named there.
    fn columns(&self, block: &Block) -> Result<Vec<ColumnOf>> {
        if block.scopes.len() < 2 {
            let names = self.names.columns(&block.text())?;
            return Ok(names.into_iter().map(|name| ColumnOf { text: quoted(&name), name, scope: None }).collect());
        }
        let mut columns = Vec::new();
        for (at, scope) in block.scopes.iter().enumerate() {
            let names = self.names.columns(&format!("SELECT * FROM {} AS {}", scope.source, scope.alias))?;
            columns.extend(names.into_iter().map(|name| ColumnOf {
                text: format!("{}.{}", scope.alias, quoted(&name)),
                name,
                scope: Some(at),
            }));
        }
        Ok(columns)
    }

    fn with_columns(&self, with: &WithColumns) -> Result<Block> {
        let mut block = self.open(with.input.as_deref())?;
        let mut added: Vec<(&str, String)> = Vec::new();
        for alias in &with.aliases {
            let (name, text) = aliased(&block, alias)?;
            added.push((name, text));
        }
        let columns = self.columns(&block)?;
        let is_there = |name: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        let kept = columns.iter().map(|column| {
            let new = added.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
            new.map_or_else(|| column.text.clone(), |(_, text)| text.clone())
        });
        let new = added.iter().filter(|(name, _)| !is_there(name)).map(|(_, text)| text.clone());
        block.select = Some(kept.chain(new).collect::<Vec<_>>().join(", "));
        Ok(block)
    }

    fn renamed_all(&self, input: Option<&Relation>, names: &[String]) -> Result<Block> {
        let mut block = self.open(input)?;
        let columns = self.columns(&block)?;
        if columns.len() != names.len() {
            return Err(Problem::argument(format!("toDF has {} names for {} columns", names.len(), columns.len())));
        }
        let items = columns.iter().zip(names).map(|(column, name)| format!("{} AS {}", column.text, quoted(name)));
        block.select = Some(items.collect::<Vec<_>>().join(", "));
        Ok(block)
    }

    fn rename(&self, rename: &Rename) -> Result<Block> {
        let mut block = self.open(rename.input.as_deref())?;
        let mut pairs: Vec<(&str, &str)> =
            rename.renames.iter().map(|pair| (pair.from.as_str(), pair.to.as_str())).collect();
        pairs.extend(rename.map.iter().map(|(from, to)| (from.as_str(), to.as_str())));
        let items = self.columns(&block)?.into_iter().map(|column| {
            let new = pairs.iter().find(|(from, _)| from.eq_ignore_ascii_case(&column.name));
            new.map_or_else(|| column.text.clone(), |(_, to)| format!("{} AS {}", column.text, quoted(to)))
        });
        block.select = Some(items.collect::<Vec<_>>().join(", "));
        Ok(block)
    }

    /// Columns that are not there are none to drop, as in Spark.
    fn drop_columns(&self, drop: &DropColumns) -> Result<Block> {
        let mut block = self.open(drop.input.as_deref())?;
        let mut dropped: Vec<(String, Option<usize>)> = drop.names.iter().map(|name| (name.clone(), None)).collect();
        for column in &drop.columns {
            let Some(ExpressionKind::Attribute(attribute)) = &column.kind else {
                return Err(Problem::unsupported("drop of an expression", "name the columns to drop"));
            };
            let scope = attribute
                .plan_id
                .filter(|_| block.scopes.len() > 1)
                .and_then(|plan| block.scopes.iter().position(|scope| scope.plan_ids.contains(&plan)));
            dropped.push((attribute.name.trim_matches('`').to_owned(), scope));
        }
        let is_dropped = |column: &ColumnOf| {
            dropped.iter().any(|(name, scope)| {
                name.eq_ignore_ascii_case(&column.name) && (scope.is_none() || *scope == column.scope)
            })
        };
        let kept: Vec<String> =
            self.columns(&block)?.into_iter().filter(|column| !is_dropped(column)).map(|column| column.text).collect();
        if kept.is_empty() {
            return Err(Problem::unsupported("a DataFrame without columns", "keep one of them"));
        }
        block.select = Some(kept.join(", "));
        Ok(block)
    }

    fn fill(&self, fill: &FillNa) -> Result<Block> {
        let [value] = fill.values.as_slice() else { return self.fill_each(fill) };
        let mut block = self.open(fill.input.as_deref())?;
        let is_text = matches!(value.kind, Some(LiteralKind::String(_)));
        if fill.columns.is_empty() {
            return Err(Problem::unsupported(
                format!("fillna with a {} for all columns", if is_text { "text" } else { "number" }),
                "name the columns: fillna(value, subset=[...])",
            ));
        }
        let filling: Vec<(&str, String)> =
            fill.columns.iter().map(|name| Ok((name.as_str(), literal(value)?))).collect::<Result<_>>()?;
        block.select = Some(filled(self.columns(&block)?, &filling));
        Ok(block)
    }

    fn fill_each(&self, fill: &FillNa) -> Result<Block> {
        let mut block = self.open(fill.input.as_deref())?;
        let pairs = fill.columns.iter().zip(&fill.values);
        let filling: Vec<(&str, String)> =
            pairs.map(|(name, value)| Ok((name.as_str(), literal(value)?))).collect::<Result<_>>()?;
        block.select = Some(filled(self.columns(&block)?, &filling));
        Ok(block)
    }

    fn drop_nulls(&self, drop: &DropNa) -> Result<Block> {
        let mut block = self.open(drop.input.as_deref())?;
        let names = if drop.columns.is_empty() { self.names.columns(&block.text())? } else { drop.columns.clone() };
        let present = names.iter().map(|name| format!("(CASE WHEN {} IS NULL THEN 0 ELSE 1 END)", quoted(name)));
        let least = drop.min_non_nulls.map_or(names.len(), |least| usize::try_from(least).unwrap_or(0));
        block.filters.push(format!("({} >= {least})", present.collect::<Vec<_>>().join(" + ")));
        Ok(block)
    }
}

/// A range of more rows than one array should hold: blocks of numbers, and the numbers of a block. Its first rows come first,
/// for `show` and `take`; the order of all of them is as little told as in Spark.
fn long_range(start: i64, step: i64, count: i128) -> String {
    let block = ONE_SEQUENCE;
    let last_block = (count - 1) / block;
    let numbers = |last: i128| format!("(SELECT explode(sequence(CAST(0 AS BIGINT), CAST({last} AS BIGINT))) AS n)");
    format!(
        "(SELECT CAST({start} AS BIGINT) + (b.n * {block} + i.n) * CAST({step} AS BIGINT) AS id FROM {} AS b CROSS JOIN {} AS i \
         WHERE b.n * {block} + i.n < CAST({count} AS BIGINT))",
        numbers(last_block),
        numbers(block - 1)
    )
}

fn filled(columns: Vec<ColumnOf>, filling: &[(&str, String)]) -> String {
    let items = columns.into_iter().map(|column| {
        let value = filling.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
        match value {
            Some((_, value)) => format!("coalesce({}, {value}) AS {}", column.text, quoted(&column.name)),
            None => column.text,
        }
    });
    items.collect::<Vec<_>>().join(", ")
}

fn expressions(block: &Block) -> Expressions<'_> {
    Expressions { scopes: &block.scopes }
}

fn items(block: &Block, list: &[Expression]) -> Result<Vec<String>> {
    list.iter().map(|expression| expressions(block).item(expression)).collect()
}

/// A column with its new name, as an item of `SELECT`.
fn aliased<'a>(block: &Block, alias: &'a Alias) -> Result<(&'a str, String)> {
    let ([name], Some(expression)) = (alias.names.as_slice(), alias.expression.as_deref()) else {
        return Err(Problem::unsupported("a column with several names", "give each column its own name"));
    };
    Ok((name, format!("{} AS {}", expressions(block).text(expression)?, quoted(name))))
}

fn missing() -> Problem {
    Problem::argument("a part of the plan is missing")
}

fn name_of(kind: &RelationKind) -> &'static str {
    match kind {
        RelationKind::MapPartitions(_) => "mapInPandas, mapInArrow and df.rdd",
        RelationKind::GroupMap(_) => "applyInPandas, applyInArrow and transformWithState",
        RelationKind::CoGroupMap(_) => "cogroup",
        RelationKind::PandasWithState(_) => "applyInPandasWithState",
        RelationKind::TableFunction(_) => "a Python table function (UDTF)",
        RelationKind::UserDataSource(_) => "a data source in Python",
        RelationKind::Sample(_) | RelationKind::SampleBy(_) => "sample and randomSplit",
        RelationKind::Unpivot(_) => "unpivot and melt",
        RelationKind::ToSchema(_) => "df.to(schema)",
        RelationKind::CollectMetrics(_) => "observe",
        RelationKind::Parse(_) => "reading files from a DataFrame of text",
        RelationKind::CachedLocal(_) | RelationKind::ChunkedLocal(_) => "local rows beyond a message's size",
        RelationKind::CachedRemote(_) => "checkpoint and localCheckpoint of a DataFrame",
        RelationKind::AsOfJoin(_) => "the as-of join of pandas on Spark",
        RelationKind::Transpose(_) => "transpose",
        RelationKind::TableValued(_) => "spark.tvf",
        RelationKind::LateralJoin(_) => "lateralJoin",
        RelationKind::Replace(_) => "na.replace",
        RelationKind::Summary(_) | RelationKind::Describe(_) => "describe and summary",
        RelationKind::Crosstab(_) | RelationKind::Cov(_) | RelationKind::Corr(_) => "df.stat",
        RelationKind::ApproxQuantile(_) | RelationKind::FreqItems(_) => "df.stat",
        RelationKind::Catalog(_) => "this call of spark.catalog",
        RelationKind::Ml(_) => "pyspark.ml",
        _ => "a relation of this kind",
    }
}
