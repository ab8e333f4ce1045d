//! The shape of every request that is served: walked before it is decoded.
//!
//! A decoder that believes a length allocates what a stranger asks for. The walk here reads a
//! frame as the decoder will, allocates nothing, and refuses the frame if a string, a byte field
//! or an array claims more than is there, or if all its arrays together hold more elements than
//! the limit. Only a frame that passes is decoded, so the memory a request can take is bounded by
//! its size and that limit.
//!
//! The shapes follow the protocol's definitions (<https://kafka.apache.org/protocol>). A test
//! encodes every request in every version with the codec and checks that the walk ends exactly at
//! its end, so a shape that is wrong does not survive.

use kafka_protocol::messages::ApiKey;
use thiserror::Error;

/// Why a frame is not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum ShapeError {
    #[error("a field of {wanted} bytes at byte {at}, but {left} are left")]
    Short { at: usize, wanted: usize, left: usize },
    #[error("an array of {wanted} elements at byte {at}, but {left} bytes are left")]
    Array { at: usize, wanted: usize, left: usize },
    #[error("a length of {found} at byte {at}")]
    Length { at: usize, found: i64 },
    #[error("arrays and tagged fields of more than {limit} elements (max_request_elements)")]
    Elements { limit: usize },
    #[error("a request nobody here reads")]
    Unknown,
}

