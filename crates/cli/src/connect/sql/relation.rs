//! Relations as `SELECT`s.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::super::problem::{Problem, Result};
use super::block::{Block, Item, Known, Scope};
use super::columns::ColumnOf;
use super::expression::Expressions;
use super::literal::quoted_text;
use super::step::Steps;
use super::{Names, layer, quoted, read};
use crate::spark_connect::messages::{
    Aggregate, Deduplicate, Filter, Join, MAX_DEPTH, Project, Range, Relation, RelationKind, SetOperation, Sort, Sql,
    WithWatermark,
};

const PYTHON: &str = "use columns, expr(...) and spark.sql, or run this program on Spark itself";

/// How many conditions a `WHERE` has: the planner takes a chain of so many operators.
const MAX_FILTERS: usize = 50;

/// The column that numbers rows for a while.
const ROW_NUMBER: &str = "__row";

/// How many numbers of a range are made as one array.
const ONE_SEQUENCE: i128 = 10_000_000;

/// Writes one plan.
pub(super) struct Writer<'a> {
    pub(super) names: &'a dyn Names,
    /// What views are called that stay what they are; nothing where a query is run at once.
    kept_views: BTreeMap<String, String>,
    /// Subqueries that stand in front of the query.
    pub(super) steps: Steps,
    aliases: Cell<usize>,
    depth: Cell<usize>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(names: &'a dyn Names) -> Self {
        Self { names, kept_views: BTreeMap::new(), steps: Steps::default(), aliases: Cell::new(0), depth: Cell::new(0) }
    }

    /// Writes the plan of a view.
    pub(super) fn of_view(names: &'a dyn Names) -> Self {
        Self { kept_views: names.kept_views(), ..Self::new(names) }
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
            RelationKind::Read(read) => {
                Ok(self.relation(&read::source(read, self.names, &self.kept_views)?, Vec::new()))
            }
            RelationKind::Local(rows) => Ok(self.relation(&quoted(&self.names.keep_rows(rows)?), Vec::new())),
            RelationKind::Sql(sql) => self.sql(sql),
            RelationKind::Range(range) => self.range(range),
            RelationKind::Project(project) => self.project(project),
            RelationKind::Filter(filter) => self.filter(filter),
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
                let (text, known) = self.distinct_names(&block)?;
                let mut named = Block::of(&self.steps.source(&text), &quoted(&alias.alias), block.plan_ids());
                for scope in &mut named.scopes {
                    (scope.known, scope.sides) = (known.clone(), block.sides());
                }
                Ok(named)
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

    pub(super) fn input(&self, relation: Option<&Relation>) -> Result<Block> {
        self.block(relation.ok_or_else(missing)?)
    }

    /// The relation as a block in which columns can still be chosen.
    pub(super) fn open(&self, relation: Option<&Relation>) -> Result<Block> {
        self.opened(self.input(relation)?)
    }

    /// A block as one in which columns can still be chosen.
    pub(super) fn opened(&self, block: Block) -> Result<Block> {
        if block.is_open() { Ok(block) } else { self.nested(&block) }
    }

    /// The relation as a subquery of a block in which nothing is said yet.
    fn subquery(&self, relation: Option<&Relation>) -> Result<Block> {
        let block = self.input(relation)?;
        if block.is_bare() { Ok(block) } else { self.nested(&block) }
    }

    fn nested(&self, block: &Block) -> Result<Block> {
        let (text, known) = self.distinct_names(block)?;
        let names = match (&block.select, block.scopes.as_slice(), &known) {
            (Some(items), ..) if items.iter().any(|item| item.name.is_none()) => None,
            (None, [scope], _) => scope.names.clone(),
            (_, _, Some(known)) => Some(known.iter().map(|known| known.inner.clone()).collect()),
            (Some(items), _, None) => items.iter().map(|item| item.name.clone()).collect(),
            (None, _, None) => None,
        };
        let mut nested = self.made(&self.steps.source(&text), block.plan_ids(), known);
        for scope in &mut nested.scopes {
            (scope.sides, scope.names) = (block.sides(), names.clone());
        }
        Ok(nested)
    }

    /// The text of a block in which no two columns have one name: where PySpark has several of a name, the others' are told.
    pub(super) fn distinct_names(&self, block: &Block) -> Result<(String, Option<Vec<Known>>)> {
        let mut items = match (&block.select, block.scopes.as_slice()) {
            (Some(items), _) => items.clone(),
            (None, [scope]) => return Ok((block.text(), scope.known.clone())),
            (None, []) => return Ok((block.text(), None)),
            (None, _) => self.columns(block)?.iter().map(ColumnOf::item).collect(),
        };
        let names: Vec<Option<String>> = items.iter().map(|item| item.name.clone()).collect();
        let is_twin =
            |name: &String| names.iter().flatten().filter(|other| other.eq_ignore_ascii_case(name)).count() > 1;
        let mut known = Vec::new();
        let mut has_twins = false;
        for item in &mut items {
            let Some(name) = item.name.clone() else { continue };
            let inner = if is_twin(&name) {
                self.aliases.set(self.aliases.get() + 1);
                has_twins = true;
                let inner = format!("__c{}", self.aliases.get());
                item.alias = Some(inner.clone());
                inner
            } else {
                name.clone()
            };
            known.push(Known { inner, name, plan_ids: item.plan_ids.clone() });
        }
        let text = if has_twins { Block { select: Some(items), ..block.clone() }.text() } else { block.text() };
        Ok((text, (has_twins || block.is_of_several()).then_some(known)))
    }

    fn made(&self, source: &str, plan_ids: Vec<i64>, known: Option<Vec<Known>>) -> Block {
        let mut block = self.relation(source, plan_ids);
        block.scopes.iter_mut().for_each(|scope| scope.known.clone_from(&known));
        block
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
        let kept = self.kept_views.iter().filter(|(name, _)| reads(text, name));
        let kept: Vec<String> =
            kept.map(|(name, kept)| format!("{} AS (SELECT * FROM {})", quoted(name), quoted(kept))).collect();
        if kept.is_empty() {
            return Ok(self.relation(&format!("({text}\n)"), Vec::new()));
        }
        Ok(self.relation(&format!("(WITH {} SELECT * FROM ({text}\n) AS __q)", kept.join(", ")), Vec::new()))
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
            let items = self.items(&Block::default(), &project.expressions)?;
            return self.nested(&Block { select: Some(items), ..Block::default() });
        };
        let below = self.input(Some(input))?;
        if let Some(block) = layer::chosen(&below, &project.expressions)? {
            return Ok(block);
        }
        let mut block = self.opened(below)?;
        // SQL has no rows without columns, which `isEmpty` asks for: one that nobody reads stands for none.
        let items = self.items(&block, &project.expressions)?;
        block.select = Some(if items.is_empty() { vec![Item::unnamed("NULL AS `__none`")] } else { items });
        Ok(block)
    }

    fn filter(&self, filter: &Filter) -> Result<Block> {
        let mut below = self.input(filter.input.as_deref())?;
        if below.filters.len() >= MAX_FILTERS {
            below = self.nested(&below)?;
        }
        let condition = filter.condition.as_ref().ok_or_else(missing)?;
        if let Some(block) = layer::filtered(&below, condition)? {
            return Ok(block);
        }
        let mut block = self.opened(below)?;
        let text = expressions(&block).text(condition)?;
        block.filters.push(text);
        Ok(block)
    }

    fn join(&self, join: &Join) -> Result<Block> {
        let side = |relation: Option<&Relation>| -> Result<Block> {
            let block = self.input(relation)?;
            let is_join = block.is_open() && block.filters.is_empty();
            if is_join { Ok(block) } else { self.nested(&block) }
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
            (Some(condition), _) => format!(" ON {}", Expressions::of(&scopes).text(condition)?),
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
        match join.using.as_slice() {
            [] => Ok(block),
            _ if one_side => self.nested(&block),
            using => self.merged(block, using),
        }
    }

    /// A join `USING` as a relation: the columns it merges, then the others of both sides.
    fn merged(&self, mut block: Block, using: &[String]) -> Result<Block> {
        let columns = self.columns(&block)?;
        let merged = using.iter().map(|name| {
            let plan_ids =
                columns.iter().filter(|column| column.is(name)).flat_map(|column| column.plan_ids.iter().copied());
            Item::column(quoted(name), name, plan_ids.collect())
        });
        let others = columns.iter().filter(|column| !using.iter().any(|name| column.is(name)));
        block.select = Some(merged.chain(others.map(ColumnOf::item)).collect());
        self.nested(&block)
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
        let side = |block: &Block| -> Result<(String, Option<Vec<Known>>)> {
            if block.rest.is_empty() { self.distinct_names(block) } else { self.distinct_names(&self.nested(block)?) }
        };
        let ((left, known), (right, _)) = (side(&left)?, side(&right)?);
        Ok(self.made(&self.steps.source(&format!("{left} {word}{all} {right}")), Vec::new(), known))
    }

    /// `INTERSECT ALL` and `EXCEPT ALL` count how often a row is there: its copies are numbered, which makes each of them
    /// another row.
    fn counted_set_operation(&self, word: &str, left: &Block, right: &Block) -> Result<Block> {
        let numbered = |block: &Block| -> Result<(String, Option<Vec<Known>>)> {
            let mut block = self.nested(block)?;
            self.number_rows(&mut block, None)?;
            self.distinct_names(&block)
        };
        let ((left, known), (right, _)) = (numbered(left)?, numbered(right)?);
        let mut block = self.made(&self.steps.source(&format!("{left} {word} {right}")), Vec::new(), known);
        self.leave_out_number(&mut block)?;
        Ok(block)
    }

    /// Gives rows of the same keys, which are all columns if none are named, a number each.
    fn number_rows(&self, block: &mut Block, keys: Option<&str>) -> Result<()> {
        let columns = self.columns(block)?;
        let all = columns.iter().map(|column| column.text.as_str()).collect::<Vec<_>>().join(", ");
        let keys = keys.unwrap_or(&all);
        let number = format!("row_number() OVER (PARTITION BY {keys} ORDER BY {keys})");
        let items = columns.iter().map(ColumnOf::item);
        block.select = Some(items.chain([Item::named(number, ROW_NUMBER)]).collect());
        Ok(())
    }

    fn leave_out_number(&self, block: &mut Block) -> Result<()> {
        let columns = self.columns(block)?;
        let others = columns.iter().filter(|column| column.name != ROW_NUMBER);
        block.select = Some(others.map(ColumnOf::item).collect());
        Ok(())
    }

    /// The columns of `right` in the order of those of `left`, which must be the same ones.
    fn in_order_of(&self, left: &Block, right: Block, may_miss: bool) -> Result<Block> {
        if may_miss {
            return Err(Problem::unsupported(
                "unionByName with allowMissingColumns",
                "add the missing columns with withColumn(name, lit(None)) first",
            ));
        }
        let (left, mut right) = (self.nested(left)?, self.nested(&right)?);
        let (wanted, given) = (self.columns(&left)?, self.columns(&right)?);
        let named = |columns: &[ColumnOf], name: &str| -> Option<usize> {
            columns.iter().position(|column| column.name.eq_ignore_ascii_case(name))
        };
        if let Some(missing) = wanted.iter().find(|column| named(&given, &column.name).is_none()) {
            return Err(Problem::analysis(format!(
                "[UNRESOLVED_COLUMN] unionByName: the right side has no column '{}'",
                missing.name
            )));
        }
        if wanted.len() != given.len() {
            return Err(Problem::analysis(format!(
                "[NUM_COLUMNS_MISMATCH] UNION can only be performed on inputs with the same number of columns, but the first \
                 input has {} columns and the second input has {} columns",
                wanted.len(),
                given.len()
            )));
        }
        let items = wanted.iter().filter_map(|column| Some(given[named(&given, &column.name)?].item()));
        right.select = Some(items.collect());
        Ok(right)
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
            block = self.nested(&block)?;
        }
        block.rest.push_str(limit);
        Ok(block)
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Block> {
        let mut block = self.open(aggregate.input.as_deref())?;
        let mut selected = self.items(&block, &aggregate.groups)?;
        selected.extend(self.items(&block, &aggregate.aggregates)?);
        let keys = aggregate.groups.iter().map(|group| expressions(&block).unnamed(group));
        let keys = keys.collect::<Result<Vec<_>>>()?.join(", ");
        block.rest = match aggregate.group_type {
            _ if aggregate.groups.is_empty() => String::new(),
            0 | 1 => format!(" GROUP BY {keys}"),
            2 => format!(" GROUP BY ROLLUP({keys})"),
            3 => format!(" GROUP BY CUBE({keys})"),
            _ => return Err(Problem::unsupported("pivot and groupingSets", "write them with spark.sql: PIVOT (...)")),
        };
        block.select = Some(selected);
        Ok(block)
    }

    fn deduplicate(&self, deduplicate: &Deduplicate) -> Result<Block> {
        let mut block = self.open(deduplicate.input.as_deref())?;
        if deduplicate.within_watermark == Some(true) && !self.is_streaming(&block)? {
            return Err(Problem::analysis(
                "dropDuplicatesWithinWatermark is not supported with batch DataFrames/DataSets\nuse dropDuplicates",
            ));
        }
        if deduplicate.columns.is_empty() {
            self.choose_distinct(&mut block, "DISTINCT ")?;
            return Ok(block);
        }
        self.check_keys(&block, deduplicate)?;
        let keys = deduplicate.columns.iter().map(|name| expressions(&block).column(&quoted(name), None));
        let keys = keys.collect::<Result<Vec<_>>>()?.join(", ");
        if self.is_streaming(&block)? {
            self.choose_distinct(&mut block, &format!("DISTINCT ON ({keys}) "))?;
            return Ok(block);
        }
        // Of a table any row of the keys may stay; in a stream it is the first.
        self.number_rows(&mut block, Some(&keys))?;
        let mut first = self.nested(&block)?;
        first.filters.push(format!("{ROW_NUMBER} = 1"));
        self.leave_out_number(&mut first)?;
        Ok(first)
    }

    /// Without the event time among its keys `DISTINCT ON` keeps them as long as the watermark says, which is what
    /// dropDuplicatesWithinWatermark asks for. dropDuplicates keeps them for ever.
    fn check_keys(&self, block: &Block, deduplicate: &Deduplicate) -> Result<()> {
        if !self.is_streaming(block)? {
            return Ok(());
        }
        let times = self.names.event_times(&self.steps.with(block.text()))?;
        let is_key = |time: &String| deduplicate.columns.iter().any(|key| key.eq_ignore_ascii_case(time));
        match deduplicate.within_watermark == Some(true) {
            true if times.is_empty() => Err(Problem::analysis(
                "dropDuplicatesWithinWatermark is not supported on streaming DataFrames/DataSets without watermark\nsay \
                 withWatermark before it",
            )),
            false if !times.is_empty() && !times.iter().any(is_key) => Err(Problem::unsupported(
                format!(
                    "dropDuplicates of a stream with a watermark by other columns than the event time {}",
                    times.join(", ")
                ),
                "add it to the columns, or use dropDuplicatesWithinWatermark: both forget keys when the watermark has passed",
            )),
            _ => Ok(()),
        }
    }

    fn is_streaming(&self, block: &Block) -> Result<bool> {
        self.names.is_streaming(&self.steps.with(block.text()))
    }

    /// All columns of a block, behind `DISTINCT`.
    fn choose_distinct(&self, block: &mut Block, distinct: &str) -> Result<()> {
        block.distinct = distinct.to_owned();
        let columns = if block.is_of_several() { Some(self.columns(block)?) } else { None };
        block.select = Some(match columns {
            Some(columns) => columns.iter().map(ColumnOf::item).collect(),
            None => vec![Item::unnamed("*")],
        });
        Ok(())
    }

    fn watermark(&self, watermark: &WithWatermark) -> Result<Block> {
        let block = self.subquery(watermark.input.as_deref())?;
        let [scope] = block.scopes.as_slice() else { return Err(missing()) };
        let source = format!(
            "{} WATERMARK {} DELAY OF INTERVAL {}",
            self.steps.whole(&scope.source),
            quoted(&watermark.event_time),
            quoted_text(&watermark.delay)
        );
        let mut marked = self.made(&source, block.plan_ids(), scope.known.clone());
        marked.scopes.iter_mut().for_each(|marked| marked.sides.clone_from(&scope.sides));
        Ok(marked)
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

pub(super) fn expressions(block: &Block) -> Expressions<'_> {
    Expressions::of(&block.scopes)
}

/// Whether a text has the name of a view among its words, and not behind STREAM.
fn reads(text: &str, name: &str) -> bool {
    let text = text.to_lowercase();
    let is_inner = |letter: char| letter.is_alphanumeric() || letter == '_';
    text.match_indices(name).any(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + name.len()..]);
        let is_word = !before.ends_with(is_inner) && !behind.starts_with(is_inner);
        is_word && !before.trim_end_matches([' ', '\n', '\t', '(', '`']).ends_with("stream")
    })
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
