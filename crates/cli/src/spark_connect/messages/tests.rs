//! Messages have the bytes that Spark's own client sends, and its answers are read.

use std::collections::HashMap;

use prost::Message as _;

use super::*;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn map(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

fn pipeline(kind: PipelineCommandKind) -> CommandKind {
    CommandKind::Pipeline(Box::new(PipelineCommand { kind: Some(kind) }))
}

/// `expected` is what Spark's own Python client (4.3.0) makes of the same plan.
#[track_caller]
fn check(kind: CommandKind, expected: &str) {
    let plan = Plan { kind: Some(PlanKind::Command(Box::new(Command { kind: Some(kind) }))) };
    let hex: String = plan.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
}

#[test]
fn commands_have_the_bytes_that_sparks_client_sends() {
    let sql = DefineSql { graph: text("g"), file: text("a.sql"), text: text("S") };
    check(pipeline(PipelineCommandKind::DefineSql(sql)), "12129a010f320d0a01671205612e73716c1a0153");
    let run = StartRun { graph: text("g"), dry: Some(true), storage: text("file:///s") };
    check(pipeline(PipelineCommandKind::StartRun(run)), "12159a01122a100a01672801320966696c653a2f2f2f73");
    let graph = CreateGraph { default_catalog: text("c"), default_database: text("d"), sql_conf: map("k", "v") };
    check(pipeline(PipelineCommandKind::CreateGraph(graph)), "12139a01100a0e0a01631201642a060a016b120176");
    check(pipeline(PipelineCommandKind::DropGraph(DropGraph { graph: text("g") })), "12089a010522030a0167");
    check(CommandKind::ListenerBus(ListenerBusCommand { kind: Some(ListenerBusKind::Add(true)) }), "12045a020801");
    check(CommandKind::Queries(QueriesCommand { kind: Some(QueriesCommandKind::Active(true)) }), "12044a020801");
    let query = QueryId { id: "i".to_owned(), run_id: "r".to_owned() };
    check(
        CommandKind::Query(QueryCommand { id: Some(query), kind: Some(QueryCommandKind::Stop(true)) }),
        "120c3a0a0a060a01691201722801",
    );
}

#[test]
fn definitions_have_the_bytes_that_sparks_client_sends() {
    let output = DefineOutput {
        graph: text("g"),
        name: text("s"),
        kind: Some(OutputType::Sink as i32),
        location: Some(SourceLocation { file: text("f"), line: Some(3) }),
        sink: Some(SinkDetails { options: map("path", "/x"), format: text("json") }),
    };
    check(
        pipeline(PipelineCommandKind::DefineOutput(output)),
        "12289a012512230a016712017318042a050a016610033a120a0a0a047061746812022f7812046a736f6e",
    );
    let source = DataSource {
        format: text("csv"),
        schema: text("a INT"),
        options: map("header", "true"),
        paths: vec!["/p".into()],
    };
    let read = Read { kind: Some(ReadKind::Source(source)), is_streaming: true };
    let numbered =
        |plan_id, relation| Relation { common: Some(RelationCommon { plan_id: Some(plan_id) }), kind: Some(relation) };
    let expression = Expression { kind: Some(ExpressionKind::Text(Text { text: "a + 1".to_owned() })) };
    let input = Some(Box::new(numbered(1, RelationKind::Read(read))));
    let project = numbered(2, RelationKind::Project(Box::new(Project { input, expressions: vec![expression] })));
    let flow = DefineFlow {
        graph: text("g"),
        name: text("f"),
        target: text("t"),
        location: None,
        details: Some(RelationFlow { relation: Some(project) }),
    };
    check(
        pipeline(PipelineCommandKind::DefineFlow(flow)),
        "124f9a014c1a4a0a01671201661a01743a3f0a3d0a0210021a370a2a0a021001122412200a0363737612056120494e541a0e0a0668\
         656164657212047472756522022f7018011a0922070a0561202b2031",
    );
}

#[test]
fn answers_are_read_and_what_is_not_known_is_skipped() {
    let read = |hex: &str| {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        ExecutePlanResponse::decode(bytes.as_slice()).unwrap().answer.unwrap()
    };
    let event = PipelineEvent { message: text("m") };
    assert_eq!(read("aa01090a070a02080112016d"), Answer::PipelineEvent(PipelineEventResult { event: Some(event) }));
    let created = GraphCreated { graph: text("g") };
    assert_eq!(read("0a0173b201050a030a0167"), Answer::Pipeline(PipelineResult { created: Some(created) }));
    let id = QueryId { id: "i".to_owned(), run_id: "r".to_owned() };
    let queries = vec![QueryInstance { id: Some(id), name: text("n") }];
    assert_eq!(
        read("5a0f0a0d0a0b0a060a016912017212016e"),
        Answer::Queries(QueriesResult { kind: Some(QueriesResultKind::Active(ActiveQueries { queries })) })
    );
    let events = vec![ListenerEvent { json: "{}".to_owned(), event_type: ListenerEventType::Progress as i32 }];
    assert_eq!(read("8201080a060a027b7d1001"), Answer::ListenerEvents(ListenerEvents { events, is_added: None }));
}
