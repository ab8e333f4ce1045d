//! From the tokens of a query to a logical plan whose leaves are streams and static tables.
//!
//! ```text
//!   tokens ──relation::rewrite──> plain SQL + relations ──sqlparser──> AST ──name_windows──> DataFusion ──> LogicalPlan
//!                                       │ each planned first and given to DataFusion as a view
//! ```

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, SchemaError, TableReference};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder, ScalarUDF, cast, ident};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{Query, Statement as SqlStatement};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::cache::CacheSettings;
use super::catalog::{Options, Table};
use super::live::LiveTable;
use super::logical::{StreamScan, WatermarkNode, is_streaming};
use super::relation::{Relation, RelationInput, StateRequest, WatermarkClause, rewrite};
use super::token::{Cursor, is_word, span_of};
use super::{limits, relations, session};
use crate::error::{EngineError, Result, Span, nearest};

/// Finds tables and views by name.
pub(crate) trait Lookup {
    /// The table or view of that name.
    fn lookup(&self, name: &str) -> Result<Option<Found>>;

    /// All names, for "did you mean".
    fn names(&self) -> Vec<String>;

    /// Functions that connectors bring.
    fn functions(&self) -> Vec<Arc<ScalarUDF>>;

    /// The state of a query; pipelines do not read it.
    fn state(&self, request: &StateRequest) -> Result<Arc<dyn TableProvider>> {
        Err(EngineError::query(format!("the state of query '{}' cannot be read in a pipeline", request.query))
            .help("state(...) is for highwater sql"))
    }
}

/// What a name stands for.
pub(crate) enum Found {
    /// A table.
    Table {
        table: Arc<dyn Table>,
        /// A table of ours that no query may have written to yet.
        may_be_missing: bool,
        /// How its rows are kept while it is joined to a stream.
        cache: CacheSettings,
    },
    /// A view's query.
    View(Cursor),
}

/// A source of a planned query.
pub(crate) struct PlannedSource {
    /// A query of this program fills the table, and may not have done so yet.
    pub(crate) may_be_missing: bool,
    /// The table's name.
    pub(crate) name: String,
    /// The table.
    pub(crate) table: Arc<dyn Table>,
}

/// A query, planned but not yet optimised.
pub(crate) struct PlannedQuery {
    pub(crate) plan: LogicalPlan,
    pub(crate) sources: Vec<PlannedSource>,
    pub(crate) context: SessionContext,
}

/// An error in what the user named, shown where they named it.
fn at(error: EngineError, span: Span) -> EngineError {
    let EngineError::Config(_) = error else { return error };
    let placed = EngineError::query_at(span, error.to_string());
    match error.next_step() {
        Some(help) => placed.help(help),
        None => placed,
    }
}

/// Plans one query.
pub(crate) fn plan_query(
    query: &Cursor,
    tables: &dyn Lookup,
    settings: &session::SessionSettings,
) -> Result<PlannedQuery> {
    limits::check_depth(query.tokens())?;
    let context = session::context(settings, &tables.functions())?;
    let mut planner = Planner { context, tables, sources: Vec::new(), relations: 0, watermarks: 0, views: Vec::new() };
    let plan = planner.query(query)?;
    Ok(PlannedQuery { plan, sources: planner.sources, context: planner.context })
}

struct Planner<'a> {
    context: SessionContext,
    tables: &'a dyn Lookup,
    sources: Vec<PlannedSource>,
    relations: usize,
    watermarks: usize,
    /// Views being planned, outermost first.
    views: Vec<String>,
}

