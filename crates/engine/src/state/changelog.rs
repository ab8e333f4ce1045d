//! The changelog of a batch: every change of every operator, in one file that is whole or refused.
//!
//! ```text
//!   ┌ "HWCHLOG1" ┬ u32 length of head ┬ head (JSON) ┬ u32 crc32c of head ┐
//!   │ block ...                                                          │
//!   └ 0xff ┬ u32 blocks ┬ u32 crc32c of every byte before this field ────┘
//!
//!   head:   {"version":2,"batchId":N,"operators":["op-1", ...],"note":...}
//!   block:  u8 kind (0 range deletes, 1 deletes, 2 puts)  u16 operator  u32 raw size  u32 stored size
//!           u32 crc32c of these eleven bytes and of what follows
//!           rows of `changes.rs`, compressed with lz4
//! ```
//!
//! Numbers are little endian. The head names every operator the query has, also those that did not change: an operator
//! a changelog does not name was not part of the query then, and its older state is void. The note is the caller's (the
//! watermarks after the batch): it must be durable with the state and is given back at a restore.
//!
//! Blocks are checked and applied one by one while reading; the caller throws away what it applied if the end turns
//! out to be damaged.

use std::io::{ErrorKind, Read, Write};

use serde::{Deserialize, Serialize};

use super::changes::{ChangeSet, Kind, Rows};
use crate::checkpoint::{CheckpointDir, STATE};
use crate::error::{EngineError, Result};
use crate::sink::BatchId;

const MAGIC: &[u8; 8] = b"HWCHLOG1";
const END: u8 = 0xff;
/// Longer blocks are not written, so a longer one that is read is damage, and not worth the memory.
const MAX_BLOCK_BYTES: u32 = 1 << 30;

/// The head of a changelog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangelogHead {
    /// The format.
    pub(crate) version: u32,
    /// The batch.
    pub(crate) batch_id: BatchId,
    /// The operators; blocks refer to them by position.
    pub(crate) operators: Vec<String>,
    /// What the caller wants back at a restore.
    pub(crate) note: serde_json::Value,
}

/// The object name of a changelog.
pub(crate) fn file_name(batch_id: BatchId) -> String {
    format!("{STATE}/{batch_id}.changelog")
}

/// Writes the changelog of a batch, durable when this returns. Gives its size.
///
/// For each operator the sets of its workers, which have different keys.
pub(crate) fn write(checkpoint: &CheckpointDir, head: &ChangelogHead, changes: &[&[ChangeSet]]) -> Result<u64> {
    let name = file_name(head.batch_id);
    let address = checkpoint.store().address(&name);
    let mut object = checkpoint.writable()?.writer(&name)?;
    encode(&mut object, head, changes).map_err(|error| {
        EngineError::unavailable(format!("cannot write {address}"))
            .caused_by(error)
            .help("check the free space of that disk, then start the query again")
    })?;
    object.finish()
}

/// Reads the changelog of a batch: the head is given first, then each block's rows with their operator's position.
pub(crate) fn read(
    checkpoint: &CheckpointDir,
    batch_id: BatchId,
    visitor: &mut dyn ChangelogVisitor,
) -> Result<ChangelogHead> {
    let name = file_name(batch_id);
    let address = checkpoint.store().address(&name);
    let Some(input) = checkpoint.store().open(&name)? else {
        return Err(damaged(&address, "it is missing"));
    };
    Decoder { address: &address, input, crc: 0 }.decode(batch_id, visitor)
}

