//! What there is to compact in a log, and how urgent it is: pure decisions over the facts of its segments.

use super::super::config::LogConfig;

/// What is known of a segment that is no longer written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) base_offset: i64,
    /// Where the next segment begins.
    pub(super) end_offset: i64,
    pub(super) size_bytes: u64,
    /// Newest record.
    pub(super) newest_ms: i64,
}

/// A log that should be compacted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    /// Share of the bytes that are dirty.
    dirty_ratio: f64,
    /// Records have waited for longer than `max.compaction.lag.ms`.
    overdue: bool,
}

impl Candidate {
    /// The higher the sooner.
    pub(crate) fn urgency(&self) -> f64 {
        if self.overdue { 1.0 + self.dirty_ratio } else { self.dirty_ratio }
    }
}

/// Where compaction has to stop: `stable_end` is the end of what is closed, readable and decided.
pub(super) fn cleanable_end(
    closed: &[Facts],
    dirty_offset: i64,
    stable_end: i64,
    config: &LogConfig,
    now_ms: i64,
) -> i64 {
    let too_young = |segment: &&Facts| {
        segment.end_offset > dirty_offset && segment.newest_ms > now_ms.saturating_sub(config.min_compaction_lag_ms)
    };
    let closed_end = closed.last().map_or(dirty_offset, |last| last.end_offset);
    let old_end = if config.min_compaction_lag_ms > 0 {
        closed.iter().find(too_young).map(|young| young.base_offset)
    } else {
        None
    };
    closed_end.min(stable_end).min(old_end.unwrap_or(i64::MAX))
}

/// Whether a log is dirty enough. `oldest_dirty_ms` is asked for the time of the first dirty record.
pub(super) fn judge(
    closed: &[Facts],
    dirty_offset: i64,
    end: i64,
    config: &LogConfig,
    now_ms: i64,
    oldest_dirty_ms: impl FnOnce() -> Option<i64>,
) -> Option<Candidate> {
    if end <= dirty_offset {
        return None;
    }
    let (mut clean_bytes, mut dirty_bytes) = (0u64, 0u64);
    for segment in closed.iter().filter(|segment| segment.base_offset < end) {
        if segment.end_offset > dirty_offset {
            dirty_bytes += segment.size_bytes;
        } else {
            clean_bytes += segment.size_bytes;
        }
    }
    if dirty_bytes == 0 {
        return None;
    }
    let dirty_ratio = dirty_bytes as f64 / (clean_bytes + dirty_bytes) as f64;
    let latest = now_ms.saturating_sub(config.max_compaction_lag_ms);
    let overdue = config.max_compaction_lag_ms < i64::MAX && oldest_dirty_ms().is_some_and(|oldest| oldest < latest);
    (overdue || dirty_ratio > config.min_cleanable_dirty_ratio).then_some(Candidate { dirty_ratio, overdue })
}

/// Neighbours that become one segment each: of at most `segment_bytes` together, and not wider than offsets of an
/// index are. Groups of the segments from `closed`, by their places.
pub(super) fn groups(closed: &[Facts], segment_bytes: u64) -> Vec<std::ops::Range<usize>> {
    let mut groups: Vec<std::ops::Range<usize>> = Vec::new();
    let mut bytes = 0u64;
    for (at, segment) in closed.iter().enumerate() {
        let fits = |group: &std::ops::Range<usize>| {
            let wide = segment.end_offset - closed[group.start].base_offset > i64::from(i32::MAX);
            !wide && bytes + segment.size_bytes <= segment_bytes
        };
        match groups.last_mut().filter(|group| fits(group)) {
            Some(group) => {
                group.end = at + 1;
                bytes += segment.size_bytes;
            }
            None => {
                groups.push(at..at + 1);
                bytes = segment.size_bytes;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments of ten offsets each, as (bytes, newest).
    fn facts(segments: &[(u64, i64)]) -> Vec<Facts> {
        let fact = |(at, &(size_bytes, newest_ms)): (usize, &(u64, i64))| {
            let base_offset = at as i64 * 10;
            Facts { base_offset, end_offset: base_offset + 10, size_bytes, newest_ms }
        };
        segments.iter().enumerate().map(fact).collect()
    }

    #[test]
    fn compaction_stops_at_what_is_undecided_or_too_young() {
        let closed = facts(&[(1, 100), (1, 950), (1, 200)]);
        let check = |dirty_offset, stable_end, lag, expected| {
            let config = LogConfig { min_compaction_lag_ms: lag, ..LogConfig::default() };
            assert_eq!(cleanable_end(&closed, dirty_offset, stable_end, &config, 1000), expected);
        };
        check(0, 100, 0, 30);
        check(0, 17, 0, 17);
        check(0, 100, 100, 10);
        check(20, 100, 100, 30);
        check(0, 100, 50, 30);
        check(0, 100, i64::MAX, 0);
    }

    #[test]
    fn a_log_is_compacted_when_dirty_enough_or_overdue() {
        let closed = facts(&[(60, 0), (40, 0), (0, 0)]);
        let check = |dirty, end, ratio, lag, expected: Option<(f64, bool)>| {
            let config =
                LogConfig { min_cleanable_dirty_ratio: ratio, max_compaction_lag_ms: lag, ..LogConfig::default() };
            let expected = expected.map(|(dirty_ratio, overdue)| Candidate { dirty_ratio, overdue });
            assert_eq!(judge(&closed, dirty, end, &config, 1000, || Some(500)), expected);
        };
        check(10, 30, 0.3, i64::MAX, Some((0.4, false)));
        check(10, 30, 0.4, i64::MAX, None);
        check(10, 30, 0.4, 499, Some((0.4, true)));
        check(10, 30, 0.4, 500, None);
        check(10, 10, 0.0, 0, None);
        check(20, 30, 0.0, 0, None);
        check(0, 30, 0.9, i64::MAX, Some((1.0, false)));
    }

    #[test]
    fn small_neighbours_are_merged() {
        let check = |sizes: &[u64], expected: &[std::ops::Range<usize>]| {
            let closed = facts(&sizes.iter().map(|&size| (size, 0)).collect::<Vec<_>>());
            assert_eq!(groups(&closed, 10), expected);
        };
        check(&[], &[]);
        check(&[3, 3, 4, 1], &[0..3, 3..4]);
        check(&[30, 1, 9, 10], &[0..1, 1..3, 3..4]);
        let wide = |base_offset, end_offset| Facts { base_offset, end_offset, size_bytes: 1, newest_ms: 0 };
        let far = i64::from(i32::MAX);
        assert_eq!(groups(&[wide(0, 5), wide(5, far), wide(far, far + 1)], 10), [0..2, 2..3]);
    }
}
