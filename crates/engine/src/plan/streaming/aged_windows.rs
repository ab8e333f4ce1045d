//! Windows that nothing but a ttl bounds: a window is then a grouping column like others, so that a group is kept by the
//! time of its last row, as groups without windows are.
//!
//! ```text
//!   Aggregate: window(ts, '1 hour'), k        Aggregate: windows.window, k
//!   └ input                            ──>    └ Unnest: windows              a row for each window that its time is in
//!                                               └ Project: input, windows of ts
//! ```
//!
//! Other windows are buckets of state, which go whole when the watermark has passed them. A group cannot be in both, so
//! that a query which is given such a ttl, or loses it, has other state than before.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;

use super::compiler::Compiler;
use super::unqualified;
use crate::error::{EngineError, Result};
use crate::operator::aggregate::AggregateSpec;
use crate::operator::keyed::Bucketing;
use crate::operator::stateless::Step;
use crate::plan::functions::generators::ROWS_OF;
use crate::plan::functions::table;
use crate::plan::window::WindowFunction;
use crate::sink::OutputMode;

/// The array of windows, and then each of them.
const WINDOWS: &str = "(windows)";

/// How the rows of an aggregate get their windows, as a key.
pub(super) struct AgedWindows {
    /// What every row passes first.
    pub(super) before: Vec<Step>,
    /// Where the window stands among the grouping columns.
    pub(super) position: usize,
    /// The window of a row.
    pub(super) key: Arc<dyn PhysicalExpr>,
}

impl AgedWindows {
    /// The groups, found by their windows as by their other keys, and what their rows pass first.
    pub(super) fn put_into(self, mut spec: AggregateSpec) -> Result<(AggregateSpec, Vec<Step>)> {
        let Some(input) = Arc::get_mut(&mut spec.input) else {
            return Err(EngineError::internal("the input of an aggregate is shared before it is planned"));
        };
        input.keys.insert(self.position, self.key);
        input.key_types.insert(self.position, spec.output_schema.field(self.position).data_type().clone());
        input.bucket = Bucketing::None;
        spec.window = None;
        Ok((spec, self.before))
    }
}

impl Compiler {
    /// What an aggregate needs that is by windows, unless a watermark bounds them or they have no ttl.
    pub(super) fn aged_windows(
        &self,
        aggregate: &Aggregate,
        position: usize,
        has_watermark: bool,
    ) -> Result<Option<AgedWindows>> {
        let is_bounded = has_watermark && self.output_mode != OutputMode::Complete;
        if is_bounded || !self.ages.has(&self.next_name("aggregate")) {
            return Ok(None);
        }
        let Expr::ScalarFunction(call) = aggregate.group_expr[position].clone().unalias() else { return Ok(None) };
        let input = aggregate.input.schema();
        // A window of windows made before has no time of its own.
        let is_of_times = || -> Result<bool> { Ok(!matches!(call.args[0].get_type(input)?, DataType::Struct(_))) };
        if call.name() != WindowFunction::NAME || !is_of_times()? {
            return Ok(None);
        }
        let function = |name: &str| {
            table::find(name).ok_or_else(|| EngineError::internal(format!("the function '{name}' is not in the table")))
        };
        let rows = function(&format!("{ROWS_OF}{}", WindowFunction::NAME))?.call(call.args);
        let lists = rows.get_type(input)?;
        let DataType::List(row) = &lists else { return Err(EngineError::internal("windows are no array")) };
        let with = |data_type: &DataType| -> Result<DFSchema> {
            let field = Field::new(WINDOWS, data_type.clone(), true);
            let more = DFSchema::from_unqualified_fields(vec![field].into(), Default::default())?;
            Ok(input.join(&more)?)
        };
        let (with_lists, with_rows) = (with(&lists)?, with(row.data_type())?);
        let mut exprs = self.columns(input)?;
        let column = exprs.len();
        exprs.push(self.physical(&rows, input)?);
        let before = vec![
            Step::Project { exprs, schema: Arc::new(unqualified(&with_lists)) },
            Step::Unnest { column, schema: Arc::new(unqualified(&with_rows)) },
        ];
        let name = Expr::Literal(ScalarValue::from("window"), None);
        let key = function("get_field")?.call(vec![Expr::Column(Column::new_unqualified(WINDOWS)), name]);
        Ok(Some(AgedWindows { before, position, key: self.physical(&key, &with_rows)? }))
    }
}
