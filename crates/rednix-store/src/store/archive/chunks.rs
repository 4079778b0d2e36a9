//! Streams into chunks and back. A chunk is cut where its own bytes say so, so that an insertion moves no later cut;
//! new chunks are gathered into blocks with others that are like the same older block. Knows nothing of store paths.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use fastcdc::v2020::FastCDC;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Archive;
use super::alignment::Alignment;
use super::blocks::{self, Base, Blocks};
use crate::error::{Error, Result};
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::limits::{BASE_MARGIN_BYTES, BLOCK_BYTES, CHUNK_BYTES, GATHERED_BYTES_MAX};

/// Lengths of the chunks that certainly end within `bytes`; with `is_end`, all of them.
pub fn cut(bytes: &[u8], is_end: bool) -> Vec<usize> {
    let [least, average, most] = CHUNK_BYTES;
    let mut lengths = Vec::new();
    let mut at = 0;
    for chunk in FastCDC::new(bytes, least, average, most) {
        // Fewer bytes than the longest chunk may have: what follows could move this cut.
        if !is_end && bytes.len() - at < most {
            break;
        }
        lengths.push(chunk.length);
        at += chunk.length;
    }
    lengths
}

/// Receives streams one after the other; the chunks of all of them share blocks.
pub(super) struct Chunker<'t> {
    transaction: &'t Transaction<'t>,
    archive: &'t Archive,
    hasher: Hasher,
    /// Received and not yet cut.
    buffer: Vec<u8>,
    /// Where the next chunk begins in the stream.
    at: u64,
    recipe: Vec<u64>,
    /// An older stream of the same kind, if there is one.
    older: Option<Alignment>,
    next_chunk: u64,
    next_block: i64,
    /// Blocks being gathered, by the block they will be compressed against.
    gathered: BTreeMap<Option<i64>, Gathered>,
    gathered_bytes: usize,
    /// Chunks in them, by hash.
    pending: HashMap<[u8; 32], u64>,
    blocks: Blocks,
    /// What went wrong behind the back of `Write`.
    failed: Option<Error>,
}

/// A block being gathered.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Hash, number, offset, length.
    members: Vec<([u8; 32], u64, usize, usize)>,
    /// What of the base is like these chunks.
    like: Option<Range<usize>>,
}

/// Cut only once this much is there: cutting looks at every byte again that was left over.
const CUT_BYTES: usize = 1 << 20;

impl<'t> Chunker<'t> {
    pub fn new(transaction: &'t Transaction<'t>, archive: &'t Archive) -> Result<Chunker<'t>> {
        let largest = |query: &str| {
            let found: rusqlite::Result<i64> = transaction.query_row(query, [], |row| row.get(0));
            found.map_err(|source| archive.fail(source))
        };
        Ok(Chunker {
            transaction,
            archive,
            hasher: Hasher::new(HashAlgorithm::Sha256),
            buffer: Vec::new(),
            at: 0,
            recipe: Vec::new(),
            older: None,
            next_chunk: largest("SELECT coalesce(max(id), 0) FROM chunks")? as u64 + 1,
            next_block: largest("SELECT coalesce(max(id), 0) FROM blocks")? + 1,
            gathered: BTreeMap::new(),
            gathered_bytes: 0,
            pending: HashMap::new(),
            blocks: Blocks::default(),
            failed: None,
        })
    }

    /// Begins a stream of `bytes` bytes; `older` are the chunks of one that it may be like.
    pub fn begin(&mut self, older: Option<&[u64]>, bytes: u64) -> Result<()> {
        self.hasher = Hasher::new(HashAlgorithm::Sha256);
        self.buffer.clear();
        self.recipe.clear();
        self.at = 0;
        self.older = None;
        if let Some(older) = older {
            // Chunks of blocks that are still gathered have no place yet.
            let pending: HashSet<u64> = self.pending.values().copied().collect();
            if older.iter().any(|number| pending.contains(number)) {
                self.write_blocks()?;
            }
            self.older = Some(Alignment::new(self.archive, self.transaction, older, bytes)?);
        }
        Ok(())
    }

    /// The chunks of the stream, its hash and its length; `written` is what became of writing it.
    pub fn end(&mut self, written: Result<u64>) -> Result<(Vec<u64>, Hash, u64)> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        written?;
        self.take_chunks(true)?;
        let hasher = std::mem::replace(&mut self.hasher, Hasher::new(HashAlgorithm::Sha256));
        let size = hasher.len();
        Ok((std::mem::take(&mut self.recipe), hasher.finish(), size))
    }

