//! Which sessions rows make with those their key has: the decision alone, no state is touched.
//!
//! ```text
//!   key's sessions   ├──A──┤      ├──B──┤   ├─C─┤
//!   rows                  ├─r1─┤              ├─r2─┤
//!   become           ├──────A───────────┤   ├──C───┤     r1 goes into A, then B into A; r2 into C
//! ```
//!
//! Sessions that touch are joined, as in Spark. What goes into a session goes in the order of its start, so that
//! `first` and `collect_list` find it in that order; an order within one call takes *rounds*: first the rows of a
//! round, then the sessions joined in it.

/// A session of a key, its state at a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) start_us: i64,
    pub(super) end_us: i64,
    /// The stamp of its last row; see [`ttl`](crate::operator::ttl).
    pub(super) written_us: i64,
    pub(super) slot: u32,
}

/// A row with the session it makes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowSession {
    pub(super) row: u32,
    pub(super) start_us: i64,
    pub(super) end_us: i64,
}

/// One round of changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    /// Rows, and the slots they go into.
    pub(super) rows: Vec<u32>,
    pub(super) slots: Vec<u32>,
    /// After the rows: slots that end, and those their states go into.
    pub(super) from: Vec<u32>,
    pub(super) into: Vec<u32>,
}

/// The session that is being put together.
struct Open {
    session: Session,
    round: usize,
}

/// Puts the rows of one key, sorted by start, into its sessions, which are sorted and apart from each other. Those that
/// get rows get the stamp.
pub(super) fn join(
    sessions: &mut Vec<Session>,
    rows: &[RowSession],
    stamp_us: i64,
    new_slot: &mut dyn FnMut() -> u32,
    rounds: &mut Vec<Round>,
) {
    let Some(first) = rows.first() else { return };
    let from = sessions.partition_point(|session| session.end_us < first.start_us);
    let mut to = from;
    let mut rows = rows.iter().peekable();
    let mut joined: Vec<Session> = Vec::new();
    let mut open: Option<Open> = None;
    loop {
        let stored = sessions.get(to).copied();
        // Of two that begin together the stored one is first.
        let next_row = rows.next_if(|row| stored.is_none_or(|stored| row.start_us < stored.start_us));
        let (start_us, end_us) = match (next_row, stored) {
            (Some(row), _) => (row.start_us, row.end_us),
            // When no row is left, a stored session that is apart is the beginning of what stays as it is.
            (None, Some(stored)) if rows.peek().is_some() || touches(open.as_ref(), stored) => {
                to += 1;
                (stored.start_us, stored.end_us)
            }
            (None, _) => break,
        };
        let stored_slot = if next_row.is_some() { None } else { stored.map(|stored| stored.slot) };
        let written_us =
            if next_row.is_some() { stamp_us } else { stored.map_or(stamp_us, |stored| stored.written_us) };
        match &mut open {
            Some(open) if start_us <= open.session.end_us => {
                open.session.end_us = open.session.end_us.max(end_us);
                // Two sessions are only joined by a row.
                open.session.written_us = stamp_us;
                if let Some(slot) = stored_slot {
                    let round = round_of(rounds, open.round);
                    round.from.push(slot);
                    round.into.push(open.session.slot);
                    open.round += 1;
                }
            }
            _ => {
                joined.extend(open.take().map(|open| open.session));
                let slot = stored_slot.unwrap_or_else(&mut *new_slot);
                open = Some(Open { session: Session { start_us, end_us, written_us, slot }, round: 0 });
            }
        }
        if let (Some(row), Some(open)) = (next_row, &open) {
            let round = round_of(rounds, open.round);
            round.rows.push(row.row);
            round.slots.push(open.session.slot);
        }
    }
    joined.extend(open.map(|open| open.session));
    sessions.splice(from..to, joined);
}

fn touches(open: Option<&Open>, stored: Session) -> bool {
    open.is_some_and(|open| stored.start_us <= open.session.end_us)
}