impl Planner<'_> {
    fn query(&mut self, query: &Cursor) -> Result<LogicalPlan> {
        let rewritten = rewrite(query, self.relations)?;
        self.relations += rewritten.relations.len();
        for relation in &rewritten.relations {
            let plan = self.relation(relation)?;
            let provider = Arc::new(ViewTable::new(plan, None));
            self.context.register_table(TableReference::bare(relation.placeholder.as_str()), provider)?;
        }
        self.plain_query(&rewritten.tokens)
    }

    /// Plans SQL that has no special relations left.
    fn plain_query(&mut self, tokens: &[TokenWithSpan]) -> Result<LogicalPlan> {
        let mut statement = parse_query(tokens)?;
        relations::desugar(&mut statement)?;
        let state = self.context.state();
        let statement = DfStatement::Statement(Box::new(SqlStatement::Query(statement)));
        let references = state.resolve_table_references(&statement).map_err(|error| located(error, tokens))?;
        for reference in references {
            self.static_table(reference.table(), tokens)?;
        }
        let DfStatement::Statement(statement) = statement else {
            return Err(EngineError::internal("a query is a statement"));
        };
        let SqlStatement::Query(mut query) = *statement else {
            return Err(EngineError::internal("a query is a statement"));
        };
        session::prepare(&mut query, &self.context)?;
        let statement = DfStatement::Statement(Box::new(SqlStatement::Query(query)));
        let state = self.context.state();
        futures::executor::block_on(state.statement_to_plan(statement)).map_err(|error| located(error, tokens))
    }

    /// Makes a table or view known to DataFusion that the query reads without `STREAM`.
    fn static_table(&mut self, name: &str, tokens: &[TokenWithSpan]) -> Result<()> {
        if self.context.table_exist(TableReference::bare(name))? {
            return Ok(());
        }
        let found = self.tables.lookup(name)?.ok_or_else(|| self.unknown_table(name, place_of(name, tokens)))?;
        let provider: Arc<dyn TableProvider> = match found {
            Found::Table { table, may_be_missing, cache } => {
                Arc::new(LiveTable::open(name, table, may_be_missing, cache)?)
            }
            Found::View(query) => Arc::new(ViewTable::new(self.view(name, &query)?, None)),
        };
        self.context.register_table(TableReference::bare(name), provider)?;
        Ok(())
    }

    fn view(&mut self, name: &str, query: &Cursor) -> Result<LogicalPlan> {
        if self.views.iter().any(|open| open.eq_ignore_ascii_case(name)) {
            return Err(EngineError::query_at(query.span(), format!("view '{name}' reads itself")));
        }
        limits::check_depth(query.tokens())?;
        self.views.push(name.to_owned());
        let plan = self.query(query);
        self.views.pop();
        plan
    }

    fn unknown_table(&self, name: &str, place: Option<Span>) -> EngineError {
        let names = self.tables.names();
        let message = format!("table or view '{name}' is not defined");
        let error = match place {
            Some(span) => EngineError::query_at(span, message),
            None => EngineError::query(message),
        };
        match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None if names.is_empty() => error.help("define it first: CREATE TABLE ... USING kafka OPTIONS (...)"),
            None => error.help(format!(
                "defined are: {}; a table that stands in Spark's catalog needs its CREATE TABLE in a file that highwater.yml \
                 names under 'catalog'",
                names.join(", ")
            )),
        }
    }

    fn relation(&mut self, relation: &Relation) -> Result<LogicalPlan> {
        let input = match &relation.input {
            RelationInput::Query(tokens) => self.plain_query(tokens)?,
            RelationInput::State(request) => {
                let table = self.tables.state(request).map_err(|error| at(error, relation.span))?;
                LogicalPlanBuilder::scan("state", provider_as_source(table), None)?.build()?
            }
            RelationInput::Table { name, options } => {
                refuse_options(options, relation.span)?;
                match self.tables.lookup(name)?.ok_or_else(|| self.unknown_table(name, Some(relation.span)))? {
                    Found::Table { table, may_be_missing, .. } if relation.is_stream => {
                        self.stream(name, table, may_be_missing)?
                    }
                    Found::Table { table, may_be_missing, cache } => {
                        let table = Arc::new(LiveTable::open(name, table, may_be_missing, cache)?);
                        LogicalPlanBuilder::scan(name.as_str(), provider_as_source(table), None)?.build()?
                    }
                    Found::View(query) => self.stream_view(name, &query, relation)?,
                }
            }
        };
        match &relation.watermark {
            Some(watermark) if is_streaming(&input) => self.watermark(input, watermark, relation.span),
            _ => Ok(input),
        }
    }

    fn stream(&mut self, name: &str, table: Arc<dyn Table>, may_be_missing: bool) -> Result<LogicalPlan> {
        let scan = StreamScan { index: self.sources.len(), name: name.to_owned(), schema: table.schema() };
        if scan.schema.fields().is_empty() {
            return Err(EngineError::query(format!("'{name}' has no columns, so it cannot be read as a stream"))
                .help("give the table its columns: CREATE TABLE name (column TYPE, ...) USING ..."));
        }
        self.sources.push(PlannedSource { name: name.to_owned(), table, may_be_missing });
        Ok(LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(scan)), None)?.build()?)
    }

    fn stream_view(&mut self, name: &str, query: &Cursor, relation: &Relation) -> Result<LogicalPlan> {
        let plan = self.view(name, query)?;
        if relation.is_stream && !is_streaming(&plan) {
            return Err(EngineError::query_at(relation.span, format!("view '{name}' reads no stream"))
                .help(format!("read a table in it with STREAM, or read the view without: FROM {name}")));
        }
        Ok(plan)
    }

    fn watermark(&mut self, input: LogicalPlan, clause: &WatermarkClause, span: Span) -> Result<LogicalPlan> {
        if has_watermark(&input) {
            return Err(EngineError::query_at(span, "a stream that has a watermark is given a second one")
                .help("keep one of the two WATERMARK clauses"));
        }
        let (input, column) = self.event_time(input, clause, span)?;
        let id = self.watermarks;
        self.watermarks += 1;
        let node = WatermarkNode { id, input, column, delay_us: clause.delay_us };
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// The input with the event time as a column of microseconds, and that column's name.
    fn event_time(
        &mut self,
        input: LogicalPlan,
        clause: &WatermarkClause,
        span: Span,
    ) -> Result<(LogicalPlan, String)> {
        let place = clause.expr.first().map_or(span, span_of);
        let state = self.context.state();
        let dialect = session::dialect();
        let parsed = Parser::new(dialect.as_ref())
            .with_tokens_with_locations(clause.expr.clone())
            .parse_expr()
            .map_err(|error| parse_error(&error, &clause.expr))?;
        let parsed = session::prepare_expr(parsed, input.schema())?;
        let expr = state
            .create_logical_expr_from_sql_expr(
                datafusion::sql::sqlparser::ast::ExprWithAlias { expr: parsed, alias: None },
                input.schema(),
            )
            .map_err(|error| located(error, &clause.expr))?;
        let (expr, own_name) = match expr {
            datafusion::logical_expr::Expr::Column(column) => (ident(column.name.clone()), Some(column.name)),
            other => (other, None),
        };
        let name = match (clause.alias.clone(), own_name.clone()) {
            (Some(alias), _) => alias,
            (None, Some(own)) => own,
            (None, None) => {
                return Err(EngineError::query_at(place, "the event time is an expression without a name")
                    .help("name it: WATERMARK expression AS event_time DELAY OF INTERVAL ..."));
            }
        };
        let data_type = datafusion::logical_expr::ExprSchemable::get_type(&expr, input.schema())?;
        let micros = match &data_type {
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) if own_name.as_ref() == Some(&name) => {
                return Ok((input, name));
            }
            DataType::Timestamp(_, zone @ Some(_)) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            other => {
                let found = super::ddl::type_name(other);
                return Err(EngineError::query_at(
                    place,
                    format!("the event time '{name}' is {found}, expected TIMESTAMP"),
                )
                .help("convert it, for example WATERMARK to_timestamp(text) AS event_time DELAY OF ..."));
            }
        };
        let expr = if data_type == micros { expr } else { cast(expr, micros) };
        let mut columns: Vec<_> = (0..input.schema().fields().len())
            .map(|at| input.schema().qualified_field(at))
            .filter(|(_, field)| field.name() != &name)
            .map(|column| datafusion::logical_expr::Expr::Column(column.into()))
            .collect();
        columns.push(expr.alias(name.clone()));
        Ok((LogicalPlanBuilder::from(input).project(columns)?.build()?, name))
    }
}

