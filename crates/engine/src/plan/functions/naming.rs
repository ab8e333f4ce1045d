//! The names Spark gives to columns whose expression has no alias.
//!
//! Spark writes the expression back as text in its own way: `count(*)` is `count(1)`, `a <> b` is `(NOT (a = b))`,
//! `substring(s, 2)` is `substring(s, 2, 2147483647)`. Downstream queries and sinks by name depend on it.
//!
//! What needs types is not known here: with a column `day`, `day + 1` is named `(day + 1)`, where Spark says
//! `date_add(day, 1)`.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, CaseWhen, CeilFloorKind, DataType, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, Ident, Interval, LambdaFunction, NullTreatment, OrderByExpr, Subscript,
    TrimWhereField, TypedString, UnaryOperator, Value,
};

use super::aggregates;
use super::interval::SparkInterval;
use super::literal::NumberLiteral;

/// The name of a select item without alias. A name of several parts is taken as `table.column.field...`.
pub fn spark_column_name(expr: &Expr) -> String {
    column_name(expr, &|parts| usize::from(parts.len() > 1))
}

/// The same, with a function that tells how many leading parts of a compound name are the table's.
pub(crate) fn column_name(expr: &Expr, qualifier: &dyn Fn(&[Ident]) -> usize) -> String {
    let namer = Namer { qualifier };
    match strip(expr) {
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()).unwrap_or_default(),
        Expr::Cast { expr: inner, data_type, .. } if is_name(strip(inner)) || is_nested(data_type) => {
            column_name(inner, qualifier)
        }
        Expr::Function(function) if is_type_function(function) => {
            args(function).first().map_or_else(String::new, |arg| column_name(arg, qualifier))
        }
        expr => namer.text(expr),
    }
}

fn is_name(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
}

fn strip(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => strip(inner),
        _ => expr,
    }
}

fn is_nested(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Array(_) | DataType::Struct(..) | DataType::Map(..))
}

fn is_type_function(function: &Function) -> bool {
    args(function).len() == 1 && super::lower::type_of_function(&function.name.to_string()).is_some()
}

/// The positional arguments of a call.
fn args(function: &Function) -> Vec<&Expr> {
    let FunctionArguments::List(list) = &function.args else { return Vec::new() };
    let expr = |arg| match arg {
        &FunctionArg::Unnamed(FunctionArgExpr::Expr(ref expr)) => Some(expr),
        _ => None,
    };
    list.args.iter().filter_map(expr).collect()
}

/// How every parameter of a lambda is written.
const VARIABLE: &str = "namedlambdavariable()";

struct Namer<'a> {
    qualifier: &'a dyn Fn(&[Ident]) -> usize,
}

