//! Data types: `spark/connect/types.proto`.

use prost::{Message, Oneof};

use super::Nothing;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DataType {
    #[prost(oneof = "TypeKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 20, 21, 22, 24")]
    pub(crate) kind: Option<TypeKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum TypeKind {
    #[prost(message, tag = "1")]
    Null(Nothing),
    #[prost(message, tag = "2")]
    Binary(Nothing),
    #[prost(message, tag = "3")]
    Boolean(Nothing),
    #[prost(message, tag = "4")]
    Byte(Nothing),
    #[prost(message, tag = "5")]
    Short(Nothing),
    #[prost(message, tag = "6")]
    Integer(Nothing),
    #[prost(message, tag = "7")]
    Long(Nothing),
    #[prost(message, tag = "8")]
    Float(Nothing),
    #[prost(message, tag = "9")]
    Double(Nothing),
    #[prost(message, tag = "10")]
    Decimal(DecimalType),
    #[prost(message, tag = "11")]
    String(StringType),
    #[prost(message, tag = "14")]
    Date(Nothing),
    #[prost(message, tag = "15")]
    Timestamp(Nothing),
    #[prost(message, tag = "16")]
    TimestampNtz(Nothing),
    #[prost(message, tag = "20")]
    Array(Box<ArrayType>),
    #[prost(message, tag = "21")]
    Struct(StructType),
    #[prost(message, tag = "22")]
    Map(Box<MapType>),
    #[prost(message, tag = "24")]
    Unparsed(super::Text),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct DecimalType {
    #[prost(int32, optional, tag = "1")]
    pub(crate) scale: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub(crate) precision: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StringType {
    #[prost(string, tag = "2")]
    pub(crate) collation: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArrayType {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) element: Option<Box<DataType>>,
    #[prost(bool, tag = "2")]
    pub(crate) contains_null: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StructType {
    #[prost(message, repeated, tag = "1")]
    pub(crate) fields: Vec<StructField>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StructField {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) data_type: Option<DataType>,
    #[prost(bool, tag = "3")]
    pub(crate) nullable: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MapType {
    #[prost(message, optional, boxed, tag = "1")]
    pub(crate) key: Option<Box<DataType>>,
    #[prost(message, optional, boxed, tag = "2")]
    pub(crate) value: Option<Box<DataType>>,
    #[prost(bool, tag = "3")]
    pub(crate) value_contains_null: bool,
}
