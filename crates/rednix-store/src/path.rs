//! Store paths: their grammar and how they follow from contents, derivations and names.
//! Never touches the file system: a path here may or may not be in any store.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::hash::{Hash, HashAlgorithm};
use crate::limits::NAME_BYTES_MAX;
use crate::nix32;

/// Where every store seems to be, whatever folder it is really kept in: part of every path's hash.
pub const STORE_DIR: &str = "/nix/store";

/// Characters of a hash part.
pub const HASH_PART_LEN: usize = 32;

/// A hash part and a name; cheap to clone. Ordered by the bytes of `<hash>-<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath {
    basename: Arc<str>,
}

/// Hashing for maps by store path: a path begins with a hash, so its first bytes are as good as any.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathHashing;

/// See [`PathHashing`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PathHasher(u64);

impl std::hash::BuildHasher for PathHashing {
    type Hasher = PathHasher;

    fn build_hasher(&self) -> PathHasher {
        PathHasher(0)
    }
}

impl std::hash::Hasher for PathHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8).take(2) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            // Five of eight bits of each character tell something: multiplying spreads them.
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl StorePath {
    /// Reads `/nix/store/<hash>-<name>`, nothing before, nothing after.
    pub fn parse(full: &str) -> Result<StorePath> {
        let basename = full
            .strip_prefix(STORE_DIR)
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| bad_path(full, format!("it is not below `{STORE_DIR}/`")))?;
        StorePath::from_basename(basename).map_err(|error| match error {
            Error::BadPath { reason, .. } => bad_path(full, reason),
            other => other,
        })
    }

    /// Reads `<hash>-<name>`.
    pub fn from_basename(basename: &str) -> Result<StorePath> {
        let bytes = basename.as_bytes();
        if bytes.len() <= HASH_PART_LEN || bytes[HASH_PART_LEN] != b'-' {
            return Err(bad_path(basename, "it is not 32 digits, a dash and a name"));
        }
        if let Some(foreign) = bytes[..HASH_PART_LEN].iter().find(|byte| !nix32::is_digit(**byte)) {
            return Err(bad_path(basename, format!("`{}` is no digit of nix32", foreign.escape_ascii())));
        }
        if let Some(reason) = name_fault(&basename[HASH_PART_LEN + 1..]) {
            return Err(bad_path(basename, reason));
        }
        Ok(StorePath { basename: basename.into() })
    }

    /// The store path that `full` is or lies in, and the rest of `full` (empty, or beginning with `/`).
    pub fn split(full: &str) -> Result<(StorePath, &str)> {
        let start = STORE_DIR.len() + 1;
        let end = full.get(start..).and_then(|rest| rest.find('/')).map_or(full.len(), |index| start + index);
        Ok((StorePath::parse(&full[..end])?, &full[end..]))
    }

    /// Puts together a path from the 20 bytes of its hash part and a name.
    pub fn from_parts(hash_part: &[u8; 20], name: &str) -> Result<StorePath> {
        check_name(name)?;
        Ok(StorePath { basename: format!("{}-{name}", nix32::encode(hash_part)).into() })
    }

    /// `<hash>-<name>`.
    pub fn basename(&self) -> &str {
        &self.basename
    }

    pub fn name(&self) -> &str {
        &self.basename[HASH_PART_LEN + 1..]
    }

    /// The 32 digits.
    pub fn hash_part(&self) -> &str {
        &self.basename[..HASH_PART_LEN]
    }

    /// The 32 digits as they are searched for in files.
    pub fn hash_part_bytes(&self) -> [u8; HASH_PART_LEN] {
        self.basename.as_bytes()[..HASH_PART_LEN].try_into().expect("a store path begins with 32 digits")
    }

    pub fn is_derivation(&self) -> bool {
        self.name().ends_with(".drv")
    }
}

/// The full path, `/nix/store/<hash>-<name>`.
impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE_DIR}/{}", self.basename)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StorePath {
    type Err = Error;

    fn from_str(full: &str) -> Result<Self> {
        StorePath::parse(full)
    }
}

