//! An Avro schema, read from its JSON text and checked once.
//!
//! All types of a schema lie in one list and name each other by their place in it, so that a named type that is used
//! twice is there once, and one that contains itself ends. What a logical type cannot mean (a date that is a string) is
//! the plain type, as the specification has it.
//!
//! It refuses names that Avro does not allow, names nobody has defined, unions in unions, decimals of more than 38
//! digits, and schemas deeper than [`MAX_DEPTH`].

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

/// How deep schemas may nest, as in the types of SQL.
pub(super) const MAX_DEPTH: usize = 100;

/// The most digits of a decimal.
const MAX_PRECISION: u8 = 38;

/// The place of a type in its schema.
pub(super) type TypeId = usize;

/// A schema.
#[derive(Clone, PartialEq, Eq)]
pub struct AvroSchema {
    json: Json,
    types: Vec<AvroType>,
    root: TypeId,
}

/// One type of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AvroType {
    pub(super) kind: Kind,
    pub(super) logical: Option<Logical>,
    /// The full name, of records, enums and fixed types.
    pub(super) name: Option<String>,
}

/// What a type is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<Arc<str>>),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record(Vec<AvroField>),
}

/// What a type means beyond its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    Date,
    TimestampMillis,
    TimestampMicros,
    LocalTimestampMillis,
    LocalTimestampMicros,
    Decimal { precision: u8, scale: u8 },
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AvroField {
    pub(super) name: String,
    /// Names that a writer may have given it.
    pub(super) aliases: Vec<String>,
    /// What a reader takes where the writer has no such field.
    pub(super) default: Option<Json>,
    pub(super) type_id: TypeId,
}

/// Why a text is no Avro schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the Avro schema{place}: found {found}, expected {expected}")]
pub struct AvroSchemaError {
    place: String,
    found: String,
    expected: String,
}

impl AvroSchemaError {
    pub(super) fn new(path: &str, found: impl Into<String>, expected: impl Into<String>) -> Self {
        let place = if path.is_empty() { String::new() } else { format!(", at `{path}`") };
        Self { place, found: found.into(), expected: expected.into() }
    }
}

impl AvroSchema {
    /// Reads a schema from JSON text.
    pub fn parse(text: &str) -> Result<Self, AvroSchemaError> {
        let json = serde_json::from_str(text)
            .map_err(|error| AvroSchemaError::new("", format!("no JSON ({error})"), "a schema as Avro writes it"))?;
        Self::from_json(json)
    }

