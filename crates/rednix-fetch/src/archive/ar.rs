//! The `ar` format as Debian packages use it: a magic line, then members with plain headers (deb(5), ar(5)).
//!
//! Reads members in order from a stream; knows no long names, as packages have none.

use std::io::{self, Read};

use crate::limits;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;

/// Reads one archive from its beginning.
#[derive(Debug)]
pub struct ArReader<R> {
    from: R,
    /// Bytes of the current member not read yet, and the padding after them.
    left_bytes: u64,
    padding: u64,
    members: usize,
}

/// A member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub size_bytes: u64,
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}

impl<R: Read> ArReader<R> {
    pub fn new(mut from: R) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it is too short for an ar archive"),
            _ => error,
        })?;
        if magic != *MAGIC {
            return Err(damaged("it is no ar archive"));
        }
        Ok(ArReader { from, left_bytes: 0, padding: 0, members: 0 })
    }

    /// Passes over the rest of the current member and reads the next header; None at the end.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        let skip = self.left_bytes + self.padding;
        let skipped = io::copy(&mut (&mut self.from).take(skip), &mut io::sink())?;
        // The last member's padding may be missing.
        if skipped < self.left_bytes {
            return Err(damaged("it ends inside a member"));
        }
        (self.left_bytes, self.padding) = (0, 0);
        let mut header = [0; HEADER_BYTES];
        let mut filled = 0;
        while filled < HEADER_BYTES {
            match self.from.read(&mut header[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(damaged("it ends inside a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.members += 1;
        if self.members > limits::AR_MEMBERS_MAX {
            return Err(damaged("it has too many members"));
        }
        let member = parse_header(&header).ok_or_else(|| damaged("a member's header is no header"))?;
        (self.left_bytes, self.padding) = (member.size_bytes, member.size_bytes % 2);
        Ok(Some(member))
    }
}

fn parse_header(header: &[u8; HEADER_BYTES]) -> Option<Member> {
    if &header[58..] != b"`\n" {
        return None;
    }
    let text = |range: std::ops::Range<usize>| Some(std::str::from_utf8(&header[range]).ok()?.trim_end());
    let name = text(0..16)?;
    let size = text(48..58)?;
    if !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // GNU's ar ends names with a slash.
    let name = name.strip_suffix('/').unwrap_or(name);
    (!name.is_empty()).then_some(Member { name: name.to_owned(), size_bytes: size.parse().ok()? })
}

/// Reads the current member.
impl<R: Read> Read for ArReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut self.from).take(self.left_bytes).read(buffer)?;
        if count == 0 && self.left_bytes > 0 && !buffer.is_empty() {
            return Err(damaged("it ends inside a member"));
        }
        self.left_bytes -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes an archive, for tests.
    pub fn write(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, contents) in members {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, contents.len()).bytes(),
            );
            bytes.extend_from_slice(contents);
            if contents.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut reader = ArReader::new(bytes)?;
        let mut members = Vec::new();
        while let Some(member) = reader.next_member()? {
            let mut contents = Vec::new();
            reader.read_to_end(&mut contents)?;
            members.push((member.name, contents));
        }
        Ok(members)
    }

    #[test]
    fn members_can_be_passed_over() {
        let bytes = write(&[("a/", b"123"), ("b", b""), ("c", b"45")]);
        let mut reader = ArReader::new(bytes.as_slice()).unwrap();
        let mut names = Vec::new();
        while let Some(member) = reader.next_member().unwrap() {
            names.push((member.name, member.size_bytes));
        }
        assert_eq!(names, [("a".to_owned(), 3), ("b".to_owned(), 0), ("c".to_owned(), 2)]);
    }

    #[test]
    fn damage_is_an_error() {
        let good = write(&[("a", b"1234")]);
        let mut bad_size = good.clone();
        bad_size[8 + 48] = b'x';
        for bytes in [&good[..3], &good[..20], &good[..good.len() - 1], &bad_size, b"!<arch>X"] {
            assert!(read(bytes).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(members in proptest::collection::vec(("[a-z.]{1,15}", proptest::collection::vec(any::<u8>(), 0..50)), 0..6)) {
            let borrowed: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            prop_assert_eq!(read(&write(&borrowed)).unwrap(), members);
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..100usize) {
            let mut archive = write(&[("a", b"123"), ("b", b"4567")]);
            for (offset, byte) in bytes.iter().take(3).enumerate() {
                let at = (at + offset) % archive.len();
                archive[at] = *byte;
            }
            let _ = read(&archive);
            let _ = read(&bytes);
        }
    }
}
