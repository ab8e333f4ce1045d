//! A frame in pieces: what is in memory already is not copied once more to stand in one row.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// The bytes of a frame, in order. Reading it takes them away, and frees a piece when its last byte is taken.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// None of them is empty.
    pieces: VecDeque<Bytes>,
    length: usize,
}

impl Pieces {
    pub(crate) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(whole: Bytes) -> Self {
        let mut pieces = Self::default();
        pieces.push(whole);
        pieces
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.length
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| &piece[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.pieces).map(|(slice, piece)| *slice = IoSlice::new(piece));
        filled.count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.length, "{count} bytes were taken of {}", self.length);
        self.length -= count;
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abc() -> Pieces {
        let mut pieces = Pieces::from(Bytes::from_static(b"a"));
        ["", "bcd", "", "ef"].iter().for_each(|piece| pieces.push(Bytes::from_static(piece.as_bytes())));
        pieces
    }

    #[test]
    fn however_it_is_taken_it_is_the_same_bytes() {
        for step in 1..=6 {
            let (mut pieces, mut taken) = (abc(), Vec::new());
            while pieces.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 8];
                let count = pieces.chunks_vectored(&mut slices);
                assert!(slices[..count].iter().all(|slice| !slice.is_empty()));
                let row: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
                assert_eq!((row.len(), row[0]), (pieces.remaining(), pieces.chunk()[0]));
                let step = step.min(row.len());
                taken.extend_from_slice(&row[..step]);
                pieces.advance(step);
            }
            assert_eq!(taken, b"abcdef", "{step} at a time");
            assert!(pieces.chunk().is_empty());
        }
    }

    #[test]
    fn no_more_slices_are_given_than_there_is_room_for() {
        let mut slices = [IoSlice::new(&[]); 2];
        let pieces = abc();
        assert_eq!(pieces.chunks_vectored(&mut slices), 2);
        assert_eq!((&slices[0][..], &slices[1][..]), (&b"a"[..], &b"bcd"[..]));
        assert_eq!(pieces.chunks_vectored(&mut []), 0);
    }

    #[test]
    fn a_piece_is_freed_when_it_is_taken() {
        let mut pieces = abc();
        pieces.advance(3);
        assert_eq!((pieces.pieces.len(), pieces.chunk()), (2, &b"d"[..]));
        pieces.advance(1);
        assert_eq!(pieces.pieces.len(), 1);
    }
}
