//! Joins of two streams: keys, the parts of the condition, and what the watermark says about rows that are kept.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, JoinType, NullEquality};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{Expr, ExprSchemable, Join, LogicalPlan, lit};

use super::compiler::{Compiler, key_name};
use super::event_time::{event_times, is_event_time};
use super::{StageOutput, nullable, time_bounds, unqualified};
use crate::error::{EngineError, Result};
use crate::operator::kept_rows::{Expiry, Reach};
use crate::operator::keyed::{Bucketing, InputSpec};
use crate::operator::stateless::Step;
use crate::operator::stream_join::{JoinSideSpec, LEFT, RIGHT, StreamJoinKind, StreamJoinSpec};
use crate::plan::window::window_end;
use crate::sink::OutputMode;

/// Event time that is kept together, where the condition does not say what is of use.
const BUCKET_US: i64 = 60_000_000;

/// The time of one side's rows.
struct SideTime {
    /// What rows are kept by, of type TIMESTAMP.
    time: Option<Expr>,
    /// Whether rows of this side can be late.
    has_watermark: bool,
    expiry: Option<Expiry>,
    /// Whether a watermark on both sides would say when its rows meet nothing any more.
    is_bounded: bool,
    reach: Reach,
    /// Whether a row whose time is null meets nothing, as the condition compares it.
    needs_time: bool,
}

impl Compiler {
    pub(super) fn stream_join(&mut self, join: &Join, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        let join = &left_first(join);
        let kind = self.kind(join)?;
        let spec = self.stream_join_spec(join, kind)?;
        let lag_us = spec.lag_us();
        let behind = self.operator(Arc::new(spec), steps, output, &[&join.left, &join.right])?;
        Ok(behind.saturating_add(lag_us))
    }

    fn kind(&self, join: &Join) -> Result<StreamJoinKind> {
        if join.on.is_empty() {
            return Err(EngineError::query("two streams are joined without an equality of their columns")
                .help("add one: JOIN ... ON a.key = b.key AND b.ts BETWEEN a.ts AND a.ts + INTERVAL 5 MINUTES"));
        }
        let kind = match join.join_type {
            JoinType::Inner => StreamJoinKind::Inner,
            JoinType::Left => StreamJoinKind::Left,
            JoinType::Right => StreamJoinKind::Right,
            JoinType::Full => StreamJoinKind::Full,
            JoinType::LeftSemi => StreamJoinKind::Semi,
            JoinType::LeftAnti => StreamJoinKind::Anti,
            other => {
                return Err(EngineError::query(format!("{other} JOIN of two streams is not supported"))
                    .help("use INNER, LEFT, RIGHT, FULL, LEFT SEMI or LEFT ANTI JOIN"));
            }
        };
        let gives_final_rows = matches!(kind, StreamJoinKind::Inner | StreamJoinKind::Semi);
        match self.output_mode {
            OutputMode::Append => Ok(kind),
            OutputMode::Update if gives_final_rows => Ok(kind),
            mode => Err(EngineError::query(format!(
                "{} JOIN of two streams is not possible in output mode {mode}",
                join.join_type.to_string().to_uppercase()
            ))
            .help("use output mode append; to aggregate joined rows with another mode, write them to a streaming table and read that in a second query")),
        }
    }

    fn stream_join_spec(&mut self, join: &Join, kind: StreamJoinKind) -> Result<StreamJoinSpec> {
        let plans = [join.left.as_ref(), join.right.as_ref()];
        let keys: [Vec<Expr>; 2] =
            [join.on.iter().map(|on| on.0.clone()).collect(), join.on.iter().map(|on| on.1.clone()).collect()];
        let (filters, pair_filter) = split_condition(join);
        let pair_schema = join.left.schema().join(join.right.schema())?;
        let times = side_times(join, &keys)?;
        check_bound(kind, &times)?;
        let bucket_us = bucket_us(&times);
        let mut sides = Vec::new();
        for (((plan, keys), time), filter) in plans.into_iter().zip(&keys).zip(times).zip(filters) {
            sides.push(self.join_side(plan, keys, join.null_equality, time, filter)?);
        }
        let sides = <[JoinSideSpec; 2]>::try_from(sides).map_err(|_| EngineError::internal("a join has two sides"))?;
        Ok(StreamJoinSpec {
            id: self.name("join"),
            kind,
            sides,
            filter: pair_filter.map(|filter| self.physical(&filter, &pair_schema)).transpose()?,
            pair_schema: Arc::new(nullable(&unqualified(&pair_schema))),
            schema: Arc::new(nullable(&unqualified(&join.schema))),
            bucket_us,
        })
    }

    fn join_side(
        &self,
        plan: &LogicalPlan,
        keys: &[Expr],
        null_equality: NullEquality,
        time: SideTime,
        filter: Option<Expr>,
    ) -> Result<JoinSideSpec> {
        let schema = plan.schema();
        let mut columns = self.columns(schema)?;
        let null_key = match null_equality {
            NullEquality::NullEqualsNothing => keys.iter().map(|key| key.clone().is_null()).reduce(Expr::or),
            NullEquality::NullEqualsNull => None,
        };
        let null_key = null_key.unwrap_or_else(|| lit(false));
        columns.push(self.physical(&null_key, schema)?);
        let bucket = match &time.time {
            Some(time) => Bucketing::Instant { time: self.physical(time, schema)? },
            None => Bucketing::None,
        };
        // No watermark would ever take such a row away: it is not kept, and comes out at once on an outer side.
        let has_time = time.time.clone().filter(|_| time.needs_time).map(Expr::is_not_null);
        let input = InputSpec {
            keys: keys.iter().map(|key| self.physical(key, schema)).collect::<Result<_>>()?,
            key_types: keys.iter().map(|key| Ok(key.get_type(schema)?)).collect::<Result<_>>()?,
            key_names: keys.iter().map(key_name).collect(),
            bucket,
            columns,
            has_watermark: time.has_watermark,
        };
        Ok(JoinSideSpec {
            input: Arc::new(input),
            schema: Arc::new(nullable(&unqualified(schema))),
            filter: conjunction(filter.into_iter().chain(has_time))
                .map(|filter| self.physical(&filter, schema))
                .transpose()?,
            expiry: time.expiry,
            reach: time.reach,
        })
    }
}