/// Lets maps keyed by store path be asked by basename.
impl Borrow<str> for StorePath {
    fn borrow(&self) -> &str {
        &self.basename
    }
}

fn bad_path(text: &str, reason: impl Into<String>) -> Error {
    Error::BadPath { text: text.to_owned(), reason: reason.into() }
}

/// Whether `name` can be the name of a store path, with the reason where not.
pub fn check_name(name: &str) -> Result<()> {
    match name_fault(name) {
        Some(reason) => Err(Error::BadName { name: name.to_owned(), reason }),
        None => Ok(()),
    }
}

fn name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the name is empty".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!("the name has {} characters, and {NAME_BYTES_MAX} are the most", name.len()));
    }
    if name == "." || name == ".." || name.starts_with(".-") || name.starts_with("..-") {
        return Some("the name is `.` or `..`, or begins with one of them and a dash".to_owned());
    }
    let fine = |c: &char| c.is_ascii_alphanumeric() || "+-._?=".contains(*c);
    let foreign = name.chars().find(|c| !fine(c))?;
    Some(format!("the name contains `{}`; letters, digits and `+-._?=` are allowed", foreign.escape_debug()))
}

/// How contents are turned into the bytes that are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentMethod {
    /// The bytes of one file that is not executable.
    Flat,
    /// The NAR of the tree (`r:`).
    Recursive,
    /// The bytes of one file that may have references (`text:`).
    Text,
    /// Git's object hash of the tree (`git:`).
    Git,
}

impl ContentMethod {
    /// What stands before the algorithm in a derivation's output.
    pub const fn prefix(self) -> &'static str {
        match self {
            ContentMethod::Flat => "",
            ContentMethod::Recursive => "r:",
            ContentMethod::Text => "text:",
            ContentMethod::Git => "git:",
        }
    }

    /// Splits `r:sha256` into method and algorithm.
    pub fn parse_with_algorithm(text: &str) -> Result<(ContentMethod, HashAlgorithm)> {
        let (method, rest) =
            [ContentMethod::Recursive, ContentMethod::Text, ContentMethod::Git, ContentMethod::Flat]
                .into_iter()
                .find_map(|method| Some((method, text.strip_prefix(method.prefix())?)))
                .expect("the flat method's prefix is empty");
        Ok((method, rest.parse()?))
    }

    /// Reads `outputHashMode`.
    pub fn from_mode(mode: &str) -> Option<ContentMethod> {
        match mode {
            "flat" => Some(ContentMethod::Flat),
            "recursive" | "nar" => Some(ContentMethod::Recursive),
            "text" => Some(ContentMethod::Text),
            "git" => Some(ContentMethod::Git),
            _ => None,
        }
    }
}

/// The database's and narinfo's `ca` field.
pub fn content_address(method: ContentMethod, hash: &Hash) -> String {
    match method {
        ContentMethod::Text => format!("text:{hash}"),
        _ => format!("fixed:{}{hash}", method.prefix()),
    }
}

/// Reads a `ca` field.
pub fn parse_content_address(text: &str) -> Result<(ContentMethod, Hash)> {
    let bad = || Error::BadHash { text: text.to_owned(), reason: "it is not a content address".to_owned() };
    if let Some(rest) = text.strip_prefix("text:") {
        return Ok((ContentMethod::Text, Hash::parse_any(rest, None)?));
    }
    let rest = text.strip_prefix("fixed:").ok_or_else(bad)?;
    for method in [ContentMethod::Recursive, ContentMethod::Git] {
        if let Some(rest) = rest.strip_prefix(method.prefix()) {
            return Ok((method, Hash::parse_any(rest, None)?));
        }
    }
    Ok((ContentMethod::Flat, Hash::parse_any(rest, None)?))
}

/// Every store path comes from here: type, inner hash and name, hashed and folded to 160 bits.
fn make(kind: &str, hash: &Hash, name: &str) -> Result<StorePath> {
    check_name(name)?;
    let text = format!("{kind}:{}:{STORE_DIR}:{name}", hash.to_prefixed_hex());
    StorePath::from_parts(&Hash::sha256(text.as_bytes()).fold160(), name)
}

