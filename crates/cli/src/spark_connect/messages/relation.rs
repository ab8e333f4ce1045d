//! Relations: `spark/connect/relations.proto`.

use std::collections::HashMap;

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, message, skip_field};
use prost::{DecodeError, Message, Oneof};

use super::depth::one_deeper;
use super::{Expression, Literal, SortOrder, Sql};

/// What a client numbers its relations by.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RelationCommon {
    #[prost(int64, optional, tag = "2")]
    pub(crate) plan_id: Option<i64>,
}

/// Read and written as `derive` would, but for its depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Relation {
    pub(crate) common: Option<RelationCommon>,
    pub(crate) kind: Option<RelationKind>,
}

impl Message for Relation {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        if let Some(common) = &self.common {
            message::encode(1, common, buffer);
        }
        if let Some(kind) = &self.kind {
            kind.encode(buffer);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        one_deeper(context, |context| match tag {
            1 => message::merge(wire_type, self.common.get_or_insert_default(), buffer, context),
            2..=45 | 90..=92 | 100..=107 | 200 | 300 => {
                RelationKind::merge(&mut self.kind, tag, wire_type, buffer, context)
            }
            _ => skip_field(wire_type, tag, buffer, context),
        })
    }

    fn encoded_len(&self) -> usize {
        self.common.as_ref().map_or(0, |common| message::encoded_len(1, common))
            + self.kind.as_ref().map_or(0, RelationKind::encoded_len)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum RelationKind {
    #[prost(message, tag = "2")]
    Read(Read),
    #[prost(message, tag = "3")]
    Project(Box<Project>),
    #[prost(message, tag = "4")]
    Filter(Box<Filter>),
    #[prost(message, tag = "5")]
    Join(Box<Join>),
    #[prost(message, tag = "6")]
    SetOperation(Box<SetOperation>),
    #[prost(message, tag = "7")]
    Sort(Box<Sort>),
    #[prost(message, tag = "8")]
    Limit(Box<Count>),
    #[prost(message, tag = "9")]
    Aggregate(Box<Aggregate>),
    #[prost(message, tag = "10")]
    Sql(Sql),
    #[prost(message, tag = "11")]
    Local(LocalRelation),
    #[prost(bytes, tag = "12")]
    Sample(Vec<u8>),
    #[prost(message, tag = "13")]
    Offset(Box<Count>),
    #[prost(message, tag = "14")]
    Deduplicate(Box<Deduplicate>),
    #[prost(message, tag = "15")]
    Range(Range),
    #[prost(message, tag = "16")]
    SubqueryAlias(Box<SubqueryAlias>),
    #[prost(message, tag = "17")]
    Repartition(Box<Over>),
    #[prost(message, tag = "18")]
    ToDf(Box<ToDf>),
    #[prost(message, tag = "19")]
    Rename(Box<Rename>),
    #[prost(message, tag = "20")]
    ShowString(Box<ShowString>),
    #[prost(message, tag = "21")]
    Drop(Box<DropColumns>),
    #[prost(message, tag = "22")]
    Tail(Box<Count>),
    #[prost(message, tag = "23")]
    WithColumns(Box<WithColumns>),
    #[prost(message, tag = "24")]
    Hint(Box<Over>),
    #[prost(bytes, tag = "25")]
    Unpivot(Vec<u8>),
    #[prost(bytes, tag = "26")]
    ToSchema(Vec<u8>),
    #[prost(message, tag = "27")]
    RepartitionBy(Box<Over>),
    #[prost(bytes, tag = "28")]
    MapPartitions(Vec<u8>),
    #[prost(bytes, tag = "29")]
    CollectMetrics(Vec<u8>),
    #[prost(bytes, tag = "30")]
    Parse(Vec<u8>),
    #[prost(bytes, tag = "31")]
    GroupMap(Vec<u8>),
    #[prost(bytes, tag = "32")]
    CoGroupMap(Vec<u8>),
    #[prost(message, tag = "33")]
    WithWatermark(Box<WithWatermark>),
    #[prost(bytes, tag = "34")]
    PandasWithState(Vec<u8>),
    #[prost(message, tag = "35")]
    HtmlString(Box<ShowString>),
    #[prost(bytes, tag = "36")]
    CachedLocal(Vec<u8>),
    #[prost(bytes, tag = "37")]
    CachedRemote(Vec<u8>),
    #[prost(bytes, tag = "38")]
    TableFunction(Vec<u8>),
    #[prost(bytes, tag = "39")]
    AsOfJoin(Vec<u8>),
    #[prost(bytes, tag = "40")]
    UserDataSource(Vec<u8>),
    #[prost(message, tag = "41")]
    WithRelations(Box<WithRelations>),
    #[prost(bytes, tag = "42")]
    Transpose(Vec<u8>),
    #[prost(bytes, tag = "43")]
    TableValued(Vec<u8>),
    #[prost(bytes, tag = "44")]
    LateralJoin(Vec<u8>),
    #[prost(bytes, tag = "45")]
    ChunkedLocal(Vec<u8>),
    #[prost(message, tag = "90")]
    FillNa(Box<FillNa>),
    #[prost(message, tag = "91")]
    DropNa(Box<DropNa>),
    #[prost(bytes, tag = "92")]
    Replace(Vec<u8>),
    #[prost(bytes, tag = "100")]
    Summary(Vec<u8>),
    #[prost(bytes, tag = "101")]
    Crosstab(Vec<u8>),
    #[prost(bytes, tag = "102")]
    Describe(Vec<u8>),
    #[prost(bytes, tag = "103")]
    Cov(Vec<u8>),
    #[prost(bytes, tag = "104")]
    Corr(Vec<u8>),
    #[prost(bytes, tag = "105")]
    ApproxQuantile(Vec<u8>),
    #[prost(bytes, tag = "106")]
    FreqItems(Vec<u8>),
    #[prost(bytes, tag = "107")]
    SampleBy(Vec<u8>),
    #[prost(bytes, tag = "200")]
    Catalog(Vec<u8>),
    #[prost(bytes, tag = "300")]
    Ml(Vec<u8>),
}

/// A relation over another one whose own words change nothing here.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Over {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Read {
    #[prost(oneof = "ReadKind", tags = "1, 2")]
    pub(crate) kind: Option<ReadKind>,
    #[prost(bool, tag = "3")]
    pub(crate) is_streaming: bool,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ReadKind {
    #[prost(message, tag = "1")]
    Table(NamedTable),
    #[prost(message, tag = "2")]
    Source(DataSource),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct NamedTable {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(map = "string, string", tag = "2")]
    pub(crate) options: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DataSource {
    #[prost(string, optional, tag = "1")]
    pub(crate) format: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub(crate) schema: Option<String>,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) options: HashMap<String, String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) paths: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Project {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) expressions: Vec<Expression>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Filter {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(message, optional, tag = "2")]
    pub(crate) condition: Option<Expression>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Join {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) left: Option<Box<Relation>>,
    #[prost(message, optional, boxed, tag = "2")]
    pub(crate) right: Option<Box<Relation>>,
    #[prost(message, optional, tag = "3")]
    pub(crate) condition: Option<Expression>,
    #[prost(int32, tag = "4")]
    pub(crate) join_type: i32,
    #[prost(string, repeated, tag = "5")]
    pub(crate) using: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SetOperation {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) left: Option<Box<Relation>>,
    #[prost(message, optional, boxed, tag = "2")]
    pub(crate) right: Option<Box<Relation>>,
    #[prost(int32, tag = "3")]
    pub(crate) kind: i32,
    #[prost(bool, optional, tag = "4")]
    pub(crate) is_all: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub(crate) by_name: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(crate) allow_missing: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Sort {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) orders: Vec<SortOrder>,
}

/// `Limit`, `Offset` and `Tail`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Count {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(int32, tag = "2")]
    pub(crate) rows: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Aggregate {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(int32, tag = "2")]
    pub(crate) group_type: i32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) groups: Vec<Expression>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) aggregates: Vec<Expression>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LocalRelation {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(crate) data: Option<Vec<u8>>,
    #[prost(string, optional, tag = "2")]
    pub(crate) schema: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Deduplicate {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) columns: Vec<String>,
    #[prost(bool, optional, tag = "3")]
    pub(crate) all_columns: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub(crate) within_watermark: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Range {
    #[prost(int64, optional, tag = "1")]
    pub(crate) start: Option<i64>,
    #[prost(int64, tag = "2")]
    pub(crate) end: i64,
    #[prost(int64, tag = "3")]
    pub(crate) step: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SubqueryAlias {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(string, tag = "2")]
    pub(crate) alias: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ToDf {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Rename {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(map = "string, string", tag = "2")]
    pub(crate) map: HashMap<String, String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) renames: Vec<RenamePair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RenamePair {
    #[prost(string, tag = "1")]
    pub(crate) from: String,
    #[prost(string, tag = "2")]
    pub(crate) to: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ShowString {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(int32, tag = "2")]
    pub(crate) rows: i32,
    #[prost(int32, tag = "3")]
    pub(crate) truncate: i32,
    #[prost(bool, tag = "4")]
    pub(crate) vertical: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DropColumns {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) columns: Vec<Expression>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WithColumns {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) aliases: Vec<super::Alias>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WithWatermark {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(string, tag = "2")]
    pub(crate) event_time: String,
    #[prost(string, tag = "3")]
    pub(crate) delay: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WithRelations {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) root: Option<Box<Relation>>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) references: Vec<Relation>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FillNa {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) columns: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) values: Vec<Literal>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DropNa {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) input: Option<Box<Relation>>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) columns: Vec<String>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) min_non_nulls: Option<i32>,
}
