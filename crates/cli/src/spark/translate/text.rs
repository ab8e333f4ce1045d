//! A statement as it is sent: the user's text with some words replaced, which knows where each part came from.
//!
//! ```text
//!   CREATE STREAMING TABLE t AS SELECT ... FROM STREAM v        the file, from line 7
//!   CREATE MATERIALIZED VIEW t AS SELECT ... FROM  v__batch     what is sent, from line 1
//! ```
//!
//! Spark's errors name a line and a position in what is sent; they are shown at the place in the user's file.

use std::ops::Range;

/// A change of a text: these bytes by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    /// The bytes of the file that are replaced; empty to insert.
    pub(crate) bytes: Range<usize>,
    /// What stands there instead.
    pub(crate) text: String,
}

impl Edit {
    pub(crate) fn replace(bytes: Range<usize>, text: impl Into<String>) -> Self {
        Self { bytes, text: text.into() }
    }

    pub(crate) fn insert(at: usize, text: impl Into<String>) -> Self {
        Self { bytes: at..at, text: text.into() }
    }
}

/// A text that was made of a part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentText {
    /// What is sent.
    pub(crate) text: String,
    /// Which bytes of it stand where in the file: start here, start there, length; in order.
    pieces: Vec<(usize, usize, usize)>,
}

impl SentText {
    /// The bytes `part` of `file`, with the edits that lie in it.
    pub(crate) fn new(file: &str, part: Range<usize>, edits: &[Edit]) -> Self {
        let mut edits: Vec<&Edit> = edits.iter().collect();
        edits.sort_by_key(|edit| edit.bytes.start);
        let mut sent = Self { text: String::new(), pieces: Vec::new() };
        let mut at = part.start;
        for edit in edits {
            sent.keep(file, at..edit.bytes.start);
            sent.text.push_str(&edit.text);
            at = edit.bytes.end;
        }
        sent.keep(file, at..part.end);
        sent
    }

    fn keep(&mut self, file: &str, bytes: Range<usize>) {
        if let Some(text) = file.get(bytes.clone()).filter(|text| !text.is_empty()) {
            self.pieces.push((self.text.len(), bytes.start, text.len()));
            self.text.push_str(text);
        }
    }

    /// The same between two texts of ours.
    pub(crate) fn within(mut self, before: &str, after: &str) -> Self {
        self.text = format!("{before}{}{after}", self.text);
        self.pieces.iter_mut().for_each(|piece| piece.0 += before.len());
        self
    }

    /// The byte of the file that a place of the sent text came from: 1-based line, 0-based position in it. For a place in
    /// what is ours, the next byte of the file.
    pub(crate) fn origin(&self, line: usize, position: usize) -> Option<usize> {
        let start: usize = self.text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
        let letters = self.text.get(start..)?.char_indices().nth(position);
        let at = start + letters.map_or(0, |(offset, _)| offset);
        let piece = self.pieces.iter().find(|(sent, _, length)| at < sent + length)?;
        Some(piece.1 + at.saturating_sub(piece.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "x;\nCREATE STREAMING TABLE t AS\n  SELECT é FROM STREAM v, w;";

    fn at(word: &str) -> usize {
        FILE.find(word).unwrap()
    }

    #[test]
    fn places_of_what_is_sent_lead_back_to_the_file() {
        let kind = at("STREAMING")..at("STREAMING") + "STREAMING TABLE".len();
        let edits = [
            Edit::replace(at(" v,") + 1..at(" v,") + 2, "v__batch"),
            Edit::replace(kind, "MATERIALIZED VIEW"),
            Edit::replace(at("STREAM v")..at(" v,"), ""),
        ];
        let sent = SentText::new(FILE, 3..FILE.len() - 1, &edits);
        assert_eq!(sent.text, "CREATE MATERIALIZED VIEW t AS\n  SELECT é FROM  v__batch, w");
        let check =
            |line, position, expected| assert_eq!(sent.origin(line, position), Some(expected), "{line}:{position}");
        check(1, 0, 3);
        check(1, 25, at("t AS"));
        check(2, 9, at("é"));
        check(2, 27, at("w;"));
        check(1, 9, at(" t AS"));
        let wrapped = sent.within("SELECT 1 FROM (", ")");
        assert_eq!(wrapped.origin(1, 15), Some(3));
        assert_eq!(wrapped.origin(1, 2), Some(3));
        assert_eq!(wrapped.origin(9, 0), None);
    }
}