/// `text` or `source`, followed by what the path refers to.
fn with_references<'a>(
    kind: &str,
    references: impl IntoIterator<Item = &'a StorePath>,
    self_reference: bool,
) -> String {
    let mut text = kind.to_owned();
    for reference in references {
        text.push(':');
        text.push_str(STORE_DIR);
        text.push('/');
        text.push_str(reference.basename());
    }
    if self_reference {
        text.push_str(":self");
    }
    text
}

/// The path of a text file (`builtins.toFile`, `.drv` files) with this SHA-256 and these references.
pub fn text_path(name: &str, hash: &Hash, references: &BTreeSet<StorePath>) -> Result<StorePath> {
    if hash.algorithm() != HashAlgorithm::Sha256 {
        return Err(bad_address(name, format!("text files are named by SHA-256, not {}", hash.algorithm())));
    }
    make(&with_references("text", references, false), hash, name)
}

/// The path of contents known by their hash: fixed outputs, sources, content-addressed outputs.
pub fn fixed_output_path(
    method: ContentMethod,
    hash: &Hash,
    name: &str,
    references: &BTreeSet<StorePath>,
    self_reference: bool,
) -> Result<StorePath> {
    let algorithm = hash.algorithm();
    match (method, algorithm) {
        (ContentMethod::Recursive, HashAlgorithm::Sha256) => {
            return make(&with_references("source", references, self_reference), hash, name);
        }
        (ContentMethod::Text, _) if self_reference => {
            return Err(bad_address(name, "a text file cannot refer to itself"));
        }
        (ContentMethod::Text, _) => return text_path(name, hash, references),
        (ContentMethod::Git, HashAlgorithm::Sha1 | HashAlgorithm::Sha256) => {}
        (ContentMethod::Git, _) => {
            return Err(bad_address(
                name,
                format!("git trees are named by SHA-1 or SHA-256, not {algorithm}"),
            ));
        }
        _ => {}
    }
    if self_reference || !references.is_empty() {
        let reason = "only contents hashed as `r:sha256` or `text:sha256` can have references";
        return Err(bad_address(name, reason));
    }
    make("output:out", &fixed_output_digest(method, hash, ""), name)
}

/// SHA-256 of `fixed:out:<method><algorithm>:<hex>:<path>`: names a fixed output (with an empty path), and
/// stands for its derivation when others are hashed (with the full path).
pub fn fixed_output_digest(method: ContentMethod, hash: &Hash, path: &str) -> Hash {
    let text = format!("fixed:out:{}{}:{path}", method.prefix(), hash.to_prefixed_hex());
    Hash::sha256(text.as_bytes())
}

/// The path of an input-addressed derivation's output; `name` is already the output's own name, see
/// [`output_name`].
pub fn output_path(output: &str, hash: &Hash, name: &str) -> Result<StorePath> {
    make(&format!("output:{output}"), hash, name)
}

/// The name of an output's path: the derivation's for `out`, else `<name>-<output>`.
pub fn output_name(derivation_name: &str, output: &str) -> String {
    if output == "out" { derivation_name.to_owned() } else { format!("{derivation_name}-{output}") }
}

/// A path that cannot be anything else's, for contents whose own path is not yet known.
pub fn scratch_path(kind: &str, seed: &Hash, name: &str) -> Result<StorePath> {
    make(kind, seed, name)
}

