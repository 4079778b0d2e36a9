//! `rednix verify`: whether the store holds what its database says.

use rednix_store::store::VerifyOptions;

use crate::cli::VerifyArgs;
use crate::failure::Failure;
use crate::session::Session;

pub fn run(session: &Session, arguments: &VerifyArgs) -> Result<(), Failure> {
    let store = session.store()?;
    let options = VerifyOptions { check_contents: arguments.check_contents, ..VerifyOptions::default() };
    let report = store.verify(options)?;
    session.view.finish();
    if report.is_clean() {
        return Ok(());
    }
    let details: String = report.problems.iter().map(|problem| format!("{problem}\n")).collect();
    Err(Failure::failed(format!(
        "the store at `{}` has {} wrong paths",
        store.root().display(),
        report.problems.len()
    ))
    .details(details)
    .hint("delete them with `rednix gc` once nothing needs them, and build again"))
}
