//! Relations and the text they become.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema};

use super::super::problem::Result;
use super::{Names, columns_ddl, query, shown_query, view_query};
use crate::spark_connect::messages::{
    Aggregate, Alias, Attribute, Count, Deduplicate, Expression, ExpressionKind, FillNa, Filter, Function, Join,
    Literal, LiteralKind, LocalRelation, NamedTable, Project, Range, Read, ReadKind, Relation, RelationCommon,
    RelationKind, Sort, SortOrder, Sql, WithColumns, WithWatermark,
};

/// Every query has the columns `a` and `b`.
struct Known;

impl Names for Known {
    fn columns(&self, _query: &str) -> Result<Vec<Field>> {
        Ok(["a", "b"].map(|name| Field::new(name, DataType::Int32, true)).to_vec())
    }

    fn is_streaming(&self, query: &str) -> Result<bool> {
        Ok(query.contains("STREAM"))
    }

    fn event_times(&self, query: &str) -> Result<Vec<String>> {
        Ok(if query.contains("WATERMARK `a`") { vec!["a".to_owned()] } else { Vec::new() })
    }

    fn kept_views(&self) -> BTreeMap<String, String> {
        [("v".to_owned(), "__view_1".to_owned())].into()
    }

    fn define(&self, _definition: &str) -> Result<String> {
        Ok("__read_1".to_owned())
    }

    fn keep_rows(&self, _rows: &LocalRelation) -> Result<String> {
        Ok("__rows_1".to_owned())
    }
}

fn numbered(plan_id: i64, kind: RelationKind) -> Option<Box<Relation>> {
    let common = Some(RelationCommon { plan_id: Some(plan_id) });
    Some(Box::new(Relation { common, kind: Some(kind) }))
}

fn table(plan_id: i64, name: &str, is_streaming: bool) -> Option<Box<Relation>> {
    let table = NamedTable { name: name.to_owned(), ..NamedTable::default() };
    numbered(plan_id, RelationKind::Read(Read { kind: Some(ReadKind::Table(table)), is_streaming }))
}

fn expression(kind: ExpressionKind) -> Expression {
    Expression { kind: Some(kind) }
}

fn column(name: &str, plan_id: Option<i64>) -> Expression {
    expression(ExpressionKind::Attribute(Attribute { name: name.to_owned(), plan_id }))
}

fn number(value: i32) -> Expression {
    expression(ExpressionKind::Literal(Literal { kind: Some(LiteralKind::Integer(value)) }))
}

fn call(name: &str, arguments: Vec<Expression>) -> Expression {
    expression(ExpressionKind::Function(Function { name: name.to_owned(), arguments, is_distinct: false }))
}

#[track_caller]
fn check(relation: Option<Box<Relation>>, expected: &str) {
    assert_eq!(query(&relation.unwrap(), &Known).unwrap(), expected);
}

#[test]
fn operations_go_into_one_select_while_they_mean_the_same() {
    let filter = Filter { input: table(1, "t", false), condition: Some(call(">", vec![column("a", None), number(1)])) };
    let filtered = numbered(2, RelationKind::Filter(Box::new(filter)));
    check(filtered.clone(), "SELECT * FROM `t` AS __t1 WHERE (`a` > 1)");
    let aggregate = Aggregate {
        input: filtered,
        group_type: 1,
        groups: vec![column("a", None)],
        aggregates: vec![call("sum", vec![column("b", None)])],
    };
    let grouped = numbered(3, RelationKind::Aggregate(Box::new(aggregate)));
    let text = "SELECT `a`, sum(`b`) FROM `t` AS __t1 WHERE (`a` > 1) GROUP BY `a`";
    check(grouped.clone(), text);
    let order = SortOrder { child: Some(Box::new(column("a", None))), direction: 2, nulls: 2 };
    let sorted = numbered(4, RelationKind::Sort(Box::new(Sort { input: grouped, orders: vec![order] })));
    let limited = numbered(5, RelationKind::Limit(Box::new(Count { input: sorted, rows: 3 })));
    check(limited, &format!("SELECT * FROM ({text}) AS __t2 ORDER BY `a` DESC NULLS LAST LIMIT 3"));
}

