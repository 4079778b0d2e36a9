//! The machine's apt sources: text of `sources.list` and `.sources` files in, mirrors out; and which of them
//! serves a suite that the machine itself may not use.
//!
//! Fetches nothing. Entries that cannot be read are passed over, as a foreign file must not stop a build.

use std::fs;
use std::path::{Path, PathBuf};

use crate::debian::control::Paragraphs;

/// One binary-package entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AptSource {
    /// Without a trailing slash.
    pub bases: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// Keyring files named by `Signed-By`.
    pub keyrings: Vec<PathBuf>,
}

/// Names of Debian's own suites, without what follows a dash. A source of another distribution on the same
/// machine must not be asked for Debian packages.
const SUITES: [&str; 16] = [
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
    "experimental",
    "rc-buggy",
    "stretch",
    "jessie",
];

fn is_debian(suite: &str) -> bool {
    SUITES.contains(&suite.split(['-', '/']).next().unwrap_or_default())
}

fn is_security(suite: &str) -> bool {
    suite.ends_with("-security") || suite.ends_with("/updates")
}

/// Parses the one-line format of `sources.list`, after sources.list(5).
pub fn parse_list(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<AptSource> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut keyrings = Vec::new();
    if let Some(options) = rest.strip_prefix('[') {
        let (options, after) = options.split_once(']')?;
        let signed_by = options.split_whitespace().filter_map(|option| option.strip_prefix("signed-by="));
        keyrings = signed_by.flat_map(|value| value.split(',')).filter_map(keyring).collect();
        rest = after.trim_start();
    }
    let mut words = rest.split_whitespace();
    let (base, suite) = (base(words.next()?)?, words.next()?.to_owned());
    Some(AptSource {
        bases: vec![base],
        suites: vec![suite],
        components: words.map(str::to_owned).collect(),
        keyrings,
    })
}

/// Parses the deb822 format of `.sources` files, after sources.list(5).
pub fn parse_sources(text: &str) -> Vec<AptSource> {
    let paragraphs = Paragraphs::new(text).filter_map(Result::ok);
    paragraphs
        .filter(|paragraph| paragraph.words("Types").any(|kind| kind == "deb"))
        .filter(|paragraph| {
            !paragraph.get("Enabled").is_some_and(|word| ["no", "false", "0"].contains(&word))
        })
        .map(|paragraph| AptSource {
            bases: paragraph.words("URIs").filter_map(base).collect(),
            suites: paragraph.words("Suites").map(str::to_owned).collect(),
            components: paragraph.words("Components").map(str::to_owned).collect(),
            keyrings: paragraph.words("Signed-By").filter_map(keyring).collect(),
        })
        .filter(|source| !source.bases.is_empty())
        .collect()
}

/// An address as fetching understands it; apt's other transports (cdrom, mirror lists) are passed over.
fn base(address: &str) -> Option<String> {
    let address =
        address.strip_prefix("copy:").map(|path| format!("file:{path}")).unwrap_or(address.to_owned());
    let local = address.strip_prefix("file:").map(|path| format!("file:///{}", path.trim_start_matches('/')));
    let address = local.unwrap_or(address);
    let known = ["http://", "https://", "file:///"].iter().any(|scheme| address.starts_with(scheme));
    known.then(|| address.trim_end_matches('/').to_owned())
}

/// A keyring's path; `Signed-By` may also hold key fingerprints or the key itself, which are passed over.
fn keyring(word: &str) -> Option<PathBuf> {
    word.starts_with('/').then(|| PathBuf::from(word))
}

/// Reads all entries below an apt configuration folder (usually `/etc/apt`), in file-name order.
pub fn read_folder(folder: &Path) -> Vec<AptSource> {
    let mut sources =
        fs::read_to_string(folder.join("sources.list")).map(|text| parse_list(&text)).unwrap_or_default();
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("sources.list.d"))
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_list(&text)),
            Some("sources") => sources.extend(parse_sources(&text)),
            _ => {}
        }
    }
    sources
}

