//! `rednix gc`: deletes what no root needs.

use rednix_store::store::GcOptions;

use super::{print, store};
use crate::cli::GcArgs;
use crate::failure::Failure;
use crate::session::Session;

pub fn run(session: &Session, arguments: &GcArgs) -> Result<(), Failure> {
    let dry_run = arguments.unneeded.dry_run;
    let options = GcOptions { store_bytes_max: arguments.max_size, ..store::options(&arguments.unneeded) };
    let store = if dry_run { session.store_to_read()? } else { session.store()? };
    let report = store.gc(&options)?;
    session.view.finish();
    for path in &report.removed {
        print(&format!("{path}\n"))?;
    }
    let verb = if dry_run { "would delete" } else { "deleted" };
    eprintln!(
        "{verb} {} store paths and {} leftovers, {:.1} MB; kept {}",
        report.removed.len(),
        report.leftovers,
        report.bytes as f64 / 1e6,
        report.kept
    );
    Ok(())
}