/// Takes what a changelog says, in order.
pub(crate) trait ChangelogVisitor {
    /// The head; blocks follow.
    fn head(&mut self, head: &ChangelogHead) -> Result<()>;
    /// Rows of the operator at this position of the head.
    fn rows(&mut self, operator: usize, rows: Rows<'_>) -> Result<()>;
}

fn encode(out: &mut dyn Write, head: &ChangelogHead, changes: &[&[ChangeSet]]) -> std::io::Result<()> {
    let mut out = Summed { out, crc: 0 };
    let json = serde_json::to_vec(head)?;
    out.write(MAGIC)?;
    out.write(&size(json.len())?.to_le_bytes())?;
    out.write(&json)?;
    out.write(&crc32c::crc32c(&json).to_le_bytes())?;
    let mut blocks = 0u32;
    for (operator, sets) in changes.iter().enumerate() {
        // A range that one worker deletes must not take away what another put.
        for (kind, set) in Kind::ALL.into_iter().flat_map(|kind| sets.iter().map(move |set| (kind, set))) {
            set.stored_blocks(kind, |block| {
                blocks += 1;
                write_block(&mut out, operator, kind, size(block.raw_bytes)?, block.stored)
            })?;
        }
    }
    out.write(&[END])?;
    out.write(&blocks.to_le_bytes())?;
    let crc = out.crc;
    out.write(&crc.to_le_bytes())
}

/// A changelog with one block of these bytes and whatever their beginning says of it, all checksums right.
#[cfg(any(test, all(fuzzing, feature = "testing")))]
pub(crate) fn forged(content: &[u8]) -> Vec<u8> {
    let head = ChangelogHead {
        version: super::STATE_FORMAT,
        batch_id: 0,
        operators: vec!["count".to_owned()],
        note: serde_json::Value::Object(serde_json::Map::new()),
    };
    let mut bytes = Vec::new();
    if encode(&mut bytes, &head, &[]).is_err() {
        return bytes;
    }
    bytes.truncate(bytes.len() - 9);
    let (said, stored) = content.split_at(content.len().min(7));
    let mut block = [0u8; 11];
    block[..said.len()].copy_from_slice(said);
    block[7..].copy_from_slice(&u32::try_from(stored.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&block);
    bytes.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&block), stored).to_le_bytes());
    bytes.extend_from_slice(stored);
    bytes.push(END);
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

fn write_block(out: &mut Summed<'_>, operator: usize, kind: Kind, raw: u32, stored: &[u8]) -> std::io::Result<()> {
    let mut head = [0u8; 11];
    head[0] = kind as u8;
    head[1..3].copy_from_slice(&u16::try_from(operator).map_err(std::io::Error::other)?.to_le_bytes());
    head[3..7].copy_from_slice(&raw.to_le_bytes());
    head[7..].copy_from_slice(&size(stored.len())?.to_le_bytes());
    out.write(&head)?;
    out.write(&crc32c::crc32c_append(crc32c::crc32c(&head), stored).to_le_bytes())?;
    out.write(stored)
}

/// A length as it is stored; a row of a gigabyte is refused here rather than at the restore.
fn size(length: usize) -> std::io::Result<u32> {
    let size = u32::try_from(length).ok().filter(|size| *size <= MAX_BLOCK_BYTES);
    size.ok_or_else(|| std::io::Error::new(ErrorKind::InvalidInput, "a state row is larger than 1 GiB"))
}

struct Summed<'a> {
    out: &'a mut dyn Write,
    crc: u32,
}

impl Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.out.write_all(bytes)
    }
}

struct Decoder<'a> {
    address: &'a str,
    input: Box<dyn Read + Send>,
    crc: u32,
}

