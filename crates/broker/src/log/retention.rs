//! Which segments of a log have outlived it: a pure decision over sizes and ages.
//!
//! Segments go from the oldest on and as wholes. A segment goes by time when its newest record is
//! older than `retention.ms`, and by size when what is left without it still reaches
//! `retention.bytes`. The active segment never goes; when even it has aged out it is closed first,
//! so that a topic nobody writes to empties too.

use super::config::LogConfig;

/// What retention has to know of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentAge {
    pub(crate) size_bytes: u64,
    /// Newest record, or when the segment was made if its records carry no time.
    pub(crate) newest_ms: i64,
}

/// What to do with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Close the active segment first.
    pub(crate) roll_active: bool,
    /// Delete this many segments, from the oldest.
    pub(crate) delete: usize,
}

/// Judges the segments of a log, oldest first; the last is the active one.
pub(crate) fn judge(segments: &[SegmentAge], config: &LogConfig, now_ms: i64) -> Verdict {
    if !config.delete {
        return Verdict { roll_active: false, delete: 0 };
    }
    let aged = |segment: &SegmentAge| {
        config.retention_ms >= 0 && now_ms.saturating_sub(segment.newest_ms) > config.retention_ms
    };
    let mut left_bytes: u64 = segments.iter().map(|segment| segment.size_bytes).sum();
    let mut delete = 0;
    for segment in segments {
        left_bytes -= segment.size_bytes;
        let over_size = u64::try_from(config.retention_bytes).is_ok_and(|limit| left_bytes >= limit);
        // An empty log is over no limit, so the last segment never goes by size.
        let by_size = over_size && delete + 1 < segments.len();
        if !by_size && !aged(segment) {
            break;
        }
        delete += 1;
    }
    let all = delete == segments.len();
    if !all {
        return Verdict { roll_active: false, delete };
    }
    let roll_active = segments.last().is_some_and(|active| active.size_bytes > 0);
    Verdict { roll_active, delete: if roll_active { delete } else { delete.saturating_sub(1) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments as (bytes, newest); the time is 1000.
    fn check(segments: &[(u64, i64)], retention_ms: i64, retention_bytes: i64, roll_active: bool, delete: usize) {
        let config = LogConfig { retention_ms, retention_bytes, ..LogConfig::default() };
        let segments: Vec<_> =
            segments.iter().map(|&(size_bytes, newest_ms)| SegmentAge { size_bytes, newest_ms }).collect();
        assert_eq!(judge(&segments, &config, 1000), Verdict { roll_active, delete }, "{segments:?}");
    }

    #[test]
    fn a_topic_that_is_only_compacted_keeps_all() {
        let config = LogConfig { delete: false, retention_ms: 0, retention_bytes: 0, ..LogConfig::default() };
        let old = SegmentAge { size_bytes: 10, newest_ms: 0 };
        assert_eq!(judge(&[old, old], &config, 1000), Verdict { roll_active: false, delete: 0 });
    }

    #[test]
    fn by_time_the_old_prefix_goes() {
        check(&[(10, 100), (10, 500), (10, 990)], 400, -1, false, 2);
        check(&[(10, 100), (10, 500), (10, 990)], 500, -1, false, 1);
        check(&[(10, 990), (10, 100), (10, 990)], 400, -1, false, 0);
        check(&[(10, 100), (10, 500), (10, 990)], -1, -1, false, 0);
    }

    #[test]
    fn an_aged_active_segment_is_closed_then_deleted_unless_empty() {
        check(&[(10, 100), (10, 200)], 400, -1, true, 2);
        check(&[(10, 100), (0, 200)], 400, -1, false, 1);
        check(&[(0, 200)], 400, -1, false, 0);
    }

    #[test]
    fn by_size_no_more_than_the_limit_allows_goes() {
        check(&[(10, 999), (10, 999), (10, 999)], -1, 20, false, 1);
        check(&[(10, 999), (10, 999), (10, 999)], -1, 21, false, 0);
        check(&[(10, 999), (10, 999), (10, 999)], -1, 0, false, 2);
        check(&[(10, 999)], -1, 0, false, 0);
    }

    #[test]
    fn clocks_at_the_edge_do_not_overflow() {
        check(&[(10, i64::MIN), (10, i64::MAX)], 0, -1, false, 1);
    }
}
