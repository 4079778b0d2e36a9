//! A suite's index files: `Release` (which files a suite has, by hash) and `Packages` (which packages, by hash).
//!
//! Parses text and finds packages by name or by what they provide; chooses nothing and fetches nothing.

use std::collections::{BTreeMap, HashMap};

use super::control::{BadLine, Paragraph, Paragraphs};
use super::relation::{self, Relation};
use super::version;
use crate::limits;

/// What makes an index unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("{file}: {error}")]
    Line { file: String, error: BadLine },
    #[error("{file}: package `{package}` {problem}")]
    Package { file: String, package: String, problem: String },
    #[error("{file}: {problem}")]
    File { file: String, problem: String },
}

/// One file a `Release` vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseFile {
    /// Hexadecimal, lower case.
    pub sha256: String,
    pub size_bytes: u64,
}

/// The parts of a `Release` that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    pub codename: String,
    pub suite: String,
    pub date: String,
    /// Whether files can be asked for by their hash, which an index changing meanwhile does not disturb.
    pub by_hash: bool,
    pub files: BTreeMap<String, ReleaseFile>,
}

/// The text inside a clear-signed message (RFC 9580, section 7), or the whole text when it is not signed.
pub fn signed_text(message: &str) -> String {
    let mut lines = message.lines().skip_while(|line| *line != "-----BEGIN PGP SIGNED MESSAGE-----");
    if lines.next().is_none() {
        return message.to_owned();
    }
    let mut text = String::with_capacity(message.len());
    for line in lines.skip_while(|line| !line.is_empty()).skip(1) {
        if line == "-----BEGIN PGP SIGNATURE-----" {
            break;
        }
        text.push_str(line.strip_prefix("- ").unwrap_or(line));
        text.push('\n');
    }
    text
}

/// Whether this is 64 hexadecimal digits in lower case.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a path from an index stays below the place it is appended to.
pub fn is_plain_path(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\')
}

impl Release {
    /// `file` names the text in errors. The text must be unwrapped from its signature already.
    pub fn parse(file: &str, text: &str) -> Result<Release, IndexError> {
        let problem = |problem: &str| IndexError::File { file: file.to_owned(), problem: problem.to_owned() };
        let paragraph = Paragraphs::new(text)
            .next()
            .ok_or_else(|| problem("is empty"))?
            .map_err(|error| IndexError::Line { file: file.to_owned(), error })?;
        let mut files = BTreeMap::new();
        for line in paragraph.lines("SHA256") {
            let mut words = line.split_whitespace();
            let (sha256, size, path) = (words.next(), words.next(), words.next());
            match (sha256, size.and_then(|size| size.parse().ok()), path) {
                (Some(sha256), Some(size_bytes), Some(path)) if is_sha256(sha256) && is_plain_path(path) => {
                    files.insert(path.to_owned(), ReleaseFile { sha256: sha256.to_owned(), size_bytes });
                }
                _ => return Err(problem(&format!("lists no hash, size and path in `{line}`"))),
            }
        }
        if files.is_empty() {
            return Err(problem("has no `SHA256` list"));
        }
        let field = |name| paragraph.get(name).unwrap_or_default().to_owned();
        Ok(Release {
            codename: field("Codename"),
            suite: field("Suite"),
            date: field("Date"),
            by_hash: paragraph.get("Acquire-By-Hash") == Some("yes"),
            files,
        })
    }
}