    /// Reads a schema from its JSON.
    pub(super) fn from_json(json: Json) -> Result<Self, AvroSchemaError> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new() };
        let root = parser.type_of(&json, "", "", 0)?;
        Ok(Self { types: parser.types, root, json })
    }

    /// The type of the whole.
    pub(super) fn root(&self) -> TypeId {
        self.root
    }

    /// The type at a place.
    pub(super) fn get(&self, id: TypeId) -> &AvroType {
        &self.types[id]
    }

    /// The type that a union with null stands for beside it; any other type is itself.
    pub(super) fn without_null(&self, id: TypeId) -> TypeId {
        match &self.get(id).kind {
            Kind::Union(branches) => {
                match branches.iter().filter(|branch| !self.is_null(**branch)).collect::<Vec<_>>()[..] {
                    [one] => *one,
                    _ => id,
                }
            }
            _ => id,
        }
    }

    /// Whether a type is null and nothing else.
    pub(super) fn is_null(&self, id: TypeId) -> bool {
        self.get(id).kind == Kind::Null
    }

    /// Whether a value may have no bytes at all, as one of a record without fields.
    pub fn may_be_empty(&self) -> bool {
        self.takes_no_bytes(self.root, 0)
    }

    fn takes_no_bytes(&self, id: TypeId, depth: usize) -> bool {
        // One that contains itself never ends, so that it has no value.
        depth <= MAX_DEPTH
            && match &self.get(id).kind {
                Kind::Null | Kind::Fixed(0) => true,
                Kind::Record(fields) => fields.iter().all(|field| self.takes_no_bytes(field.type_id, depth + 1)),
                _ => false,
            }
    }

    /// Whether it is a record with this field.
    pub fn has_field(&self, name: &str) -> bool {
        self.fields(self.root).is_some_and(|fields| fields.iter().any(|field| field.name == name))
    }

    /// The fields of a record; none of any other type.
    pub(super) fn fields(&self, id: TypeId) -> Option<&[AvroField]> {
        match &self.get(id).kind {
            Kind::Record(fields) => Some(fields),
            _ => None,
        }
    }

    /// What a type is called in messages.
    pub(super) fn describe(&self, id: TypeId) -> String {
        let found = self.get(id);
        let plain = match &found.kind {
            Kind::Null => "null".to_owned(),
            Kind::Boolean => "boolean".to_owned(),
            Kind::Int => "int".to_owned(),
            Kind::Long => "long".to_owned(),
            Kind::Float => "float".to_owned(),
            Kind::Double => "double".to_owned(),
            Kind::Bytes => "bytes".to_owned(),
            Kind::String => "string".to_owned(),
            Kind::Fixed(size) => format!("fixed of {size} bytes"),
            Kind::Enum(_) => "enum".to_owned(),
            Kind::Array(_) => "array".to_owned(),
            Kind::Map(_) => "map".to_owned(),
            Kind::Record(_) => "record".to_owned(),
            Kind::Union(branches) => {
                let branches: Vec<String> = branches
                    .iter()
                    .map(|branch| match &self.get(*branch).kind {
                        Kind::Union(_) => "union".to_owned(),
                        _ => self.describe(*branch),
                    })
                    .collect();
                format!("union of {}", branches.join(", "))
            }
        };
        match found.logical {
            None => plain,
            Some(Logical::Date) => "date".to_owned(),
            Some(Logical::TimestampMillis) => "timestamp-millis".to_owned(),
            Some(Logical::TimestampMicros) => "timestamp-micros".to_owned(),
            Some(Logical::LocalTimestampMillis) => "local-timestamp-millis".to_owned(),
            Some(Logical::LocalTimestampMicros) => "local-timestamp-micros".to_owned(),
            Some(Logical::Decimal { precision, scale }) => format!("decimal({precision}, {scale})"),
        }
    }
}

/// The text of a schema.
impl fmt::Display for AvroSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json.fmt(f)
    }
}

impl fmt::Debug for AvroSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvroSchema({})", self.json)
    }
}

const EXPECTED_TYPE: &str =
    "null, boolean, int, long, float, double, bytes, string, record, enum, array, map, fixed, a union or a name";

struct Parser {
    types: Vec<AvroType>,
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn push(&mut self, kind: Kind, logical: Option<Logical>, name: Option<String>) -> TypeId {
        self.types.push(AvroType { kind, logical, name });
        self.types.len() - 1
    }

    /// The type that `json` says, inside of `namespace`; `path` names it in errors.
    fn type_of(&mut self, json: &Json, namespace: &str, path: &str, depth: usize) -> Result<TypeId, AvroSchemaError> {
        if depth > MAX_DEPTH {
            let found = format!("types in each other, more than {MAX_DEPTH} deep");
            return Err(AvroSchemaError::new(path, found, "a flatter schema"));
        }
        match json {
            Json::String(name) => self.named(name, namespace, path),
            Json::Array(branches) => self.union(branches, namespace, path, depth),
            Json::Object(object) => match object.get("type") {
                Some(Json::String(word)) => self.object(word, object, namespace, path, depth),
                Some(inner @ (Json::Object(_) | Json::Array(_))) => self.type_of(inner, namespace, path, depth + 1),
                _ => Err(AvroSchemaError::new(path, "an object without \"type\"", EXPECTED_TYPE)),
            },
            other => Err(AvroSchemaError::new(path, other.to_string(), EXPECTED_TYPE)),
        }
    }