#[test]
fn columns_of_a_join_are_those_of_the_side_they_were_taken_from() {
    let condition = Some(call("==", vec![column("a", Some(1)), column("a", Some(2))]));
    let (left, right) = (table(1, "t", false), table(2, "u", false));
    let join = Join { left, right, condition, join_type: 3, using: Vec::new() };
    let joined = numbered(3, RelationKind::Join(Box::new(join)));
    let project = Project { input: joined, expressions: vec![column("a", Some(1)), column("b", Some(2))] };
    check(
        numbered(4, RelationKind::Project(Box::new(project))),
        "SELECT __t1.`a`, __t2.`b` FROM `t` AS __t1 LEFT OUTER JOIN `u` AS __t2 ON (__t1.`a` = __t2.`a`)",
    );
}

fn joined(using: &[&str]) -> Option<Box<Relation>> {
    let condition = using.is_empty().then(|| call("==", vec![column("a", Some(1)), column("a", Some(2))]));
    let using = using.iter().map(|name| (*name).to_owned()).collect();
    let (left, right) = (table(1, "t", false), table(2, "u", false));
    numbered(3, RelationKind::Join(Box::new(Join { left, right, condition, join_type: 3, using })))
}

fn selected(input: Option<Box<Relation>>, expressions: Vec<Expression>) -> Option<Box<Relation>> {
    numbered(9, RelationKind::Project(Box::new(Project { input, expressions })))
}

#[test]
fn sides_of_a_join_stay_what_they_are_in_a_subquery() {
    let alias = Alias { expression: Some(Box::new(number(7))), names: vec!["k".to_owned()] };
    let with = WithColumns { input: joined(&[]), aliases: vec![alias] };
    let with = numbered(4, RelationKind::WithColumns(Box::new(with)));
    let filter = Filter { input: with, condition: Some(call("isnull", vec![column("a", Some(2))])) };
    let filtered = numbered(5, RelationKind::Filter(Box::new(filter)));
    let text = "SELECT * FROM (SELECT __t1.`a` AS `__c3`, __t1.`b` AS `__c4`, __t2.`a` AS `__c5`, __t2.`b` AS `__c6`, 7 AS `k` \
                FROM `t` AS __t1 LEFT OUTER JOIN `u` AS __t2 ON (__t1.`a` = __t2.`a`)) AS __t7 WHERE (__t7.`__c5` IS NULL)";
    let shown = shown_query(filtered.as_ref().unwrap(), &Known).unwrap();
    assert_eq!(shown.text, text);
    let names = ["__c3", "__c4", "__c5", "__c6", "k"].map(|name| Field::new(name, DataType::Int32, true));
    let columns = shown.columns(&Schema::new(names.to_vec()));
    let names: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["a", "b", "a", "b", "k"]);
    // What tells columns apart by their names takes no two of one name, and a name alone does not say which is meant.
    let refused = |relation: &Option<Box<Relation>>| query(relation.as_ref().unwrap(), &Known).unwrap_err();
    assert!(refused(&filtered).message().starts_with("[COLUMN_ALREADY_EXISTS] The column `a`"));
    let of = |plan: Option<i64>| selected(filtered.clone(), vec![column("b", plan)]);
    assert!(refused(&of(None)).message().starts_with("[AMBIGUOUS_REFERENCE]"));
    assert!(refused(&of(Some(5))).message().starts_with("[AMBIGUOUS_REFERENCE]"));
    let chosen = text.replace("SELECT * FROM", "SELECT __t7.`__c6` AS `b` FROM");
    check(of(Some(2)), &chosen);
    // One side's column is not the other's of the same name.
    let one = selected(joined(&[]), vec![column("a", Some(1))]);
    let other = selected(one, vec![column("a", Some(2))]);
    assert!(refused(&other).message().starts_with("[CANNOT_RESOLVE_DATAFRAME_COLUMN]"));
}