/// The sources of a machine: apt's own, and where none of them is Debian's (an Ubuntu machine, say) those its
/// distribution templates know (usually `/usr/share/python-apt/templates`).
pub fn machine_sources(apt_folder: &Path, templates: &Path) -> Vec<AptSource> {
    let mut sources = read_folder(apt_folder);
    if !sources.iter().any(|source| source.suites.iter().any(|suite| is_debian(suite))) {
        let text = fs::read_to_string(templates.join("Debian.info")).unwrap_or_default();
        sources.extend(parse_template(&text));
    }
    sources
}

/// Parses a distribution template of python-apt: paragraphs with `Suite` and `BaseURI`, where `{series}` stands
/// for any suite's name.
pub fn parse_template(text: &str) -> Vec<AptSource> {
    let paragraphs = Paragraphs::new(text).filter_map(Result::ok);
    paragraphs
        .filter_map(|paragraph| {
            Some(AptSource {
                bases: vec![base(paragraph.get("BaseURI")?)?],
                // Any of Debian's names will do: what counts is the kind of suite.
                suites: vec![paragraph.get("Suite")?.replace("{series}", "stable")],
                components: Vec::new(),
                keyrings: Vec::new(),
            })
        })
        .collect()
}

/// The keyrings that may hold Debian's keys: those the sources name and those of the given folders (usually
/// `/usr/share/keyrings` and `/etc/apt/trusted.gpg.d`) whose name says so.
pub fn default_keyrings(sources: &[AptSource], folders: &[&Path]) -> Vec<PathBuf> {
    let debian = sources.iter().filter(|source| source.suites.iter().any(|suite| is_debian(suite)));
    let mut keyrings: Vec<PathBuf> = debian.flat_map(|source| source.keyrings.clone()).collect();
    for folder in folders {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        keyrings.extend(entries.filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let kind = [".gpg", ".pgp", ".asc"].iter().any(|end| name.ends_with(end));
            name.starts_with("debian-") && kind && !name.contains("removed")
        }));
    }
    keyrings.retain(|path| path.is_file());
    keyrings.sort();
    keyrings.dedup();
    keyrings
}