impl Namer<'_> {
    fn text(&self, expr: &Expr) -> String {
        match expr {
            Expr::Nested(inner) => self.text(inner),
            Expr::Identifier(ident) => ident.value.clone(),
            Expr::CompoundIdentifier(parts) => {
                let is_parameter = parts.first().is_some_and(|first| first.value == VARIABLE);
                let qualifier = if is_parameter { 0 } else { (self.qualifier)(parts) };
                let kept = &parts[qualifier.min(parts.len())..];
                kept.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".")
            }
            Expr::Value(value) => literal(&value.value),
            Expr::TypedString(typed) => typed_string(typed),
            Expr::Interval(interval) => interval_text(interval),
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right),
            Expr::UnaryOp { op, expr } => self.unary(*op, expr),
            Expr::IsNull(e) => format!("({} IS NULL)", self.text(e)),
            Expr::IsNotNull(e) => format!("({} IS NOT NULL)", self.text(e)),
            Expr::IsTrue(e) => format!("({} <=> true)", self.text(e)),
            Expr::IsFalse(e) => format!("({} <=> false)", self.text(e)),
            Expr::IsNotTrue(e) => format!("(NOT ({} <=> true))", self.text(e)),
            Expr::IsNotFalse(e) => format!("(NOT ({} <=> false))", self.text(e)),
            Expr::IsNotDistinctFrom(a, b) => format!("({} <=> {})", self.text(a), self.text(b)),
            Expr::IsDistinctFrom(a, b) => format!("(NOT ({} <=> {}))", self.text(a), self.text(b)),
            Expr::Between { expr, negated, low, high } => {
                negate(*negated, format!("between({})", self.list([&**expr, &**low, &**high])))
            }
            Expr::InList { expr, list, negated } => {
                negate(*negated, format!("({} IN ({}))", self.text(expr), self.list(list)))
            }
            Expr::Like { negated, expr, pattern, escape_char, .. } => {
                let escape = escape_char.as_ref().map(|c| format!(" ESCAPE {}", c.value)).unwrap_or_default();
                negate(*negated, format!("{} LIKE {}{escape}", self.text(expr), self.text(pattern)))
            }
            Expr::ILike { negated, expr, pattern, .. } => {
                negate(*negated, format!("ilike({}, {})", self.text(expr), self.text(pattern)))
            }
            Expr::RLike { negated, expr, pattern, .. } => {
                negate(*negated, format!("RLIKE({}, {})", self.text(expr), self.text(pattern)))
            }
            _ => self.call_like(expr),
        }
    }

    /// What is written with a keyword or brackets around its parts.
    fn call_like(&self, expr: &Expr) -> String {
        match expr {
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())
            }
            // Casts to nested types are not shown.
            Expr::Cast { expr, data_type, .. } if is_nested(data_type) => self.text(expr),
            Expr::Cast { kind, expr, data_type, .. } => {
                let word = match kind {
                    datafusion::sql::sqlparser::ast::CastKind::Cast
                    | datafusion::sql::sqlparser::ast::CastKind::DoubleColon => "CAST",
                    _ => "TRY_CAST",
                };
                format!("{word}({} AS {})", self.text(expr), type_text(data_type))
            }
            Expr::Extract { field, expr, .. } => format!("extract({field} FROM {})", self.text(expr)),
            Expr::Ceil { expr, field } => self.rounding("CEIL", expr, field),
            Expr::Floor { expr, field } => self.rounding("FLOOR", expr, field),
            Expr::Position { expr, r#in } => format!("locate({}, {}, 1)", self.text(expr), self.text(r#in)),
            Expr::Substring { expr, substring_from, substring_for, shorthand, .. } => {
                let from = substring_from.as_ref().map_or_else(|| "1".to_owned(), |e| self.text(e));
                let length = substring_for.as_ref().map_or_else(|| i32::MAX.to_string(), |e| self.text(e));
                let name = if *shorthand { "substr" } else { "substring" };
                format!("{name}({}, {from}, {length})", self.text(expr))
            }
            Expr::Trim { expr, trim_where, trim_what, .. } => self.trim(expr, *trim_where, trim_what.as_deref()),
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                let length = overlay_for.as_ref().map_or_else(|| "-1".to_owned(), |e| self.text(e));
                format!("overlay({}, {length})", self.list([&**expr, &**overlay_what, &**overlay_from]))
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                access_chain.iter().fold(self.text(root), |text, access| match access {
                    AccessExpr::Dot(field) => format!("{text}.{}", self.text(field)),
                    AccessExpr::Subscript(Subscript::Index { index }) => format!("{text}[{}]", self.text(index)),
                    AccessExpr::Subscript(slice) => format!("{text}[{slice}]"),
                })
            }
            Expr::Struct { values, .. } => format!("struct({})", self.list(values)),
            Expr::Named { expr, name } => format!("{} AS {}", self.text(expr), name.value),
            Expr::Lambda(lambda) => self.lambda(lambda),
            Expr::Function(function) => self.function(function),
            Expr::Subquery(_) => "scalarsubquery()".to_owned(),
            Expr::Exists { .. } => "exists()".to_owned(),
            other => other.to_string(),
        }
    }

    fn list<'e>(&self, exprs: impl IntoIterator<Item = &'e Expr>) -> String {
        exprs.into_iter().map(|expr| self.text(expr)).collect::<Vec<_>>().join(", ")
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> String {
        let (a, b) = (self.text(left), self.text(right));
        match op {
            BinaryOperator::NotEq => format!("(NOT ({a} = {b}))"),
            BinaryOperator::StringConcat => format!("concat({a}, {b})"),
            BinaryOperator::MyIntegerDivide => format!("({a} div {b})"),
            BinaryOperator::Spaceship => format!("({a} <=> {b})"),
            BinaryOperator::Regexp | BinaryOperator::PGRegexMatch => format!("RLIKE({a}, {b})"),
            BinaryOperator::Plus if is_date(left) && is_number(right) => format!("date_add({a}, {b})"),
            BinaryOperator::Minus if is_date(left) && is_number(right) => format!("date_sub({a}, {b})"),
            BinaryOperator::Plus if is_date(left) && is_days(right) => {
                format!("date_add({a}, extractansiintervaldays({b}))")
            }
            BinaryOperator::Minus if is_date(left) && is_days(right) => {
                format!("date_add({a}, (- extractansiintervaldays({b})))")
            }
            BinaryOperator::Plus | BinaryOperator::Minus if is_time_shift(left, right) => format!("{a} {op} {b}"),
            BinaryOperator::Plus if is_time_shift(right, left) => format!("{b} {op} {a}"),
            _ => format!("({a} {op} {b})"),
        }
    }

    fn unary(&self, op: UnaryOperator, expr: &Expr) -> String {
        match (op, expr) {
            (UnaryOperator::Minus, Expr::Value(value)) if matches!(value.value, Value::Number(..)) => {
                format!("-{}", self.text(expr))
            }
            (UnaryOperator::Minus, _) => format!("(- {})", self.text(expr)),
            (UnaryOperator::Plus, _) => format!("(+ {})", self.text(expr)),
            (UnaryOperator::Not | UnaryOperator::BangNot, _) => format!("(NOT {})", self.text(expr)),
            _ => format!("{op}{}", self.text(expr)),
        }
    }

    fn case(&self, operand: Option<&Expr>, conditions: &[CaseWhen], otherwise: Option<&Expr>) -> String {
        let mut text = "CASE".to_owned();
        for CaseWhen { condition, result } in conditions {
            let condition = match operand {
                Some(operand) => format!("({} = {})", self.text(operand), self.text(condition)),
                None => self.text(condition),
            };
            text += &format!(" WHEN {condition} THEN {}", self.text(result));
        }
        if let Some(otherwise) = otherwise {
            text += &format!(" ELSE {}", self.text(otherwise));
        }
        text + " END"
    }

    fn rounding(&self, name: &str, expr: &Expr, field: &CeilFloorKind) -> String {
        match field {
            CeilFloorKind::Scale(scale) => {
                format!("{}({}, {})", name.to_lowercase(), self.text(expr), literal(&scale.value))
            }
            CeilFloorKind::DateTimeField(_) => format!("{name}({})", self.text(expr)),
        }
    }

    fn trim(&self, expr: &Expr, side: Option<TrimWhereField>, what: Option<&Expr>) -> String {
        let side = side.map_or_else(|| "BOTH".to_owned(), |side| side.to_string());
        match what {
            Some(what) => format!("TRIM({side} {} FROM {})", self.text(what), self.text(expr)),
            None => match side.as_str() {
                "LEADING" => format!("ltrim({})", self.text(expr)),
                "TRAILING" => format!("rtrim({})", self.text(expr)),
                _ => format!("trim({})", self.text(expr)),
            },
        }
    }

    fn lambda(&self, lambda: &LambdaFunction) -> String {
        let names: Vec<String> = lambda.params.iter().map(|p| p.name.value.to_lowercase()).collect();
        let body = RenameVariables { names: &names }.text(&lambda.body, self);
        let params = vec![VARIABLE; names.len()].join(", ");
        format!("lambdafunction({body}, {params})")
    }

    fn function(&self, function: &Function) -> String {
        let name = function.name.to_string().to_lowercase().replace('`', "");
        let values = args(function);
        let mut parts: Vec<String> = values.iter().map(|arg| self.text(arg)).collect();
        if is_star(function) {
            parts = vec!["1".to_owned()];
        }
        let text = match (name.as_str(), parts.as_slice()) {
            ("mode", [..]) if !parts.is_empty() || !function.within_group.is_empty() => self.mode(function, &values),
            ("if", [c, a, b]) => format!("(IF({c}, {a}, {b}))"),
            ("convert_timezone", [to, e]) => format!("convert_timezone(current_timezone(), {to}, {e})"),
            ("isnull", [e]) => format!("({e} IS NULL)"),
            ("isnotnull", [e]) => format!("({e} IS NOT NULL)"),
            ("div", [a, b]) => format!("({a} div {b})"),
            ("positive", [e]) => format!("(+ {e})"),
            ("log", [e]) => format!("LOG(E(), {e})"),
            ("from_json", [_, schema, ..]) if is_map(schema) => "entries".to_owned(),
            ("raise_error", [e]) => format!("raise_error(USER_RAISED_EXCEPTION, map(errorMessage, {e}))"),
            ("assert_true", [e]) => format!("assert_true({e}, '{e}' is not true!)"),
            ("time_bucket", [size, time]) => {
                let kind = if time.starts_with("TIMESTAMP_NTZ") { "TIMESTAMP_NTZ" } else { "TIMESTAMP" };
                format!("time_bucket({size}, {time}, {kind} '1970-01-01 00:00:00')")
            }
            ("to_varchar", [e, format]) if format.eq_ignore_ascii_case("hex") => format!("to_varchar({e})"),
            ("to_char" | "to_varchar", [e, format]) => char_text(values[0], e, format),
            ("datepart", [field, e]) => format!("datepart({field} FROM {e})"),
            ("ltrim", [what, from]) => format!("TRIM(LEADING {what} FROM {from})"),
            ("rtrim", [what, from]) => format!("TRIM(TRAILING {what} FROM {from})"),
            _ if is_type_function(function) => parts.concat(),
            _ => {
                parts.extend(defaults(&name, parts.len()).iter().map(|&text| text.to_owned()));
                parts.truncate(shown(&name, parts.len()));
                let distinct = if is_distinct(function) { "DISTINCT " } else { "" };
                let display = match (name.as_str(), aggregates::lower::null_treatment(function)) {
                    ("first_value", Some(_)) => "first".to_owned(),
                    ("last_value", Some(_)) => "last".to_owned(),
                    ("string_agg", _) if !function.within_group.is_empty() => "listagg".to_owned(),
                    _ => display(&name, values.len()),
                };
                format!("{display}({distinct}{})", parts.join(", "))
            }
        };
        let text = format!("{text}{}{}", self.within_group(&name, function), kept_nulls(&name, function));
        match &function.filter {
            Some(filter) => format!("{text} FILTER (WHERE {})", self.text(filter)),
            None => text,
        }
    }

    /// The order `listagg` and percentiles take their rows in; Spark writes it out for the first only.
    fn within_group(&self, name: &str, function: &Function) -> String {
        if name == "mode" || function.within_group.is_empty() {
            return String::new();
        }
        let in_full = matches!(name, "listagg" | "string_agg");
        let key = |key: &OrderByExpr| {
            let descending = key.options.asc == Some(false);
            let nulls_first = key.options.nulls_first.unwrap_or(!descending);
            let way = match (in_full, descending, nulls_first) {
                (true, false, true) => " ASC NULLS FIRST",
                (true, false, false) => " ASC NULLS LAST",
                (true, true, true) => " DESC NULLS FIRST",
                (true, true, false) => " DESC NULLS LAST",
                (false, true, _) => " DESC",
                (false, false, _) => "",
            };
            format!("{}{way}", self.text(&key.expr))
        };
        let keys: Vec<String> = function.within_group.iter().map(key).collect();
        format!(" WITHIN GROUP (ORDER BY {})", keys.join(", "))
    }

    /// `mode` shows the order by which it decides between equals, turned round.
    fn mode(&self, function: &Function, values: &[&Expr]) -> String {
        let ordered = |value: &Expr, largest: bool| {
            let way = if largest { "" } else { " DESC" };
            format!("mode() WITHIN GROUP (ORDER BY {}{way})", self.text(value))
        };
        match (values, function.within_group.as_slice()) {
            ([value, flag], _) if self.text(flag) == "true" => ordered(value, false),
            ([value, ..], _) => format!("mode({})", self.text(value)),
            ([], [key, ..]) => ordered(&key.expr, key.options.asc == Some(false)),
            ([], []) => "mode()".to_owned(),
        }
    }
}