impl Decoder<'_> {
    fn decode(mut self, batch_id: BatchId, visitor: &mut dyn ChangelogVisitor) -> Result<ChangelogHead> {
        let head = self.head()?;
        if head.batch_id != batch_id {
            return Err(self.damaged(&format!("it is the changelog of batch {}", head.batch_id)));
        }
        visitor.head(&head)?;
        let mut blocks = 0u32;
        let (mut stored, mut raw) = (Vec::new(), Vec::new());
        while let Some((kind, operator)) = self.block(head.operators.len(), &mut stored, &mut raw)? {
            visitor.rows(operator, Rows { kind, bytes: &raw })?;
            blocks += 1;
        }
        self.end(blocks)?;
        Ok(head)
    }

    fn head(&mut self) -> Result<ChangelogHead> {
        if self.array::<8>()? != *MAGIC {
            return Err(self.damaged("it does not begin as a changelog does"));
        }
        let length = self.u32()?;
        let mut json = Vec::new();
        self.bytes(length, &mut json)?;
        if self.u32()? != crc32c::crc32c(&json) {
            return Err(self.damaged("its head does not match its checksum"));
        }
        let head: ChangelogHead = serde_json::from_slice(&json).map_err(|error| self.damaged(&error.to_string()))?;
        super::refuse_other_format(self.address, head.version)?;
        Ok(head)
    }

    /// The next block in `raw`, or none at the end.
    fn block(&mut self, operators: usize, stored: &mut Vec<u8>, raw: &mut Vec<u8>) -> Result<Option<(Kind, usize)>> {
        let [kind] = self.array::<1>()?;
        if kind == END {
            return Ok(None);
        }
        let rest = self.array::<10>()?;
        let operator = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
        let raw_size = u32::from_le_bytes([rest[2], rest[3], rest[4], rest[5]]);
        let stored_size = u32::from_le_bytes([rest[6], rest[7], rest[8], rest[9]]);
        let crc = self.u32()?;
        self.bytes(stored_size, stored)?;
        let head_crc = crc32c::crc32c_append(crc32c::crc32c(&[kind]), &rest);
        if crc != crc32c::crc32c_append(head_crc, stored) {
            return Err(self.damaged("a block does not match its checksum"));
        }
        let Some(kind) = Kind::ALL.get(usize::from(kind)).filter(|_| operator < operators) else {
            return Err(self.damaged("a block has an unknown kind or operator"));
        };
        // LZ4 makes at most 255 bytes of one: what a head promises beyond that takes no memory.
        let most = stored_size.saturating_mul(255).saturating_add(64).min(MAX_BLOCK_BYTES);
        if raw_size > most {
            return Err(self.damaged("a block is shorter than its length says"));
        }
        raw.resize(raw_size as usize, 0);
        match lz4_flex::block::decompress_into(stored, raw) {
            Ok(length) if length == raw.len() => Ok(Some((*kind, operator))),
            _ => Err(self.damaged("a block cannot be decompressed")),
        }
    }

    fn end(&mut self, blocks: u32) -> Result<()> {
        let expected_blocks = self.u32()?;
        let crc = self.crc;
        if self.u32()? != crc || expected_blocks != blocks {
            return Err(self.damaged("its content does not match its checksum"));
        }
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged("it goes on after its end")),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes).map_err(|error| self.failed(error))?;
        self.crc = crc32c::crc32c_append(self.crc, &bytes);
        Ok(bytes)
    }

    /// Reads `length` bytes; takes no memory for what a damaged length promises and the file does not hold.
    fn bytes(&mut self, length: u32, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let read = (&mut self.input).take(u64::from(length)).read_to_end(out).map_err(|error| self.failed(error))?;
        if read != length as usize {
            return Err(self.damaged("it is torn: it ends before its end mark"));
        }
        self.crc = crc32c::crc32c_append(self.crc, out);
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> EngineError {
        match error.kind() {
            ErrorKind::UnexpectedEof => self.damaged("it is torn: it ends before its end mark"),
            _ => EngineError::unavailable(format!("cannot read {}", self.address)).caused_by(error),
        }
    }

    fn damaged(&self, found: &str) -> EngineError {
        damaged(self.address, found)
    }
}