fn round_of(rounds: &mut Vec<Round>, at: usize) -> &mut Round {
    if rounds.len() <= at {
        rounds.resize_with(at + 1, Round::default);
    }
    &mut rounds[at]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(start_us: i64, end_us: i64, slot: u32) -> Session {
        Session { start_us, end_us, written_us: 0, slot }
    }

    /// Sessions are at slots 0, 1, ...; rows are numbered in their order. What comes out is "start-end slot", then
    /// for each round its rows "row>slot" and joined sessions "slot+slot".
    fn check(sessions: &[(i64, i64)], rows: &[(i64, i64)], expected: &str) {
        let mut list: Vec<Session> =
            sessions.iter().zip(0..).map(|((start, end), slot)| session(*start, *end, slot)).collect();
        let mut next = u32::try_from(list.len()).unwrap();
        let rows: Vec<RowSession> =
            rows.iter().zip(0..).map(|((s, e), row)| RowSession { row, start_us: *s, end_us: *e }).collect();
        let mut rounds = Vec::new();
        let mut new_slot = || {
            next += 1;
            next - 1
        };
        join(&mut list, &rows, 0, &mut new_slot, &mut rounds);
        let mut found: Vec<String> = list.iter().map(|s| format!("{}-{} {}", s.start_us, s.end_us, s.slot)).collect();
        for round in rounds {
            let rows = round.rows.iter().zip(&round.slots).map(|(row, slot)| format!("{row}>{slot}"));
            let joined = round.into.iter().zip(&round.from).map(|(into, from)| format!("{into}+{from}"));
            found.push(rows.chain(joined).collect::<Vec<_>>().join(" "));
        }
        assert_eq!(found.join(", "), expected, "{sessions:?} and {rows:?}");
    }

    #[test]
    fn rows_join_what_they_touch() {
        check(&[], &[(0, 5), (5, 7), (8, 9)], "0-7 0, 8-9 1, 0>0 1>0 2>1");
        check(&[(0, 5)], &[(3, 4)], "0-5 0, 0>0");
        check(&[(0, 5)], &[(5, 9)], "0-9 0, 0>0");
        check(&[(0, 5), (7, 9), (20, 22)], &[(4, 8)], "0-9 0, 20-22 2, 0>0 0+1");
        check(&[(10, 15)], &[(6, 10)], "6-15 1, 0>1 1+0");
        check(&[(0, 5), (20, 22)], &[(6, 7)], "0-5 0, 6-7 2, 20-22 1, 0>2");
        check(&[(0, 5), (20, 22)], &[(30, 31)], "0-5 0, 20-22 1, 30-31 2, 0>2");
    }

    #[test]
    fn what_joins_one_session_goes_in_by_start() {
        check(&[(3, 8), (10, 15)], &[(1, 6), (6, 11), (12, 17)], "1-17 2, 0>2 2+0, 1>2 2+1, 2>2");
    }

    proptest! {
        #[test]
        fn sessions_are_the_unions_of_what_overlaps(
            batches in proptest::collection::vec(proptest::collection::vec((0_i64..60, 1_i64..9), 0..12), 1..6),
        ) {
            let (mut list, mut all, mut next, mut gone) = (Vec::new(), Vec::new(), 0, Vec::new());
            for mut batch in batches {
                all.extend(batch.iter().copied());
                batch.sort_unstable();
                let rows: Vec<RowSession> = batch
                    .iter()
                    .map(|(start, length)| RowSession { row: 0, start_us: *start, end_us: start + length })
                    .collect();
                let mut rounds = Vec::new();
                join(&mut list, &rows, 0, &mut || { next += 1; next }, &mut rounds);
                prop_assert_eq!(rounds.iter().map(|round| round.rows.len()).sum::<usize>(), batch.len());
                gone.extend(rounds.iter().flat_map(|round| round.from.clone()));
            }
            all.sort_unstable();
            let mut expected: Vec<(i64, i64)> = Vec::new();
            for (start, length) in all {
                match expected.last_mut() {
                    Some(last) if start <= last.1 => last.1 = last.1.max(start + length),
                    _ => expected.push((start, start + length)),
                }
            }
            let found: Vec<(i64, i64)> = list.iter().map(|s| (s.start_us, s.end_us)).collect();
            prop_assert_eq!(found, expected);
            // Each slot is in use once, or ended once.
            let mut slots: Vec<u32> = list.iter().map(|s| s.slot).chain(gone).collect();
            slots.sort_unstable();
            prop_assert_eq!(slots, (1..=next).collect::<Vec<u32>>());
        }
    }
}
