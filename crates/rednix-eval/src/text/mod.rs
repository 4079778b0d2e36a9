//! Pure text functions of the Nix language: numbers, versions, regular expressions, JSON, TOML, XML.
//! They know no values of the virtual machine, do no I/O and do not recurse on what users write.

pub mod json;
pub mod limits;
pub mod number;
#[cfg(test)]
mod peer_tests;
pub mod regex;
pub mod toml;
pub mod tree;
pub mod version;
pub mod xml;