fn bad_address(name: &str, reason: impl Into<String>) -> Error {
    Error::BadContentAddress { name: name.to_owned(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH_PART: &str = "0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn";

    #[test]
    fn parts_of_a_path() {
        let full = format!("{STORE_DIR}/{HASH_PART}-hello-1.0.drv");
        let path = StorePath::parse(&full).unwrap();
        assert_eq!(path.to_string(), full);
        assert_eq!(path.hash_part(), HASH_PART);
        assert_eq!(path.name(), "hello-1.0.drv");
        assert!(path.is_derivation());
        let inside = format!("{full}/bin/x");
        let (split, rest) = StorePath::split(&inside).unwrap();
        assert_eq!((split, rest), (path.clone(), "/bin/x"));
        assert_eq!(StorePath::split(&full).unwrap(), (path, ""));
    }

    #[test]
    fn refused_paths() {
        for text in [
            "",
            "/nix/store",
            "/nix/store/",
            "/nix/storE/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-x",
            "/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn",
            "/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-",
            "/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcnx",
            "/nix/store/edzsnvb6wnk8fc2gwhllh91jlhbhkmcn-x",
            "/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-x/",
            "/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-.",
            "/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-a b",
            "/nix/store/ééééééééééééééééx-x",
            "/nix/store/../store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-x",
            "0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-x",
        ] {
            assert!(StorePath::parse(text).is_err(), "{text}");
            assert!(StorePath::split(text).is_err() || text.ends_with('/'), "{text}");
        }
    }

    #[test]
    fn names() {
        let long = "a".repeat(NAME_BYTES_MAX);
        for name in ["a", ".a", "..a", "...", "a-b+c.d_e?f=g", "-", ".-"[..1].repeat(3).as_str(), &long] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let longer = "a".repeat(NAME_BYTES_MAX + 1);
        for name in ["", ".", "..", ".-a", "..-a", "a/b", "a b", "é", "a\0", "a\n", &longer] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn content_addresses_read_back() {
        let sha1 = Hash::of(HashAlgorithm::Sha1, b"x");
        for (method, hash) in [
            (ContentMethod::Flat, Hash::sha256(b"x")),
            (ContentMethod::Recursive, Hash::sha256(b"x")),
            (ContentMethod::Text, Hash::sha256(b"x")),
            (ContentMethod::Git, sha1),
        ] {
            let text = content_address(method, &hash);
            assert_eq!(parse_content_address(&text).unwrap(), (method, hash), "{text}");
        }
        assert!(parse_content_address("fixed:").is_err());
        assert!(parse_content_address("r:sha256:00").is_err());
    }

    #[test]
    fn addresses_that_do_not_exist() {
        let (sha1, sha256) = (Hash::of(HashAlgorithm::Sha1, b""), Hash::sha256(b""));
        let md5 = Hash::of(HashAlgorithm::Md5, b"");
        let none = BTreeSet::new();
        let one = BTreeSet::from([fixed_output_path(ContentMethod::Flat, &sha1, "x", &none, false).unwrap()]);
        assert!(fixed_output_path(ContentMethod::Text, &sha1, "x", &none, false).is_err());
        assert!(fixed_output_path(ContentMethod::Text, &sha256, "x", &none, true).is_err());
        assert!(fixed_output_path(ContentMethod::Git, &md5, "x", &none, false).is_err());
        assert!(fixed_output_path(ContentMethod::Flat, &sha256, "x", &one, false).is_err());
        assert!(fixed_output_path(ContentMethod::Recursive, &sha1, "x", &none, true).is_err());
        assert!(fixed_output_path(ContentMethod::Recursive, &sha256, "x", &one, true).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(/nix/store/)?[0-9a-z]{28,36}[-/]?\\PC{0,20}") {
            if let Ok(path) = StorePath::parse(&text) {
                prop_assert_eq!(path.to_string(), text.clone());
            }
            let _ = StorePath::from_basename(&text);
            let _ = StorePath::split(&text);
        }

        #[test]
        fn any_content_address_is_read_or_refused(text in "(text:|fixed:)?(r:|git:)?(sha256:|md5:)?[0-9a-z]{0,60}") {
            if let Ok((method, hash)) = parse_content_address(&text) {
                prop_assert_eq!(parse_content_address(&content_address(method, &hash)).unwrap(), (method, hash));
            }
            let _ = ContentMethod::parse_with_algorithm(&text);
        }

        #[test]
        fn order_is_the_basenames(a in "[0-9a-d]{32}-[a-z.]{1,5}", b in "[0-9a-d]{32}-[a-z.]{1,5}") {
            if let (Ok(x), Ok(y)) = (StorePath::from_basename(&a), StorePath::from_basename(&b)) {
                prop_assert_eq!(x.cmp(&y), a.as_bytes().cmp(b.as_bytes()));
            }
        }
    }
}