/// One package of one suite; borrows from the index's text.
#[derive(Clone, Debug)]
pub struct Package<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub architecture: &'a str,
    /// Position of the suite in the order of preference.
    pub suite: usize,
    /// Below the mirror's base.
    pub path: &'a str,
    pub size_bytes: u64,
    pub sha256: &'a str,
    pub installed_bytes: u64,
    pub priority: &'a str,
    pub depends: [&'a str; 2],
    pub provides: &'a str,
    pub conflicts: [&'a str; 2],
}

impl<'a> Package<'a> {
    fn read(paragraph: &Paragraph<'a>, suite: usize) -> Result<Self, String> {
        let field = |name: &str| paragraph.get(name).unwrap_or_default();
        let required = |name: &str| match paragraph.get(name) {
            Some(value) if !value.is_empty() => Ok(value),
            _ => Err(format!("has no `{name}`")),
        };
        let package = Package {
            name: required("Package")?,
            version: required("Version")?,
            architecture: field("Architecture"),
            suite,
            path: required("Filename")?,
            size_bytes: required("Size")?.parse().map_err(|_| "has a `Size` that is no number".to_owned())?,
            sha256: required("SHA256")?,
            installed_bytes: field("Installed-Size").parse::<u64>().unwrap_or(0).saturating_mul(1024),
            priority: field("Priority"),
            depends: [field("Pre-Depends"), field("Depends")],
            provides: field("Provides"),
            conflicts: [field("Conflicts"), field("Breaks")],
        };
        if !is_sha256(package.sha256) {
            return Err("has a `SHA256` that is no hash".to_owned());
        }
        if !is_plain_path(package.path) {
            return Err(format!("has a `Filename` that leaves the mirror: `{}`", package.path));
        }
        Ok(package)
    }

    /// The relations of `Pre-Depends` and `Depends`, or `Conflicts` and `Breaks`.
    pub fn relations(
        fields: &[&'a str; 2],
    ) -> Result<Vec<relation::Alternatives<'a>>, relation::BadRelation> {
        let mut groups = relation::parse(fields[0])?;
        groups.extend(relation::parse(fields[1])?);
        Ok(groups)
    }

    /// Standing by `Priority`, smaller is more basic: it breaks ties between providers of a virtual package.
    pub fn rank(&self) -> usize {
        ["required", "important", "standard", "optional"]
            .iter()
            .position(|name| *name == self.priority)
            .unwrap_or(4)
    }
}

/// The text of one `Packages` file and where it came from.
#[derive(Clone, Debug)]
pub struct IndexText {
    /// For errors: suite and path.
    pub file: String,
    /// Position of the suite in the order of preference.
    pub suite: usize,
    pub text: String,
}

/// All packages of all suites in one order of preference.
#[derive(Debug, Default)]
pub struct Universe<'a> {
    pub packages: Vec<Package<'a>>,
    by_name: HashMap<&'a str, Vec<usize>>,
    providers: HashMap<&'a str, Vec<(usize, Option<&'a str>)>>,
}

