//! The first rows of one partition: their order, which of them stay, and the bytes they are kept as.
//!
//! ```text
//!   a row    order bytes · row bytes               compared as they are, so that the order is total and lasts
//!   state    [order length: u32][length: u32][bytes] a row, in order
//! ```
//!
//! Rows that the query's order leaves equal are in the order of all their columns, whichever came first: the same rows
//! give the same places in whatever batches and from however many threads they come. Rows without any difference are
//! kept each for itself.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Which number a row has among those of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ranking {
    /// Its place: 1, 2, 3.
    RowNumber,
    /// The place of the first row that is equal in the order: 1, 1, 3.
    Rank,
    /// How many different ones there are up to it: 1, 1, 2.
    DenseRank,
}

impl Ranking {
    /// The ranking of a window function, by the function's name.
    pub(crate) fn of(function: &str) -> Option<Self> {
        match function {
            "row_number" => Some(Self::RowNumber),
            "rank" => Some(Self::Rank),
            "dense_rank" => Some(Self::DenseRank),
            _ => None,
        }
    }

    /// The window function's name.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::RowNumber => "row_number",
            Self::Rank => "rank",
            Self::DenseRank => "dense_rank",
        }
    }
}

/// A row as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopRow {
    order_len: usize,
    /// Shared with what the sink was last told.
    bytes: Arc<[u8]>,
}

impl TopRow {
    pub(super) fn new(order: &[u8], row: &[u8]) -> Self {
        Self { order_len: order.len(), bytes: [order, row].concat().into() }
    }

    fn order(&self) -> &[u8] {
        &self.bytes[..self.order_len]
    }

    /// The columns.
    pub(super) fn row(&self) -> &[u8] {
        &self.bytes[self.order_len..]
    }
}

/// The first rows of a partition, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TopRows(Vec<TopRow>);

/// Memory of a row beside its bytes.
const ROW_BYTES: usize = size_of::<TopRow>() + 2 * size_of::<usize>();

impl TopRows {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TopRow> {
        self.0.iter()
    }

    pub(super) fn get(&self, at: usize) -> Option<&TopRow> {
        self.0.get(at)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.0.iter().map(|row| row.bytes.len() + ROW_BYTES).sum()
    }

    /// Where a row belongs, if it is among the first.
    pub(super) fn position(&self, order: &[u8], row: &[u8], ranking: Ranking, limit: usize) -> Option<usize> {
        let before = self.0.partition_point(|known| known.order() < order);
        let behind = before + self.0[before..].partition_point(|known| known.order() == order && known.row() <= row);
        let places_before = match ranking {
            Ranking::RowNumber => behind,
            Ranking::Rank => before,
            Ranking::DenseRank => self.0[..before].chunk_by(|a, b| a.order() == b.order()).count(),
        };
        (places_before < limit).then_some(behind)
    }

    /// Takes a row in where it belongs.
    pub(super) fn insert(&mut self, at: usize, row: TopRow, ranking: Ranking, limit: usize) {
        self.0.insert(at, row);
        self.cut(ranking, limit);
    }

    /// Lets go of the rows behind the last place that is wanted.
    fn cut(&mut self, ranking: Ranking, limit: usize) {
        let kept = match ranking {
            Ranking::RowNumber => limit,
            Ranking::Rank => {
                let Some(last) = limit.checked_sub(1).and_then(|last| self.0.get(last)) else { return };
                limit + self.0[limit..].partition_point(|row| row.order() == last.order())
            }
            Ranking::DenseRank => self.0.chunk_by(|a, b| a.order() == b.order()).take(limit).map(<[_]>::len).sum(),
        };
        self.0.truncate(kept);
    }

    /// The number of each row.
    pub(super) fn places(&self, ranking: Ranking) -> Vec<u64> {
        let mut places = Vec::with_capacity(self.0.len());
        for (groups, equal) in (1..).zip(self.0.chunk_by(|a, b| a.order() == b.order())) {
            let first = places.len() as u64 + 1;
            places.extend((0..equal.len() as u64).map(|at| match ranking {
                Ranking::RowNumber => first + at,
                Ranking::Rank => first,
                Ranking::DenseRank => groups,
            }));
        }
        places
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.iter().map(|row| row.bytes.len() + 8).sum());
        for row in &self.0 {
            for length in [row.order_len, row.bytes.len()] {
                out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            }
            out.extend_from_slice(&row.bytes);
        }
        out
    }

    /// The rows of a state value; none if it is damaged.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut rows = Vec::new();
        while !bytes.is_empty() {
            let (order_len, rest) = bytes.split_first_chunk::<4>()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (row, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            let order_len = u32::from_be_bytes(*order_len) as usize;
            if order_len > row.len() {
                return None;
            }
            rows.push(TopRow { order_len, bytes: row.into() });
            bytes = rest;
        }
        Some(Self(rows))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(rows: &[(u8, u8)], ranking: Ranking, limit: usize) -> Vec<(u64, u8, u8)> {
        let mut top = TopRows::default();
        for (order, row) in rows {
            if let Some(at) = top.position(&[*order], &[*row], ranking, limit) {
                top.insert(at, TopRow::new(&[*order], &[*row]), ranking, limit);
            }
        }
        let top = TopRows::decode(&top.encode()).unwrap();
        let places = top.places(ranking);
        top.iter().zip(places).map(|(row, place)| (place, row.order()[0], row.row()[0])).collect()
    }

    /// All rows in order, numbered, and then those that are wanted.
    fn naive(rows: &[(u8, u8)], ranking: Ranking, limit: usize) -> Vec<(u64, u8, u8)> {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        let number = |at: usize| {
            let order = rows[at].0;
            let mut smaller: Vec<u8> = rows.iter().map(|row| row.0).filter(|other| *other < order).collect();
            match ranking {
                Ranking::RowNumber => at as u64 + 1,
                Ranking::Rank => smaller.len() as u64 + 1,
                Ranking::DenseRank => {
                    smaller.dedup();
                    smaller.len() as u64 + 1
                }
            }
        };
        let numbered = rows.iter().enumerate().map(|(at, (order, row))| (number(at), *order, *row));
        numbered.filter(|(place, ..)| *place <= limit as u64).collect()
    }

    proptest! {
        #[test]
        fn the_first_rows_are_those_of_all_rows_whatever_came_first(
            rows in prop::collection::vec((0_u8..6, 0_u8..4), 0..40), limit in 0_usize..8,
        ) {
            for ranking in [Ranking::RowNumber, Ranking::Rank, Ranking::DenseRank] {
                prop_assert_eq!(of(&rows, ranking, limit), naive(&rows, ranking, limit), "{:?}", ranking);
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            if let Some(rows) = TopRows::decode(&bytes) {
                prop_assert_eq!(rows.encode(), bytes);
            }
        }
    }
}
