//! Sessions: `session_window(ts, gap)`, runs of rows that follow each other within a gap.
//!
//! ```text
//!   row       ├── gap ──┤                        each row makes a session of its own: [ts, ts + gap)
//!   row              ├── gap ──┤
//!   session   ├────────────────┤                 GROUP BY makes one of those that overlap or touch
//! ```
//!
//! The function gives a row's own session; null where there is none, because the row has no time or its gap is null,
//! cannot be read or is not longer than zero. Such rows are left out, as in Spark. What joins sessions is a grouping
//! by a column of them: on streams the session operator, in other queries what [`merge`] makes of the grouping.

mod gap;
mod merge;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, DurationMicrosecondType, Field, FieldRef, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::{Result as DfResult, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::datetime_pattern::zone::Zone;
use super::functions::cast::UTC;
use super::functions::udf::session_zone;
use super::lineage::{Mark, is_marked, marked_columns};
use super::window::{end_type, last_moments, time_type, window_type, without_alias};
use gap::Gap;

pub(crate) use merge::MergeSessions;

/// `session_window(ts, gap)` as a function of one row.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionWindowFunction {
    signature: Signature,
}

impl SessionWindowFunction {
    pub(crate) const NAME: &'static str = "session_window";

    pub(crate) fn udf() -> ScalarUDF {
        ScalarUDF::from(Self { signature: Signature::user_defined(Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for SessionWindowFunction {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(window_type(end_type(&arg_types[0]).unwrap_or(&arg_types[0])))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let gap = args.scalar_arguments.get(1).copied().flatten().and_then(|gap| gap.try_as_str().flatten());
        // Spark leaves every row out then, as it does with a row's own gap.
        if let Some(text) = gap.filter(|text| Gap::parse(text).is_none()) {
            return plan_err!(
                "the gap of session_window is '{text}', expected numbers and units such as '5 minutes' or '1 hour 30 minutes'"
            );
        }
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(Self::NAME, self.return_type(&types)?, true)))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> DfResult<Vec<DataType>> {
        let [time, gap] = arg_types else {
            return plan_err!("session_window takes a time and a gap, e.g. session_window(ts, '5 minutes')");
        };
        Ok(vec![time_type(Self::NAME, time)?, gap_type(gap)?])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let zone = session_zone(args.config_options.execution.time_zone.as_deref())?;
        let times = args.args[0].to_array(args.number_rows)?;
        let times = if end_type(times.data_type()).is_some() { last_moments(&times) } else { times };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let zone = if times.timezone().is_some() { zone } else { UTC };
        let ends = match &args.args[1] {
            ColumnarValue::Scalar(gap) => {
                let gap = gaps(&gap.to_array()?)?.pop().flatten();
                ends(times, std::iter::repeat_n(gap, times.len()), zone)
            }
            ColumnarValue::Array(texts) => ends(times, gaps(texts)?.into_iter(), zone),
        };
        Ok(ColumnarValue::Array(Arc::new(sessions(times.clone(), ends))))
    }
}

/// Text as in Spark; intervals beyond it.
fn gap_type(found: &DataType) -> DfResult<DataType> {
    Ok(match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Duration(_) => DataType::Duration(TimeUnit::Microsecond),
        other => {
            let found = super::ddl::type_name(other);
            return plan_err!(
                "the gap of session_window is {found}, expected a text such as '5 minutes' or an INTERVAL"
            );
        }
    })
}

fn gaps(column: &ArrayRef) -> DfResult<Vec<Option<Gap>>> {
    Ok(match column.data_type() {
        DataType::Utf8 => {
            // There are few different gaps and many rows.
            let mut known: HashMap<&str, Option<Gap>> = HashMap::new();
            let mut read = |text| *known.entry(text).or_insert_with(|| Gap::parse(text));
            column.as_string::<i32>().iter().map(|text| text.and_then(&mut read)).collect()
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let intervals = column.as_primitive::<IntervalMonthDayNanoType>();
            let gap = |interval: arrow::datatypes::IntervalMonthDayNano| Gap {
                months: interval.months,
                days: interval.days,
                micros: interval.nanoseconds / 1000,
            };
            intervals.iter().map(|interval| interval.map(gap)).collect()
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            let lengths = column.as_primitive::<DurationMicrosecondType>();
            lengths.iter().map(|micros| micros.map(|micros| Gap { micros, ..Gap::default() })).collect()
        }
        other => return exec_err!("the gap of session_window is {other} and not a text or an interval"),
    })
}

fn ends(times: &TimestampMicrosecondArray, gaps: impl Iterator<Item = Option<Gap>>, zone: Zone) -> Vec<Option<i64>> {
    times.iter().zip(gaps).map(|(time, gap)| gap?.end_of(time?, zone)).collect()
}

/// A column of sessions; null where there is no end.
fn sessions(starts: TimestampMicrosecondArray, ends: Vec<Option<i64>>) -> StructArray {
    let zone = starts.timezone().map(Arc::<str>::from);
    let nulls: NullBuffer = ends.iter().map(Option::is_some).collect();
    let ends = TimestampMicrosecondArray::from(ends).with_timezone_opt(zone.clone());
    session_array(starts, ends, Some(nulls))
}

/// A column of sessions from their starts and ends, which are of one type.
pub(crate) fn session_array(
    starts: TimestampMicrosecondArray,
    ends: TimestampMicrosecondArray,
    nulls: Option<NullBuffer>,
) -> StructArray {
    let DataType::Struct(fields) = window_type(starts.data_type()) else { unreachable!("a window is a struct") };
    StructArray::new(fields, vec![Arc::new(starts), Arc::new(ends)], nulls)
}

/// Puts start and end of a joined session together; its own name says that the column is one of sessions.
#[derive(Debug, PartialEq, Eq, Hash)]
struct JoinedSessionFunction {
    signature: Signature,
}

impl JoinedSessionFunction {
    const NAME: &'static str = "joined_session";

    fn udf() -> ScalarUDF {
        ScalarUDF::from(Self { signature: Signature::any(2, Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for JoinedSessionFunction {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        Ok(window_type(&arg_types[0]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let column = |at: usize| -> DfResult<TimestampMicrosecondArray> {
            Ok(args.args[at].to_array(args.number_rows)?.as_primitive::<TimestampMicrosecondType>().clone())
        };
        Ok(ColumnarValue::Array(Arc::new(session_array(column(0)?, column(1)?, None))))
    }
}

/// The event time of a call of `session_window`, if `expr` is one.
pub(crate) fn session_call(expr: &Expr) -> Option<&Expr> {
    match without_alias(expr) {
        Expr::ScalarFunction(function) if function.func.name() == SessionWindowFunction::NAME => function.args.first(),
        _ => None,
    }
}

/// Columns of sessions: calls of the function, and what names, filters, joins and groupings pass on of them.
struct IsSession;

impl Mark for IsSession {
    fn of_expr(&self, expr: &Expr, _: &dyn Fn(&Expr) -> bool) -> bool {
        let is_joined =
            matches!(expr, Expr::ScalarFunction(function) if function.func.name() == JoinedSessionFunction::NAME);
        is_joined || session_call(expr).is_some()
    }
}

/// Which of the grouping expressions over the columns of `input` is a session, so that grouping by it joins sessions.
pub(crate) fn grouping_session(exprs: &[Expr], input: &LogicalPlan) -> Option<usize> {
    let columns = marked_columns(input, &IsSession);
    exprs.iter().position(|expr| is_marked(expr, input, &columns, &IsSession))
}
