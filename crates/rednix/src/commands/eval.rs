//! `rednix eval`: evaluates and prints.
use crate::cli::EvalArgs;
use crate::failure::Failure;
use crate::session::Session;
pub fn run(_: &Session, _: &EvalArgs) -> Result<(), Failure> { Err(Failure::failed("not yet")) }
