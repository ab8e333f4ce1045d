//! Record batches, written and read by hand: the tests must not share the broker's idea of them.

use bytes::Bytes;

/// What a test wants in a batch.
#[derive(Clone, Default)]
pub(crate) struct Batch {
    keys: Vec<Option<String>>,
    /// A value that is absent is a tombstone.
    values: Vec<Option<String>>,
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
    pub(crate) last_offset_delta: i32,
    pub(crate) offsets: Vec<i64>,
    pub(crate) keys: Vec<String>,
    /// A record without a value reads as a dash.
    pub(crate) values: Vec<String>,
}

impl Batch {
    pub(crate) fn of<S: Into<String>>(values: impl IntoIterator<Item = S>) -> Self {
        let values: Vec<_> = values.into_iter().map(|value| Some(value.into())).collect();
        Self { keys: vec![None; values.len()], timestamps: vec![1_000; values.len()], values, producer: None }
    }

    /// Records with keys, and with values or without.
    pub(crate) fn keyed<'a>(records: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let own = |(key, value): (&str, Option<&str>)| (Some(key.to_owned()), value.map(str::to_owned));
        let (keys, values): (Vec<_>, Vec<_>) = records.into_iter().map(own).unzip();
        Self { timestamps: vec![1_000; values.len()], keys, values, producer: None }
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
        for at in 0..self.values.len() {
            let mut body = vec![0];
            put_varint(&mut body, self.timestamps[at] - self.timestamps[0]);
            put_varint(&mut body, at as i64);
            put_text(&mut body, self.keys[at].as_deref());
            put_text(&mut body, self.values[at].as_deref());
            put_varint(&mut body, 0);
            put_varint(&mut out, body.len() as i64);
            out.extend(body);
        }
        out
    }
}

fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    put_varint(out, text.map_or(-1, |text| text.len() as i64));
    out.extend(text.unwrap_or_default().bytes());
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
        let (base_offset, max_timestamp, producer_id) = (i64_at(batch, 0), i64_at(batch, 35), i64_at(batch, 43));
        let last_offset_delta = i32_at(batch, 23);
        let (mut offsets, mut keys, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..readable {
            let (delta, key, value) = read_record(&mut records);
            offsets.push(base_offset + delta);
            keys.push(key);
            values.push(value);
        }
        batches.push(Parsed {
            base_offset,
            count,
            attributes,
            max_timestamp,
            producer_id,
            last_offset_delta,
            offsets,
            keys,
            values,
        });
    }
    batches
}

fn read_record(records: &mut &[u8]) -> (i64, String, String) {
    let length = get_varint(records) as usize;
    let (mut body, rest) = records.split_at(length);
    *records = rest;
    body = &body[1..];
    get_varint(&mut body);
    (get_varint(&mut body), read_text(&mut body), read_text(&mut body))
}

fn read_text(body: &mut &[u8]) -> String {
    let Ok(length) = usize::try_from(get_varint(body)) else { return "-".into() };
    let (text, rest) = body.split_at(length);
    *body = rest;
    String::from_utf8(text.to_vec()).expect("text")
}
