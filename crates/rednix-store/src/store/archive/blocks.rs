//! Blocks of chunks, compressed: alone, or against a part of an older block, their base, as different versions of one
//! program share most bytes but hardly a chunk. A base may have one itself; how deep that goes has a limit. Knows no
//! chunks and no store paths.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Archive;
use crate::error::Result;
use crate::limits::{
    ARCHIVE_LEVEL, BLOCK_BYTES, BLOCK_DEPTH_MAX, BLOCK_WINDOW_LOG, BLOCKS_HELD_MAX, CHUNK_BYTES,
};

/// What a block is compressed against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    pub block: i64,
    /// Of that block's bytes.
    pub range: Range<usize>,
}

/// One block as it is stored.
struct Row {
    number: i64,
    bytes: usize,
    data: Vec<u8>,
    base: Option<Base>,
}

/// Reads blocks, and holds those read last.
#[derive(Default)]
pub struct Blocks {
    /// The youngest last.
    held: VecDeque<(i64, Arc<Vec<u8>>)>,
}

impl Blocks {
    /// A block's bytes; nothing where it, or what it is compressed against, cannot be read.
    pub fn get(
        &mut self,
        archive: &Archive,
        connection: &Connection,
        number: i64,
    ) -> Result<Option<Arc<Vec<u8>>>> {
        let mut waiting: Vec<Row> = Vec::new();
        let mut wanted = Some(number);
        let mut data: Arc<Vec<u8>> = Arc::default();
        while let Some(number) = wanted {
            if let Some(at) = self.held.iter().position(|(held, _)| *held == number) {
                let held = self.held.remove(at).expect("it was found there");
                data = held.1.clone();
                self.held.push_back(held);
                break;
            }
            if waiting.len() > BLOCK_DEPTH_MAX as usize {
                return Ok(None);
            }
            let Some(row) = archive.block_row(connection, number)? else { return Ok(None) };
            wanted = row.base.as_ref().map(|base| base.block);
            waiting.push(row);
        }
        while let Some(row) = waiting.pop() {
            let prefix = match &row.base {
                None => Some(&[][..]),
                Some(base) => data.get(base.range.clone()),
            };
            let Some(bytes) = prefix.and_then(|prefix| decompress(&row.data, prefix, row.bytes)) else {
                return Ok(None);
            };
            data = Arc::new(bytes);
            self.held.push_back((row.number, data.clone()));
            if self.held.len() > BLOCKS_HELD_MAX {
                self.held.pop_front();
            }
        }
        Ok(Some(data))
    }
}

pub fn compress(bytes: &[u8], prefix: &[u8]) -> io::Result<Vec<u8>> {
    if prefix.is_empty() {
        return zstd::bulk::compress(bytes, ARCHIVE_LEVEL);
    }
    let mut encoder = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), ARCHIVE_LEVEL, prefix)?;
    // Reaches over the prefix and the block.
    encoder.window_log(BLOCK_WINDOW_LOG)?;
    encoder.set_pledged_src_size(Some(bytes.len() as u64))?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Nothing where it is not exactly so many bytes.
pub fn decompress(data: &[u8], prefix: &[u8], bytes: usize) -> Option<Vec<u8>> {
    // The last chunk of a block may go beyond where it was full.
    if bytes > BLOCK_BYTES + CHUNK_BYTES[2] {
        return None;
    }
    if prefix.is_empty() {
        return zstd::bulk::decompress(data, bytes).ok().filter(|found| found.len() == bytes);
    }
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(data, prefix).ok()?;
    decoder.window_log_max(BLOCK_WINDOW_LOG).ok()?;
    let mut found = Vec::with_capacity(bytes);
    decoder.take(bytes as u64 + 1).read_to_end(&mut found).ok()?;
    (found.len() == bytes).then_some(found)
}

impl Archive {
    fn block_row(&self, connection: &Connection, number: i64) -> Result<Option<Row>> {
        let size = |value: i64| usize::try_from(value).unwrap_or(usize::MAX);
        let read = || {
            connection
                .prepare_cached("SELECT bytes, data, base, baseFrom, baseBytes FROM blocks WHERE id = ?1")?
                .query_row([number], |row| {
                    let base: Option<i64> = row.get(2)?;
                    let (from, bytes) = (row.get::<_, Option<i64>>(3)?, row.get::<_, Option<i64>>(4)?);
                    let from = size(from.unwrap_or(0));
                    let range = from..from.saturating_add(size(bytes.unwrap_or(0)));
                    let base = base.map(|block| Base { block, range });
                    Ok(Row { number, bytes: size(row.get(0)?), data: row.get(1)?, base })
                })
                .optional()
        };
        read().map_err(|source| self.fail(source))
    }

    pub fn block_depth(&self, connection: &Connection, number: i64) -> Result<Option<u32>> {
        connection
            .prepare_cached("SELECT depth FROM blocks WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([number], |row| row.get(0)).optional())
            .map_err(|source| self.fail(source))
    }

    pub fn put_block(
        &self,
        transaction: &Transaction<'_>,
        number: i64,
        bytes: &[u8],
        data: &[u8],
        base: Option<&Base>,
    ) -> Result<()> {
        let depth = match base {
            None => 0,
            Some(base) => self.block_depth(transaction, base.block)?.unwrap_or(0) + 1,
        };
        let range = base.map(|base| (base.range.start as i64, base.range.len() as i64));
        transaction
            .prepare_cached(
                "INSERT INTO blocks (id, bytes, data, base, baseFrom, baseBytes, depth) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    number,
                    bytes.len() as i64,
                    data,
                    base.map(|base| base.block),
                    range.map(|range| range.0),
                    range.map(|range| range.1),
                    depth
                ])
            })
            .map_err(|source| self.fail(source))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_read_back(bytes: Vec<u8>, prefix: Vec<u8>, cut in 0usize..64) {
            let data = compress(&bytes, &prefix).unwrap();
            prop_assert_eq!(decompress(&data, &prefix, bytes.len()), Some(bytes.clone()));
            prop_assert_eq!(decompress(&data, &prefix, bytes.len() + 1), None);
            let cut = &data[..data.len().saturating_sub(cut + 1)];
            prop_assert_eq!(decompress(cut, &prefix, bytes.len() + 1), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(data: Vec<u8>, prefix: Vec<u8>) {
            let _ = decompress(&data, &prefix, 1000);
        }
    }

    /// What a dictionary of zstd begins with means nothing here.
    #[test]
    fn a_prefix_is_bytes_whatever_it_begins_with() {
        let mut prefix = vec![0x37, 0xa4, 0x30, 0xec];
        prefix.extend(b"some text that comes again".repeat(20));
        let data = compress(&prefix, &prefix).unwrap();
        assert!(data.len() < 60, "{}", data.len());
        assert_eq!(decompress(&data, &prefix, prefix.len()), Some(prefix));
    }
}
