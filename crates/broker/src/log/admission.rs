//! What a topic asks of the records themselves before a batch is stored.
//!
//! A batch is stored as it arrives, without a look inside, unless its topic is compacted (every record needs a key, and
//! the cleaner must be able to read the batch later), limits timestamps, or has a codec of its own. Only then is the
//! batch unpacked, up to `max_unpacked_batch_bytes`.

use thiserror::Error;

use super::batch::{BatchHeader, ProducedBatch};
use super::config::LogConfig;
use super::records::{Record, Unpacked, build_packed};

/// Records named in a refusal; a batch has room for millions.
const NAMED_RECORDS: usize = 100;

/// Why a batch is refused for its records.
#[derive(Debug, Error)]
pub(crate) enum Inadmissible {
    #[error("the records of the batch cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error("{} records or more of the batch are refused; the first: {}", .0.len(), first(.0))]
    Key(Vec<Refusal>),
    #[error("{} records or more of the batch are refused; the first: {}", .0.len(), first(.0))]
    Timestamp(Vec<Refusal>),
}

/// A record that is refused: its place in the batch, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) index: i32,
    pub(crate) reason: String,
}

fn first(refusals: &[Refusal]) -> &str {
    refusals.first().map_or("", |refusal| &refusal.reason)
}

/// Checks a batch against its topic; answers the batch in the topic's own codec if that is another one.
pub(crate) fn admit(
    batch: &ProducedBatch<'_>,
    config: &LogConfig,
    now_ms: i64,
) -> Result<Option<Vec<u8>>, Inadmissible> {
    let header = &batch.header;
    let recompress = config.codec.filter(|&codec| header.codec() != Ok(codec));
    let window = Window::of(config, now_ms);
    if !config.compact && window.is_none() && recompress.is_none() {
        return Ok(None);
    }
    let unpacked = Unpacked::new(header, batch.bytes(), config.max_unpacked_bytes).map_err(Inadmissible::Unreadable)?;
    check_records(&unpacked, config.compact, window, header)?;
    let repack = |codec| build_packed(&header.with_codec(codec), unpacked.bytes()).map_err(Inadmissible::Unreadable);
    recompress.map(repack).transpose()
}

/// The times a topic takes.
#[derive(Debug, Clone, Copy)]
struct Window {
    least_ms: i64,
    most_ms: i64,
}

impl Window {
    fn of(config: &LogConfig, now_ms: i64) -> Option<Self> {
        let limited = config.timestamp_before_max_ms < i64::MAX || config.timestamp_after_max_ms < i64::MAX;
        // The broker's own time is always right.
        (limited && !config.log_append_time).then(|| Self {
            least_ms: now_ms.saturating_sub(config.timestamp_before_max_ms),
            most_ms: now_ms.saturating_add(config.timestamp_after_max_ms),
        })
    }

    fn refuses(self, record: &Record<'_>) -> Option<String> {
        let Self { least_ms, most_ms } = self;
        // A record without a time cannot be out of it.
        let fine = record.timestamp == -1 || (least_ms..=most_ms).contains(&record.timestamp);
        (!fine).then(|| format!("timestamp {} is not from {least_ms} to {most_ms}", record.timestamp))
    }
}

fn check_records(
    unpacked: &Unpacked<'_>,
    needs_key: bool,
    window: Option<Window>,
    header: &BatchHeader,
) -> Result<(), Inadmissible> {
    let (mut without_key, mut out_of_time) = (Vec::new(), Vec::new());
    for (index, record) in (0..).zip(unpacked.records()) {
        let record = record.map_err(Inadmissible::Unreadable)?;
        if record.offset - header.base_offset != i64::from(index) {
            let gap = std::io::Error::other(format!("record {index} has another offset than its place"));
            return Err(Inadmissible::Unreadable(gap));
        }
        if needs_key && record.key.is_none() && without_key.len() < NAMED_RECORDS {
            let reason = "a compacted topic takes no record without a key".to_owned();
            without_key.push(Refusal { index, reason });
        }
        if let Some(reason) = window.and_then(|window| window.refuses(&record))
            && out_of_time.len() < NAMED_RECORDS
        {
            out_of_time.push(Refusal { index, reason });
        }
    }
    if !out_of_time.is_empty() {
        return Err(Inadmissible::Timestamp(out_of_time));
    }
    if without_key.is_empty() { Ok(()) } else { Err(Inadmissible::Key(without_key)) }
}

