//! C++ Nix's `nix.conf`: the keys that mean something here, from the machine's file and the user's.
//!
//! Knows no key's meaning; unknown ones are passed over, as a file for another program has many.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files that include one another.
const INCLUDES_MAX: usize = 32;

/// Keys and values; of two files that say the same key, the later counts, but for `extra-KEY`, which adds.
#[derive(Debug, Default)]
pub struct NixConf {
    values: BTreeMap<String, String>,
    /// What could not be understood, for the user.
    pub warnings: Vec<String>,
}

impl NixConf {
    pub fn read(files: &[PathBuf]) -> NixConf {
        let mut conf = NixConf::default();
        for file in files {
            conf.file(file, false, 0);
        }
        conf
    }

    fn file(&mut self, file: &Path, required: bool, depth: usize) {
        match std::fs::read_to_string(file) {
            Ok(text) => self.text(&text, file.parent().unwrap_or(Path::new("/")), depth),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {}
            Err(error) => self.warnings.push(format!("cannot read `{}`: {error}", file.display())),
        }
    }

    fn text(&mut self, text: &str, folder: &Path, depth: usize) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [include @ ("include" | "!include"), file] if depth < INCLUDES_MAX => {
                    self.file(&folder.join(file), *include == "include", depth + 1);
                }
                [key, "=", values @ ..] => self.set(key, &values.join(" ")),
                _ => self.warnings.push(format!("a line of nix.conf says nothing: `{}`", line.trim())),
            }
        }
    }

    fn set(&mut self, key: &str, value: &str) {
        match key.strip_prefix("extra-") {
            None => drop(self.values.insert(key.to_owned(), value.to_owned())),
            Some(key) => {
                let list = self.values.entry(key.to_owned()).or_default();
                if !list.is_empty() {
                    list.push(' ');
                }
                list.push_str(value);
            }
        }
    }

    /// A number; `auto` is none.
    pub fn number(&self, key: &str) -> Option<usize> {
        self.values.get(key)?.parse().ok()
    }

    /// The words of a list; `None` where no file has the key.
    pub fn words(&self, key: &str) -> Option<Vec<String>> {
        Some(self.values.get(key)?.split_whitespace().map(str::to_owned).collect())
    }

    /// Words `name=value`.
    pub fn pairs(&self, key: &str) -> Vec<(String, String)> {
        let words = self.values.get(key).map_or("", String::as_str).split_whitespace();
        words.filter_map(|word| word.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_and_includes() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        file("tokens", "extra-access-tokens = git.example=PAT:b\n");
        let machine =
            file("machine", "# of all\nmax-jobs = 3\ncores = 2 # each\naccess-tokens = github.com=a\n");
        let user = file("user", "max-jobs = auto\ninclude tokens\n!include nothing\nnonsense\n");
        let conf = NixConf::read(&[machine, user, folder.path().join("absent")]);
        assert_eq!((conf.number("max-jobs"), conf.number("cores")), (None, Some(2)));
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(conf.pairs("access-tokens"), [pair("github.com", "a"), pair("git.example", "PAT:b")]);
        assert_eq!(conf.warnings, ["a line of nix.conf says nothing: `nonsense`"]);
        let looped = file("looped", "include looped\ncores = 7\n");
        assert_eq!(NixConf::read(&[looped]).number("cores"), Some(7));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,80}") {
            NixConf::default().text(&text.replace("include", ""), Path::new("/nonexistent"), 0);
        }
    }
}
