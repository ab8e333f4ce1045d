//! Calls of functions by Spark's names, rewritten where DataFusion's function of the same meaning has another name
//! or form.
//!
//! Aggregates are in [`aggregates::lower`].

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, LambdaFunction, ObjectName,
    Value,
};

use super::absent;
use super::aggregates;
use super::grouping;
use super::lower::{binary, call, negate, number, plain_call, text_literal, type_of_function};
use super::naming::spark_column_name;
use crate::error::{EngineError, Result};

/// A call whose arguments have been lowered.
pub(super) fn lowered(function: Function) -> Result<Expr> {
    let name = function.name.to_string().to_lowercase().replace('`', "");
    absent::check(&function, &name)?;
    let Some(args) = positional(&function) else {
        aggregates::lower::check(&function, &name, &[])?;
        return Ok(Expr::Function(renamed(function, &name)));
    };
    if let ([_], Some(data_type)) = (args.as_slice(), type_of_function(&name)) {
        return Ok(call("cast", [args[0].clone(), text_literal(data_type.to_owned())]));
    }
    if let Some(expr) = conditional(&name, &args)? {
        return Ok(expr);
    }
    if let Some(expr) = higher_order(&name, &args)? {
        return Ok(expr);
    }
    aggregate(function, &name, &args)
}

/// The arguments, if they are all plain expressions.
pub(crate) fn positional(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let expr = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(expr).collect()
}

pub(super) fn with_args(mut function: Function, args: impl IntoIterator<Item = Expr>) -> Function {
    let (FunctionArguments::List(old), FunctionArguments::List(new)) = (&mut function.args, plain_call("", args).args)
    else {
        return function;
    };
    old.args = new.args;
    function
}

fn renamed(mut function: Function, name: &str) -> Function {
    let to = match name {
        "map" => "map_of",
        "now" => "current_timestamp",
        "curdate" => "current_date",
        "random" => "rand",
        other => other,
    };
    function.name = ObjectName::from(vec![Ident::new(to)]);
    function
}

/// What chooses between its arguments: only the chosen one is evaluated.
fn conditional(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    let null = || Expr::value(Value::Null);
    Ok(Some(match (name, args) {
        ("if", [c, a, b]) => call("case", [c.clone(), a.clone(), b.clone()]),
        ("nvl" | "ifnull", [a, b]) => call("coalesce", [a.clone(), b.clone()]),
        ("nvl2", [c, a, b]) => call("case", [Expr::IsNotNull(Box::new(c.clone())), a.clone(), b.clone()]),
        ("nullif", [a, b]) => call("case", [binary(a.clone(), BinaryOperator::Eq, b.clone()), null(), a.clone()]),
        ("nullifzero", [a]) => call("case", [binary(a.clone(), BinaryOperator::Eq, number("0")?), null(), a.clone()]),
        ("zeroifnull", [a]) => call("coalesce", [a.clone(), number("0")?]),
        ("isnull", [a]) => Expr::IsNull(Box::new(a.clone())),
        ("isnotnull", [a]) => Expr::IsNotNull(Box::new(a.clone())),
        ("decode", [value, rest @ ..]) if rest.len() > 1 => {
            let branch = |pair: &[Expr]| match pair {
                [key, result] => vec![binary(value.clone(), BinaryOperator::Spaceship, key.clone()), result.clone()],
                last => last.to_vec(),
            };
            call("case", rest.chunks(2).flat_map(branch))
        }
        ("equal_null", [a, b]) => binary(a.clone(), BinaryOperator::Spaceship, b.clone()),
        ("localtimestamp", []) => {
            call("cast", [call("current_timestamp", []), text_literal("TIMESTAMP_NTZ".to_owned())])
        }
        ("round" | "bround" | "ceil" | "ceiling" | "floor", [value, scale]) => {
            call(if name == "ceiling" { "ceil" } else { name }, [value.clone(), plain_number(scale)])
        }
        ("div", [a, b]) => binary(a.clone(), BinaryOperator::MyIntegerDivide, b.clone()),
        ("mod", [a, b]) => binary(a.clone(), BinaryOperator::Modulo, b.clone()),
        ("ltrim", [what, from]) => call("ltrim_chars", [from.clone(), what.clone()]),
        ("rtrim", [what, from]) => call("rtrim_chars", [from.clone(), what.clone()]),
        ("uniform", [from, to, seed @ ..]) if seed.len() < 2 => {
            call("uniform_between", [from.clone(), to.clone(), call("rand", seed.to_vec())])
        }
        ("uniform", _) => {
            return Err(EngineError::query(format!(
                "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] `uniform` takes 2 to 3 arguments, found {}",
                args.len()
            )));
        }
        ("from_avro", [value, schema, options]) => match constant_options(options) {
            Some(options) => call("from_avro", [value.clone(), schema.clone()].into_iter().chain(options)),
            None => return Ok(None),
        },
        _ => return Ok(None),
    }))
}