/// Whether a relation is given a watermark that its rows still have.
fn has_watermark(plan: &LogicalPlan) -> bool {
    let own = matches!(plan, LogicalPlan::Extension(extension) if extension.node.as_any().is::<WatermarkNode>());
    own || plan.inputs().into_iter().any(has_watermark)
}

fn refuse_options(options: &Options, span: Span) -> Result<()> {
    match options.iter().next() {
        None => Ok(()),
        Some((key, _)) => Err(EngineError::query_at(span, format!("option '{key}' stands at the query"))
            .help("put it into the OPTIONS of the table's CREATE TABLE")),
    }
}

fn parse_query(tokens: &[TokenWithSpan]) -> Result<Box<Query>> {
    let dialect = session::dialect();
    let mut parser = Parser::new(dialect.as_ref()).with_tokens_with_locations(tokens.to_vec());
    let query = parser.parse_query().map_err(|error| parse_error(&error, tokens))?;
    let rest = parser.peek_token();
    if rest.token == Token::EOF {
        return Ok(query);
    }
    let error = EngineError::query_at(span_of(&rest), format!("expected the end of the query, found '{}'", rest.token));
    let clauses = ["WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "JOIN", "UNION", "WATERMARK"];
    Err(match &rest.token {
        Token::Word(word) => match nearest(&word.value, clauses) {
            Some(near) => error.help(format!("did you mean {near}?")),
            None => error,
        },
        _ => error,
    })
}

/// The parser puts its place into the message's text; we give it as a place.
fn parse_error(error: &ParserError, tokens: &[TokenWithSpan]) -> EngineError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.clone(),
        ParserError::RecursionLimitExceeded => "the query is nested too deeply".to_owned(),
    };
    let (message, place) = match text.rsplit_once(" at Line: ") {
        Some((message, place)) => (message.to_owned(), parse_place(place)),
        None => (text, None),
    };
    let end = tokens.last().map(|token| Span { line: token.span.end.line, column: token.span.end.column, length: 1 });
    let span = place.and_then(|place| place_of_found(&message, place, tokens)).or(end);
    let message = message.replacen("Expected:", "expected", 1).replacen("Expected ", "expected ", 1);
    let message = message.replace("found: EOF", "found the end of the query").replace("found:", "found");
    match span {
        Some(span) => EngineError::query_at(span, message),
        None => EngineError::query(message),
    }
}

