//! A recipe tree given as an address: pinned in the lock like any source, its checkout kept in the cache by its hash.
//! Reads no recipes.

use std::path::{Path, PathBuf};

use rednix_events::Event;
use rednix_fetch::git::GitRequest;
use rednix_fetch::overrides;
use rednix_store::hash::{Hash, HashAlgorithm};

use crate::cli::TreeArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::session::Session;

use super::format::{self, Lock, TreePin};

/// The lock's usual name.
pub const LOCK: &str = "rednix.lock";

/// The tree's address, where it is one.
pub fn address(arguments: &TreeArgs) -> Option<&str> {
    arguments.tree.as_deref().filter(|tree| overrides::is_address(tree))
}

/// The lock's file, where the command line says so.
pub fn lock_file(arguments: &TreeArgs, output: Option<&Path>) -> Option<PathBuf> {
    output.map(Path::to_path_buf).or_else(|| arguments.lock.clone())
}

fn split(address: &str) -> (&str, Option<&str>) {
    match address.split_once('#') {
        Some((url, reference)) if !reference.is_empty() => (url, Some(reference)),
        Some((url, _)) => (url, None),
        None => (address, None),
    }
}

/// Whether the pin is of this address.
fn fits(pin: &TreePin, url: &str, reference: Option<&str>) -> bool {
    let is_same = pin.reference.as_deref() == reference || reference.is_some_and(|r| pin.rev.starts_with(r));
    overrides::normalise(&pin.url) == overrides::normalise(url) && is_same
}

/// Pins the tree and fetches it; gives the pin and the checkout's folder.
pub fn pin(
    session: &Session,
    address: &str,
    lock: &Lock,
    date: Option<&str>,
    renew: bool,
) -> Result<(TreePin, PathBuf), Failure> {
    let (url, reference) = split(address);
    if let Some(pin) = lock.tree.as_ref().filter(|pin| !renew && date.is_none() && fits(pin, url, reference))
    {
        return Ok((pin.clone(), fetch(session, pin)?));
    }
    session.events().emit(Event::Step { what: format!("pinning the tree from {url}") });
    let fetcher = session.fetcher();
    let day = date.or(lock.date.as_deref()).filter(|_| !renew || date.is_some());
    let day = day.map(|day| format!("{day}T23:59:59Z"));
    // A revision that was named holds on every day.
    let is_hex = |text: &str| text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let day = day.as_deref().filter(|_| !reference.is_some_and(is_hex));
    let rev = fetcher.resolve_ref(url, reference.unwrap_or("HEAD"), day)?;
    let parent = session.cache_folder("trees")?;
    let scratch = tempfile::tempdir_in(&parent)?;
    let checkout = scratch.path().join("tree");
    let request =
        GitRequest { url: url.to_owned(), rev: rev.clone(), submodules: true, overrides: Default::default() };
    let fetched = fetcher.fetch_git(&request, &checkout, session.events())?;
    if !checkout.join("recipes").is_dir() {
        return Err(Failure::usage(format!("{url} at {rev} is no recipe tree: it has no recipes/"))
            .hint("pass the address of redox-os/redox or of a fork of it"));
    }
    let pin = TreePin {
        url: url.to_owned(),
        reference: reference.map(str::to_owned).filter(|r| *r != rev),
        rev,
        nar_hash: fetched.hash.to_sri(),
    };
    let folder = place(&session.config, &pin)?;
    settle(&checkout, &folder)?;
    Ok((pin, folder))
}

/// Where a pinned tree's checkout is kept.
fn place(config: &Config, pin: &TreePin) -> Result<PathBuf, Failure> {
    let hash = Hash::parse_any(&pin.nar_hash, Some(HashAlgorithm::Sha256))?;
    Ok(config.cache.join("trees").join(hash.to_nix32()))
}

/// Renames the checkout into place, whole; another rednix may have been first.
fn settle(checkout: &Path, folder: &Path) -> Result<(), Failure> {
    match std::fs::rename(checkout, folder) {
        Err(error) if !folder.exists() => {
            Err(Failure::failed(format!("cannot keep the tree as `{}`: {error}", folder.display())))
        }
        _ => Ok(()),
    }
}

/// The checkout of a pin, fetched where the cache has lost it.
fn fetch(session: &Session, pin: &TreePin) -> Result<PathBuf, Failure> {
    let folder = place(&session.config, pin)?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let scratch = tempfile::tempdir_in(session.cache_folder("trees")?)?;
    let checkout = scratch.path().join("tree");
    let request = GitRequest {
        url: pin.url.clone(),
        rev: pin.rev.clone(),
        submodules: true,
        overrides: Default::default(),
    };
    let fetched = session.fetcher().fetch_git(&request, &checkout, session.events())?;
    if fetched.hash.to_sri() != pin.nar_hash {
        return Err(Failure::failed(format!(
            "the tree {} at {} is not the one that was locked",
            pin.url, pin.rev
        ))
        .hint("if that is right, run `rednix update tree`"));
    }
    settle(&checkout, &folder)?;
    Ok(folder)
}

/// Makes a tree given as an address ready for every command but those that lock.
pub fn prepare(session: &mut Session, arguments: &TreeArgs) -> Result<(), Failure> {
    let Some(address) = address(arguments) else { return Ok(()) };
    let (url, reference) = split(address);
    let file = arguments.lock.clone().unwrap_or_else(|| PathBuf::from(LOCK));
    let lock = format::read(&file)?;
    let Some(pin) = lock.tree.filter(|pin| fits(pin, url, reference)) else {
        return Err(Failure::usage(format!("the tree {address} is not pinned in `{}`", file.display()))
            .hint(format!("run `rednix lock --tree {address} SYSTEM`")));
    };
    session.config.tree_checkout = Some(fetch(session, &pin)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_trees() {
        assert_eq!(split("https://h.test/x.git#abc"), ("https://h.test/x.git", Some("abc")));
        assert_eq!(split("https://h.test/x#"), ("https://h.test/x", None));
        let pin = TreePin {
            url: "https://h.test/x.git".to_owned(),
            reference: None,
            rev: "abcdef".to_owned(),
            nar_hash: String::new(),
        };
        assert!(fits(&pin, "https://h.test/x", None) && fits(&pin, "https://h.test/x", Some("abc")));
        assert!(!fits(&pin, "https://h.test/y", None) && !fits(&pin, "https://h.test/x", Some("main")));
    }
}
