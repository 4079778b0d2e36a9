//! The environment block: lines of `KEY=value`, numbers as 16 hexadecimal digits. Bounded in size; does not know what
//! the keys mean.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::limits::ENVIRONMENT_BYTES_MAX;
use crate::text::{Uuid, parse_hex};

/// The block has no room for this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFull(pub String);

impl fmt::Display for EnvironmentFull {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no room for `{}` in the environment of {ENVIRONMENT_BYTES_MAX} bytes", self.0)
    }
}

/// A block being written.
#[derive(Default)]
pub struct EnvironmentWriter {
    text: String,
}

impl EnvironmentWriter {
    pub fn text(&mut self, key: &str, value: impl fmt::Display) -> Result<(), EnvironmentFull> {
        let before = self.text.len();
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{key}={value}");
        if self.text.len() > ENVIRONMENT_BYTES_MAX {
            self.text.truncate(before);
            return Err(EnvironmentFull(key.into()));
        }
        Ok(())
    }

    pub fn number(&mut self, key: &str, value: u64) -> Result<(), EnvironmentFull> {
        self.text(key, format_args!("{value:016x}"))
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// A block as a kernel receives it.
#[derive(Clone, Copy)]
pub struct Environment<'a>(pub &'a [u8]);

impl<'a> Environment<'a> {
    /// The pairs in their order; lines that are not text or have no `=` are left out.
    pub fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .split(|&byte| byte == b'\n')
            .filter_map(|line| core::str::from_utf8(line).ok())
            .filter_map(|line| line.split_once('='))
    }

    pub fn get(self, wanted: &str) -> Option<&'a str> {
        self.pairs().find(|(key, _)| *key == wanted).map(|(_, value)| value)
    }

    pub fn number(self, key: &str) -> Option<u64> {
        parse_hex(self.get(key)?)
    }

    pub fn uuid(self, key: &str) -> Option<Uuid> {
        Uuid::parse(self.get(key)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_block_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let environment = Environment(&bytes);
            for (key, _) in environment.pairs() {
                prop_assert!(environment.get(key).is_some());
                let _ = (environment.number(key), environment.uuid(key));
            }
        }

        #[test]
        fn what_is_written_is_read(numbers in prop::collection::btree_map("[A-Z_]{1,20}", any::<u64>(), 0..20)) {
            let mut writer = EnvironmentWriter::default();
            for (key, number) in &numbers {
                prop_assert!(writer.number(key, *number).is_ok());
            }
            let environment = Environment(writer.as_bytes());
            for (key, number) in &numbers {
                prop_assert_eq!(environment.number(key), Some(*number));
            }
        }
    }

    #[test]
    fn written_and_read() {
        let mut writer = EnvironmentWriter::default();
        writer.number("REDOXFS_BLOCK", 512).expect("room");
        writer.text("REDOXFS_UUID", Uuid([0xab; 16])).expect("room");
        assert_eq!(
            writer.as_bytes(),
            b"REDOXFS_BLOCK=0000000000000200\nREDOXFS_UUID=abababab-abab-abab-abab-abababababab\n"
        );
        let environment = Environment(writer.as_bytes());
        assert_eq!(environment.number("REDOXFS_BLOCK"), Some(512));
        assert_eq!(environment.uuid("REDOXFS_UUID").map(|uuid| uuid.0), Some([0xab; 16]));
        assert_eq!(environment.get("REDOXFS"), None);
        assert_eq!(environment.pairs().count(), 2);
    }

    #[test]
    fn full_is_an_error_and_changes_nothing() {
        let mut writer = EnvironmentWriter::default();
        writer.text("A", "x".repeat(4000)).expect("room");
        let before = writer.as_bytes().len();
        assert_eq!(writer.text("B", "y".repeat(100)), Err(EnvironmentFull("B".into())));
        assert_eq!(writer.as_bytes().len(), before);
    }

    #[test]
    fn odd_lines_are_left_out() {
        let environment = Environment(b"=1\nA\n\xff=2\nB=3=4\n\n");
        assert_eq!(environment.pairs().collect::<std::vec::Vec<_>>(), [("", "1"), ("B", "3=4")]);
        assert_eq!(environment.number("B"), None);
    }
}