/// What stands in a field.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Fixed(usize),
    Text,
    Blob,
    /// An array of strings or numbers.
    List(&'static Kind),
    /// An array of structures.
    Structs(&'static Struct),
    /// A structure in place.
    Inline(&'static Struct),
    /// A byte that says whether a structure follows.
    Maybe(&'static Struct),
}

/// A field and the versions it stands in.
#[derive(Debug, Clone, Copy)]
struct Field {
    since: i16,
    until: i16,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
struct Struct {
    fields: &'static [Field],
    /// Tagged fields the decoder knows. It reads them by their type and not by their size, and so
    /// does the walk.
    tags: &'static [(u32, Kind)],
}

/// A request: from which version on it is "flexible" (compact lengths, tagged fields), and what
/// is in it.
#[derive(Debug, Clone, Copy)]
struct Request {
    flexible_since: i16,
    body: Struct,
}

const ALWAYS: i16 = i16::MAX;
/// Longest string, in any version: what fits the length before there were compact ones, as in Kafka.
const MAX_TEXT_BYTES: usize = 0x7fff;

const fn f(kind: Kind) -> Field {
    Field { since: 0, until: ALWAYS, kind }
}

const fn since(since: i16, kind: Kind) -> Field {
    Field { since, until: ALWAYS, kind }
}

const fn between(since: i16, until: i16, kind: Kind) -> Field {
    Field { since, until, kind }
}

const fn plain(fields: &'static [Field]) -> Struct {
    Struct { fields, tags: &[] }
}

const BOOL: Kind = Kind::Fixed(1);
const I8: Kind = Kind::Fixed(1);
const I16: Kind = Kind::Fixed(2);
const I32: Kind = Kind::Fixed(4);
const I64: Kind = Kind::Fixed(8);
const F64: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const TEXT: Kind = Kind::Text;
const BLOB: Kind = Kind::Blob;
const TEXTS: Kind = Kind::List(&TEXT);
const I32S: Kind = Kind::List(&I32);
const I64S: Kind = Kind::List(&I64);

macro_rules! structs {
    ($($field:expr),* $(,)?) => {{
        const FIELDS: &[Field] = &[$($field),*];
        const STRUCT: Struct = plain(FIELDS);
        Kind::Structs(&STRUCT)
    }};
}

macro_rules! request {
    (flexible $flexible:literal: $($field:expr),* $(,)?) => {{
        const FIELDS: &[Field] = &[$($field),*];
        Request { flexible_since: $flexible, body: plain(FIELDS) }
    }};
}

const TOPIC_PARTITION_CURSOR: Struct = plain(&[f(TEXT), f(I32)]);
const REPLICA_STATE: Struct = plain(&[f(I32), f(I64)]);
const FETCH_PARTITION: Struct = Struct {
    fields: &[f(I32), since(9, I32), f(I64), since(12, I32), since(5, I64), f(I32)],
    tags: &[(0, UUID), (1, I64)],
};
const FETCH: Request = Request {
    flexible_since: 12,
    body: Struct {
        fields: &[
            between(0, 14, I32),
            f(I32),
            f(I32),
            f(I32),
            f(I8),
            since(7, I32),
            since(7, I32),
            f(structs![between(0, 12, TEXT), since(13, UUID), f(Kind::Structs(&FETCH_PARTITION))]),
            since(7, structs![between(0, 12, TEXT), since(13, UUID), f(I32S)]),
            since(11, TEXT),
        ],
        tags: &[(0, TEXT), (1, Kind::Inline(&REPLICA_STATE))],
    },
};

/// The shape of a request that is served.
fn shape(key: ApiKey) -> Option<Request> {
    Some(match key {
        ApiKey::Produce => request![flexible 9:
            f(TEXT), f(I16), f(I32),
            f(structs![between(0, 12, TEXT), since(13, UUID), f(structs![f(I32), f(BLOB)])])],
        ApiKey::Fetch => FETCH,
        ApiKey::ListOffsets => request![flexible 6:
            f(I32), since(2, I8),
            f(structs![f(TEXT), f(structs![f(I32), since(4, I32), f(I64)])]), since(10, I32)],
        ApiKey::Metadata => request![flexible 9:
            f(structs![since(10, UUID), f(TEXT)]), since(4, BOOL), between(8, 10, BOOL), since(8, BOOL)],
        ApiKey::OffsetCommit => request![flexible 8:
            f(TEXT), f(I32), f(TEXT), since(7, TEXT), between(2, 4, I64),
            f(structs![f(TEXT), f(structs![f(I32), f(I64), since(6, I32), f(TEXT)])])],
        ApiKey::OffsetFetch => request![flexible 6:
            between(0, 7, TEXT), between(0, 7, structs![f(TEXT), f(I32S)]),
            since(8, structs![f(TEXT), since(9, TEXT), since(9, I32), f(structs![f(TEXT), f(I32S)])]),
            since(7, BOOL)],
        ApiKey::FindCoordinator => request![flexible 3: between(0, 3, TEXT), since(1, I8), since(4, TEXTS)],
        ApiKey::JoinGroup => request![flexible 6:
            f(TEXT), f(I32), since(1, I32), f(TEXT), since(5, TEXT), f(TEXT),
            f(structs![f(TEXT), f(BLOB)]), since(8, TEXT)],
        ApiKey::Heartbeat => request![flexible 4: f(TEXT), f(I32), f(TEXT), since(3, TEXT)],
        ApiKey::LeaveGroup => request![flexible 4:
            f(TEXT), between(0, 2, TEXT), since(3, structs![f(TEXT), f(TEXT), since(5, TEXT)])],
        ApiKey::SyncGroup => request![flexible 4:
            f(TEXT), f(I32), f(TEXT), since(3, TEXT), since(5, TEXT), since(5, TEXT),
            f(structs![f(TEXT), f(BLOB)])],
        ApiKey::DescribeGroups => request![flexible 5: f(TEXTS), since(3, BOOL)],
        ApiKey::ListGroups => request![flexible 3: since(4, TEXTS), since(5, TEXTS)],
        ApiKey::ApiVersions => request![flexible 3: since(3, TEXT), since(3, TEXT)],
        ApiKey::CreateTopics => request![flexible 5:
            f(structs![
                f(TEXT), f(I32), f(I16), f(structs![f(I32), f(I32S)]), f(structs![f(TEXT), f(TEXT)])]),
            f(I32), f(BOOL)],
        ApiKey::DeleteTopics => request![flexible 4:
            since(6, structs![f(TEXT), f(UUID)]), between(0, 5, TEXTS), f(I32)],
        ApiKey::InitProducerId => request![flexible 2: f(TEXT), f(I32), since(3, I64), since(3, I16)],
        ApiKey::AddPartitionsToTxn => request![flexible 3: f(TEXT), f(I64), f(I16), f(structs![f(TEXT), f(I32S)])],
        ApiKey::AddOffsetsToTxn => request![flexible 3: f(TEXT), f(I64), f(I16), f(TEXT)],
        ApiKey::TxnOffsetCommit => request![flexible 3:
            f(TEXT), f(TEXT), f(I64), f(I16), since(3, I32), since(3, TEXT), since(3, TEXT),
            f(structs![f(TEXT), f(structs![f(I32), f(I64), since(2, I32), f(TEXT)])])],
        ApiKey::EndTxn => request![flexible 3: f(TEXT), f(I64), f(I16), f(BOOL)],
        ApiKey::WriteTxnMarkers => request![flexible 1:
            f(structs![f(I64), f(I16), f(BOOL), f(structs![f(TEXT), f(I32S)]), f(I32)])],
        ApiKey::ListTransactions => request![flexible 0: f(TEXTS), f(I64S), since(1, I64)],
        ApiKey::DescribeTransactions => request![flexible 0: f(TEXTS)],
        ApiKey::DescribeProducers => request![flexible 0: f(structs![f(TEXT), f(I32S)])],
        ApiKey::OffsetForLeaderEpoch => request![flexible 4:
            since(3, I32), f(structs![f(TEXT), f(structs![f(I32), f(I32), f(I32)])])],
        ApiKey::DescribeConfigs => request![flexible 4:
            f(structs![f(I8), f(TEXT), f(TEXTS)]), f(BOOL), since(3, BOOL)],
        ApiKey::IncrementalAlterConfigs => request![flexible 1:
            f(structs![f(I8), f(TEXT), f(structs![f(TEXT), f(I8), f(TEXT)])]), f(BOOL)],
        ApiKey::CreatePartitions => request![flexible 2:
            f(structs![f(TEXT), f(I32), f(structs![f(I32S)])]), f(I32), f(BOOL)],
        ApiKey::DeleteGroups => request![flexible 2: f(TEXTS)],
        ApiKey::AlterConfigs => request![flexible 2:
            f(structs![f(I8), f(TEXT), f(structs![f(TEXT), f(TEXT)])]), f(BOOL)],
        ApiKey::DeleteRecords => request![flexible 2:
            f(structs![f(TEXT), f(structs![f(I32), f(I64)])]), f(I32)],
        ApiKey::DescribeLogDirs => request![flexible 2: f(structs![f(TEXT), f(I32S)])],
        // Never flexible in its only version.
        ApiKey::OffsetDelete => request![flexible 1: f(TEXT), f(structs![f(TEXT), f(structs![f(I32)])])],
        ApiKey::DescribeCluster => request![flexible 0: f(BOOL), since(1, I8), since(2, BOOL)],
        _ => return client_shape(key),
    })
}

/// The shapes of requests about clients: who they are, what they may do, and how much.
fn client_shape(key: ApiKey) -> Option<Request> {
    Some(match key {
        // Never flexible.
        ApiKey::SaslHandshake => request![flexible 2: f(TEXT)],
        ApiKey::SaslAuthenticate => request![flexible 2: f(BLOB)],
        ApiKey::CreateAcls => request![flexible 2:
            f(structs![f(I8), f(TEXT), since(1, I8), f(TEXT), f(TEXT), f(I8), f(I8)])],
        ApiKey::DescribeAcls => request![flexible 2:
            f(I8), f(TEXT), since(1, I8), f(TEXT), f(TEXT), f(I8), f(I8)],
        ApiKey::DeleteAcls => request![flexible 2:
            f(structs![f(I8), f(TEXT), since(1, I8), f(TEXT), f(TEXT), f(I8), f(I8)])],
        ApiKey::AlterUserScramCredentials => request![flexible 0:
            f(structs![f(TEXT), f(I8)]), f(structs![f(TEXT), f(I8), f(I32), f(BLOB), f(BLOB)])],
        ApiKey::DescribeUserScramCredentials => request![flexible 0: f(structs![f(TEXT)])],
        ApiKey::DescribeClientQuotas => request![flexible 1: f(structs![f(TEXT), f(I8), f(TEXT)]), f(BOOL)],
        ApiKey::AlterClientQuotas => request![flexible 1:
            f(structs![f(structs![f(TEXT), f(TEXT)]), f(structs![f(TEXT), f(F64), f(BOOL)])]), f(BOOL)],
        ApiKey::DescribeTopicPartitions => request![flexible 0:
            f(structs![f(TEXT)]), f(I32), f(Kind::Maybe(&TOPIC_PARTITION_CURSOR))],
        ApiKey::ElectLeaders => request![flexible 2: since(1, I8), f(structs![f(TEXT), f(I32S)]), f(I32)],
        ApiKey::AlterPartitionReassignments => request![flexible 0:
            f(I32), since(1, BOOL), f(structs![f(TEXT), f(structs![f(I32), f(I32S)])])],
        ApiKey::ListPartitionReassignments => request![flexible 0: f(I32), f(structs![f(TEXT), f(I32S)])],
        ApiKey::AlterReplicaLogDirs => request![flexible 2:
            f(structs![f(TEXT), f(structs![f(TEXT), f(I32S)])])],
        ApiKey::ListConfigResources => request![flexible 0: since(1, Kind::List(&I8))],
        key => return group_shape(key),
    })
}

/// Batches of acknowledgements of a partition.
const ACKNOWLEDGEMENTS: Kind = structs![f(I64), f(I64), f(Kind::List(&I8))];

/// The shapes of the requests of groups whom the broker assigns.
fn group_shape(key: ApiKey) -> Option<Request> {
    Some(match key {
        ApiKey::ConsumerGroupHeartbeat => request![flexible 0:
            f(TEXT), f(TEXT), f(I32), f(TEXT), f(TEXT), f(I32), f(TEXTS), since(1, TEXT), f(TEXT),
            f(structs![f(UUID), f(I32S)])],
        ApiKey::ConsumerGroupDescribe | ApiKey::ShareGroupDescribe => request![flexible 0: f(TEXTS), f(BOOL)],
        ApiKey::ShareGroupHeartbeat => request![flexible 0: f(TEXT), f(TEXT), f(I32), f(TEXT), f(TEXTS)],
        ApiKey::ShareFetch => request![flexible 0:
            f(TEXT), f(TEXT), f(I32), f(I32), f(I32), f(I32), f(I32), f(I32), since(2, I8), since(2, BOOL),
            f(structs![f(UUID), f(structs![f(I32), f(ACKNOWLEDGEMENTS)])]), f(structs![f(UUID), f(I32S)])],
        ApiKey::ShareAcknowledge => request![flexible 0:
            f(TEXT), f(TEXT), f(I32), since(2, BOOL), f(structs![f(UUID), f(structs![f(I32), f(ACKNOWLEDGEMENTS)])])],
        ApiKey::DescribeShareGroupOffsets => request![flexible 0:
            f(structs![f(TEXT), f(structs![f(TEXT), f(I32S)])])],
        ApiKey::AlterShareGroupOffsets => request![flexible 0:
            f(TEXT), f(structs![f(TEXT), f(structs![f(I32), f(I64)])])],
        ApiKey::DeleteShareGroupOffsets => request![flexible 0: f(TEXT), f(structs![f(TEXT)])],
        _ => return None,
    })
}

#[cfg(test)]
fn check(key: ApiKey, version: i16, body: &[u8], max_elements: usize) -> Result<(), ShapeError> {
    walk(key, version, body, max_elements).map(|_| ())
}

/// What a walk has seen of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Bytes of the body.
    pub(crate) length: usize,
    /// Elements of its arrays, and its tagged fields: each takes memory once it is decoded.
    pub(crate) elements: usize,
}

/// Walks the body of a request. An API without a shape is refused: nothing is decoded unseen. Bytes behind the body are
/// left alone, as Kafka leaves them: librdkafka 2.12 sends three with a request for the metadata of all topics.
pub(crate) fn walk(key: ApiKey, version: i16, body: &[u8], max_elements: usize) -> Result<Walked, ShapeError> {
    let Some(request) = shape(key) else { return Err(ShapeError::Unknown) };
    let mut walk =
        Walk { bytes: body, at: 0, version, flexible: version >= request.flexible_since, max_elements, elements: 0 };
    walk.structure(&request.body)?;
    Ok(Walked { length: walk.at, elements: walk.elements })
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    version: i16,
    flexible: bool,
    max_elements: usize,
    elements: usize,
}

impl Walk<'_> {
    fn structure(&mut self, structure: &Struct) -> Result<(), ShapeError> {
        for field in structure.fields {
            if (field.since..=field.until).contains(&self.version) {
                self.field(field.kind)?;
            }
        }
        if self.flexible { self.tagged(structure.tags) } else { Ok(()) }
    }

    fn field(&mut self, kind: Kind) -> Result<(), ShapeError> {
        match kind {
            Kind::Fixed(size) => self.skip(size),
            Kind::Text => self.sized(2, MAX_TEXT_BYTES),
            Kind::Blob => self.sized(4, usize::MAX),
            Kind::Inline(structure) => self.structure(structure),
            Kind::Maybe(structure) => match self.take()? {
                [1] => self.structure(structure),
                // Null, or what the decoder refuses.
                _ => Ok(()),
            },
            Kind::List(element) => {
                let count = self.count()?;
                (0..count).try_for_each(|_| self.field(*element))
            }
            Kind::Structs(structure) => {
                let count = self.count()?;
                (0..count).try_for_each(|_| self.structure(structure))
            }
        }
    }

    /// A string or byte field, whose length takes `width` bytes outside flexible versions.
    fn sized(&mut self, width: usize, most: usize) -> Result<(), ShapeError> {
        let at = self.at;
        let length = self.length(width)?;
        if length > most {
            return Err(ShapeError::Length { at, found: length as i64 });
        }
        self.skip(length)
    }

    /// The length of an array. Every element takes a byte at least, so more elements than bytes
    /// are refused before the first is looked at.
    fn count(&mut self) -> Result<usize, ShapeError> {
        let count = self.length(4)?;
        let left = self.bytes.len() - self.at;
        if count > left {
            return Err(ShapeError::Array { at: self.at, wanted: count, left });
        }
        self.note_elements(count)?;
        Ok(count)
    }

    fn note_elements(&mut self, count: usize) -> Result<(), ShapeError> {
        self.elements += count;
        if self.elements > self.max_elements {
            return Err(ShapeError::Elements { limit: self.max_elements });
        }
        Ok(())
    }

    /// A length; null counts as empty.
    fn length(&mut self, width: usize) -> Result<usize, ShapeError> {
        let at = self.at;
        if self.flexible {
            return Ok(self.varint()?.saturating_sub(1) as usize);
        }
        let found = match width {
            2 => i64::from(i16::from_be_bytes(self.take()?)),
            _ => i64::from(i32::from_be_bytes(self.take()?)),
        };
        match found {
            -1 => Ok(0),
            found => usize::try_from(found).map_err(|_| ShapeError::Length { at, found }),
        }
    }

    fn tagged(&mut self, known: &[(u32, Kind)]) -> Result<(), ShapeError> {
        let count = self.varint()?;
        for _ in 0..count {
            // The decoder keeps those it does not know.
            self.note_elements(1)?;
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            match known.iter().find(|(number, _)| *number == tag) {
                Some((_, kind)) => self.field(*kind)?,
                None => self.skip(size)?,
            }
        }
        Ok(())
    }

    fn varint(&mut self) -> Result<u32, ShapeError> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(value)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ShapeError> {
        let at = self.at;
        self.skip(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.bytes[at..self.at]);
        Ok(out)
    }

    fn skip(&mut self, wanted: usize) -> Result<(), ShapeError> {
        let left = self.bytes.len() - self.at;
        if wanted > left {
            return Err(ShapeError::Short { at: self.at, wanted, left });
        }
        self.at += wanted;
        Ok(())
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
