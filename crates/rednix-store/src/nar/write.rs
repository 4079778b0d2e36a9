//! Writes an archive node by node. Refuses what a reader would refuse; reads no files itself.

use std::io::{self, Read, Write};

use super::MAGIC;
use crate::error::{Error, Result};
use crate::limits::{COPY_BUFFER_BYTES, NAR_DEPTH_MAX, NAR_NAME_BYTES_MAX, NAR_TARGET_BYTES_MAX};

/// Zeros after a string of `len` bytes.
pub const fn padding(len: u64) -> usize {
    (len.wrapping_neg() % 8) as usize
}

/// Bytes of a string of `len` bytes in an archive.
pub const fn node_size(len: u64) -> u64 {
    8 + len + padding(len) as u64
}

/// Writes one archive. The caller keeps entries sorted; the writer checks it.
pub struct Writer<'w, W: Write + ?Sized> {
    out: &'w mut W,
    /// For each open directory, the last entry's name.
    open: Vec<Option<Vec<u8>>>,
    /// Strings collected until there is a contents to stream or enough of them.
    pending: Vec<u8>,
    written: u64,
}

const PENDING_BYTES_MAX: usize = 64 << 10;

impl<'w, W: Write + ?Sized> Writer<'w, W> {
    /// Begins an archive.
    pub fn new(out: &'w mut W) -> Self {
        let mut writer = Writer { out, open: Vec::new(), pending: Vec::with_capacity(4096), written: 0 };
        writer.string(MAGIC);
        writer
    }

    /// A file whose bytes are all here. `name` is empty for the root of the archive.
    pub fn file(&mut self, name: &[u8], executable: bool, contents: &[u8]) -> Result<()> {
        self.begin(name)?;
        self.file_header(executable, contents.len() as u64);
        if contents.len() < COPY_BUFFER_BYTES {
            self.pending.extend_from_slice(contents);
        } else {
            self.flush()?;
            self.emit(contents)?;
        }
        self.file_footer(contents.len() as u64);
        self.end()
    }

    /// A file whose bytes come from a stream, which must give exactly `size` of them.
    pub fn file_from(
        &mut self,
        name: &[u8],
        executable: bool,
        size: u64,
        contents: &mut dyn Read,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let fail = |error| Error::io("read", String::from_utf8_lossy(name).as_ref(), error);
        self.begin(name)?;
        self.file_header(executable, size);
        let mut left = size;
        if size <= PENDING_BYTES_MAX as u64 {
            let start = self.pending.len();
            self.pending.resize(start + size as usize, 0);
            contents.read_exact(&mut self.pending[start..]).map_err(fail)?;
            left = 0;
        } else {
            self.flush()?;
            buffer.resize(COPY_BUFFER_BYTES, 0);
        }
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            match contents.read(&mut buffer[..wanted]) {
                Ok(0) => return Err(fail(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    self.emit(&buffer[..count])?;
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(fail(error)),
            }
        }
        self.file_footer(size);
        self.end()
    }

    pub fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<()> {
        self.begin(name)?;
        if target.len() as u64 > NAR_TARGET_BYTES_MAX || target.is_empty() {
            return Err(self.fault(format!("a link's target has {} bytes", target.len())));
        }
        for text in [&b"("[..], b"type", b"symlink", b"target", target, b")"] {
            self.string(text);
        }
        self.end()
    }

    pub fn enter_directory(&mut self, name: &[u8]) -> Result<()> {
        self.begin(name)?;
        for text in [&b"("[..], b"type", b"directory"] {
            self.string(text);
        }
        self.open.push(None);
        Ok(())
    }

    pub fn leave_directory(&mut self) -> Result<()> {
        if self.open.pop().is_none() {
            return Err(self.fault("a folder is closed that was never opened"));
        }
        self.string(b")");
        self.end()
    }

    /// Writes out what is pending; the number of bytes of the whole archive.
    pub fn finish(mut self) -> Result<u64> {
        assert!(self.open.is_empty(), "every directory of an archive must be left");
        self.flush()?;
        Ok(self.written)
    }

    fn begin(&mut self, name: &[u8]) -> Result<()> {
        if self.open.len() >= NAR_DEPTH_MAX {
            return Err(self.fault(format!("folders are nested {NAR_DEPTH_MAX} deep or deeper")));
        }
        match self.open.last_mut() {
            None if name.is_empty() => return Ok(()),
            None => return Err(self.fault("the root has a name")),
            Some(last) => {
                if let Some(reason) = name_fault(name) {
                    let reason = format!("the name `{}` {reason}", name.escape_ascii());
                    return Err(self.fault(reason));
                }
                if last.as_ref().is_some_and(|last| last.as_slice() >= name) {
                    let reason = format!("the entry `{}` is not in order", name.escape_ascii());
                    return Err(self.fault(reason));
                }
                *last = Some(name.to_vec());
            }
        }
        for text in [&b"entry"[..], b"(", b"name", name, b"node"] {
            self.string(text);
        }
        Ok(())
    }

    /// Closes the entry that [`Writer::begin`] opened.
    fn end(&mut self) -> Result<()> {
        if !self.open.is_empty() {
            self.string(b")");
        }
        if self.pending.len() >= PENDING_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    fn file_header(&mut self, executable: bool, size: u64) {
        for text in [&b"("[..], b"type", b"regular"] {
            self.string(text);
        }
        if executable {
            self.string(b"executable");
            self.string(b"");
        }
        self.string(b"contents");
        self.pending.extend_from_slice(&size.to_le_bytes());
    }

    fn file_footer(&mut self, size: u64) {
        self.pending.extend_from_slice(&[0; 8][..padding(size)]);
        self.string(b")");
    }

    fn string(&mut self, text: &[u8]) {
        let len = text.len() as u64;
        self.pending.extend_from_slice(&len.to_le_bytes());
        self.pending.extend_from_slice(text);
        self.pending.extend_from_slice(&[0; 8][..padding(len)]);
    }

    fn flush(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.emit(&pending)?;
        self.pending = pending;
        self.pending.clear();
        Ok(())
    }

    fn emit(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| Error::io("write", "the archive", error))
    }

    fn fault(&self, reason: impl Into<String>) -> Error {
        Error::BadNar { offset: self.written + self.pending.len() as u64, reason: reason.into() }
    }
}

/// What makes a file name impossible in an archive.
pub(super) fn name_fault(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("is empty"),
        b"." | b".." => Some("would lead elsewhere"),
        _ if name.contains(&b'/') => Some("contains a slash"),
        _ if name.contains(&0) => Some("contains a zero byte"),
        _ if name.len() as u64 > NAR_NAME_BYTES_MAX => Some("is too long"),
        _ => None,
    }
}
