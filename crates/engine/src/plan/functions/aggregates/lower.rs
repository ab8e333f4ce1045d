//! Calls of aggregates as Spark writes them, rewritten into calls of the table's functions.
//!
//! `FILTER`, `DISTINCT` and `OVER` stay. Order (`WITHIN GROUP`), defaults and the treatment of NULL become arguments.

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, DuplicateTreatment, Expr, Function, FunctionArgumentClause, FunctionArguments, Ident,
    NullTreatment, ObjectName, OrderByExpr, Value,
};

use super::super::calls::{structure, with_args};
use super::super::lower::{binary, call, number, text_literal};
use super::arguments;
use crate::error::{EngineError, Result};

/// How many arguments an aggregate takes.
const ARITY: &[(&str, usize, usize)] = &[
    ("count_if", 1, 1),
    ("sum", 1, 1),
    ("try_sum", 1, 1),
    ("avg", 1, 1),
    ("mean", 1, 1),
    ("try_avg", 1, 1),
    ("min", 1, 1),
    ("max", 1, 1),
    ("min_by", 2, 3),
    ("max_by", 2, 3),
    ("first", 1, 2),
    ("first_value", 1, 2),
    ("last", 1, 2),
    ("last_value", 1, 2),
    ("any_value", 1, 2),
    ("bool_and", 1, 1),
    ("every", 1, 1),
    ("bool_or", 1, 1),
    ("some", 1, 1),
    ("any", 1, 1),
    ("bit_and", 1, 1),
    ("bit_or", 1, 1),
    ("bit_xor", 1, 1),
    ("std", 1, 1),
    ("stddev", 1, 1),
    ("stddev_samp", 1, 1),
    ("stddev_pop", 1, 1),
    ("variance", 1, 1),
    ("var_samp", 1, 1),
    ("var_pop", 1, 1),
    ("skewness", 1, 1),
    ("kurtosis", 1, 1),
    ("covar_pop", 2, 2),
    ("covar_samp", 2, 2),
    ("corr", 2, 2),
    ("regr_count", 2, 2),
    ("regr_avgx", 2, 2),
    ("regr_avgy", 2, 2),
    ("regr_sxx", 2, 2),
    ("regr_syy", 2, 2),
    ("regr_sxy", 2, 2),
    ("regr_slope", 2, 2),
    ("regr_intercept", 2, 2),
    ("regr_r2", 2, 2),
    ("collect_list", 1, 1),
    ("array_agg", 1, 1),
    ("collect_set", 1, 1),
    ("listagg", 1, 2),
    ("string_agg", 1, 2),
    ("mode", 0, 2),
    ("median", 1, 1),
    ("percentile", 2, 3),
    ("percentile_cont", 1, 1),
    ("percentile_disc", 1, 1),
    ("percentile_approx", 2, 3),
    ("approx_percentile", 2, 3),
    ("approx_count_distinct", 1, 2),
    ("hll_sketch_agg", 1, 2),
    ("hll_union_agg", 1, 2),
    ("histogram_numeric", 2, 2),
    ("count_min_sketch", 4, 4),
    ("bitmap_construct_agg", 1, 1),
    ("bitmap_or_agg", 1, 1),
    ("bitmap_and_agg", 1, 1),
    ("approx_top_k", 1, 3),
];

/// Whether a function is an aggregate, by its name or by the one that it is lowered to.
pub(super) fn is_aggregate(name: &str) -> bool {
    matches!(name, "count" | "min_by_several" | "max_by_several") || ARITY.iter().any(|(known, ..)| *known == name)
}

/// Refuses a call of an aggregate over what it cannot take, as `count(*)` with a FILTER.
pub(in crate::plan::functions) fn check(function: &Function, name: &str, args: &[Expr]) -> Result<()> {
    if is_aggregate(name) { arguments::check(function, name, args) } else { Ok(()) }
}