#[cfg(test)]
mod tests {
    use super::super::batch::Codec;
    use super::super::batch::testing::{Spec, batch};
    use super::super::records::build;
    use super::*;

    fn produced(records: &[(Option<&[u8]>, i64)], codec: Codec) -> Vec<u8> {
        let spec = Spec { records: records.len() as i32, timestamp: 500, ..Spec::default() };
        let header = BatchHeader::parse(&batch(spec)).expect("a header").with_codec(codec);
        let record = |(at, &(key, timestamp))| Record::of(at, timestamp, key, Some(&[7; 50]));
        build(&header, (0..).zip(records).map(record)).expect("built")
    }

    fn check(records: &[(Option<&[u8]>, i64)], config: LogConfig) -> Result<Option<Vec<u8>>, Inadmissible> {
        let bytes = produced(records, Codec::Gzip);
        admit(&ProducedBatch::check(&bytes).expect("valid"), &config, 1000)
    }

    fn refused(result: Result<Option<Vec<u8>>, Inadmissible>) -> Vec<i32> {
        match result.expect_err("refused") {
            Inadmissible::Key(refused) | Inadmissible::Timestamp(refused) => {
                refused.iter().map(|refusal| refusal.index).collect()
            }
            Inadmissible::Unreadable(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_compacted_topic_takes_no_record_without_a_key() {
        let compact = LogConfig { compact: true, ..LogConfig::default() };
        let records: [(Option<&[u8]>, i64); 3] = [(Some(b"k"), 0), (None, 0), (None, 0)];
        assert_eq!(refused(check(&records, compact)), [1, 2]);
        assert_eq!(check(&records[..1], compact).expect("taken"), None);
        assert_eq!(check(&records, LogConfig::default()).expect("taken"), None);
        let many = vec![records[1]; 1000];
        assert_eq!(refused(check(&many, compact)).len(), NAMED_RECORDS);
    }

    #[test]
    fn times_outside_of_the_window_are_refused() {
        let config = LogConfig { timestamp_before_max_ms: 100, timestamp_after_max_ms: 50, ..LogConfig::default() };
        let at = |timestamp| (None, timestamp);
        let records = [at(899), at(900), at(1000), at(1050), at(1051), at(-1)];
        assert_eq!(refused(check(&records, config)), [0, 4]);
        assert_eq!(check(&records, LogConfig { log_append_time: true, ..config }).expect("taken"), None);
    }

    #[test]
    fn what_cannot_be_read_or_is_too_large_is_refused_where_it_has_to_be_read() {
        let compact = LogConfig { compact: true, ..LogConfig::default() };
        let opaque = batch(Spec::default());
        let opaque = ProducedBatch::check(&opaque).expect("valid");
        assert!(matches!(admit(&opaque, &compact, 0), Err(Inadmissible::Unreadable(_))));
        assert_eq!(admit(&opaque, &LogConfig::default(), 0).expect("taken"), None);
        let small = LogConfig { max_unpacked_bytes: 20, ..compact };
        let error = check(&[(Some(b"k"), 0)], small).expect_err("too large").to_string();
        assert!(error.contains("more than 20 bytes"), "{error}");
    }

    #[test]
    fn a_topic_with_a_codec_stores_nothing_else() {
        for codec in [Codec::None, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let config = LogConfig { codec: Some(codec), ..LogConfig::default() };
            let stored = check(&[(Some(b"k"), 0), (None, 5)], config).expect("taken").expect("recompressed");
            let stored = ProducedBatch::check(&stored).expect("valid");
            assert_eq!(stored.header.codec(), Ok(codec));
            let plain = produced(&[(Some(b"k"), 0), (None, 5)], Codec::None);
            let unpacked = Unpacked::new(&stored.header, stored.bytes(), 1000).expect("unpacked");
            assert_eq!(unpacked.bytes(), &plain[61..]);
        }
        let same = LogConfig { codec: Some(Codec::Gzip), ..LogConfig::default() };
        assert_eq!(check(&[(None, 0)], same).expect("taken"), None);
    }
}
