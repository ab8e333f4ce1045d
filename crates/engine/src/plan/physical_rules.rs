//! The rules that physical plans go through: DataFusion's, with one of ours among them and some left out for lambdas.
//!
//! DataFusion moves expressions from one operator to another by changing the places of columns in them. The parameters of
//! a lambda stand behind the columns, by a place too, and keep it: `transform(xs, x -> x + 1)` would find a column where
//! the element was. So a plan with a lambda does without the rules that move expressions.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::physical_expr::expressions::LambdaExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;

use super::kept_order::KeepOrder;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// All of them, in their order.
pub(crate) fn rules() -> Vec<Rule> {
    let unless_lambdas = |rule: Rule| -> Rule {
        let moves = rule.name() == "ProjectionPushdown" || rule.name().starts_with("FilterPushdown");
        if moves { Arc::new(UnlessLambdas(rule)) } else { rule }
    };
    let mut rules: Vec<Rule> = PhysicalOptimizer::new().rules.into_iter().map(unless_lambdas).collect();
    // After the first, which is for the order of the whole result and does nothing where a requirement is there already.
    rules.insert(1, Arc::new(KeepOrder));
    rules
}

/// A rule that leaves plans with lambdas as they are.
#[derive(Debug)]
struct UnlessLambdas(Rule);

impl PhysicalOptimizerRule for UnlessLambdas {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if has_lambda(&plan)? { Ok(plan) } else { self.0.optimize(plan, config) }
    }
}

fn has_lambda(plan: &Arc<dyn ExecutionPlan>) -> Result<bool> {
    let mut found = false;
    plan.apply(|node| {
        node.apply_expressions(&mut |expr| {
            expr.apply(|inner| {
                found = found || inner.is::<LambdaExpr>();
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })?;
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}
