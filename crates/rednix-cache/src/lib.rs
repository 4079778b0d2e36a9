//! Binary caches: narinfo, signatures, realisations; a client that brings paths into a store, pushing from one, and
//! a server. Builds nothing, reads no environment and prints nothing.

mod absent;
pub mod aws;
pub mod cache;
pub mod caches;
pub mod compression;
pub mod decoders;
mod encoders;
pub mod error;
pub mod keys;
pub mod limits;
pub mod log;
mod memory;
pub mod narinfo;
pub mod netrc;
pub mod proof;
pub mod push;
mod queue;
pub mod realisation;
pub mod server;
mod streams;
pub mod transfer;
pub mod transport;

pub use error::{Error, Result};
pub use keys::{PublicKey, SecretKey, Trust};
pub use narinfo::NarInfo;