/// Right semi and anti joins, which the optimiser makes, as left ones.
fn left_first(join: &Join) -> Join {
    let swapped = match join.join_type {
        JoinType::RightSemi => JoinType::LeftSemi,
        JoinType::RightAnti => JoinType::LeftAnti,
        _ => return join.clone(),
    };
    let on = join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
    Join { left: Arc::clone(&join.right), right: Arc::clone(&join.left), on, join_type: swapped, ..join.clone() }
}

/// Spark's rule: rows of an outer side can only come out when the watermark says that they meet nothing any more.
fn check_bound(kind: StreamJoinKind, [left, right]: &[SideTime; 2]) -> Result<()> {
    let is_bounded = match kind {
        StreamJoinKind::Inner => true,
        StreamJoinKind::Left | StreamJoinKind::Semi => left.is_bounded,
        StreamJoinKind::Right => right.is_bounded,
        StreamJoinKind::Full => left.is_bounded || right.is_bounded,
        StreamJoinKind::Anti => left.expiry.is_some(),
    };
    if is_bounded {
        return Ok(());
    }
    let name = format!("{kind:?}").to_uppercase();
    Err(EngineError::query(format!(
        "{name} JOIN of two streams without a bound on time: no row is ever known to meet nothing"
    ))
    .help("put a watermark on both streams and compare their event times in ON (b.ts BETWEEN a.ts AND a.ts + INTERVAL 5 MINUTES), or join ON the event time itself"))
}

/// The condition by what it is about: rows of each side alone, and pairs.
fn split_condition(join: &Join) -> ([Option<Expr>; 2], Option<Expr>) {
    let (mut left, mut right, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
    for part in join.filter.iter().flat_map(split_conjunction) {
        let columns = part.column_refs();
        let within = |plan: &LogicalPlan| columns.iter().all(|column| plan.schema().has_column(column));
        let part = part.clone();
        if within(&join.left) {
            left.push(part);
        } else if within(&join.right) {
            right.push(part);
        } else {
            pairs.push(part);
        }
    }
    ([conjunction(left), conjunction(right)], conjunction(pairs))
}

/// What rows of each side are kept by, and until when.
fn side_times(join: &Join, keys: &[Vec<Expr>; 2]) -> Result<[SideTime; 2]> {
    let plans = [join.left.as_ref(), join.right.as_ref()];
    let flags = plans.map(event_times);
    let key_time = |side: usize| keys[side].iter().position(|key| is_event_time(key, plans[side], &flags[side]));
    // A watermark on one side's key is one on the other's: keys that meet are equal.
    if let Some(at) = key_time(LEFT).or_else(|| key_time(RIGHT)) {
        let expiry = Some(Expiry::AT_WATERMARK);
        let reach = Reach { from_us: Some(0), to_us: Some(0) };
        let side = |side: usize| -> Result<SideTime> {
            let key = keys[side][at].clone();
            let time = match key.get_type(plans[side].schema())? {
                DataType::Struct(_) => window_end(key),
                _ => key,
            };
            let has_watermark = flags[side].contains(&true);
            let needs_time = join.null_equality == NullEquality::NullEqualsNothing;
            Ok(SideTime { time: Some(time), has_watermark, expiry, is_bounded: true, reach, needs_time })
        };
        return Ok([side(LEFT)?, side(RIGHT)?]);
    }
    let is_time = |side: usize| {
        let (plan, flags) = (plans[side], flags[side].clone());
        move |column: &Column| is_event_time(&Expr::Column(column.clone()), plan, &flags)
    };
    let is_any = |side: usize| {
        let plan = plans[side];
        move |column: &Column| plan.schema().has_column(column)
    };
    let side = |own: usize, other: usize| {
        let position = flags[own].iter().position(|flag| *flag);
        let time = position.map(|at| Expr::Column(plans[own].schema().qualified_field(at).into()));
        let has_watermark = time.is_some();
        let filter = join.filter.as_ref();
        let expiry = filter.and_then(|filter| time_bounds::expiry(filter, &is_any(own), &is_time(other)));
        let reach = filter.map(|filter| time_bounds::reach(filter, &is_time(own), &is_time(other))).unwrap_or_default();
        // Without a watermark of its own nothing tells how old a row of this side is.
        let is_bounded = expiry.is_some();
        let needs_time = filter.is_some_and(|filter| time_bounds::compares(filter, &is_time(own)));
        SideTime { time, has_watermark, expiry: expiry.filter(|_| has_watermark), is_bounded, reach, needs_time }
    };
    Ok([side(LEFT, RIGHT), side(RIGHT, LEFT)])
}

/// A quarter of the time rows are kept for, so that few buckets are looked at and little is kept too long.
fn bucket_us(times: &[SideTime; 2]) -> i64 {
    let offsets = times.iter().filter_map(|side| side.expiry).map(|expiry| expiry.offset_us.saturating_abs());
    match offsets.max() {
        Some(0) | None => BUCKET_US,
        Some(longest) => (longest / 4).clamp(1_000_000, 3_600_000_000),
    }
}
