//! The compressions of archives at caches: all are read, zstd is written. Decompressors have a bound on their memory.

use std::fmt;
use std::io::{self, BufReader, Read};

use crate::limits::{BUFFER_BYTES, XZ_MEMORY_BYTES_MAX, ZSTD_WINDOW_LOG_MAX};

/// As narinfo names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// A stream of what was compressed; several members in a row are one stream.
    pub fn decoder<'r>(self, from: impl Read + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
        Ok(match self {
            Compression::None => Box::new(from),
            Compression::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(
                    XZ_MEMORY_BYTES_MAX,
                    liblzma::stream::CONCATENATED,
                )
                .map_err(io::Error::other)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(
                    BufReader::with_capacity(BUFFER_BYTES, from),
                    stream,
                ))
            }
            Compression::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(BUFFER_BYTES, from))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
            Compression::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(from)),
            Compression::Brotli => Box::new(brotli_decompressor::Decompressor::new(from, BUFFER_BYTES)),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(from)),
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
