//! `rednix verify`: whether the store holds what its database says. The same as `rednix store verify`, but for
//! hashing only when asked to.

use super::store;
use crate::cli::VerifyArgs;
use crate::failure::Failure;
use crate::session::Session;

pub fn run(session: &Session, arguments: &VerifyArgs) -> Result<(), Failure> {
    store::check(session, arguments.check_contents)
}
