//! The compressions of archives at caches: all are read, zstd is written. How they are read is the decoders' business.

use std::fmt;
use std::io::{self, Read};

/// As narinfo names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    None,
    Xz,
    Zstd,
    Bzip2,
    Brotli,
    Gzip,
}

impl Compression {
    pub const ALL: [Compression; 6] = [
        Compression::None,
        Compression::Xz,
        Compression::Zstd,
        Compression::Bzip2,
        Compression::Brotli,
        Compression::Gzip,
    ];

    pub fn parse(name: &str) -> Option<Compression> {
        match name {
            // An empty value means none, as in C++ Nix.
            "none" | "" => Some(Compression::None),
            "xz" => Some(Compression::Xz),
            "zstd" => Some(Compression::Zstd),
            "bzip2" => Some(Compression::Bzip2),
            "br" => Some(Compression::Brotli),
            "gzip" => Some(Compression::Gzip),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
            Compression::Bzip2 => "bzip2",
            Compression::Brotli => "br",
            Compression::Gzip => "gzip",
        }
    }

    /// What is appended to `.nar`.
    pub fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Xz => ".xz",
            Compression::Zstd => ".zst",
            Compression::Bzip2 => ".bz2",
            Compression::Brotli => ".br",
            Compression::Gzip => ".gz",
        }
    }

    /// A stream of what was compressed, of which no more than `size` bytes will be read; several members in a row are one
    /// stream. It waits for its share of what decompressors may take together.
    pub fn decoder<'r>(
        self,
        from: impl Read + Send + 'r,
        size: u64,
    ) -> io::Result<Box<dyn Read + Send + 'r>> {
        crate::decoders::open(self, from, size, &crate::memory::DECODERS)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