fn damaged(address: &str, found: &str) -> EngineError {
    EngineError::data(format!("state changelog {address} is damaged: {found}"))
        .help("restore this file from a backup, or give the query a new checkpoint location to start over")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::checkpoint::testing::checkpoint;
    use crate::state::STATE_FORMAT;

    #[derive(Default)]
    struct Collected(Vec<String>);

    impl ChangelogVisitor for Collected {
        fn head(&mut self, head: &ChangelogHead) -> Result<()> {
            self.0.push(head.operators.join(","));
            Ok(())
        }

        fn rows(&mut self, operator: usize, rows: Rows<'_>) -> Result<()> {
            for row in rows {
                self.0.push(format!("{operator} {:?}", row?));
            }
            Ok(())
        }
    }

    fn head(batch_id: BatchId) -> ChangelogHead {
        let operators = vec!["a".to_owned(), "b".to_owned()];
        ChangelogHead { version: STATE_FORMAT, batch_id, operators, note: json!({"watermarkMs": 5}) }
    }

    fn each(changes: &[ChangeSet; 2]) -> [&[ChangeSet]; 2] {
        changes.each_ref().map(std::slice::from_ref)
    }

    fn changes() -> [ChangeSet; 2] {
        let mut changes = [ChangeSet::new(), ChangeSet::new()];
        changes[1].push_put(b"k", b"v");
        changes[1].push_delete(b"d");
        changes[1].push_range_delete(b"a", b"b");
        changes
    }

    #[test]
    fn what_was_written_is_read() {
        let (_dir, checkpoint) = checkpoint();
        let changes = changes();
        let size = write(&checkpoint, &head(7), &each(&changes)).unwrap();
        let mut collected = Collected::default();
        assert_eq!(read(&checkpoint, 7, &mut collected).unwrap(), head(7));
        assert_eq!(collected.0[0], "a,b");
        assert_eq!(collected.0[1..], ["1 RangeDelete([97], [98])", "1 Delete([100])", "1 Put([107], [118])"]);
        assert!(size < 250, "{size}");
    }

    #[test]
    fn a_range_that_one_worker_deletes_spares_what_another_puts() {
        let (_dir, checkpoint) = checkpoint();
        let workers = [changes()[1].clone(), changes()[1].clone()];
        write(&checkpoint, &head(7), &[&[], &workers]).unwrap();
        let mut collected = Collected::default();
        read(&checkpoint, 7, &mut collected).unwrap();
        let kinds: Vec<&str> = collected.0[1..].iter().filter_map(|row| row.split(['(', ' ']).nth(1)).collect();
        assert_eq!(kinds, ["RangeDelete", "RangeDelete", "Delete", "Delete", "Put", "Put"]);
    }

    #[test]
    fn another_format_is_refused() {
        let (_dir, checkpoint) = checkpoint();
        write(&checkpoint, &ChangelogHead { version: 1, ..head(7) }, &each(&changes())).unwrap();
        let error = read(&checkpoint, 7, &mut Collected::default()).unwrap_err();
        assert!(error.to_string().ends_with("state/7.changelog has state format 1, expected 2"), "{error}");
        assert!(error.next_step().is_some_and(|help| help.contains("--storage")), "{error:?}");
    }

    #[test]
    fn many_blocks_come_back() {
        let (_dir, checkpoint) = checkpoint();
        let mut changes = [ChangeSet::new(), ChangeSet::new()];
        (0..60_000u32).for_each(|n| changes[0].push_put(&n.to_be_bytes(), &n.to_le_bytes().repeat(4)));
        write(&checkpoint, &head(0), &each(&changes)).unwrap();
        let mut collected = Collected::default();
        read(&checkpoint, 0, &mut collected).unwrap();
        assert_eq!(collected.0.len(), 60_001);
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let (dir, checkpoint) = checkpoint();
        write(&checkpoint, &head(7), &each(&changes())).unwrap();
        let path = dir.path().join("state/7.changelog");
        let whole = std::fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: &str| {
            std::fs::write(&path, bytes).unwrap();
            let error = read(&checkpoint, 7, &mut Collected::default()).expect_err(what);
            assert!(matches!(error, EngineError::Data(_)), "{what}: {error}");
            assert!(error.to_string().contains("state/7.changelog"), "{what}: {error}");
            assert!(error.next_step().is_some(), "{what}");
        };
        (0..whole.len()).for_each(|end| check(&whole[..end], &format!("cut at {end}")));
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(&flipped, &format!("bit {bit}"));
        }
        check(&[&whole[..], b"x"].concat(), "a byte more");
    }

    #[test]
    fn a_changelog_of_another_batch_or_none_is_refused() {
        let (dir, checkpoint) = checkpoint();
        write(&checkpoint, &head(7), &each(&changes())).unwrap();
        std::fs::rename(dir.path().join("state/7.changelog"), dir.path().join("state/8.changelog")).unwrap();
        let error = read(&checkpoint, 8, &mut Collected::default()).unwrap_err();
        assert!(error.to_string().ends_with("is damaged: it is the changelog of batch 7"), "{error}");
        let error = read(&checkpoint, 7, &mut Collected::default()).unwrap_err();
        assert!(error.to_string().ends_with("is damaged: it is missing"), "{error}");
    }
}
