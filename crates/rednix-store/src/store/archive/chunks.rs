//! Streams into chunks and back. A chunk is cut where its own bytes say so, so that an insertion moves no later cut;
//! new chunks are gathered into blocks and compressed there. Knows nothing of store paths.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::sync::Arc;

use fastcdc::v2020::FastCDC;
use rusqlite::{OptionalExtension, Transaction, params};

use super::super::database::Database;
use super::Archive;
use crate::error::{Error, Result};
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::limits::{ARCHIVE_LEVEL, BLOCK_BYTES, BLOCKS_HELD_MAX, CHUNK_BYTES};

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
    database: &'t Database,
    hasher: Hasher,
    /// Received and not yet cut.
    buffer: Vec<u8>,
    recipe: Vec<u64>,
    next_chunk: u64,
    next_block: u64,
    block: Vec<u8>,
    /// Of the block being gathered: hash, number, offset, length.
    members: Vec<([u8; 32], u64, usize, usize)>,
    /// The same by hash.
    pending: HashMap<[u8; 32], u64>,
    /// What went wrong behind the back of `Write`.
    failed: Option<Error>,
}

/// Cut only once this much is there: cutting looks at every byte again that was left over.
const CUT_BYTES: usize = 1 << 20;

impl<'t> Chunker<'t> {
    pub fn new(transaction: &'t Transaction<'t>, database: &'t Database) -> Result<Chunker<'t>> {
        let largest = |query: &str| {
            let found: rusqlite::Result<i64> = transaction.query_row(query, [], |row| row.get(0));
            found.map(|id| id as u64).map_err(|source| database.error("archive paths", source))
        };
        Ok(Chunker {
            transaction,
            database,
            hasher: Hasher::new(HashAlgorithm::Sha256),
            buffer: Vec::new(),
            recipe: Vec::new(),
            next_chunk: largest("SELECT coalesce(max(id), 0) FROM chunks")? + 1,
            next_block: largest("SELECT coalesce(max(id), 0) FROM blocks")? + 1,
            block: Vec::new(),
            members: Vec::new(),
            pending: HashMap::new(),
            failed: None,
        })
    }

    pub fn begin(&mut self) {
        self.hasher = Hasher::new(HashAlgorithm::Sha256);
        self.buffer.clear();
        self.recipe.clear();
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

    /// Writes the last block.
    pub fn close(mut self) -> Result<()> {
        self.write_block()
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
        let known = match self.pending.get(&hash) {
            Some(number) => Some(*number),
            None => self
                .transaction
                .prepare_cached("SELECT id FROM chunks WHERE hash = ?1")
                .and_then(|mut statement| {
                    statement.query_row([&hash[..]], |row| row.get::<_, i64>(0)).optional()
                })
                .map_err(|source| self.fail(source))?
                .map(|id| id as u64),
        };
        if let Some(number) = known {
            self.recipe.push(number);
            return Ok(());
        }
        let number = self.next_chunk;
        self.next_chunk += 1;
        self.members.push((hash, number, self.block.len(), chunk.len()));
        self.pending.insert(hash, number);
        self.block.extend_from_slice(chunk);
        self.recipe.push(number);
        if self.block.len() >= BLOCK_BYTES { self.write_block() } else { Ok(()) }
    }

    fn write_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let data = zstd::bulk::compress(&self.block, ARCHIVE_LEVEL)
            .map_err(|error| Error::io("compress chunks for", "the archive", error))?;
        let insert = || -> rusqlite::Result<()> {
            let block = self.next_block as i64;
            self.transaction
                .prepare_cached("INSERT INTO blocks (id, bytes, data) VALUES (?1, ?2, ?3)")?
                .execute(params![block, self.block.len() as i64, data])?;
            let mut statement = self.transaction.prepare_cached(
                "INSERT INTO chunks (id, hash, block, offset, bytes) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for (hash, number, offset, bytes) in &self.members {
                statement.execute(params![
                    *number as i64,
                    &hash[..],
                    block,
                    *offset as i64,
                    *bytes as i64
                ])?;
            }
            Ok(())
        };
        insert().map_err(|source| self.fail(source))?;
        self.next_block += 1;
        self.block.clear();
        self.members.clear();
        self.pending.clear();
        Ok(())
    }

    fn fail(&self, source: rusqlite::Error) -> Error {
        self.database.error("archive paths", source)
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
    /// The youngest last.
    held: VecDeque<(i64, Arc<Vec<u8>>)>,
    current: Arc<Vec<u8>>,
    from: usize,
    to: usize,
}

impl<'a> ChunkReader<'a> {
    pub fn new(archive: &'a Archive, recipe: Vec<u64>) -> ChunkReader<'a> {
        let (held, current) = (VecDeque::new(), Arc::default());
        ChunkReader { archive, recipe: recipe.into_iter(), held, current, from: 0, to: 0 }
    }

    fn next_chunk(&mut self, number: u64) -> io::Result<()> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("chunk {number} is damaged"));
        let place = self.archive.chunk(number).map_err(|error| io::Error::other(error.to_string()))?;
        let (block, offset, bytes) = place.ok_or_else(damaged)?;
        let data = match self.held.iter().position(|(held, _)| *held == block) {
            Some(at) => self.held.remove(at).expect("it was found there").1,
            None => {
                let data = self.archive.block(block).map_err(|error| io::Error::other(error.to_string()))?;
                Arc::new(data.ok_or_else(damaged)?)
            }
        };
        let end = offset.checked_add(bytes).filter(|end| *end <= data.len()).ok_or_else(damaged)?;
        (self.current, self.from, self.to) = (data.clone(), offset, end);
        self.held.push_back((block, data));
        if self.held.len() > BLOCKS_HELD_MAX {
            self.held.pop_front();
        }
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