    /// A type by its name alone.
    fn named(&mut self, name: &str, namespace: &str, path: &str) -> Result<TypeId, AvroSchemaError> {
        if let Some(kind) = primitive(name) {
            return Ok(self.push(kind, None, None));
        }
        let full = full_name(name, namespace);
        let known = self.names.get(&full).or_else(|| self.names.get(name)).copied();
        known.ok_or_else(|| AvroSchemaError::new(path, format!("the type '{name}'"), EXPECTED_TYPE))
    }

    fn union(
        &mut self,
        branches: &[Json],
        namespace: &str,
        path: &str,
        depth: usize,
    ) -> Result<TypeId, AvroSchemaError> {
        let mut ids: Vec<TypeId> = Vec::with_capacity(branches.len());
        for branch in branches {
            let id = self.type_of(branch, namespace, path, depth + 1)?;
            let of = &self.types[id];
            if matches!(of.kind, Kind::Union(_)) {
                return Err(AvroSchemaError::new(path, "a union in a union", "one union of all their types"));
            }
            let twice = |other: &TypeId| {
                let other = &self.types[*other];
                std::mem::discriminant(&other.kind) == std::mem::discriminant(&of.kind) && other.name == of.name
            };
            if ids.iter().any(twice) {
                return Err(AvroSchemaError::new(path, "a union with the same type twice", "each type once"));
            }
            ids.push(id);
        }
        if ids.is_empty() {
            return Err(AvroSchemaError::new(path, "a union of nothing", "one type at least"));
        }
        Ok(self.push(Kind::Union(ids), None, None))
    }

    fn object(
        &mut self,
        word: &str,
        object: &Map<String, Json>,
        namespace: &str,
        path: &str,
        depth: usize,
    ) -> Result<TypeId, AvroSchemaError> {
        let of = |parser: &mut Self, key: &str| match object.get(key) {
            Some(inner) => parser.type_of(inner, namespace, path, depth + 1),
            None => Err(AvroSchemaError::new(path, format!("{word} without \"{key}\""), EXPECTED_TYPE)),
        };
        match word {
            "array" => of(self, "items").map(|items| self.push(Kind::Array(items), None, None)),
            "map" => of(self, "values").map(|values| self.push(Kind::Map(values), None, None)),
            "record" | "error" => self.record(object, namespace, path, depth),
            "enum" | "fixed" => {
                let (name, _) = self.new_name(object, namespace, path)?;
                let kind = if word == "enum" { symbols(object, path)? } else { size(object, path)? };
                let logical = logical(&kind, object, path)?;
                let id = self.push(kind, logical, Some(name.clone()));
                self.names.insert(name, id);
                Ok(id)
            }
            _ => match primitive(word) {
                Some(kind) => {
                    let logical = logical(&kind, object, path)?;
                    Ok(self.push(kind, logical, None))
                }
                None => self.named(word, namespace, path),
            },
        }
    }

    fn record(
        &mut self,
        object: &Map<String, Json>,
        namespace: &str,
        path: &str,
        depth: usize,
    ) -> Result<TypeId, AvroSchemaError> {
        let (name, inside) = self.new_name(object, namespace, path)?;
        // Known before its fields, which may be of it.
        let id = self.push(Kind::Record(Vec::new()), None, Some(name.clone()));
        self.names.insert(name, id);
        let Some(Json::Array(given)) = object.get("fields") else {
            return Err(AvroSchemaError::new(path, "a record without \"fields\"", "a list of fields"));
        };
        let mut fields: Vec<AvroField> = Vec::with_capacity(given.len());
        for field in given {
            let name = field.get("name").and_then(Json::as_str).unwrap_or_default();
            check_name(name, path)?;
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            if fields.iter().any(|other| other.name == name) {
                return Err(AvroSchemaError::new(&path, "a field of this name twice", "each name once"));
            }
            let Some(of) = field.get("type") else {
                return Err(AvroSchemaError::new(&path, "a field without \"type\"", EXPECTED_TYPE));
            };
            let type_id = self.type_of(of, &inside, &path, depth + 1)?;
            let aliases = field.get("aliases").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
            fields.push(AvroField {
                name: name.to_owned(),
                aliases: aliases.iter().filter_map(|alias| Some(alias.as_str()?.to_owned())).collect(),
                default: field.get("default").cloned(),
                type_id,
            });
        }
        self.types[id].kind = Kind::Record(fields);
        Ok(id)
    }