    /// Writes the last blocks.
    pub fn close(mut self) -> Result<()> {
        self.write_blocks()
    }

    fn take_chunks(&mut self, is_end: bool) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut at = 0;
        for length in cut(&buffer, is_end) {
            self.take_chunk(&buffer[at..at + length])?;
            at += length;
        }
        self.buffer = buffer;
        self.buffer.drain(..at);
        Ok(())
    }

    fn take_chunk(&mut self, chunk: &[u8]) -> Result<()> {
        let hash: [u8; 32] = *blake3::hash(chunk).as_bytes();
        let at = self.at;
        self.at += chunk.len() as u64;
        let known = self.known(&hash)?;
        if let Some(number) = known {
            self.recipe.push(number);
            if let Some(older) = &mut self.older {
                older.note(number, at);
            }
            if self.pending.contains_key(&hash) || self.is_kept(number, chunk)? {
                return Ok(());
            }
            self.drop_row(number)?;
        }
        let number = known.unwrap_or(self.next_chunk);
        if known.is_none() {
            self.next_chunk += 1;
            self.recipe.push(number);
        }
        self.pending.insert(hash, number);
        let middle = at + chunk.len() as u64 / 2;
        let like = self.older.as_ref().and_then(|older| older.place(middle));
        let base = like.map(|(block, ..)| block);
        let block = self.gathered.entry(base).or_default();
        if let Some((_, offset, bytes)) = like {
            let wide = offset.saturating_sub(BASE_MARGIN_BYTES)..offset + bytes + BASE_MARGIN_BYTES;
            block.like = Some(match block.like.take() {
                None => wide,
                Some(range) => range.start.min(wide.start)..range.end.max(wide.end),
            });
        }
        block.members.push((hash, number, block.bytes.len(), chunk.len()));
        block.bytes.extend_from_slice(chunk);
        self.gathered_bytes += chunk.len();
        if block.bytes.len() >= BLOCK_BYTES {
            return self.write_block(base);
        }
        if self.gathered_bytes >= GATHERED_BYTES_MAX { self.write_blocks() } else { Ok(()) }
    }

    fn known(&self, hash: &[u8; 32]) -> Result<Option<u64>> {
        if let Some(number) = self.pending.get(hash) {
            return Ok(Some(*number));
        }
        let found: Option<i64> = self
            .transaction
            .prepare_cached("SELECT id FROM chunks WHERE hash = ?1")
            .and_then(|mut statement| statement.query_row([&hash[..]], |row| row.get(0)).optional())
            .map_err(|source| self.archive.fail(source))?;
        Ok(found.map(|id| id as u64))
    }

    /// Whether what is stored under a number is this chunk, read back: what relies on it is deleted elsewhere.
    fn is_kept(&mut self, number: u64, chunk: &[u8]) -> Result<bool> {
        let place = self.archive.chunk_in(self.transaction, number)?;
        let Some((block, offset, bytes)) = place else { return Ok(false) };
        let Some(data) = self.blocks.get(self.archive, self.transaction, block)? else { return Ok(false) };
        Ok(offset.checked_add(bytes).and_then(|end| data.get(offset..end)) == Some(chunk))
    }

    /// Takes the place away from a damaged chunk. It gets another under the same number, so that everything made of
    /// it can be read again.
    fn drop_row(&self, number: u64) -> Result<()> {
        self.transaction
            .prepare_cached("DELETE FROM chunks WHERE id = ?1")
            .and_then(|mut statement| statement.execute([number as i64]))
            .map_err(|source| self.archive.fail(source))?;
        Ok(())
    }

    fn write_blocks(&mut self) -> Result<()> {
        while let Some(base) = self.gathered.keys().next().copied() {
            self.write_block(base)?;
        }
        Ok(())
    }

    fn write_block(&mut self, base: Option<i64>) -> Result<()> {
        let Some(gathered) = self.gathered.remove(&base) else { return Ok(()) };
        self.gathered_bytes -= gathered.bytes.len();
        let (data, base) = self.compress(&gathered, base)?;
        let block = self.next_block;
        self.next_block += 1;
        self.archive.put_block(self.transaction, block, &gathered.bytes, &data, base.as_ref())?;
        let mut statement = self
            .transaction
            .prepare_cached("INSERT INTO chunks (id, hash, block, offset, bytes) VALUES (?1, ?2, ?3, ?4, ?5)")
            .map_err(|source| self.archive.fail(source))?;
        for (hash, number, offset, bytes) in &gathered.members {
            let values = params![*number as i64, &hash[..], block, *offset as i64, *bytes as i64];
            statement.execute(values).map_err(|source| self.archive.fail(source))?;
            self.pending.remove(hash);
        }
        Ok(())
    }

    fn compress(&mut self, gathered: &Gathered, base: Option<i64>) -> Result<(Vec<u8>, Option<Base>)> {
        let fail = |error| Error::io("compress chunks for", "the archive", error);
        if let (Some(block), Some(like)) = (base, &gathered.like)
            // What is damaged is no base.
            && let Some(older) = self.blocks.get(self.archive, self.transaction, block)?
        {
            let range = like.start.min(older.len())..like.end.min(older.len());
            let data = blocks::compress(&gathered.bytes, &older[range.clone()]).map_err(fail)?;
            return Ok((data, Some(Base { block, range })));
        }
        Ok((blocks::compress(&gathered.bytes, &[]).map_err(fail)?, None))
    }
}