/// The names and values in a map of constant texts: options that decide a type, which the planner must see one by one.
fn constant_options(options: &Expr) -> Option<Vec<Expr>> {
    let is_text =
        |expr: &Expr| matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)));
    match options {
        Expr::Value(value) if value.value == Value::Null => Some(Vec::new()),
        Expr::Function(map) if map.name.to_string().eq_ignore_ascii_case("map_of") => {
            positional(map).filter(|pairs| pairs.iter().all(is_text))
        }
        _ => None,
    }
}

/// A literal that the planner reads as a constant at once, for arguments that decide a type.
pub(crate) fn plain_number(expr: &Expr) -> Expr {
    if let Expr::Function(function) = expr
        && function.name.to_string() == "typed_literal"
        && let Some([Expr::Value(text)]) = positional(function).as_deref()
        && let Value::SingleQuotedString(text) = &text.value
    {
        return Expr::value(Value::Number(text.clone(), false));
    }
    expr.clone()
}

/// Functions of functions: `exists` and `forall` by DataFusion's name, the others by ours.
fn higher_order(name: &str, args: &[Expr]) -> Result<Option<Expr>> {
    check_parameters(name, args)?;
    let any = |array: &Expr, lambda: LambdaFunction| call("array_any_match", [array.clone(), Expr::Lambda(lambda)]);
    Ok(match (name, args) {
        ("exists", [array, Expr::Lambda(lambda)]) => Some(any(array, lambda.clone())),
        ("forall", [array, Expr::Lambda(lambda)]) => {
            let mut opposite = lambda.clone();
            *opposite.body = negate(true, Expr::Nested(lambda.body.clone()));
            Some(negate(true, any(array, opposite)))
        }
        ("reduce", [_, _, Expr::Lambda(_), ..]) => Some(call("aggregate", args.to_vec())),
        ("array_sort", [_, Expr::Lambda(_)]) => Some(call("array_sort_by", args.to_vec())),
        _ => None,
    })
}

/// Refuses a lambda that has more or fewer parameters than its function gives it.
fn check_parameters(name: &str, args: &[Expr]) -> Result<()> {
    let lambdas = args.iter().filter_map(|arg| match arg {
        Expr::Lambda(lambda) => Some(lambda.params.len()),
        _ => None,
    });
    for (at, found) in lambdas.enumerate() {
        let expected = match (name, at) {
            ("transform" | "filter", 0) => 1..=2,
            ("exists" | "forall", 0) | ("aggregate" | "reduce", 1) => 1..=1,
            ("zip_with" | "array_sort" | "map_filter" | "transform_keys" | "transform_values", 0)
            | ("aggregate" | "reduce", 0) => 2..=2,
            ("map_zip_with", 0) => 3..=3,
            _ => continue,
        };
        if !expected.contains(&found) {
            let (least, most) = expected.into_inner();
            let expected = if least == most { least.to_string() } else { format!("{least} or {most}") };
            return Err(EngineError::query(format!(
                "[INVALID_LAMBDA_FUNCTION_CALL.NUM_ARGS_MISMATCH] a lambda of `{name}` takes {expected} parameters, found {found}"
            )));
        }
    }
    Ok(())
}