    /// The full name that a definition gives, and the namespace inside of it.
    fn new_name(
        &self,
        object: &Map<String, Json>,
        namespace: &str,
        path: &str,
    ) -> Result<(String, String), AvroSchemaError> {
        let name = object.get("name").and_then(Json::as_str).unwrap_or_default();
        let own = object.get("namespace").and_then(Json::as_str).unwrap_or(namespace);
        let full = full_name(name, own);
        full.split('.').try_for_each(|part| check_name(part, path))?;
        if self.names.contains_key(&full) {
            return Err(AvroSchemaError::new(path, format!("the type '{full}' defined twice"), "its name alone"));
        }
        let inside = full.rsplit_once('.').map(|(namespace, _)| namespace.to_owned()).unwrap_or_default();
        Ok((full, inside))
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// Names are letters, digits and underscores, and begin with no digit.
pub(super) fn check_name(name: &str, path: &str) -> Result<(), AvroSchemaError> {
    let is_good =
        |at: usize, letter: char| letter == '_' || letter.is_ascii_alphabetic() || (at > 0 && letter.is_ascii_digit());
    if !name.is_empty() && name.chars().enumerate().all(|(at, letter)| is_good(at, letter)) {
        return Ok(());
    }
    Err(AvroSchemaError::new(path, format!("the name '{name}'"), "a name of letters, digits and _, which Avro allows"))
}

fn primitive(word: &str) -> Option<Kind> {
    Some(match word {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

fn symbols(object: &Map<String, Json>, path: &str) -> Result<Kind, AvroSchemaError> {
    let given = object.get("symbols").and_then(Json::as_array);
    let symbols: Option<Vec<Arc<str>>> =
        given.and_then(|all| all.iter().map(|one| one.as_str().map(Arc::from)).collect());
    symbols.map(Kind::Enum).ok_or_else(|| AvroSchemaError::new(path, "an enum without \"symbols\"", "a list of names"))
}

fn size(object: &Map<String, Json>, path: &str) -> Result<Kind, AvroSchemaError> {
    let size = object.get("size").and_then(Json::as_u64).and_then(|size| usize::try_from(size).ok());
    size.map(Kind::Fixed).ok_or_else(|| AvroSchemaError::new(path, "a fixed without \"size\"", "its number of bytes"))
}

/// The logical type, if the type can have it.
fn logical(kind: &Kind, object: &Map<String, Json>, path: &str) -> Result<Option<Logical>, AvroSchemaError> {
    let word = object.get("logicalType").and_then(Json::as_str).unwrap_or_default();
    Ok(match (kind, word) {
        (Kind::Int, "date") => Some(Logical::Date),
        (Kind::Long, "timestamp-millis") => Some(Logical::TimestampMillis),
        (Kind::Long, "timestamp-micros") => Some(Logical::TimestampMicros),
        (Kind::Long, "local-timestamp-millis") => Some(Logical::LocalTimestampMillis),
        (Kind::Long, "local-timestamp-micros") => Some(Logical::LocalTimestampMicros),
        (Kind::Bytes | Kind::Fixed(_), "decimal") => {
            let number = |key: &str| object.get(key).map_or(Some(0), Json::as_u64);
            let (Some(precision), Some(scale)) = (number("precision"), number("scale")) else {
                return Err(AvroSchemaError::new(path, "a decimal whose precision is no number", "its digits"));
            };
            let of = |number: u64| u8::try_from(number).ok().filter(|number| *number <= MAX_PRECISION);
            match (of(precision), of(scale)) {
                (Some(precision), Some(scale)) if precision > 0 && scale <= precision => {
                    Some(Logical::Decimal { precision, scale })
                }
                _ => {
                    let found = format!("decimal({precision}, {scale})");
                    let expected = format!("1 to {MAX_PRECISION} digits, of which the scale has no more");
                    return Err(AvroSchemaError::new(path, found, expected));
                }
            }
        }
        _ => None,
    })
}
