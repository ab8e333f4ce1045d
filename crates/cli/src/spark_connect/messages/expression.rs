//! Expressions: `spark/connect/expressions.proto`.

use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message, Oneof};

use super::DataType;
use super::depth::one_deeper;

/// Read and written as `derive` would, but for its depth.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Expression {
    pub(crate) kind: Option<ExpressionKind>,
}

impl Message for Expression {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
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
            1..=17 | 19..=21 => ExpressionKind::merge(&mut self.kind, tag, wire_type, buffer, context),
            _ => skip_field(wire_type, tag, buffer, context),
        })
    }

    fn encoded_len(&self) -> usize {
        self.kind.as_ref().map_or(0, ExpressionKind::encoded_len)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum ExpressionKind {
    #[prost(message, tag = "1")]
    Literal(Literal),
    #[prost(message, tag = "2")]
    Attribute(Attribute),
    #[prost(message, tag = "3")]
    Function(Function),
    #[prost(message, tag = "4")]
    Text(super::Text),
    #[prost(message, tag = "5")]
    Star(Star),
    #[prost(message, tag = "6")]
    Alias(Box<Alias>),
    #[prost(message, tag = "7")]
    Cast(Box<Cast>),
    #[prost(bytes, tag = "8")]
    Regex(Vec<u8>),
    #[prost(message, tag = "9")]
    SortOrder(Box<SortOrder>),
    #[prost(bytes, tag = "10")]
    Lambda(Vec<u8>),
    #[prost(message, tag = "11")]
    Window(Box<Window>),
    #[prost(message, tag = "12")]
    Extract(Box<Extract>),
    #[prost(bytes, tag = "13")]
    UpdateFields(Vec<u8>),
    #[prost(bytes, tag = "14")]
    LambdaVariable(Vec<u8>),
    #[prost(message, tag = "15")]
    UserFunction(super::Text),
    #[prost(message, tag = "16")]
    Call(Function),
    #[prost(bytes, tag = "17")]
    NamedArgument(Vec<u8>),
    #[prost(bytes, tag = "19")]
    MergeAction(Vec<u8>),
    #[prost(bytes, tag = "20")]
    TypedAggregate(Vec<u8>),
    #[prost(bytes, tag = "21")]
    Subquery(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Attribute {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int64, optional, tag = "2")]
    pub(crate) plan_id: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Star {
    #[prost(string, optional, tag = "1")]
    pub(crate) target: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub(crate) plan_id: Option<i64>,
}

/// `UnresolvedFunction`, and `CallFunction`, which is the beginning of it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Function {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) arguments: Vec<Expression>,
    #[prost(bool, tag = "3")]
    pub(crate) is_distinct: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Alias {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) expression: Option<Box<Expression>>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Cast {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) expression: Option<Box<Expression>>,
    #[prost(oneof = "CastTo", tags = "2, 3")]
    pub(crate) to: Option<CastTo>,
    #[prost(int32, tag = "4")]
    pub(crate) mode: i32,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum CastTo {
    #[prost(message, tag = "2")]
    Type(DataType),
    #[prost(string, tag = "3")]
    Text(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SortOrder {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) child: Option<Box<Expression>>,
    #[prost(int32, tag = "2")]
    pub(crate) direction: i32,
    #[prost(int32, tag = "3")]
    pub(crate) nulls: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Window {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) function: Option<Box<Expression>>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) partitions: Vec<Expression>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) orders: Vec<SortOrder>,
    #[prost(message, optional, boxed, tag = "4")]
    pub(crate) frame: Option<Box<Frame>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(message, optional, boxed, tag = "2")]
    pub(crate) lower: Option<Box<Boundary>>,
    #[prost(message, optional, boxed, tag = "3")]
    pub(crate) upper: Option<Box<Boundary>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Boundary {
    #[prost(oneof = "BoundaryKind", tags = "1, 2, 3")]
    pub(crate) kind: Option<BoundaryKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum BoundaryKind {
    #[prost(bool, tag = "1")]
    CurrentRow(bool),
    #[prost(bool, tag = "2")]
    Unbounded(bool),
    #[prost(message, tag = "3")]
    Value(Box<Expression>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Extract {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) child: Option<Box<Expression>>,
    #[prost(message, optional, boxed, tag = "2")]
    pub(crate) key: Option<Box<Expression>>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Literal {
    #[prost(
        oneof = "LiteralKind",
        tags = "1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25"
    )]
    pub(crate) kind: Option<LiteralKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum LiteralKind {
    #[prost(message, tag = "1")]
    Null(DataType),
    #[prost(bytes, tag = "2")]
    Binary(Vec<u8>),
    #[prost(bool, tag = "3")]
    Boolean(bool),
    #[prost(int32, tag = "4")]
    Byte(i32),
    #[prost(int32, tag = "5")]
    Short(i32),
    #[prost(int32, tag = "6")]
    Integer(i32),
    #[prost(int64, tag = "7")]
    Long(i64),
    #[prost(float, tag = "10")]
    Float(f32),
    #[prost(double, tag = "11")]
    Double(f64),
    #[prost(message, tag = "12")]
    Decimal(DecimalLiteral),
    #[prost(string, tag = "13")]
    String(String),
    #[prost(int32, tag = "16")]
    Date(i32),
    #[prost(int64, tag = "17")]
    Timestamp(i64),
    #[prost(int64, tag = "18")]
    TimestampNtz(i64),
    #[prost(bytes, tag = "19")]
    CalendarInterval(Vec<u8>),
    #[prost(int32, tag = "20")]
    YearMonthInterval(i32),
    #[prost(int64, tag = "21")]
    DayTimeInterval(i64),
    #[prost(message, tag = "22")]
    Array(ArrayLiteral),
    #[prost(bytes, tag = "23")]
    Map(Vec<u8>),
    #[prost(bytes, tag = "24")]
    Struct(Vec<u8>),
    #[prost(bytes, tag = "25")]
    SpecializedArray(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DecimalLiteral {
    #[prost(string, tag = "1")]
    pub(crate) value: String,
    #[prost(int32, optional, tag = "2")]
    pub(crate) precision: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub(crate) scale: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayLiteral {
    #[prost(message, repeated, tag = "2")]
    pub(crate) elements: Vec<Literal>,
}
