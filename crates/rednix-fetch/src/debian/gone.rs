//! What to say when a pinned package is on no mirror any more: which versions are offered now.
//!
//! Takes no other version in its place; that is the user's decision.

use std::collections::BTreeMap;

use rednix_events::Events;

use super::index::Universe;
use super::suite::{self, SuiteSpec};
use crate::error::FetchError;
use crate::fetcher::Fetcher;

/// Package, version and architecture of a pool file's name.
pub fn parse_file_name(path: &str) -> Option<(&str, String, &str)> {
    let name = path.rsplit('/').next()?.strip_suffix(".deb")?;
    let mut parts = name.split('_');
    let (package, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then(|| (package, version.replace("%3a", ":").replace("%3A", ":"), architecture))
}

/// The component a pool path belongs to: `pool/<component>/…`, in security archives `pool/updates/<component>/…`.
fn component(path: &str) -> &str {
    let mut parts = path.split('/').skip_while(|part| *part == "pool" || *part == "updates");
    parts.next().unwrap_or("main")
}

/// One error per (suite, pool path).
pub fn describe(fetcher: &Fetcher, gone: &[(String, String)], events: &Events) -> Vec<FetchError> {
    let mut offers: BTreeMap<(String, String, String), Result<BTreeMap<String, String>, String>> =
        BTreeMap::new();
    gone.iter()
        .map(|(suite, path)| {
            let (package, version, architecture) =
                parse_file_name(path).unwrap_or((path, "of an unknown version".to_owned(), "all"));
            // The list of any one architecture holds the packages for all of them.
            let architecture = if architecture == "all" { usual_architecture() } else { architecture };
            let key = (suite.clone(), component(path).to_owned(), architecture.to_owned());
            let offer = offers.entry(key).or_insert_with_key(|(suite, component, architecture)| {
                let spec = SuiteSpec { name: suite.clone(), components: vec![component.clone()] };
                versions(fetcher, &[spec], architecture, events).map_err(|error| error.reason())
            });
            let offered = match offer {
                Ok(versions) => match versions.get(package) {
                    Some(version) => format!("version {version} is offered now"),
                    None => "the suite does not have this package any more".to_owned(),
                },
                Err(reason) => format!("what is offered now could not be learned: {reason}"),
            };
            FetchError::PackageGone { package: package.to_owned(), version, suite: suite.clone(), offered }
        })
        .collect()
}

fn usual_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        _ => "amd64",
    }
}

/// The newest version of every package.
fn versions(
    fetcher: &Fetcher,
    suites: &[SuiteSpec],
    architecture: &str,
    events: &Events,
) -> Result<BTreeMap<String, String>, FetchError> {
    let loaded = suite::load(fetcher, suites, architecture, events)?;
    let indexes: Vec<_> = loaded.into_iter().flat_map(|suite| suite.indexes).collect();
    let universe = Universe::read(&indexes, architecture)?;
    let mut versions = BTreeMap::new();
    for package in &universe.packages {
        versions.entry(package.name.to_owned()).or_insert_with(|| package.version.to_owned());
    }
    Ok(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pool_files() {
        let cases = [
            ("pool/main/b/bash/bash_5.2-1_amd64.deb", Some(("bash", "5.2-1", "amd64")), "main"),
            ("pool/updates/main/r/x/x_1%3a2_all.deb", Some(("x", "1:2", "all")), "main"),
            ("pool/non-free/x/x_1.deb", None, "non-free"),
            ("dists/trixie/InRelease", None, "dists"),
        ];
        for (path, expected, part) in cases {
            let parsed = parse_file_name(path);
            assert_eq!(
                parsed.as_ref().map(|(name, version, arch)| (*name, version.as_str(), *arch)),
                expected,
                "{path}"
            );
            assert_eq!(component(path), part, "{path}");
        }
    }
}
