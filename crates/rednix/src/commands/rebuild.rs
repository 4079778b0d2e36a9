//! `--rebuild` of `build` and `image`: each derivation built once more and compared with what the store has.
//! Replaces nothing in the store.

use std::collections::BTreeSet;

use rednix_build::{Rebuilt, Verdict};
use rednix_store::path::StorePath;

use crate::failure::Failure;
use crate::session::{Session, Wanted};
use crate::view::count;

use super::print;

/// Differing files named per output; the rest is counted.
const SHOWN_MAX: usize = 20;

/// Rebuilds what is wanted, and with `parts` also what that is put together from directly.
pub fn run(session: &Session, wanted: &[Wanted], parts: bool, keep: bool) -> Result<(), Failure> {
    let mut derivations: Vec<StorePath> = Vec::new();
    let mut seen = BTreeSet::new();
    let store = session.store()?;
    for one in wanted {
        if parts {
            let inputs = store.read_derivation(&one.derivation)?.input_derivations;
            derivations.extend(inputs.into_keys().filter(|path| seen.insert(path.clone())));
        }
        derivations.extend(Some(one.derivation.clone()).filter(|path| seen.insert(path.clone())));
    }
    let rebuilt = session.rebuild(&derivations, keep)?;
    session.view.finish();
    print(&rebuilt.iter().map(report).collect::<String>())?;
    let differing =
        rebuilt.iter().filter(|one| !one.outputs.iter().all(|o| o.verdict.is_identical())).count();
    if differing == 0 {
        return Ok(());
    }
    let failure =
        Failure::failed(format!("{differing} of {} were not the same the second time", rebuilt.len()));
    Err(if keep {
        failure
    } else {
        failure.hint("with `--keep` the second tree stays, to be looked at beside the first")
    })
}

/// A line per output, and one per difference below it.
fn report(one: &Rebuilt) -> String {
    let name = one.derivation.name().trim_end_matches(".drv");
    let mut text = String::new();
    for output in &one.outputs {
        let label =
            if output.output == "out" { name.to_owned() } else { format!("{name}.{}", output.output) };
        match &output.verdict {
            Verdict::Identical { entries } => {
                let entries = if *entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") };
                text.push_str(&format!("identical {label} ({entries})\n"));
            }
            Verdict::HashHolds => text.push_str(&format!("identical {label} (fetched; its hash is right)\n")),
            Verdict::HashBroken => text.push_str(&format!(
                "differs   {label}: the copy in the store does not have its hash any more; `rednix verify --check-contents` tells all such\n"
            )),
            Verdict::Differs { comparison, kept } => {
                text.push_str(&format!("differs   {label}: {}\n", count(comparison.count, "difference")));
                for difference in comparison.told.iter().take(SHOWN_MAX) {
                    text.push_str(&format!("  {difference}\n"));
                }
                let more = comparison.count - comparison.told.len().min(SHOWN_MAX) as u64;
                if more > 0 {
                    text.push_str(&format!("  and {more} more\n"));
                }
                if let Some(second) = kept {
                    text.push_str(&format!(
                        "  first:  {}\n  second: {} (until `rednix gc`)\n",
                        output.first,
                        second.display()
                    ));
                }
            }
        }
    }
    text
}