/// The call as one of the table; `None` if it is no aggregate.
pub(in crate::plan::functions) fn lowered(function: &Function, name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    check(function, name, args)?;
    if name == "count" {
        return counted(function, args).map(Some);
    }
    let Some((_, min, max)) = ARITY.iter().find(|(known, ..)| *known == name) else { return Ok(None) };
    if !(*min..=*max).contains(&args.len()) {
        let expected = if min == max { min.to_string() } else { format!("{min} to {max}") };
        return Err(EngineError::query(format!(
            "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] `{name}` takes {expected} arguments, found {}",
            args.len()
        )));
    }
    let call = Aggregate { function, name, args };
    if let Some(expr) = call.over_rows() {
        return Ok(Some(expr));
    }
    if let Some(expr) = call.of_numbers()? {
        return Ok(Some(expr));
    }
    call.of_values().map(Some)
}

/// `count` of one or several arguments.
fn counted(function: &Function, args: &[Expr]) -> Result<Expr> {
    let counted = match args {
        [] => {
            return Err(EngineError::query(
                "[WRONG_NUM_ARGS.WITH_SUGGESTION] `count` takes at least 1 argument, found 0",
            )
            .help("count rows with count(*)"));
        }
        [one] if is_distinct(function) => call("as_normal", [one.clone()]),
        [one] => one.clone(),
        several if is_distinct(function) => call("as_normal", [present(several, structure(several.to_vec()))]),
        several => present(several, number("1")?),
    };
    Ok(Expr::Function(to(function, "count", [counted])))
}

/// A value where all of the others are there, else NULL.
fn present(args: &[Expr], value: Expr) -> Expr {
    let is_there = |arg: &Expr| Expr::IsNotNull(Box::new(arg.clone()));
    let all = args.iter().map(is_there).reduce(|all, next| binary(all, BinaryOperator::And, next));
    call("case", all.into_iter().chain([value]))
}

struct Aggregate<'a> {
    function: &'a Function,
    name: &'a str,
    args: &'a [Expr],
}

