//! Buffers that fetched records are read into, used again and again.
//!
//! ```text
//!  take ──> Buffer (read from a file) ──> Bytes (slices of an answer) ──> back, when the answer is with the socket
//!   ▲                                                                      │
//!   └────────────────────────────── idle <─────────────────────────────────┘
//! ```
//!
//! A fresh megabyte costs more than what is read into it: the system hands it out page by page, zeroed, and takes it back
//! when it is freed. So a few of the size that clients ask for are kept.
//!
//! They are few, lent or idle: a reader that keeps what it was lent makes others slower and not the broker larger. Who
//! finds none, or wants another size, gets memory of its own; all of it counts for the budget of fetches (`budget.rs`).

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of a buffer: what a client asks of a partition unless it is told otherwise, and the largest batch by default.
pub(crate) const SIZE: usize = 1024 * 1024 + 12;
/// Reads below this are given memory of their own: it costs them little, and a buffer would be wasted on them.
pub(crate) const LEAST: usize = 64 * 1024;
/// Buffers that are lent or idle.
const COUNT: usize = 16;

/// The buffers of a broker.
#[derive(Debug)]
pub(crate) struct Buffers {
    count: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Vec<u8>>,
    lent: usize,
}

/// Memory to read into.
#[derive(Debug)]
pub(crate) struct Buffer {
    /// May be longer than what was asked for.
    bytes: Vec<u8>,
    length: usize,
    /// Where it is given back to.
    home: Option<Arc<Buffers>>,
}

impl Buffers {
    pub(crate) fn new() -> Arc<Self> {
        Self::of(COUNT)
    }

    fn of(count: usize) -> Arc<Self> {
        Arc::new(Self { count, state: Mutex::default() })
    }

    /// Memory for `length` bytes; what is in it is left over from others, or zero.
    pub(crate) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let lent = (LEAST..=SIZE).contains(&length).then(|| self.lend()).flatten();
        match lent {
            Some(bytes) => Buffer { bytes, length, home: Some(Arc::clone(self)) },
            None => Buffer { bytes: vec![0; length], length, home: None },
        }
    }

    fn lend(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock();
        if state.lent == self.count {
            return None;
        }
        state.lent += 1;
        let idle = state.idle.pop();
        drop(state);
        Some(idle.unwrap_or_else(|| vec![0; SIZE]))
    }
}

impl Buffer {
    pub(crate) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    /// Its first `length` bytes, to be sent; it comes back when nothing of them is left.
    pub(crate) fn into_bytes(mut self, length: usize) -> Bytes {
        self.keep(length);
        if self.length == 0 { Bytes::new() } else { Bytes::from_owner(self) }
    }

    fn keep(&mut self, length: usize) {
        self.length = self.length.min(length);
        if self.home.is_none() {
            // What is sent is what the budget counts, however much was read for it.
            self.bytes.truncate(self.length);
            self.bytes.shrink_to_fit();
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            let mut state = home.state.lock();
            state.lent -= 1;
            state.idle.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are lent and how many idle.
    fn counts(buffers: &Buffers) -> (usize, usize) {
        let state = buffers.state.lock();
        (state.lent, state.idle.len())
    }

    #[test]
    fn only_reads_of_its_size_are_lent_a_buffer() {
        let buffers = Buffers::new();
        for (length, lent) in [(0, 0), (1, 0), (LEAST - 1, 0), (LEAST, 1), (SIZE, 1), (SIZE + 1, 0), (1 << 26, 0)] {
            let mut buffer = buffers.take(length);
            assert_eq!((buffer.as_mut().len(), buffer.as_ref().len()), (length, length));
            assert_eq!(counts(&buffers).0, lent, "{length} bytes");
        }
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_slice_of_it() {
        let buffers = Buffers::new();
        let mut buffer = buffers.take(LEAST);
        buffer.as_mut()[..3].copy_from_slice(b"abc");
        let bytes = buffer.into_bytes(3);
        let slice = bytes.slice(1..);
        drop(bytes);
        assert_eq!((&slice[..], counts(&buffers)), (&b"bc"[..], (1, 0)));
        drop(slice);
        assert_eq!(counts(&buffers), (0, 1));
        assert!(buffers.take(LEAST).into_bytes(0).is_empty());
        assert_eq!(counts(&buffers), (0, 1), "nothing of it was sent");
    }

    #[test]
    fn memory_of_its_own_is_no_larger_than_what_is_sent() {
        for length in [LEAST - 1, SIZE + 1, 50 * SIZE] {
            let mut buffer = Buffers::new().take(length);
            buffer.keep(100);
            assert!(buffer.bytes.capacity() < 200, "{} bytes for 100 of {length}", buffer.bytes.capacity());
        }
    }

    #[test]
    fn readers_that_give_nothing_back_are_lent_no_more_than_there_are() {
        let buffers = Buffers::of(3);
        let kept: Vec<Bytes> = (0..10).map(|_| buffers.take(SIZE).into_bytes(SIZE)).collect();
        assert_eq!(counts(&buffers), (3, 0));
        assert!(kept.iter().all(|bytes| bytes.len() == SIZE));
        drop(kept);
        assert_eq!(counts(&buffers), (0, 3), "what was not lent is not kept");
    }
}
