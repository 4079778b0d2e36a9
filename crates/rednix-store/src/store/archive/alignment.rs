//! Where an older stream has what a newer one of the same kind has: chunks that both have say how far one is shifted
//! against the other. Guesses well or badly, never wrongly: what comes of it is only what a block is compressed against.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::Archive;
use crate::error::Result;
use crate::limits::BLOCK_DEPTH_MAX;

/// A chunk of the older stream.
struct Piece {
    /// Where it ends in the stream.
    end: u64,
    block: i64,
    offset: usize,
    bytes: usize,
    /// Whether more may be compressed against its block.
    is_base: bool,
}

/// The older stream, as far as the newer one was compared with it.
pub struct Alignment {
    pieces: Vec<Piece>,
    /// Where each chunk begins in the older stream.
    begins: HashMap<u64, u64>,
    /// Of the newer stream.
    bytes: u64,
    /// What to add to a place in the newer stream; nothing before the first chunk that both have.
    shift: Option<i64>,
}

impl Alignment {
    /// A newer stream of `bytes` bytes beside an older one of these chunks.
    pub fn new(archive: &Archive, connection: &Connection, recipe: &[u64], bytes: u64) -> Result<Alignment> {
        let mut depths: HashMap<i64, bool> = HashMap::new();
        let (mut pieces, mut begins, mut end) = (Vec::with_capacity(recipe.len()), HashMap::new(), 0u64);
        for number in recipe {
            let Some((block, offset, length)) = archive.chunk_in(connection, *number)? else { continue };
            let is_base = match depths.get(&block) {
                Some(known) => *known,
                None => {
                    let depth = archive.block_depth(connection, block)?;
                    let is_base = depth.is_some_and(|depth| depth < BLOCK_DEPTH_MAX);
                    depths.insert(block, is_base);
                    is_base
                }
            };
            begins.insert(*number, end);
            end += length as u64;
            pieces.push(Piece { end, block, offset, bytes: length, is_base });
        }
        Ok(Alignment { pieces, begins, bytes, shift: None })
    }

    /// The newer stream has chunk `number` at `at`.
    pub fn note(&mut self, number: u64, at: u64) {
        if let Some(begin) = self.begins.get(&number) {
            self.shift = Some(*begin as i64 - at as i64);
        }
    }

    /// Block, offset and length of what the older stream has where the newer one is at `at`.
    pub fn place(&self, at: u64) -> Option<(i64, usize, usize)> {
        let last = self.pieces.last()?.end.checked_sub(1)?;
        let at = match self.shift {
            Some(shift) => at.saturating_add_signed(shift),
            // Both are as wide as each other, stretched.
            None => (u128::from(at) * u128::from(last) / u128::from(self.bytes.max(1))) as u64,
        };
        let found = self.pieces.partition_point(|piece| piece.end <= at.min(last));
        let piece = self.pieces.get(found).filter(|piece| piece.is_base)?;
        Some((piece.block, piece.offset, piece.bytes))
    }
}

impl Archive {
    /// Block, offset and length of a chunk.
    pub fn chunk_in(&self, connection: &Connection, number: u64) -> Result<Option<(i64, usize, usize)>> {
        let size = |value: i64| usize::try_from(value).unwrap_or(usize::MAX);
        connection
            .prepare_cached("SELECT block, offset, bytes FROM chunks WHERE id = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([number as i64], |row| {
                        Ok((row.get::<_, i64>(0)?, size(row.get(1)?), size(row.get(2)?)))
                    })
                    .optional()
            })
            .map_err(|source| self.fail(source))
    }
}