/// Names in a lambda's body that are its parameters are all written alike.
struct RenameVariables<'a> {
    names: &'a [String],
}

impl RenameVariables<'_> {
    fn text(&self, body: &Expr, namer: &Namer<'_>) -> String {
        use datafusion::sql::sqlparser::ast::{VisitMut, VisitorMut};
        struct Rename<'a>(&'a [String]);
        impl VisitorMut for Rename<'_> {
            type Break = ();
            fn post_visit_expr(&mut self, expr: &mut Expr) -> std::ops::ControlFlow<()> {
                let name = match expr {
                    Expr::Identifier(ident) => Some(ident),
                    Expr::CompoundIdentifier(parts) => parts.first_mut(),
                    _ => None,
                };
                if let Some(ident) = name.filter(|ident| self.0.contains(&ident.value.to_lowercase())) {
                    ident.value = VARIABLE.to_owned();
                }
                std::ops::ControlFlow::Continue(())
            }
        }
        let mut body = body.clone();
        let _ = VisitMut::visit(&mut body, &mut Rename(self.names));
        namer.text(&body)
    }
}

/// `RESPECT NULLS` is shown where leaving them out is usual.
fn kept_nulls(name: &str, function: &Function) -> &'static str {
    let keeps = aggregates::lower::null_treatment(function) == Some(NullTreatment::RespectNulls);
    if keeps && matches!(name, "collect_list" | "array_agg" | "collect_set") { " RESPECT NULLS" } else { "" }
}