#[test]
fn columns_of_using_are_there_once_and_the_others_stay_apart() {
    check(
        selected(
            joined(&["a"]),
            vec![column("a", None), column("b", Some(2)), call("sum", vec![column("b", Some(1))])],
        ),
        "SELECT __t5.`a`, __t5.`__c4` AS `b`, sum(__t5.`__c3`) AS `sum(b)` FROM (SELECT `a`, __t1.`b` AS `__c3`, __t2.`b` AS \
         `__c4` FROM `t` AS __t1 LEFT OUTER JOIN `u` AS __t2 USING (`a`)) AS __t5",
    );
}

#[test]
fn a_view_reads_what_views_are_now() {
    let of = |kind: RelationKind| view_query(&numbered(1, kind).unwrap(), &Known).unwrap();
    let sql = |text: &str| RelationKind::Sql(Sql { query: text.to_owned(), ..Sql::default() });
    let Some(read) = table(1, "V", false) else { panic!("no table") };
    assert_eq!(view_query(&read, &Known).unwrap(), "SELECT * FROM `__view_1` AS __t1");
    assert_eq!(
        of(sql("SELECT a FROM V")),
        "SELECT * FROM (WITH `v` AS (SELECT * FROM `__view_1`) SELECT * FROM (SELECT a FROM V\n) AS __q) AS __t1"
    );
    for other in ["SELECT a FROM vv", "SELECT a FROM STREAM v", "SELECT a FROM STREAM(v)"] {
        assert_eq!(of(sql(other)), format!("SELECT * FROM ({other}\n) AS __t1"));
    }
    check(table(1, "v", false), "SELECT * FROM `v` AS __t1");
}

#[test]
fn keys_of_a_stream_are_forgotten_only_where_that_is_asked() {
    let check = |keys: &[&str], within: bool, has_watermark: bool, expected: &str| {
        let (event_time, delay) = ("a".to_owned(), "1 hour".to_owned());
        let stream = table(1, "t", true);
        let input = if has_watermark {
            let watermark = WithWatermark { input: stream, event_time, delay };
            numbered(2, RelationKind::WithWatermark(Box::new(watermark)))
        } else {
            stream
        };
        let columns = keys.iter().map(|key| (*key).to_owned()).collect();
        let within_watermark = Some(within);
        let deduplicate = Deduplicate { input, columns, all_columns: None, within_watermark };
        let relation = numbered(3, RelationKind::Deduplicate(Box::new(deduplicate))).unwrap();
        let said = query(&relation, &Known).unwrap_or_else(|problem| problem.message().to_owned());
        assert!(said.starts_with(expected), "{said}");
    };
    check(&["a", "b"], false, true, "SELECT DISTINCT ON (`a`, `b`) * FROM");
    check(&["b"], true, true, "SELECT DISTINCT ON (`b`) * FROM");
    check(&["b"], false, false, "SELECT DISTINCT ON (`b`) * FROM");
    check(&["b"], false, true, "dropDuplicates of a stream with a watermark by other columns than the event time a");
    check(
        &["b"],
        true,
        false,
        "dropDuplicatesWithinWatermark is not supported on streaming DataFrames/DataSets without",
    );
}

#[test]
fn nulls_are_filled_by_kind() {
    let value = |kind: LiteralKind| Literal { kind: Some(kind) };
    let fill = |columns: &[&str], values: Vec<Literal>| {
        let columns = columns.iter().map(|name| (*name).to_owned()).collect();
        numbered(2, RelationKind::FillNa(Box::new(FillNa { input: table(1, "t", false), columns, values })))
    };
    check(
        fill(&["a"], vec![value(LiteralKind::Double(0.9))]),
        "SELECT coalesce(`a`, CAST(0.9D AS INT)) AS `a`, `b` FROM `t` AS __t1",
    );
    let text = value(LiteralKind::String("x".to_owned()));
    check(fill(&[], vec![text.clone()]), "SELECT `a`, `b` FROM `t` AS __t1");
    check(
        fill(&["a", "b"], vec![text, value(LiteralKind::Integer(1))]),
        "SELECT coalesce(`a`, CAST('x' AS INT)) AS `a`, coalesce(`b`, CAST(1 AS INT)) AS `b` FROM `t` AS __t1",
    );
}

