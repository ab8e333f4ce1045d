//! Record batches, written and read by hand: the tests must not share the broker's idea of them.

use bytes::Bytes;

/// What a test wants in a batch.
#[derive(Clone, Default)]
pub(crate) struct Batch {
    values: Vec<String>,
    timestamps: Vec<i64>,
    producer: Option<(i64, i16, i32)>,
}

/// What a test reads out of a batch.
pub(crate) struct Parsed {
    pub(crate) base_offset: i64,
    pub(crate) count: i32,
    pub(crate) attributes: i16,
    pub(crate) max_timestamp: i64,
    pub(crate) producer_id: i64,
    pub(crate) values: Vec<String>,
}

impl Batch {
    pub(crate) fn of<S: Into<String>>(values: impl IntoIterator<Item = S>) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        Self { timestamps: vec![1_000; values.len()], values, producer: None }
    }

    /// One record of that many bytes.
    pub(crate) fn sized(bytes: usize) -> Self {
        Self::of(["x".repeat(bytes)])
    }

    pub(crate) fn at(mut self, timestamps: impl IntoIterator<Item = i64>) -> Self {
        self.timestamps = timestamps.into_iter().collect();
        assert_eq!(self.timestamps.len(), self.values.len());
        self
    }

    pub(crate) fn by_producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = Some((id, epoch, sequence));
        self
    }

    pub(crate) fn bytes(&self) -> Bytes {
        self.encode(0, |records| records)
    }

    /// The batch with its records packed by `pack`, marked with the codec's number.
    pub(crate) fn packed(&self, codec: i16, pack: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Bytes {
        self.encode(codec, pack)
    }

    fn encode(&self, attributes: i16, pack: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Bytes {
        let records = pack(self.records());
        let (producer_id, epoch, sequence) = self.producer.unwrap_or((-1, -1, -1));
        let count = self.values.len() as i32;
        let mut tail = Vec::new();
        tail.extend(attributes.to_be_bytes());
        tail.extend((count - 1).to_be_bytes());
        tail.extend(self.timestamps[0].to_be_bytes());
        tail.extend(self.timestamps.iter().max().expect("not empty").to_be_bytes());
        tail.extend(producer_id.to_be_bytes());
        tail.extend(epoch.to_be_bytes());
        tail.extend(sequence.to_be_bytes());
        tail.extend(count.to_be_bytes());
        tail.extend(records);
        let mut out = Vec::new();
        out.extend(0i64.to_be_bytes());
        out.extend((tail.len() as i32 + 9).to_be_bytes());
        out.extend((-1i32).to_be_bytes());
        out.push(2);
        out.extend(crc32c::crc32c(&tail).to_be_bytes());
        out.extend(tail);
        out.into()
    }

    fn records(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, (value, timestamp)) in self.values.iter().zip(&self.timestamps).enumerate() {
            let mut body = vec![0];
            put_varint(&mut body, timestamp - self.timestamps[0]);
            put_varint(&mut body, at as i64);
            put_varint(&mut body, -1);
            put_varint(&mut body, value.len() as i64);
            body.extend(value.bytes());
            put_varint(&mut body, 0);
            put_varint(&mut out, body.len() as i64);
            out.extend(body);
        }
        out
    }
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn get_varint(bytes: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
    }
}

/// Reads whole batches, checking the checksum of each; values only of batches without a codec.
pub(crate) fn parse(mut bytes: &[u8]) -> Vec<Parsed> {
    let i32_at = |bytes: &[u8], at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
    let i64_at = |bytes: &[u8], at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight"));
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let size = i32_at(bytes, 8) as usize + 12;
        let (batch, rest) = bytes.split_at(size);
        bytes = rest;
        assert_eq!(crc32c::crc32c(&batch[21..]), i32_at(batch, 17) as u32, "checksum");
        let attributes = i16::from_be_bytes([batch[21], batch[22]]);
        let count = i32_at(batch, 57);
        let mut records = &batch[61..];
        let readable = if attributes & 7 == 0 { count } else { 0 };
        let is_control = attributes & 0x20 != 0;
        let readable = if is_control { 0 } else { readable };
        let values = (0..readable).map(|_| read_value(&mut records)).collect();
        let (base_offset, max_timestamp, producer_id) = (i64_at(batch, 0), i64_at(batch, 35), i64_at(batch, 43));
        batches.push(Parsed { base_offset, count, attributes, max_timestamp, producer_id, values });
    }
    batches
}

fn read_value(records: &mut &[u8]) -> String {
    let length = get_varint(records) as usize;
    let (mut body, rest) = records.split_at(length);
    *records = rest;
    body = &body[1..];
    get_varint(&mut body);
    get_varint(&mut body);
    assert_eq!(get_varint(&mut body), -1, "no key");
    let length = get_varint(&mut body) as usize;
    String::from_utf8(body[..length].to_vec()).expect("text")
}