impl Aggregate<'_> {
    fn to(&self, name: &str, args: impl IntoIterator<Item = Expr>) -> Expr {
        Expr::Function(to(self.function, name, args))
    }

    /// Functions that are window functions of their own with `OVER`.
    fn over_rows(&self) -> Option<Expr> {
        self.function.over.as_ref()?;
        let name = match self.name {
            "first" | "first_value" | "any_value" => "first_value",
            "last" | "last_value" => "last_value",
            _ => return None,
        };
        let mut function = to(self.function, name, [self.args[0].clone()]);
        function.null_treatment = self.ignores_nulls().then_some(NullTreatment::IgnoreNulls);
        Some(Expr::Function(function))
    }

    /// Whether NULLs are left out, by words or by a second argument.
    fn ignores_nulls(&self) -> bool {
        match null_treatment(self.function) {
            Some(treatment) => treatment == NullTreatment::IgnoreNulls,
            None => self.args.get(1).is_some_and(is_true),
        }
    }

    fn of_numbers(&self) -> Result<Option<Expr>> {
        let input = |check: &str, at: usize| call(check, [self.args[at].clone()]);
        Ok(Some(match self.name {
            "count_if" => {
                let one = call("case", [input("as_boolean", 0), number("1")?]);
                self.to("count", [one])
            }
            "sum" | "try_sum" => self.to(self.name, [input("summand", 0)]),
            // Over moving frames sums and counts can take rows back.
            "avg" | "mean" if self.function.over.is_some() => {
                let count = self.to("count", [self.args[0].clone()]);
                call("average", [self.to("sum", [input("addend", 0)]), count])
            }
            "avg" | "mean" => self.to("avg", [input("addend", 0)]),
            "try_avg" => self.to("try_avg", [input("addend", 0)]),
            "bool_and" | "every" => self.to("min", [input("as_boolean", 0)]),
            "bool_or" | "some" | "any" => self.to("max", [input("as_boolean", 0)]),
            "bit_and" | "bit_or" | "bit_xor" => self.to(self.name, [input("as_integral", 0)]),
            "std" | "stddev" => self.to("stddev_samp", [input("as_double", 0)]),
            "variance" => self.to("var_samp", [input("as_double", 0)]),
            "stddev_samp" | "stddev_pop" | "var_samp" | "var_pop" | "skewness" | "kurtosis" => {
                self.to(self.name, [input("as_double", 0)])
            }
            "regr_count" => self.to("count", [present(self.args, number("1")?)]),
            "covar_pop" | "covar_samp" | "corr" | "regr_avgx" | "regr_avgy" | "regr_sxx" | "regr_syy" | "regr_sxy"
            | "regr_slope" | "regr_intercept" | "regr_r2" => {
                self.to(self.name, [input("as_double", 0), input("as_double", 1)])
            }
            "median" => self.percentile(input("as_double", 0), None, number("0.5D")?, ""),
            "percentile" => self.percentile(input("as_double", 0), self.args.get(2).cloned(), self.args[1].clone(), ""),
            "percentile_cont" | "percentile_disc" => {
                let key = self.within_group()?;
                let kind = match (self.name == "percentile_disc", key.options.asc == Some(false)) {
                    (false, false) => "",
                    (false, true) => "descending",
                    (true, false) => "discrete",
                    (true, true) => "discrete descending",
                };
                self.percentile(call("as_double", [key.expr.clone()]), None, self.args[0].clone(), kind)
            }
            _ => return Ok(None),
        }))
    }

    fn percentile(&self, value: Expr, frequency: Option<Expr>, fraction: Expr, kind: &str) -> Expr {
        let frequency = frequency.unwrap_or_else(|| Expr::value(Value::Number("1".to_owned(), false)));
        self.to("percentile", [value, call("as_long", [frequency]), fraction, text_literal(kind.to_owned())])
    }

    fn of_values(&self) -> Result<Expr> {
        let arg = |at: usize| self.args[at].clone();
        let input = |check: &str, at: usize| call(check, [self.args[at].clone()]);
        let or = |at: usize, default: &str| self.args.get(at).cloned().map_or_else(|| number(default), Ok);
        let word = |word: &str| text_literal(word.to_owned());
        let nulls = |yes: &str, ignored: bool| word(if ignored { "ignore" } else { yes });
        Ok(match self.name {
            "min" | "max" => self.to(self.name, [input("as_ordered", 0)]),
            "min_by" | "max_by" => match self.args.get(2) {
                None => self.to(self.name, [arg(0), input("as_ordered", 1)]),
                Some(k) => self.to(&format!("{}_several", self.name), [arg(0), input("as_ordered", 1), k.clone()]),
            },
            "first" | "first_value" | "any_value" | "last" | "last_value" => {
                if self.args.get(1).is_some_and(|flag| !is_boolean(flag)) {
                    return Err(EngineError::query(format!(
                        "[_LEGACY_ERROR_TEMP_1210] the second argument of {} is not TRUE or FALSE",
                        self.name
                    )));
                }
                let name = if self.name.starts_with("last") { "last" } else { "first" };
                self.to(name, [arg(0), nulls("", self.ignores_nulls())])
            }
            "collect_list" | "array_agg" | "collect_set" => {
                let keeps = null_treatment(self.function) == Some(NullTreatment::RespectNulls);
                let (name, value) = match self.name {
                    "collect_set" => ("collect_set", input("as_hashable", 0)),
                    _ => ("collect_list", arg(0)),
                };
                self.to(name, [value, nulls("respect", !keeps)])
            }
            "listagg" | "string_agg" => self.list_agg()?,
            "mode" => self.mode()?,
            "percentile_approx" | "approx_percentile" => {
                self.to("percentile_approx", [input("as_measure", 0), arg(1), or(2, "10000")?])
            }
            "approx_count_distinct" => self.to(self.name, [input(super::HASH_FOR_COUNT, 0), or(1, "0.05D")?]),
            "hll_sketch_agg" => self.to(self.name, [input("as_sketched", 0), or(1, "12")?]),
            "hll_union_agg" => {
                if self.args.get(1).is_some_and(|flag| !is_boolean(flag)) {
                    return Err(EngineError::query(
                        "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] the second argument of hll_union_agg is not TRUE or FALSE",
                    ));
                }
                let any_k = self.args.get(1).is_some_and(is_true);
                self.to(self.name, [input("as_binary", 0), word(if any_k { "any" } else { "same" })])
            }
            "histogram_numeric" => self.to(self.name, [input("as_measure", 0), arg(1)]),
            "count_min_sketch" => self.to(self.name, [input("as_counted", 0), arg(1), arg(2), arg(3)]),
            "bitmap_construct_agg" => self.to(self.name, [input("as_long", 0)]),
            "bitmap_or_agg" | "bitmap_and_agg" => self.to(self.name, [input("as_binary", 0)]),
            "approx_top_k" => self.to(self.name, [arg(0), or(1, "5")?, or(2, "10000")?]),
            other => return Err(EngineError::internal(format!("the aggregate {other} is listed and not lowered"))),
        })
    }

    /// The one key of `WITHIN GROUP (ORDER BY key)`.
    fn within_group(&self) -> Result<&OrderByExpr> {
        match self.function.within_group.as_slice() {
            [key] => Ok(key),
            [] => Err(EngineError::query(format!(
                "[INVALID_WITHIN_GROUP_EXPRESSION.WITHIN_GROUP_MISSING] {} needs WITHIN GROUP (ORDER BY ...)",
                self.name
            ))
            .help(format!("write {}(...) WITHIN GROUP (ORDER BY x)", self.name))),
            _ => Err(EngineError::query(format!(
                "[INVALID_WITHIN_GROUP_EXPRESSION.WRONG_NUM_ORDERINGS] {} takes one key in WITHIN GROUP",
                self.name
            ))),
        }
    }

    fn mode(&self) -> Result<Expr> {
        let (value, largest) = match self.args {
            // The flag is "deterministic": of several the smallest.
            [value] => (value.clone(), false),
            [value, flag] if is_boolean(flag) => (value.clone(), false),
            [_, _] => {
                return Err(EngineError::query(
                    "[NON_FOLDABLE_ARGUMENT] the second argument of mode is not TRUE or FALSE",
                ));
            }
            _ => {
                let key = self.within_group()?;
                (key.expr.clone(), key.options.asc == Some(false))
            }
        };
        Ok(self.to("mode", [value, text_literal(if largest { "largest" } else { "smallest" }.to_owned())]))
    }

    fn list_agg(&self) -> Result<Expr> {
        let keys = &self.function.within_group;
        let same = |key: &OrderByExpr| key.expr == self.args[0];
        if is_distinct(self.function) && !keys.is_empty() && !matches!(keys.as_slice(), [key] if same(key)) {
            return Err(EngineError::query(
                "[INVALID_WITHIN_GROUP_EXPRESSION.MISMATCH_WITH_DISTINCT_INPUT] listagg(DISTINCT x) can be ordered by x only",
            ));
        }
        let separator = self.args.get(1).cloned().unwrap_or_else(|| text_literal(String::new()));
        let text = call("as_text", [self.args[0].clone()]);
        let order = keys.iter().flat_map(|key| {
            let descending = key.options.asc == Some(false);
            let nulls_first = key.options.nulls_first.unwrap_or(!descending);
            [if descending { 'd' } else { 'a' }, if nulls_first { 'f' } else { 'l' }]
        });
        let order = text_literal(order.collect());
        let keys = keys.iter().map(|key| call("as_ordered", [key.expr.clone()]));
        Ok(self.to("listagg", std::iter::once(text).chain(keys).chain([separator, order])))
    }
}