#[test]
fn intervals_have_one_sign() {
    let check = |micros: i64, expected: &str| {
        let interval = Literal { kind: Some(LiteralKind::DayTimeInterval(micros)) };
        assert_eq!(super::literal::literal(&interval).unwrap(), expected, "{micros}");
    };
    check(-500_000, "(INTERVAL '-0' DAY + INTERVAL '-0.500000' SECOND)");
    check(-86_400_250_000, "(INTERVAL '-1' DAY + INTERVAL '-0.250000' SECOND)");
    check(90_001_000_001, "(INTERVAL '1' DAY + INTERVAL '3601.000001' SECOND)");
}

#[test]
fn a_column_is_replaced_in_its_place_and_a_new_one_stands_last() {
    let alias = |name: &str| Alias { expression: Some(Box::new(number(7))), names: vec![name.to_owned()] };
    let with = WithColumns { input: table(1, "t", false), aliases: vec![alias("A"), alias("c")] };
    check(numbered(2, RelationKind::WithColumns(Box::new(with))), "SELECT 7 AS `A`, `b`, 7 AS `c` FROM `t` AS __t1");
}

#[test]
fn a_stream_has_its_watermark_where_it_is_read() {
    let (event_time, delay) = ("a".to_owned(), "10 minutes".to_owned());
    let watermark = WithWatermark { input: table(1, "main.t", true), event_time, delay };
    check(
        numbered(2, RelationKind::WithWatermark(Box::new(watermark))),
        "SELECT * FROM STREAM `t` WATERMARK `a` DELAY OF INTERVAL '10 minutes' AS __t2",
    );
}

#[test]
fn what_is_python_is_refused_by_name() {
    let relation = numbered(1, RelationKind::MapPartitions(Vec::new())).unwrap();
    let problem = query(&relation, &Known).unwrap_err();
    assert!(problem.message().starts_with("mapInPandas, mapInArrow and df.rdd is not supported"), "{problem:?}");
}

#[test]
fn schemas_are_read_from_ddl_and_from_json() {
    let json = r#"{"type":"struct","fields":[{"name":"a b","type":"integer","nullable":false,"metadata":{}},
        {"name":"m","type":{"type":"map","keyType":"string","valueType":{"type":"array","elementType":"long",
        "containsNull":true},"valueContainsNull":true},"nullable":true,"metadata":{}}]}"#;
    assert_eq!(columns_ddl(json).unwrap(), "`a b` INT NOT NULL, `m` MAP<STRING, ARRAY<BIGINT>>");
    assert!(columns_ddl("a INT, b").is_err());
}

#[test]
fn long_ranges_are_made_in_blocks() {
    let range = |end: i64, step: i64| numbered(1, RelationKind::Range(Range { start: None, end, step }));
    check(
        range(30, 10),
        "SELECT * FROM (SELECT explode(sequence(CAST(0 AS BIGINT), CAST(20 AS BIGINT), CAST(10 AS BIGINT))) AS id) AS __t1",
    );
    check(
        range(50_000_001, 2),
        "SELECT * FROM (SELECT CAST(0 AS BIGINT) + (b.n * 10000000 + i.n) * CAST(2 AS BIGINT) AS id FROM (SELECT \
         explode(sequence(CAST(0 AS BIGINT), CAST(2 AS BIGINT))) AS n) AS b CROSS JOIN (SELECT explode(sequence(CAST(0 AS \
         BIGINT), CAST(9999999 AS BIGINT))) AS n) AS i WHERE b.n * 10000000 + i.n < CAST(25000001 AS BIGINT)) AS __t1",
    );
}

fn with(input: Option<Box<Relation>>, name: &str, value: Expression) -> Option<Box<Relation>> {
    let alias = Alias { expression: Some(Box::new(value)), names: vec![name.to_owned()] };
    numbered(8, RelationKind::WithColumns(Box::new(WithColumns { input, aliases: vec![alias] })))
}