fn negate(negated: bool, text: String) -> String {
    if negated { format!("(NOT {text})") } else { text }
}

fn is_star(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
}

fn is_distinct(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    list.duplicate_treatment == Some(DuplicateTreatment::Distinct)
}

/// Whether it is a date by its form alone.
fn is_date(expr: &Expr) -> bool {
    match expr {
        Expr::TypedString(TypedString { data_type, .. }) | Expr::Cast { data_type, .. } => {
            matches!(data_type, DataType::Date)
        }
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            matches!(name.as_str(), "to_date" | "current_date" | "curdate" | "make_date" | "last_day")
        }
        _ => false,
    }
}

/// Whether it is an interval of days alone, as it is written.
fn is_days(expr: &Expr) -> bool {
    matches!(expr, Expr::Interval(interval) if interval_text(interval).ends_with("' DAY"))
}

/// Whether it is an interval by its form alone.
fn is_interval(expr: &Expr) -> bool {
    match expr {
        Expr::Interval(_) => true,
        Expr::Function(function) => {
            let name = function.name.to_string().to_lowercase();
            matches!(name.as_str(), "make_interval" | "try_make_interval" | "make_dt_interval" | "make_ym_interval")
        }
        _ => false,
    }
}

fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Number(..)))
}

/// An interval added to a time is written without brackets; to another interval, with.
fn is_time_shift(left: &Expr, right: &Expr) -> bool {
    is_interval(right) && !is_interval(left)
}