/// The same call by another name, with other arguments and without what became an argument.
fn to(function: &Function, name: &str, args: impl IntoIterator<Item = Expr>) -> Function {
    let mut function = with_args(function.clone(), args);
    function.name = ObjectName::from(vec![Ident::new(name)]);
    function.within_group.clear();
    function.null_treatment = None;
    if let FunctionArguments::List(list) = &mut function.args {
        list.clauses.retain(|clause| !matches!(clause, FunctionArgumentClause::IgnoreOrRespectNulls(_)));
    }
    function
}

/// `IGNORE NULLS` or `RESPECT NULLS`, inside of the brackets or behind them.
pub(in crate::plan::functions) fn null_treatment(function: &Function) -> Option<NullTreatment> {
    let inside = |clause: &FunctionArgumentClause| match clause {
        FunctionArgumentClause::IgnoreOrRespectNulls(treatment) => Some(*treatment),
        _ => None,
    };
    function.null_treatment.or_else(|| match &function.args {
        FunctionArguments::List(list) => list.clauses.iter().find_map(inside),
        _ => None,
    })
}

fn is_distinct(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list) if list.duplicate_treatment == Some(DuplicateTreatment::Distinct))
}

fn is_true(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if value.value == Value::Boolean(true))
}

fn is_boolean(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Boolean(_)))
}