fn filtered(input: Option<Box<Relation>>, condition: Expression) -> Option<Box<Relation>> {
    numbered(7, RelationKind::Filter(Box::new(Filter { input, condition: Some(condition) })))
}

#[test]
fn columns_that_are_added_one_by_one_are_one_select() {
    let added = with(table(1, "t", false), "c", call("+", vec![column("a", None), number(1)]));
    let added = with(added, "d", call("*", vec![column("C", Some(8)), number(2)]));
    let (c, d) = ("(`a` + 1)", "((`a` + 1) * 2)");
    check(added.clone(), &format!("SELECT `a`, `b`, {c} AS `c`, {d} AS `d` FROM `t` AS __t1"));
    let some = filtered(added.clone(), call(">", vec![column("d", None), number(3)]));
    let alias = Alias { expression: Some(Box::new(column("d", None))), names: vec!["e".to_owned()] };
    let chosen =
        selected(some, vec![column("c", None), column("A", None), expression(ExpressionKind::Alias(Box::new(alias)))]);
    check(chosen, &format!("SELECT {c} AS `c`, `a` AS `A`, {d} AS `e` FROM `t` AS __t1 WHERE ({d} > 3)"));
    // A column that is replaced is what the others were made of.
    let replaced = with(added, "a", call("negative", vec![column("c", None)]));
    check(replaced, &format!("SELECT (- {c}) AS `a`, `b`, {c} AS `c`, {d} AS `d` FROM `t` AS __t1"));
}

#[test]
fn what_is_not_the_same_each_time_is_computed_once() {
    let drawn = with(table(1, "t", false), "r", call("rand", Vec::new()));
    check(
        with(drawn, "x", column("r", None)),
        "SELECT `a`, `b`, `r`, `r` AS `x` FROM (SELECT `a`, `b`, rand() AS `r` FROM `t` AS __t1) AS __t2",
    );
    // A sum is of all rows, also where nobody asks for it.
    let sum = Alias { expression: Some(Box::new(call("sum", vec![column("a", None)]))), names: vec!["s".to_owned()] };
    let total = selected(table(1, "t", false), vec![expression(ExpressionKind::Alias(Box::new(sum)))]);
    let one = Alias { expression: Some(Box::new(number(1))), names: vec!["one".to_owned()] };
    check(
        selected(total, vec![expression(ExpressionKind::Alias(Box::new(one)))]),
        "SELECT 1 AS `one` FROM (SELECT sum(`a`) AS `s` FROM `t` AS __t1) AS __t2",
    );
}

#[test]
fn a_column_that_is_changed_again_and_again_is_no_tower() {
    let mut changed = table(1, "t", false);
    for _ in 0..200 {
        changed = with(changed, "a", call("+", vec![column("a", None), column("b", None)]));
    }
    let text = query(&changed.unwrap(), &Known).unwrap();
    assert!(text.starts_with("WITH `__p1` AS (SELECT "), "{text}");
    assert!(super::step::nesting(&text).0 < 20, "{text}");
    assert_eq!(text.matches(" + `b`").count(), 200, "{text}");
    let mut either = call("==", vec![column("a", None), number(0)]);
    for value in 1..200 {
        either = call("or", vec![either, call("==", vec![column("a", None), number(value)])]);
    }
    let text = query(&filtered(table(1, "t", false), either).unwrap(), &Known).unwrap();
    assert!(text.starts_with("SELECT * FROM `t` AS __t1 WHERE (((`a` = 0) OR (`a` = 1) OR (`a` = 2)"), "{text}");
    assert!(text.contains("OR (`a` = 100)) OR (`a` = 101) OR"), "{text}");
    let mut some = table(1, "t", false);
    for value in 0..200 {
        some = filtered(some, call("!=", vec![column("a", None), number(value)]));
    }
    let text = query(&some.unwrap(), &Known).unwrap();
    assert_eq!(text.matches(" WHERE ").count(), 4, "{text}");
}