impl Write for Chunker<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CUT_BYTES
            && let Err(error) = self.take_chunks(false)
        {
            let message = error.to_string();
            self.failed = Some(error);
            return Err(io::Error::other(message));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the stream that a list of chunks stands for. Contents are checked by whoever takes them in.
pub(super) struct ChunkReader<'a> {
    archive: &'a Archive,
    recipe: std::vec::IntoIter<u64>,
    blocks: Blocks,
    current: Arc<Vec<u8>>,
    from: usize,
    to: usize,
}

impl<'a> ChunkReader<'a> {
    pub fn new(archive: &'a Archive, recipe: Vec<u64>) -> ChunkReader<'a> {
        let (blocks, current) = Default::default();
        ChunkReader { archive, recipe: recipe.into_iter(), blocks, current, from: 0, to: 0 }
    }

    fn next_chunk(&mut self, number: u64) -> io::Result<()> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("chunk {number} is damaged"));
        let (archive, blocks) = (self.archive, &mut self.blocks);
        let read = |connection: &Connection| -> Result<_> {
            let Some((block, offset, bytes)) = archive.chunk_in(connection, number)? else { return Ok(None) };
            Ok(blocks.get(archive, connection, block)?.map(|data| (data, offset, bytes)))
        };
        let found = archive.database.read("read a chunk", read);
        let found = found.map_err(|error| io::Error::other(error.to_string()))?;
        let (data, offset, bytes) = found.ok_or_else(damaged)?;
        let end = offset.checked_add(bytes).filter(|end| *end <= data.len()).ok_or_else(damaged)?;
        (self.current, self.from, self.to) = (data, offset, end);
        Ok(())
    }
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.from == self.to {
            let Some(number) = self.recipe.next() else { return Ok(0) };
            self.next_chunk(number)?;
        }
        let count = buffer.len().min(self.to - self.from);
        buffer[..count].copy_from_slice(&self.current[self.from..self.from + count]);
        self.from += count;
        Ok(count)
    }
}
