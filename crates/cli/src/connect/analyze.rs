//! `AnalyzePlan`: what a client asks about a plan without running it.

use highwater_engine::plan::ddl;

use super::problem::{Problem, Result};
use super::session::Session;
use super::types::{schema_type, tree};
use super::{execute, sql};
use crate::spark_connect::messages::{
    Analysis, AnalyzeKind, AnalyzePlanRequest, AnalyzePlanResponse, Flag, Nothing, OfPlan, PlanKind, Relation, Text,
    TypeResult,
};

/// The version of Spark whose protocol and semantics are spoken here.
const SPARK: &str = "4.3.0";

/// Answers a request.
pub(crate) fn answer(session: &Session, request: AnalyzePlanRequest) -> Result<AnalyzePlanResponse> {
    let kind = request.kind.ok_or_else(|| Problem::argument("a request to analyze asks nothing that is known here"))?;
    Ok(AnalyzePlanResponse {
        session_id: session.id.clone(),
        server_side_session_id: session.server_side_id.clone(),
        analysis: Some(analysis(session, kind)?),
    })
}

fn analysis(session: &Session, kind: AnalyzeKind) -> Result<Analysis> {
    let text = |text: String| Text { text };
    Ok(match kind {
        AnalyzeKind::SparkVersion(_) => Analysis::SparkVersion(text(SPARK.to_owned())),
        AnalyzeKind::Schema(of) => {
            let columns = execute::columns(session, &root(of)?)?;
            Analysis::Schema(TypeResult { data_type: Some(schema_type(&columns)?) })
        }
        AnalyzeKind::TreeString(of) => {
            Analysis::TreeString(text(tree(execute::columns(session, &root(of)?)?.as_ref())))
        }
        AnalyzeKind::Explain(of) => {
            let planned = session.plan(&sql::shown_query(&root(of)?, session)?.text)?;
            Analysis::Explain(text(format!("== Physical Plan ==\n{}\n", planned.explain()?)))
        }
        AnalyzeKind::IsLocal(_) => Analysis::IsLocal(Flag { is_set: false }),
        AnalyzeKind::IsStreaming(of) => {
            let planned = session.plan(&sql::shown_query(&root(of)?, session)?.text)?;
            Analysis::IsStreaming(Flag { is_set: planned.is_streaming() })
        }
        AnalyzeKind::DdlParse(given) => {
            let schema = ddl::parse_schema(&given.text).map_err(|error| Problem::analysis(error.to_string()))?;
            Analysis::DdlParse(TypeResult { data_type: Some(schema_type(&schema)?) })
        }
        // Rows are read again each time, which is what an uncached DataFrame is.
        AnalyzeKind::Persist(_) => Analysis::Persist(Nothing {}),
        AnalyzeKind::Unpersist(_) => Analysis::Unpersist(Nothing {}),
        AnalyzeKind::InputFiles(_) => return Err(refused("df.inputFiles()")),
        AnalyzeKind::SameSemantics(_) | AnalyzeKind::SemanticHash(_) => {
            return Err(refused("df.sameSemantics() and df.semanticHash()"));
        }
        AnalyzeKind::GetStorageLevel(_) => return Err(refused("df.storageLevel")),
        AnalyzeKind::JsonToDdl(_) => return Err(refused("StructType.toDDL()")),
    })
}

fn refused(what: &str) -> Problem {
    Problem::unsupported(what, "leave it out, or run this program on Spark itself")
}

fn root(of: OfPlan) -> Result<Relation> {
    match of.plan.and_then(|plan| plan.kind) {
        Some(PlanKind::Root(relation)) => Ok(*relation),
        _ => Err(Problem::argument("a request to analyze has no relation")),
    }
}
