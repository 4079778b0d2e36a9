//! Overrides against the lock: which hold without it, and whether those that are locked are still what was locked.
//! Fetches nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rednix_fetch::cargo_lock::GitSource;
use rednix_fetch::{Overrides, Replacement, overrides};

use crate::commands::lock::format::{self, Lock};
use crate::failure::Failure;

/// Checks every override against the lock. Gives the recipes whose folder is used as it is at this moment, because the
/// lock does not know of their override.
pub fn momentary(wanted: &Overrides, lock: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let lock = format::read(lock)?;
    let mut folders = Vec::new();
    let concerned = concerned(&lock);
    for (key, replacement) in wanted.iter() {
        if let Some(locked) = lock.overrides.get(key) {
            check(key, replacement, locked)?;
            continue;
        }
        match replacement {
            Replacement::Path(path) if !overrides::is_address(key) && path.is_dir() => {
                folders.push((key.to_owned(), path.clone()));
            }
            _ if concerned.contains(key) => {
                return Err(Failure::usage(format!(
                    "`{key}` is overridden, but was locked without the override"
                ))
                .hint("run `rednix lock` again"));
            }
            // Of another tree than this one.
            _ => {}
        }
    }
    Ok(folders)
}

fn check(key: &str, replacement: &Replacement, locked: &format::Overridden) -> Result<(), Failure> {
    let stale = |reason: String| {
        Err(Failure::usage(format!("the override of `{key}` {reason}")).hint("run `rednix lock` again"))
    };
    let Replacement::Path(path) = replacement else {
        return match locked.by == replacement.pinned() {
            true => Ok(()),
            false => stale(format!("is `{}`, but was locked as `{}`", replacement.pinned(), locked.by)),
        };
    };
    if !path.exists() {
        // What was locked may be in the store still.
        return Ok(());
    }
    let hash = overrides::hash_local(path)?;
    let same = match (&locked.nar_hash, &locked.sha256) {
        (Some(nar), _) => *nar == hash.to_sri(),
        (None, Some(hex)) => *hex == hash.to_hex(),
        (None, None) => false,
    };
    match same {
        true => Ok(()),
        false => stale(format!("changed after it was locked: `{}` has other contents now", path.display())),
    }
}

/// Every recipe and address the lock pins something of.
fn concerned(lock: &Lock) -> BTreeSet<String> {
    let mut keys: BTreeSet<String> = lock.sources.keys().cloned().collect();
    for pin in lock.sources.values() {
        keys.extend(pin.submodules.keys().cloned());
        keys.extend(pin.source.url().map(overrides::normalise));
    }
    for (line, entry) in &lock.cargo_git {
        keys.extend(GitSource::parse(line).map(|source| overrides::normalise(source.url)));
        keys.extend(entry.submodules.keys().cloned());
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_hold_with_and_without_a_lock() {
        let scratch = tempfile::tempdir().expect("a folder can be made");
        let folder = scratch.path().join("folder");
        std::fs::create_dir(&folder).expect("a folder can be made");
        std::fs::write(folder.join("a"), "one").expect("it can be written");
        let file = scratch.path().join("rednix.lock");
        let mut wanted = Overrides::default();
        wanted.insert("r", Replacement::Path(folder.clone()));
        assert_eq!(momentary(&wanted, &file).expect("nothing is locked"), [("r".to_owned(), folder.clone())]);

        let hash = overrides::hash_local(&folder).expect("it can be hashed").to_sri();
        let lock = |hash: &str| {
            format!(
                "{{\"version\": 2, \"sources\": {{}}, \"overrides\": {{\"r\": {{\"by\": \"folder\", \"narHash\": \"{hash}\"}}}}}}"
            )
        };
        std::fs::write(&file, lock(&hash)).expect("it can be written");
        assert_eq!(momentary(&wanted, &file).expect("it is what was locked"), []);
        std::fs::write(folder.join("a"), "two").expect("it can be written");
        let failure = momentary(&wanted, &file).expect_err("it changed");
        assert!(failure.message.contains("changed after it was locked"), "{failure}");

        wanted.insert("https://h.test/x.git", Replacement::Git { url: None, reference: "v1".to_owned() });
        std::fs::write(&file, "{\"version\": 2, \"sources\": {}}").expect("it can be written");
        assert_eq!(momentary(&wanted, &file).expect("the address is of another tree").len(), 1);
        let pinned = "{\"version\": 2, \"sources\": {\"g\": {\"type\": \"git\", \"url\": \"https://h.test/x\", \"rev\": \"r\", \"narHash\": \"h\"}}}";
        std::fs::write(&file, pinned).expect("it can be written");
        let failure = momentary(&wanted, &file).expect_err("it is pinned without");
        assert!(failure.message.contains("locked without"), "{failure}");
    }
}
