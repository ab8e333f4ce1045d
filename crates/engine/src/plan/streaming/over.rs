//! Functions with `OVER (PARTITION BY ...)`: on a stream the partition must contain event time, so that it ends. Those
//! of which only the first rows are wanted are in `top.rs`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, Window};

use super::compiler::{Compiler, key_name};
use super::event_time::{event_times, is_event_time};
use super::{StageOutput, nullable, unqualified};
use crate::error::{EngineError, Result};
use crate::operator::keyed::{Bucketing, InputSpec};
use crate::operator::over::OverSpec;
use crate::operator::stateless::Step;
use crate::plan::batch::BatchPlan;
use crate::plan::window::window_end;
use crate::sink::OutputMode;

impl Compiler {
    pub(super) fn over(&mut self, window: &Window, steps: Vec<Step>, output: StageOutput) -> Result<i64> {
        let schema = window.input.schema();
        let partition = partition_by(window)?;
        let times = event_times(&window.input);
        let time = partition.iter().find(|expr| is_event_time(expr, &window.input, &times));
        let (Some(time), OutputMode::Append) = (time, self.output_mode) else { return Err(refusal(window)?) };
        let time = match time.get_type(schema)? {
            DataType::Struct(_) => window_end(time.clone()),
            _ => time.clone(),
        };
        let input = InputSpec {
            keys: partition.iter().map(|expr| self.physical(expr, schema)).collect::<Result<_>>()?,
            key_types: partition.iter().map(|expr| Ok(expr.get_type(schema)?)).collect::<Result<_>>()?,
            key_names: partition.iter().map(key_name).collect(),
            bucket: Bucketing::Instant { time: self.physical(&time, schema)? },
            columns: self.columns(schema)?,
            has_watermark: true,
        };
        let opened = Window { input: Arc::new(BatchPlan::open_relation(schema)), ..window.clone() };
        let plan = BatchPlan::new(LogicalPlan::Window(opened), vec![Arc::clone(schema)], self.session.clone());
        let schema = Arc::new(nullable(&unqualified(schema)));
        let spec = OverSpec { id: self.name("over"), input: Arc::new(input), schema, plan };
        self.operator(Arc::new(spec), steps, output, &[&window.input])
    }
}

/// What all functions of a node are partitioned by.
fn partition_by(window: &Window) -> Result<Vec<Expr>> {
    let mut found: Option<Vec<Expr>> = None;
    for function in functions(window)? {
        let own = function.params.partition_by;
        found = Some(match found.take() {
            Some(known) => known.into_iter().filter(|expr| own.contains(expr)).collect(),
            None => own,
        });
    }
    Ok(found.unwrap_or_default())
}

fn functions(window: &Window) -> Result<Vec<WindowFunction>> {
    let mut functions = Vec::new();
    for expr in &window.window_expr {
        expr.apply(|inner| {
            if let Expr::WindowFunction(function) = inner {
                functions.push(function.as_ref().clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    Ok(functions)
}

fn refusal(window: &Window) -> Result<EngineError> {
    let names: Vec<String> =
        functions(window)?.iter().map(|function| format!("{}(...) OVER (...)", function.fun.name())).collect();
    Ok(EngineError::query(format!("{} on a stream: the rows of a partition never end", names.join(", ")))
        .help("put a window of event time into PARTITION BY and use output mode append: FROM STREAM t WATERMARK ts DELAY OF INTERVAL 10 SECONDS, OVER (PARTITION BY window, ... ORDER BY ...); or keep the first rows alone: SELECT ... FROM (SELECT ..., row_number() OVER (...) AS rn ...) WHERE rn <= 10, in output mode update or complete"))
}