/// Aggregates, and what stays as it is.
fn aggregate(function: Function, name: &str, args: &[Expr]) -> Result<Expr> {
    if matches!(name, "row_number" | "rank" | "dense_rank" | "ntile") && function.over.is_some() {
        return Ok(call("cast", [Expr::Function(function), text_literal("INT".to_owned())]));
    }
    if let Some(expr) = grouping::lowered(name, args) {
        return Ok(expr);
    }
    match aggregates::lower::lowered(&function, name, args)? {
        Some(expr) => Ok(expr),
        None => Ok(Expr::Function(renamed(function, name))),
    }
}

/// `struct(a, b AS c, 1)`: fields are named by column, alias or place.
pub(super) fn structure(values: Vec<Expr>) -> Expr {
    let field = |(i, value): (usize, Expr)| {
        let (name, value) = match value {
            Expr::Named { expr, name } => (name.value, *expr),
            Expr::Identifier(ident) => (ident.value.clone(), Expr::Identifier(ident)),
            Expr::CompoundIdentifier(parts) => {
                (parts.last().map(|part| part.value.clone()).unwrap_or_default(), Expr::CompoundIdentifier(parts))
            }
            other => (format!("col{}", i + 1), other),
        };
        [text_literal(name), value]
    };
    call("named_struct", values.into_iter().enumerate().flat_map(field))
}

/// `assert_true(x > 1)` says what was not true as it was written: the message is put there before `x > 1` is lowered.
pub(super) fn asserted_text(function: &mut Function) {
    if !function.name.to_string().eq_ignore_ascii_case("assert_true") {
        return;
    }
    if let Some([condition]) = positional(function).as_deref() {
        let message = format!("'{}' is not true!", spark_column_name(condition));
        *function = with_args(function.clone(), [condition.clone(), text_literal(message)]);
    }
}

/// `timestampadd(HOUR, 2, ts)`: the unit is a word, which would be taken for a column.
pub(super) fn units_as_text(function: &mut Function) {
    let name = function.name.to_string().to_lowercase();
    let FunctionArguments::List(list) = &mut function.args else { return };
    let has_unit = matches!(name.as_str(), "timestampadd" | "timestampdiff")
        || (list.args.len() == 3 && matches!(name.as_str(), "dateadd" | "datediff" | "date_add" | "date_diff"));
    if !has_unit {
        return;
    }
    if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(unit))) = list.args.first_mut()
        && let Expr::Identifier(word) = unit
    {
        *unit = text_literal(word.value.to_uppercase());
        let shifting = matches!(name.as_str(), "timestampadd" | "dateadd" | "date_add");
        function.name = ObjectName::from(vec![Ident::new(if shifting { "timestampadd" } else { "timestampdiff" })]);
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::dialect::SparkDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn check(sql: &str, expected: &str) {
        let mut expr = Parser::new(&SparkDialect).try_with_sql(sql).unwrap().parse_expr().unwrap();
        super::super::lower::lower_expr(&mut expr).unwrap();
        assert_eq!(expr.to_string(), expected);
    }

    #[test]
    fn names_and_forms_are_datafusions() {
        check("mean(x)", "avg(addend(x))");
        check("mean(x) OVER ()", "average(sum(addend(x)) OVER (), count(x) OVER ())");
        check("first(x, true)", "first(x, 'ignore')");
        check("any_value(x) OVER ()", "first_value(x) OVER ()");
        check("if(a, b, c)", "case(a, b, c)");
        check("datediff(HOUR, a, b)", "timestampdiff('HOUR', a, b)");
        check("struct(a, 1)", "named_struct('a', a, 'col2', typed_literal('1'))");
        check("! a", "NOT a");
        check("from_avro(a, 's', map('mode', 'PERMISSIVE'))", "from_avro(a, 's', 'mode', 'PERMISSIVE')");
        check("from_avro(a, 's', NULL)", "from_avro(a, 's')");
        check("from_avro(a, 's', map('mode', b))", "from_avro(a, 's', map_of('mode', b))");
        check("reduce(l, 0, (a, x) -> a + x)", "aggregate(l, typed_literal('0'), (a, x) -> a + x)");
        check("array_sort(l, (a, b) -> a - b)", "array_sort_by(l, (a, b) -> a - b)");
    }
}
