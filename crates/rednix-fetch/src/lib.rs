//! Sources: from an url to bytes whose hash is known, and from archives to trees.
//!
//! Builds nothing, writes no database, reads no environment variable and no home directory, and prints
//! nothing: configuration is passed in, progress goes out as events.

pub mod debian;
pub mod limits;
