//! Relations and the text they become.

use super::super::problem::Result;
use super::{Names, columns_ddl, query};
use crate::spark_connect::messages::{
    Aggregate, Alias, Attribute, Count, Expression, ExpressionKind, Filter, Function, Join, Literal, LiteralKind,
    LocalRelation, NamedTable, Project, Range, Read, ReadKind, Relation, RelationCommon, RelationKind, Sort, SortOrder,
    WithColumns, WithWatermark,
};

/// Every query has the columns `a` and `b`.
struct Known;

impl Names for Known {
    fn columns(&self, _query: &str) -> Result<Vec<String>> {
        Ok(vec!["a".to_owned(), "b".to_owned()])
    }

    fn is_streaming(&self, query: &str) -> Result<bool> {
        Ok(query.contains("STREAM"))
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