/// The token at the place of an error; where the parser has gone one too far, the one that its message names.
fn place_of_found(message: &str, place: (u64, u64), tokens: &[TokenWithSpan]) -> Option<Span> {
    let at = tokens.iter().map(span_of).position(|span| (span.line, span.column) == place)?;
    let found = message.rsplit_once("found: ").map(|(_, found)| found);
    let names = |token: &TokenWithSpan| found.is_some_and(|found| token.token.to_string() == found);
    let before = at.checked_sub(1).filter(|before| !names(&tokens[at]) && names(&tokens[*before]));
    Some(span_of(&tokens[before.unwrap_or(at)]))
}

fn parse_place(text: &str) -> Option<(u64, u64)> {
    let (line, column) = text.split_once(", Column: ")?;
    Some((line.trim().parse().ok()?, column.trim().parse().ok()?))
}

/// Where a name stands in the query.
fn place_of(name: &str, tokens: &[TokenWithSpan]) -> Option<Span> {
    let is_name = |token: &&TokenWithSpan| match &token.token {
        Token::Word(word) => word.value.eq_ignore_ascii_case(name),
        _ => is_word(Some(&token.token), name),
    };
    tokens.iter().find(is_name).map(span_of)
}

/// DataFusion's refusal of two columns of one name, in our words.
fn same_name_twice(text: &str, tokens: &[TokenWithSpan]) -> Option<EngineError> {
    let rest = text.strip_prefix("Projections require unique expression names but the expression \"")?;
    let (expr, _) = rest.split_once('"')?;
    let name = expr.rsplit('.').next().unwrap_or(expr);
    let message = format!("two columns of a select list are called '{name}'");
    let error = match place_of(name, tokens) {
        Some(span) => EngineError::query_at(span, message),
        None => EngineError::query(message),
    };
    Some(error.help("give one of them another name with AS: tables know their columns by name"))
}

/// The planner's words for a column beside aggregates speak of wildcards, also where there is none.
fn not_grouped(text: &str, tokens: &[TokenWithSpan]) -> Option<EngineError> {
    let (_, rest) = text.split_once("While expanding wildcard, column \"")?;
    let (expr, _) = rest.split_once('"')?;
    let name = expr.rsplit('.').next().unwrap_or(expr);
    let message = format!("column '{name}' is neither in GROUP BY nor within an aggregate function");
    let error = match place_of(name, tokens) {
        Some(span) => EngineError::query_at(span, message),
        None => EngineError::query(message),
    };
    Some(error.help(format!("add it to GROUP BY, or take one of its values: any_value({name}), max({name})")))
}

/// A planning error with the place it is about.
pub(crate) fn located(error: DataFusionError, tokens: &[TokenWithSpan]) -> EngineError {
    let diagnostic = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let span = diagnostic.and_then(|span| {
        tokens
            .iter()
            .find(|t| t.span.start.line == span.start.line && t.span.start.column == span.start.column)
            .map(span_of)
    });
    let root = error.find_root();
    if let DataFusionError::SchemaError(schema, _) = root
        && let SchemaError::FieldNotFound { field, valid_fields } = schema.as_ref()
    {
        let span = span.or_else(|| place_of(&field.name, tokens));
        let mut names: Vec<&str> = valid_fields.iter().map(|field| field.name.as_str()).collect();
        names.dedup();
        let message = format!("column '{}' cannot be resolved", field.name);
        let error = span
            .map_or_else(|| EngineError::query(message.clone()), |span| EngineError::query_at(span, message.clone()));
        return match nearest(&field.name, names.iter().copied()) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None => error.help(format!("there are: {}", names.join(", "))),
        };
    }
    let planned = EngineError::from(error);
    let text = planned.to_string();
    if let Some(error) = same_name_twice(&text, tokens).or_else(|| not_grouped(&text, tokens)) {
        return error;
    }
    let (message, help) = match text.split_once(".\nDid you mean ") {
        Some((message, near)) => (message.to_owned(), Some(format!("did you mean {near}"))),
        None => (text.replace('\n', " "), planned.next_step().map(str::to_owned)),
    };
    let span = span.or_else(|| message.split('\'').nth(1).and_then(|name| place_of(name, tokens)));
    let error = match span {
        Some(span) => EngineError::query_at(span, message),
        None => EngineError::query(message),
    };
    match help {
        Some(help) => error.help(help),
        None => error,
    }
}