fn literal(value: &Value) -> String {
    match value {
        Value::Number(text, _) => NumberLiteral::parse(text).map_or_else(|| text.clone(), |number| number.to_string()),
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
        Value::HexStringLiteral(hex) => format!("X'{}'", hex.to_uppercase()),
        Value::Boolean(true) => "true".to_owned(),
        Value::Boolean(false) => "false".to_owned(),
        other => other.to_string(),
    }
}

fn typed_string(typed: &TypedString) -> String {
    let text = typed.value.clone().into_string().unwrap_or_default();
    let normal = super::literal::typed_text(&typed.data_type, &text).unwrap_or(text);
    format!("{} '{normal}'", type_text(&typed.data_type))
}

fn interval_text(interval: &Interval) -> String {
    SparkInterval::from_ast(interval).map_or_else(|_| interval.to_string(), |interval| interval.to_string())
}

/// A type in Spark's words, with the sizes that were left out.
fn type_text(data_type: &DataType) -> String {
    let Ok(arrow) = super::types::from_ast(data_type) else { return data_type.to_string() };
    crate::plan::ddl::type_name(&arrow)
}

/// What is left out of an interval.
const ZEROS: &[&str] = &["0", "0", "0", "0", "0", "0", "0.000000"];

/// `to_char` by what it does; where only the type tells, as of a number.
fn char_text(value: &Expr, text: &str, format: &str) -> String {
    match value {
        Expr::TypedString(_) => format!("date_format({text}, {format})"),
        Expr::Value(value) if matches!(value.value, Value::HexStringLiteral(_)) => {
            match format.trim().to_lowercase().as_str() {
                coding @ ("base64" | "hex") => format!("{coding}({text})"),
                _ => format!("decode({text}, {format})"),
            }
        }
        _ => format!("to_char({text}, {format})"),
    }
}

/// What is left out of encryption: mode, padding, vector and additional data.
const AES: &[&str] = &["GCM", "DEFAULT", "", ""];

/// How `array_sort` compares where nobody says: NULLs last.
const COMPARATOR: &str = "lambdafunction((IF(((namedlambdavariable() IS NULL) AND (namedlambdavariable() IS NULL)), 0, \
    (IF((namedlambdavariable() IS NULL), 1, (IF((namedlambdavariable() IS NULL), -1, \
    (IF((namedlambdavariable() < namedlambdavariable()), -1, \
    (IF((namedlambdavariable() > namedlambdavariable()), 1, 0)))))))))), \
    namedlambdavariable(), namedlambdavariable())";

