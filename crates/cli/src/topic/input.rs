//! Pieces of stdin or a file, cut at a delimiter.
//!
//! ```text
//!   file ──thread──> chunks (a few) ──> pieces
//! ```
//!
//! A thread of its own reads, so that Ctrl-C ends a command that waits for somebody to type.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::error::{Failure, Result};
use crate::signals::Interrupt;

/// Bytes read at once, and how many such chunks may wait.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS: usize = 8;

/// The longest piece. No record can be longer, and a file without delimiters must not fill the memory.
const MAX_PIECE_BYTES: usize = 256 << 20;

/// How often waiting looks for a Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// The pieces of one input.
pub(super) struct Input {
    path: PathBuf,
    chunks: Receiver<io::Result<Vec<u8>>>,
    delimiter: Vec<u8>,
    buffer: Vec<u8>,
    /// Where the next piece begins, and how far the delimiter has been looked for.
    begin: usize,
    searched: usize,
    ended: bool,
}

impl Input {
    /// Opens a file, or stdin for `-`; `delimiter` is not empty.
    pub(super) fn open(path: &Path, delimiter: &[u8]) -> Result<Self> {
        let reader = open(path)?;
        let (sender, chunks) = sync_channel(CHUNKS);
        let read = move || {
            let mut reader = reader;
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let read = match reader.read(&mut chunk) {
                    Ok(0) => return,
                    Ok(length) => {
                        chunk.truncate(length);
                        Ok(chunk)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(read)
            .map_err(|error| Failure::runtime(format!("the thread that reads the input cannot start: {error}")))?;
        let (buffer, delimiter) = (Vec::new(), delimiter.to_owned());
        Ok(Self { path: path.to_owned(), chunks, delimiter, buffer, begin: 0, searched: 0, ended: false })
    }

    /// The next piece without its delimiter; `None` at the end, and when the user interrupted.
    pub(super) fn next(&mut self, interrupt: &Interrupt) -> Result<Option<&[u8]>> {
        loop {
            if interrupt.requested() {
                return Ok(None);
            }
            if let Some(at) = find(&self.buffer[self.searched..], &self.delimiter) {
                let (begin, end) = (self.begin, self.searched + at);
                self.begin = end + self.delimiter.len();
                self.searched = self.begin;
                return Ok(Some(&self.buffer[begin..end]));
            }
            if self.ended {
                let begin = std::mem::replace(&mut self.begin, self.buffer.len());
                self.searched = self.buffer.len();
                return Ok((begin < self.buffer.len()).then(|| &self.buffer[begin..]));
            }
            // The beginning of a delimiter may stand at the end.
            self.searched = (self.buffer.len() + 1).saturating_sub(self.delimiter.len()).max(self.searched);
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.begin);
        self.searched -= self.begin;
        self.begin = 0;
        if self.buffer.len() > MAX_PIECE_BYTES {
            return Err(Failure::runtime(format!(
                "a record in {} is longer than {} MiB, expected the delimiter before",
                self.path.display(),
                MAX_PIECE_BYTES >> 20
            ))
            .help("say with --delimiter what stands between records"));
        }
        match self.chunks.recv_timeout(LOOK) {
            Ok(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
            Ok(Err(error)) => {
                return Err(Failure::runtime(format!("{} cannot be read: {error}", self.path.display())));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.ended = true,
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    if path == Path::new("-") {
        if io::stdin().is_terminal() {
            tracing::info!("each line is a record; end with Ctrl-D");
        }
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::usage(format!("there is no file {}", path.display())),
        _ => Failure::runtime(format!("{} cannot be read: {error}", path.display())),
    })?;
    Ok(Box::new(file))
}

/// Where `needle` begins.
pub(super) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    match needle {
        [] => None,
        [byte] => text.iter().position(|found| found == byte),
        [first, ..] => {
            let mut from = 0;
            while let Some(at) = text.get(from..)?.iter().position(|found| found == first) {
                if text[from + at..].starts_with(needle) {
                    return Some(from + at);
                }
                from += at + 1;
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pieces(content: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let mut input = Input::open(file.path(), delimiter).unwrap();
        let mut pieces = Vec::new();
        while let Some(piece) = input.next(&Interrupt::default()).unwrap() {
            pieces.push(piece.to_owned());
        }
        pieces
    }

    #[test]
    fn pieces_end_with_their_delimiter_or_the_file() {
        let check = |content: &str, delimiter: &str, expected: &[&str]| {
            assert_eq!(
                pieces(content.as_bytes(), delimiter.as_bytes()),
                expected.iter().map(|piece| piece.as_bytes()).collect::<Vec<_>>()
            );
        };
        check("a\nb\n", "\n", &["a", "b"]);
        check("a\n\nb", "\n", &["a", "", "b"]);
        check("", "\n", &[]);
        check("a--b-c---d--", "--", &["a", "b-c", "-d"]);
        check("aab", "ab", &["a"]);
    }

    #[test]
    fn delimiters_are_found_across_chunks() {
        let piece = vec![b'x'; CHUNK_BYTES - 1];
        let content = [&piece[..], b"<>", &piece[..], b"<>", b"end"].concat();
        assert_eq!(pieces(&content, b"<>"), [piece.clone(), piece, b"end".to_vec()]);
    }

    #[test]
    fn an_interrupt_ends_the_input() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "a\n").unwrap();
        let interrupt = Interrupt::default();
        interrupt.request();
        assert_eq!(Input::open(file.path(), b"\n").unwrap().next(&interrupt).unwrap(), None);
    }
}
