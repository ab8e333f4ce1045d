//! How much of what is there one batch takes. Pure: positions in, positions out.

use super::offsets::PartitionOffsets;

/// Ends of a batch from `start` towards `latest` that holds about `max_records`, shared among the partitions in
/// proportion to what waits in each, as Spark does: each share is rounded down, a share below one is one record,
/// so that a small partition never starves. `start` must have every partition of `latest`.
pub fn share_limit(start: &PartitionOffsets, latest: &PartitionOffsets, max_records: u64) -> PartitionOffsets {
    let waiting: u128 = start.iter().map(|(partition, from)| u128::from(backlog(*from, latest.get(partition)))).sum();
    let share = |backlog: u64| -> u64 {
        let share = u128::from(max_records) * u128::from(backlog) / waiting.max(1);
        u64::try_from(share).unwrap_or(u64::MAX).max(1)
    };
    latest
        .iter()
        .map(|(partition, end)| {
            let from = start.get(partition).copied().unwrap_or(*end);
            let backlog = backlog(from, Some(end));
            let end = if backlog == 0 { *end } else { from.saturating_add_unsigned(share(backlog)).min(*end) };
            (partition.clone(), end)
        })
        .collect()
}

/// Records between two positions, over all partitions of `start`.
pub fn records_between(start: &PartitionOffsets, end: &PartitionOffsets) -> u64 {
    start.iter().map(|(partition, from)| backlog(*from, end.get(partition))).fold(0, u64::saturating_add)
}

/// Into how many parts the ranges of a batch are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartLimits {
    /// All ranges together have about so many parts at least, the larger the more.
    pub min_parts: Option<usize>,
    /// No part has more records than this.
    pub max_records: Option<u64>,
}

/// Cuts `[start, end)`, one of the ranges that have `total` records together.
pub fn split_range(start: i64, end: i64, total: u64, limits: PartLimits) -> Vec<(i64, i64)> {
    let size = backlog(start, Some(&end));
    let share = |parts: usize| (size as f64 / total.max(1) as f64 * parts as f64).round() as u64;
    let by_number = limits.min_parts.map_or(1, share);
    let by_size = limits.max_records.map_or(1, |records| size.div_ceil(records.max(1)));
    let parts = by_number.max(by_size).clamp(1, size.max(1));
    let cut = |part: u64| {
        let offset = u128::from(size) * u128::from(part) / u128::from(parts);
        start.saturating_add_unsigned(u64::try_from(offset).unwrap_or(u64::MAX))
    };
    (0..parts).map(|part| (cut(part), if part + 1 == parts { end } else { cut(part + 1) })).collect()
}

fn backlog(from: i64, to: Option<&i64>) -> u64 {
    to.map_or(0, |to| u64::try_from(to.saturating_sub(from)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::client::cluster::TopicPartition;
    use super::*;

    fn offsets(numbers: &[i64]) -> PartitionOffsets {
        (0..).zip(numbers).map(|(partition, offset)| (TopicPartition::new("t", partition), *offset)).collect()
    }

    fn check(start: &[i64], latest: &[i64], limit: u64, expected: &[i64]) {
        assert_eq!(share_limit(&offsets(start), &offsets(latest), limit), offsets(expected));
    }

    #[test]
    fn the_limit_is_shared_in_proportion_to_the_backlog() {
        check(&[0, 0], &[100, 300], 40, &[10, 30]);
        check(&[50, 0], &[150, 300], 40, &[60, 30]);
        check(&[0, 0], &[10, 20], 1000, &[10, 20]);
    }

    #[test]
    fn a_small_partition_gets_a_record_at_least_and_an_empty_one_none() {
        check(&[0, 0, 7], &[1_000_000, 1, 7], 10, &[9, 1, 7]);
        check(&[0, 0], &[5, 5], 1, &[1, 1]);
    }

    #[test]
    fn an_end_before_its_start_is_left_to_the_caller() {
        check(&[10, 0], &[4, 8], 4, &[4, 4]);
    }

    #[test]
    fn large_numbers_do_not_overflow() {
        check(&[0], &[i64::MAX], u64::MAX, &[i64::MAX]);
        assert_eq!(records_between(&offsets(&[0, 0, 0]), &offsets(&[i64::MAX, i64::MAX, i64::MAX])), u64::MAX);
    }

    #[test]
    fn a_range_is_cut_into_its_share_of_the_parts() {
        let split = |start, end, total, min_parts| {
            split_range(start, end, total, PartLimits { min_parts: Some(min_parts), max_records: None })
        };
        assert_eq!(split(10, 20, 10, 3), [(10, 13), (13, 16), (16, 20)]);
        assert_eq!(split(0, 10, 100, 4), [(0, 10)]);
        assert_eq!(split(0, 2, 2, 8), [(0, 1), (1, 2)]);
    }

    #[test]
    fn no_part_is_larger_than_allowed() {
        let split = |end, min_parts, max| {
            split_range(0, end, u64::try_from(end).unwrap(), PartLimits { min_parts, max_records: Some(max) })
        };
        assert_eq!(split(10, None, 4), [(0, 3), (3, 6), (6, 10)]);
        assert_eq!(split(10, None, 10), [(0, 10)]);
        assert_eq!(split(4, Some(1), 1), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(split(4, Some(2), 3), [(0, 2), (2, 4)]);
        assert_eq!(split(0, None, 1), [(0, 0)]);
    }
}
