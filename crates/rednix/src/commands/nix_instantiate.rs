//! `rednix nix-instantiate`
use crate::failure::Failure;
use crate::session::Session;
pub fn run(_: &mut Session, _: &[std::ffi::OsString]) -> Result<(), Failure> { Err(Failure::failed("not yet")) }
