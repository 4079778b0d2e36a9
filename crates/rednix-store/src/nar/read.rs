//! Reads an archive from a stream and hands its nodes to a visitor, in order, checking names, order, depth and
//! padding. Creates nothing itself.

use std::io::{self, Read};

use super::MAGIC;
use super::write::{name_fault, padding};
use crate::error::{Error, Result};
use crate::limits::{NAR_DEPTH_MAX, NAR_ENTRIES_MAX, NAR_NAME_BYTES_MAX, NAR_TARGET_BYTES_MAX};

/// Receives the nodes of an archive. `name` is empty for the root.
pub trait Visitor {
    fn file(&mut self, name: &[u8], executable: bool, size: u64, contents: &mut dyn Read) -> Result<()>;
    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()>;
    fn enter_directory(&mut self, name: &[u8]) -> Result<()>;
    /// Called for every entered directory, after its entries.
    fn leave_directory(&mut self) -> Result<()>;
}

/// Longest keyword of the format.
const KEYWORD_BYTES_MAX: u64 = 16;

/// Reads one archive; stops right behind its end, so that more may follow in the stream. Reads in small pieces:
/// the stream should be buffered. Returns the archive's length.
pub fn read(stream: &mut (impl Read + ?Sized), visitor: &mut dyn Visitor) -> Result<u64> {
    let mut parser = Parser { stream, offset: 0 };
    parser.keyword(MAGIC)?;
    // For each open directory, the last entry's name.
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut entries = 0u64;
    let mut name = Vec::new();
    loop {
        if parser.node(&name, open.len(), visitor)? {
            open.push(Vec::new());
        } else if open.is_empty() {
            return Ok(parser.offset);
        } else {
            parser.keyword(b")")?;
        }
        // Next entry of the innermost directory, or its end and so on outwards.
        loop {
            let Some(last) = open.last_mut() else { return Ok(parser.offset) };
            match parser.string(KEYWORD_BYTES_MAX, "a keyword")?.as_slice() {
                b"entry" => {
                    entries += 1;
                    if entries > NAR_ENTRIES_MAX {
                        return Err(parser.fault(format!("it has more than {NAR_ENTRIES_MAX} entries")));
                    }
                    name = parser.entry_name(last)?;
                    last.clone_from(&name);
                    break;
                }
                b")" => {
                    visitor.leave_directory()?;
                    open.pop();
                    if !open.is_empty() {
                        parser.keyword(b")")?;
                    }
                }
                other => {
                    let reason = format!("expected `entry` or `)`, found `{}`", other.escape_ascii());
                    return Err(parser.fault(reason));
                }
            }
        }
    }
}

struct Parser<'r, R: Read + ?Sized> {
    stream: &'r mut R,
    offset: u64,
}

impl<R: Read + ?Sized> Parser<'_, R> {
    /// Reads a node up to its end, or for a directory up to its first entry; says whether it is a directory.
    fn node(&mut self, name: &[u8], depth: usize, visitor: &mut dyn Visitor) -> Result<bool> {
        if depth >= NAR_DEPTH_MAX {
            return Err(self.fault(format!("folders are nested {NAR_DEPTH_MAX} deep or deeper")));
        }
        self.keyword(b"(")?;
        self.keyword(b"type")?;
        match self.string(KEYWORD_BYTES_MAX, "a node type")?.as_slice() {
            b"regular" => self.file(name, visitor).map(|()| false),
            b"symlink" => {
                self.keyword(b"target")?;
                let target = self.string(NAR_TARGET_BYTES_MAX, "a link's target")?;
                if target.is_empty() || target.contains(&0) {
                    return Err(self.fault("a link's target is empty or holds a zero byte"));
                }
                self.keyword(b")")?;
                visitor.symlink(name, &target).map(|()| false)
            }
            b"directory" => visitor.enter_directory(name).map(|()| true),
            other => Err(self.fault(format!("unknown node type `{}`", other.escape_ascii()))),
        }
    }

    fn file(&mut self, name: &[u8], visitor: &mut dyn Visitor) -> Result<()> {
        let mut executable = false;
        let mut keyword = self.string(KEYWORD_BYTES_MAX, "a keyword")?;
        if keyword == b"executable" {
            executable = true;
            self.keyword(b"")?;
            keyword = self.string(KEYWORD_BYTES_MAX, "a keyword")?;
        }
        if keyword == b")" {
            // An empty file may leave its contents out.
            return visitor.file(name, executable, 0, &mut io::empty());
        }
        if keyword != b"contents" {
            return Err(self.fault(format!("expected `contents`, found `{}`", keyword.escape_ascii())));
        }
        let size = self.length()?;
        let mut contents = Contents { stream: &mut *self.stream, left: size };
        visitor.file(name, executable, size, &mut contents)?;
        // What the visitor did not want is still part of the archive.
        io::copy(&mut contents, &mut io::sink()).map_err(|error| read_error(self.offset, error))?;
        self.offset += size;
        self.pad(size)?;
        self.keyword(b")")
    }

    fn entry_name(&mut self, last: &[u8]) -> Result<Vec<u8>> {
        self.keyword(b"(")?;
        self.keyword(b"name")?;
        let name = self.string(NAR_NAME_BYTES_MAX, "a file name")?;
        if let Some(reason) = name_fault(&name) {
            return Err(self.fault(format!("the name `{}` {reason}", name.escape_ascii())));
        }
        if name.as_slice() <= last {
            return Err(self.fault(format!("the entry `{}` is not in order", name.escape_ascii())));
        }
        self.keyword(b"node")?;
        Ok(name)
    }

    fn keyword(&mut self, expected: &[u8]) -> Result<()> {
        let found = self.string(KEYWORD_BYTES_MAX, "a keyword")?;
        if found == expected {
            return Ok(());
        }
        let reason = format!("expected `{}`, found `{}`", expected.escape_ascii(), found.escape_ascii());
        Err(self.fault(reason))
    }

    fn string(&mut self, max: u64, what: &str) -> Result<Vec<u8>> {
        let len = self.length()?;
        if len > max {
            return Err(self.fault(format!("{what} of {len} bytes, more than {max}")));
        }
        let mut bytes = vec![0; len as usize];
        self.exact(&mut bytes)?;
        self.pad(len)?;
        Ok(bytes)
    }

    fn length(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        self.exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn pad(&mut self, len: u64) -> Result<()> {
        let mut zeros = [0; 8];
        let zeros = &mut zeros[..padding(len)];
        self.exact(zeros)?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(self.fault("padding is not zero"));
        }
        Ok(())
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.stream.read_exact(bytes).map_err(|error| read_error(self.offset, error))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn fault(&self, reason: impl Into<String>) -> Error {
        Error::BadNar { offset: self.offset, reason: reason.into() }
    }
}

fn read_error(offset: u64, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::BadNar { offset, reason: "it ends too early".to_owned() },
        _ => Error::io("read", "the archive", error),
    }
}

/// The bytes of one file inside the stream. A stream that ends too early is an error, not an end.
struct Contents<'r, R: Read + ?Sized> {
    stream: &'r mut R,
    left: u64,
}

impl<R: Read + ?Sized> Read for Contents<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.stream.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
