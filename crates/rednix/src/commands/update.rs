//! `rednix update`: renews pins and prints each one that changed, old → new.

use crate::cli::UpdateArgs;
use crate::commands::lock::{self, Outcome, Renew, Request};
use crate::failure::Failure;
use crate::session::Session;

use super::print;

pub fn run(session: &mut Session, arguments: &UpdateArgs) -> Result<(), Failure> {
    lock::refuse_offline(session)?;
    let request = Request {
        names: &arguments.names,
        tree: &arguments.tree,
        output: arguments.output.as_deref(),
        date: arguments.date.as_deref(),
        renew: Renew::Floating,
        toolchain: None,
    };
    let Outcome { changes, .. } = lock::run::run(session, &request)?;
    session.view.finish();
    for (name, old, new) in changes {
        let shown = |pin: Option<String>| pin.unwrap_or_else(|| "none".to_owned());
        print(&format!("{name} {} → {}\n", shown(old), shown(new)))?;
    }
    Ok(())
}
