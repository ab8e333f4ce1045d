//! JSON by hand: the texts written here need no escapes, so an event costs a few copies instead of a serialiser.

use chrono::{DateTime, Datelike};

/// A JSON object being written.
#[derive(Debug, Default)]
pub(crate) struct Object {
    bytes: Vec<u8>,
    date: DateText,
}

/// `2024-01-01T`, kept until the day changes: dates are the dear part of a timestamp.
#[derive(Debug, Default)]
struct DateText {
    day: Option<i64>,
    text: [u8; 11],
}

const HEX: &[u8; 16] = b"0123456789abcdef";
const MS_A_DAY: i64 = 86_400_000;

impl Object {
    /// Starts a new object with its first key, a text.
    pub(crate) fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.push(b'{');
    }

    /// Ends the object and gives it.
    pub(crate) fn end(&mut self) -> &[u8] {
        self.bytes.push(b'}');
        &self.bytes
    }

    fn key(&mut self, key: &str) {
        if self.bytes.last() != Some(&b'{') {
            self.bytes.push(b',');
        }
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    /// Starts an object within this one.
    pub(crate) fn open(&mut self, key: &str) {
        self.key(key);
        self.bytes.push(b'{');
    }

    /// Ends the object within this one.
    pub(crate) fn close(&mut self) {
        self.bytes.push(b'}');
    }

    /// A text without anything that JSON escapes.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        debug_assert!(!value.contains(['"', '\\']) && value.chars().all(|letter| letter >= ' '));
        self.key(key);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'"');
    }

    /// A whole number.
    pub(crate) fn whole(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value);
    }

    /// A number of hundredths, as `12.34`.
    pub(crate) fn hundredths(&mut self, key: &str, value: i64) {
        self.key(key);
        if value < 0 {
            self.bytes.push(b'-');
        }
        let value = value.unsigned_abs();
        self.digits(value / 100);
        let rest = (value % 100) as u8;
        self.bytes.extend_from_slice(&[b'.', b'0' + rest / 10, b'0' + rest % 10]);
    }

    /// A prefix and a number with leading zeros to `width` digits, as `card-000042`.
    pub(crate) fn numbered(&mut self, key: &str, prefix: &str, number: u64, width: usize) {
        self.key(key);
        self.bytes.push(b'"');
        self.bytes.extend_from_slice(prefix.as_bytes());
        push_padded(&mut self.bytes, number, width);
        self.bytes.push(b'"');
    }

    /// A random UUID (version 4) made of 128 random bits.
    pub(crate) fn uuid(&mut self, key: &str, high: u64, low: u64) {
        self.key(key);
        let high = (high & !0xf000) | 0x4000;
        let low = (low & !(0b11 << 62)) | (0b10 << 62);
        let mut text = [b'-'; 38];
        (text[0], text[37]) = (b'"', b'"');
        let mut place = 1;
        for byte in high.to_be_bytes().into_iter().chain(low.to_be_bytes()) {
            if matches!(place, 9 | 14 | 19 | 24) {
                place += 1;
            }
            text[place] = HEX[usize::from(byte >> 4)];
            text[place + 1] = HEX[usize::from(byte & 15)];
            place += 2;
        }
        self.bytes.extend_from_slice(&text);
    }

    /// A moment as `2024-01-01T00:00:00.000Z`.
    pub(crate) fn timestamp(&mut self, key: &str, ms: i64) {
        self.key(key);
        let (day, ms) = (ms.div_euclid(MS_A_DAY), ms.rem_euclid(MS_A_DAY) as u64);
        let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
        text[1..12].copy_from_slice(self.date.of(day));
        let (seconds, millis) = (ms / 1000, ms % 1000);
        for (at, value) in [(12, seconds / 3600), (15, seconds / 60 % 60), (18, seconds % 60)] {
            text[at] = b'0' + (value / 10) as u8;
            text[at + 1] = b'0' + (value % 10) as u8;
        }
        text[21] = b'0' + (millis / 100) as u8;
        text[22] = b'0' + (millis / 10 % 10) as u8;
        text[23] = b'0' + (millis % 10) as u8;
        self.bytes.extend_from_slice(&text);
    }

    fn digits(&mut self, value: u64) {
        push_padded(&mut self.bytes, value, 1);
    }
}

/// Appends the digits of `value`, with leading zeros to `width`.
pub(crate) fn push_padded(bytes: &mut Vec<u8>, mut value: u64, width: usize) {
    let mut text = [b'0'; 20];
    let mut at = text.len();
    while value > 0 || text.len() - at < width.min(text.len()) {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    bytes.extend_from_slice(&text[at..]);
}

impl DateText {
    fn of(&mut self, day: i64) -> &[u8; 11] {
        if self.day != Some(day) {
            self.day = Some(day);
            let date = DateTime::from_timestamp_millis(day * MS_A_DAY).unwrap_or_default();
            let text = format!("{:04}-{:02}-{:02}T", date.year().clamp(0, 9999), date.month(), date.day());
            self.text.copy_from_slice(text.as_bytes());
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_what_a_parser_reads() {
        let mut object = Object::default();
        for _ in 0..2 {
            object.begin();
            object.uuid("id", u64::MAX, 0);
            object.whole("zero", 0);
            object.whole("n", u64::MAX);
            object.hundredths("a", -1205);
            object.numbered("card", "card-", 42, 6);
            object.timestamp("ts", 1_709_251_199_999);
            object.timestamp("before", -1);
            object.open("inner");
            object.whole("a", 1);
            object.text("b", "{");
            object.close();
            object.text("t", "x y");
            let text = std::str::from_utf8(object.end()).unwrap();
            assert_eq!(
                text,
                "{\"id\":\"ffffffff-ffff-4fff-8000-000000000000\",\"zero\":0,\"n\":18446744073709551615,\"a\":-12.05,\
                 \"card\":\"card-000042\",\"ts\":\"2024-02-29T23:59:59.999Z\",\"before\":\"1969-12-31T23:59:59.999Z\",\
                 \"inner\":{\"a\":1,\"b\":\"{\"},\"t\":\"x y\"}"
            );
            serde_json::from_str::<serde_json::Value>(text).unwrap();
        }
    }
}