/// Arguments that Spark adds to the text when they were left out.
fn defaults(name: &str, given: usize) -> &'static [&'static str] {
    match (name, given) {
        ("substring" | "substr", 2) => &["2147483647"],
        ("locate" | "position", 2) | ("regexp_extract" | "regexp_extract_all", 2) | ("regexp_replace", 3) => &["1"],
        ("make_interval" | "try_make_interval", given) => ZEROS.get(given..).unwrap_or_default(),
        ("make_dt_interval", given) => ZEROS.get(given + 3..).unwrap_or_default(),
        ("make_ym_interval", given) => ZEROS.get(given..2).unwrap_or_default(),
        ("hmac", 2) => &["SHA-256"],
        ("vector_norm" | "vector_normalize", 1) => &["2.0"],
        ("rpad" | "lpad", 2) => &[" "],
        ("split", 2) => &["-1"],
        ("replace", 2) => &[""],
        ("overlay", 3) => &["-1"],
        ("regexp_instr", 2) | ("round" | "bround", 1) => &["0"],
        ("unix_timestamp" | "to_unix_timestamp" | "from_unixtime", 1) => &["yyyy-MM-dd HH:mm:ss"],
        ("months_between", 2) | ("sort_array", 1) => &["true"],
        ("percentile", 2) => &["1"],
        ("percentile_approx" | "approx_percentile" | "approx_top_k", 2) => &["10000"],
        ("approx_top_k", 1) => &["5", "10000"],
        ("listagg" | "string_agg", 1) => &["NULL"],
        ("mask", 1) => &["X", "x", "n", "NULL"],
        ("sentences", 1) => &["", ""],
        ("array_sort", 1) => &[COMPARATOR],
        ("aes_encrypt", given) => AES.get(given.wrapping_sub(2)..).unwrap_or_default(),
        ("aes_decrypt" | "try_aes_decrypt", given) => AES.get(given.wrapping_sub(2)..3).unwrap_or_default(),
        ("hll_sketch_agg", 1) => &["12"],
        ("hll_union", 2) | ("hll_union_agg", 1) => &["false"],
        ("aggregate" | "reduce", 3) => &["lambdafunction(namedlambdavariable(), namedlambdavariable())"],
        _ => &[],
    }
}

/// Whether a schema is that of a map, whose documents Spark calls by another name.
fn is_map(schema: &str) -> bool {
    schema.trim_start().get(..3).is_some_and(|start| start.eq_ignore_ascii_case("map"))
}

/// How many arguments Spark shows; the flag "ignore nulls" is not among them, nor are the schema and options of JSON
/// and CSV.
fn shown(name: &str, given: usize) -> usize {
    match name {
        "first" | "first_value" | "last" | "last_value" | "any_value" | "approx_count_distinct" => given.min(1),
        "from_json" | "to_json" | "schema_of_json" | "from_csv" | "to_csv" | "schema_of_csv" => given.min(1),
        "try_make_timestamp" => given.min(6),
        // Their seeds are not shown, that of `rand` is.
        "uuid" => 0,
        "shuffle" => given.min(1),
        _ => given,
    }
}

/// The name Spark writes: most in lower case, some mathematics in upper case, some by another name.
fn display(name: &str, given: usize) -> String {
    match name {
        "sqrt" | "cbrt" | "exp" | "expm1" | "log" | "log10" | "log2" | "log1p" | "power" | "signum" | "sin" | "cos"
        | "tan" | "asin" | "acos" | "atan" | "atan2" | "sinh" | "cosh" | "tanh" | "asinh" | "acosh" | "atanh"
        | "degrees" | "radians" | "pi" | "e" | "hypot" | "rlike" | "regexp_like" => name.to_uppercase(),
        "ceil" | "floor" if given == 1 => name.to_uppercase(),
        "array_agg" => "collect_list".to_owned(),
        "random" => "rand".to_owned(),
        "current_database" => "current_schema".to_owned(),
        "datediff" | "date_diff" if given == 3 => "timestampdiff".to_owned(),
        "dateadd" if given == 3 => "timestampadd".to_owned(),
        "date_add" if given == 3 => "timestampadd".to_owned(),
        "dateadd" => "date_add".to_owned(),
        _ => name.to_owned(),
    }
}
