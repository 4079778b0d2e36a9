//! `rednix gc`: deletes what no root needs.

use rednix_store::store::GcOptions;

use crate::cli::GcArgs;
use crate::failure::Failure;
use crate::session::Session;

use super::print;

pub fn run(session: &Session, arguments: &GcArgs) -> Result<(), Failure> {
    let store = session.store()?;
    let report = store.gc(&GcOptions { dry_run: arguments.dry_run, ..GcOptions::default() })?;
    session.view.finish();
    for path in &report.removed {
        print(&format!("{path}\n"))?;
    }
    let verb = if arguments.dry_run { "would delete" } else { "deleted" };
    eprintln!(
        "{verb} {} store paths and {} leftovers, {:.1} MB; kept {}",
        report.removed.len(),
        report.leftovers,
        report.bytes as f64 / 1e6,
        report.kept
    );
    Ok(())
}