impl<'a> Universe<'a> {
    /// Reads the indexes, keeping packages of `architecture` and of all architectures.
    pub fn read(indexes: &'a [IndexText], architecture: &str) -> Result<Universe<'a>, IndexError> {
        let mut universe = Universe::default();
        for index in indexes {
            for paragraph in Paragraphs::new(&index.text) {
                let paragraph =
                    paragraph.map_err(|error| IndexError::Line { file: index.file.clone(), error })?;
                let wrong = |problem| IndexError::Package {
                    file: index.file.clone(),
                    package: paragraph.get("Package").unwrap_or("?").to_owned(),
                    problem,
                };
                let package = Package::read(&paragraph, index.suite).map_err(wrong)?;
                if package.architecture == architecture || package.architecture == "all" {
                    universe.packages.push(package);
                }
                if universe.packages.len() > limits::PACKAGES_MAX {
                    let problem = format!("lists more than {} packages", limits::PACKAGES_MAX);
                    return Err(IndexError::File { file: index.file.clone(), problem });
                }
            }
        }
        universe.link();
        Ok(universe)
    }

    fn link(&mut self) {
        // Preference: earlier suite, then newer version; the index's own order decides nothing.
        self.packages.sort_by(|a, b| {
            (a.suite.cmp(&b.suite))
                .then_with(|| a.name.cmp(b.name))
                .then_with(|| version::compare(b.version, a.version))
                .then_with(|| a.sha256.cmp(b.sha256))
        });
        for (position, package) in self.packages.iter().enumerate() {
            self.by_name.entry(package.name).or_default().push(position);
            // A `Provides` that cannot be read provides nothing; nobody depends on it by accident.
            for relation in relation::parse(package.provides).unwrap_or_default().into_iter().flatten() {
                let version = relation.constraint.map(|(_, version)| version);
                self.providers.entry(relation.name).or_default().push((position, version));
            }
        }
    }

    /// The packages of this name, best first.
    pub fn named(&self, name: &str) -> &[usize] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The packages providing this name, with the version they provide it in.
    pub fn providing(&self, name: &str) -> &[(usize, Option<&'a str>)] {
        self.providers.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether this package is what the relation asks for, by name or by `Provides`.
    pub fn satisfies(&self, package: usize, relation: &Relation) -> bool {
        let this = &self.packages[package];
        if relation
            .architecture
            .is_some_and(|word| word != "any" && word != "all" && word != this.architecture)
        {
            return false;
        }
        (this.name == relation.name && relation.accepts(this.version))
            || self
                .providing(relation.name)
                .iter()
                .any(|(provider, version)| *provider == package && relation.accepts_provided(*version))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub fn hash(seed: &str) -> String {
        format!("{:0>64}", seed)
    }

    #[test]
    fn release_and_signature() {
        let body = format!(
            "Suite: stable\nCodename: trixie\nDate: Sat, 01 Jan 2026 00:00:00 UTC\nAcquire-By-Hash: yes\nSHA256:\n {} 12 main/binary-amd64/Packages.xz\n",
            hash("a")
        );
        let signed = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{body}- -x: y\n-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"
        );
        let text = signed_text(&signed);
        assert_eq!(text, format!("{body}-x: y\n"));
        assert_eq!(signed_text(&body), body);
        let release = Release::parse("InRelease", &body).unwrap();
        assert_eq!((release.codename.as_str(), release.by_hash), ("trixie", true));
        assert_eq!(release.files["main/binary-amd64/Packages.xz"].size_bytes, 12);
        for wrong in ["", "Suite: x\n", "SHA256:\n zz 1 x\n", &format!("SHA256:\n {} 1 ../x\n", hash("a"))] {
            assert!(Release::parse("InRelease", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_packages_are_named() {
        let good = format!(
            "Package: a\nVersion: 1\nArchitecture: all\nFilename: pool/a.deb\nSize: 1\nSHA256: {}\n",
            hash("1")
        );
        let cases = [
            (good.replace("Size: 1", "Size: big"), "`Size`"),
            (good.replace("pool/", "../"), "leaves the mirror"),
            (good.replace(&hash("1"), "xyz"), "`SHA256`"),
            (good.replace("Version: 1\n", ""), "no `Version`"),
        ];
        for (text, expected) in cases {
            let texts = [IndexText { file: "trixie".into(), suite: 0, text }];
            let error = Universe::read(&texts, "amd64").unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("package `a`"), "{error}");
        }
        let texts = [IndexText { file: "trixie".into(), suite: 0, text: good }];
        assert_eq!(Universe::read(&texts, "amd64").unwrap().named("a").len(), 1);
    }

    proptest! {
        #[test]
        fn damaged_indexes_never_panic(text in "(Package: [a-c]\n|Version: [0-9.]{1,3}\n|Filename: [a./]{1,4}\n|Size: [0-9x]\n|Provides: [a-c (=1),]{0,6}\n|\n|[ -~]{0,9}\n){0,20}") {
            let texts = [IndexText { file: "x".into(), suite: 0, text: text.clone() }];
            let _ = Universe::read(&texts, "amd64");
            let _ = Release::parse("x", &text);
            let _ = signed_text(&text);
        }
    }
}