/// The bases that should have `suite`, best first: entries for the suite itself, then Debian entries of the same
/// kind (security or not) for another suite, then, for a security suite, a sibling of the main archive.
pub fn bases(sources: &[AptSource], suite: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut add = |bases: Vec<String>| {
        for base in bases {
            if !found.contains(&base) {
                found.push(base);
            }
        }
    };
    let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        let fitting = sources.iter().filter(|source| source.suites.iter().any(|suite| wanted(suite)));
        fitting.flat_map(|source| source.bases.clone()).collect()
    };
    add(of(&|known| known == suite));
    if is_debian(suite) {
        add(of(&|known| is_debian(known) && is_security(known) == is_security(suite)));
        if is_security(suite) {
            let main = of(&|known| is_debian(known) && !is_security(known));
            add(main
                .iter()
                .filter_map(|base| Some(format!("{}/debian-security", base.strip_suffix("/debian")?)))
                .collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = "# comment\ndeb [arch=amd64 signed-by=/k/a.gpg] http://mirror.test/debian/ bookworm main contrib # tail\n\
        deb-src http://mirror.test/debian bookworm main\ndeb cdrom:[x]/ bookworm main\ndeb http://other.test/packages tool-bookworm main\nnonsense\n";
    const SOURCES: &str = "Types: deb deb-src\nURIs: https://mirror.test/debian-security file:/srv/x\nSuites: bookworm-security\nComponents: main\nSigned-By: /k/b.gpg\n\n\
        Types: deb\nEnabled: no\nURIs: https://off.test/\nSuites: bookworm\n\nTypes: deb\nURIs: https://other.test/node\nSuites: nodistro\nComponents: main\n";

    #[test]
    fn both_formats() {
        let list = parse_list(LIST);
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].bases, ["http://mirror.test/debian"]);
        assert_eq!(list[0].components, ["main", "contrib"]);
        assert_eq!(list[0].keyrings, [PathBuf::from("/k/a.gpg")]);
        let sources = parse_sources(SOURCES);
        assert_eq!(sources.len(), 2);
        assert_eq!(sources[0].bases, ["https://mirror.test/debian-security", "file:///srv/x"]);
        assert_eq!(sources[0].keyrings, [PathBuf::from("/k/b.gpg")]);
    }

    #[test]
    fn suites_find_their_bases() {
        let mut sources = parse_list(LIST);
        let main_only = sources.clone();
        sources.extend(parse_sources(SOURCES));
        let cases: &[(&[AptSource], &str, &[&str])] = &[
            (&sources, "bookworm", &["http://mirror.test/debian"]),
            (&sources, "trixie", &["http://mirror.test/debian"]),
            (&sources, "trixie-updates", &["http://mirror.test/debian"]),
            (
                &sources,
                "trixie-security",
                &[
                    "https://mirror.test/debian-security",
                    "file:///srv/x",
                    "http://mirror.test/debian-security",
                ],
            ),
            (&main_only, "trixie-security", &["http://mirror.test/debian-security"]),
            (&sources, "noble", &[]),
            (&sources, "nodistro", &["https://other.test/node"]),
            (&[], "trixie", &[]),
        ];
        for (sources, suite, expected) in cases {
            assert_eq!(bases(sources, suite), *expected, "{suite}");
        }
    }

    #[test]
    fn folders_are_read_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        fs::write(folder.path().join("sources.list"), "deb http://one.test/debian trixie main\n").unwrap();
        fs::write(folder.path().join("sources.list.d/b.list"), "deb http://three.test/debian trixie main\n")
            .unwrap();
        let deb822 = "Types: deb\nURIs: http://two.test/debian\nSuites: trixie\nComponents: main\n";
        fs::write(folder.path().join("sources.list.d/a.sources"), deb822).unwrap();
        fs::write(folder.path().join("sources.list.d/c.save"), "deb http://no.test/debian trixie main\n")
            .unwrap();
        let sources = read_folder(folder.path());
        assert_eq!(
            bases(&sources, "trixie"),
            ["http://one.test/debian", "http://two.test/debian", "http://three.test/debian"]
        );
        assert_eq!(read_folder(&folder.path().join("absent")), []);
    }

    #[test]
    fn other_machines_know_debian_by_their_templates() {
        let folder = tempfile::tempdir().unwrap();
        let template = "ChangelogURI: x\n\nSuite: {series}\nBaseURI: https://main.test/debian/\nComponent: main\nComponent: contrib\n\n\
            Suite: {series}-security\nBaseURI: https://security.test/\n\nSuite: {series}-updates\nParentSuite: {series}\n";
        fs::write(folder.path().join("Debian.info"), template).unwrap();
        fs::write(folder.path().join("sources.list"), "deb http://other.test/ubuntu noble main\n").unwrap();
        let sources = machine_sources(folder.path(), folder.path());
        assert_eq!(bases(&sources, "trixie"), ["https://main.test/debian"]);
        assert_eq!(
            bases(&sources, "trixie-security"),
            ["https://security.test", "https://main.test/debian-security"]
        );
        fs::write(folder.path().join("sources.list"), "deb http://own.test/debian bookworm main\n").unwrap();
        assert_eq!(
            bases(&machine_sources(folder.path(), folder.path()), "trixie"),
            ["http://own.test/debian"]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(deb|[a-z:/ \\[\\]#\n.=-]){0,80}") {
            let mut sources = parse_list(&text);
            sources.extend(parse_sources(&text));
            sources.extend(parse_template(&text));
            let _ = bases(&sources, "trixie");
        }
    }
}
