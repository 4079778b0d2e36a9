//! A source by its attributes: what kind it is, whether it is pinned, how it is written as an address.
//!
//! Fetches nothing; what the kinds' addresses look like is in `schemes`.

use rednix_store::hash::{Hash, HashAlgorithm};

use crate::url::Url;
use crate::{Attributes, FlakeError, Result, schemes};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Path,
    Git,
    Tarball,
    File,
    GitHub,
    GitLab,
    SourceHut,
    /// A name that a registry resolves.
    Indirect,
    /// Something another version may know: kept, but neither shown nor fetched.
    Unknown,
}

impl Kind {
    pub fn of(name: &str) -> Kind {
        match name {
            "path" => Kind::Path,
            "git" => Kind::Git,
            "tarball" => Kind::Tarball,
            "file" => Kind::File,
            "github" => Kind::GitHub,
            "gitlab" => Kind::GitLab,
            "sourcehut" => Kind::SourceHut,
            "indirect" => Kind::Indirect,
            _ => Kind::Unknown,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub attributes: Attributes,
}

impl Input {
    pub fn from_url(text: &str) -> Result<Input> {
        Input::from_parsed_url(&Url::parse(text)?, true)
    }

    /// `tree`: what is there must be a tree, so an address without a kind means an archive.
    pub fn from_parsed_url(url: &Url, tree: bool) -> Result<Input> {
        let attributes = schemes::from_url(url, tree)?;
        Input { attributes }.checked()
    }

    pub fn from_attributes(attributes: Attributes) -> Result<Input> {
        if attributes.text("type")?.is_none() {
            return Err(FlakeError::Input(
                "'type' attribute to specify input scheme is required but not provided".to_owned(),
            ));
        }
        Input { attributes: schemes::from_attributes(attributes)? }.checked()
    }

    fn checked(self) -> Result<Input> {
        self.attributes.required_text("type")?;
        self.attributes.text("ref")?;
        self.attributes.number("revCount")?;
        self.attributes.number("lastModified")?;
        self.nar_hash()?;
        self.rev()?;
        Ok(self)
    }

    pub fn kind(&self) -> Kind {
        self.attributes.text("type").ok().flatten().map_or(Kind::Unknown, Kind::of)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.text(name).ok().flatten()
    }

    pub fn reference(&self) -> Option<&str> {
        self.text("ref")
    }

    /// The commit, in hex.
    pub fn rev(&self) -> Result<Option<String>> {
        let Some(text) = self.attributes.text("rev")? else { return Ok(None) };
        let parsed = match text.split_once(':') {
            Some(_) => Hash::parse_any(text, None),
            None => {
                let algorithm = if text.len() == 64 { HashAlgorithm::Sha256 } else { HashAlgorithm::Sha1 };
                Hash::parse_any(text, Some(algorithm))
            }
        };
        let hash = parsed.map_err(|error| FlakeError::BadUrl(error.to_string()))?;
        Ok(Some(hash.to_hex()))
    }

    pub fn nar_hash(&self) -> Result<Option<Hash>> {
        let Some(text) = self.attributes.text("narHash")? else { return Ok(None) };
        if text.is_empty() {
            return Ok(Some(Hash::zero(HashAlgorithm::Sha256)));
        }
        let hash = Hash::parse_any(text, None).map_err(|error| FlakeError::Input(error.to_string()))?;
        if hash.algorithm() != HashAlgorithm::Sha256 {
            return Err(FlakeError::Input("narHash must use SHA-256".to_owned()));
        }
        Ok(Some(hash))
    }

    pub fn last_modified(&self) -> Option<u64> {
        self.attributes.number("lastModified").ok().flatten()
    }

    pub fn rev_count(&self) -> Option<u64> {
        self.attributes.number("revCount").ok().flatten()
    }

    /// The name it has in the store.
    pub fn name(&self) -> &str {
        self.text("name").unwrap_or("source")
    }

    /// Whether it stands for the same contents for ever.
    pub fn is_locked(&self) -> bool {
        let has_hash = self.attributes.has("narHash");
        let rev = self.rev().ok().flatten();
        match self.kind() {
            Kind::Path | Kind::Tarball | Kind::File => has_hash,
            Kind::Git => rev.is_some_and(|rev| rev.bytes().any(|byte| byte != b'0')),
            Kind::GitHub | Kind::GitLab | Kind::SourceHut => rev.is_some(),
            Kind::Indirect | Kind::Unknown => false,
        }
    }

    pub fn is_direct(&self) -> bool {
        self.kind() != Kind::Indirect
    }

    /// The path, where it is one below the flake that names it.
    pub fn relative_path(&self) -> Option<&str> {
        match self.kind() {
            Kind::Path => self.text("path").filter(|path| !path.starts_with('/')),
            _ => None,
        }
    }

    /// The folder on this machine that could be written to.
    pub fn folder(&self) -> Option<String> {
        match self.kind() {
            Kind::Path => self.text("path").filter(|path| path.starts_with('/')).map(str::to_owned),
            Kind::Git => {
                let url = Url::parse(self.text("url")?).ok()?;
                (url.scheme == "file").then(|| url.file_path().ok()).flatten()
            }
            _ => None,
        }
    }

    pub fn to_url(&self) -> Result<Url> {
        schemes::to_url(self)
    }

    /// The address, or the attributes of what has none.
    pub fn show(&self) -> String {
        self.to_url().map_or_else(|_| self.attributes.to_string(), |url| url.to_string())
    }

    /// Puts a branch or commit in, as registries let users do.
    pub fn with_overrides(&self, reference: Option<&str>, rev: Option<&str>) -> Result<Input> {
        let mut changed = self.clone();
        let attributes = &mut changed.attributes;
        match self.kind() {
            Kind::GitHub | Kind::GitLab | Kind::SourceHut => {
                if let (Some(reference), Some(rev)) = (reference, rev) {
                    return Err(FlakeError::BadUrl(format!(
                        "cannot apply both a commit hash ({rev}) and a branch/tag name ('{reference}') to input '{}'",
                        self.show()
                    )));
                }
                if let Some(rev) = rev {
                    attributes.set("rev", rev);
                    attributes.remove("ref");
                }
                if let Some(reference) = reference {
                    attributes.set("ref", reference);
                    attributes.remove("rev");
                }
            }
            Kind::Git | Kind::Indirect => {
                if let Some(rev) = rev {
                    attributes.set("rev", rev);
                }
                if let Some(reference) = reference {
                    attributes.set("ref", reference);
                }
                if self.kind() == Kind::Git && attributes.has("rev") && !attributes.has("ref") {
                    return Err(FlakeError::Input(format!(
                        "Git input '{}' has a commit hash but no branch/tag name",
                        changed.show()
                    )));
                }
            }
            _ if reference.is_some() => {
                return Err(FlakeError::Input(format!(
                    "don't know how to set branch/tag name of input '{}' to '{}'",
                    self.show(),
                    reference.unwrap_or_default()
                )));
            }
            _ if rev.is_some() => {
                return Err(FlakeError::Input(format!(
                    "don't know how to set revision of input '{}' to '{}'",
                    self.show(),
                    rev.unwrap_or_default()
                )));
            }
            _ => {}
        }
        Ok(changed)
    }

    /// Compares what was fetched for this with what this says it must be. What was locked as final stays as it was
    /// written; a field that differs is an error.
    pub fn check_fetched(&self, fetched: &mut Input, is_final: bool) -> Result<()> {
        let (wanted, got) = (self.nar_hash()?, fetched.nar_hash()?);
        if wanted.is_some() && wanted != got {
            return Err(FlakeError::Mismatch(format!(
                "NAR hash mismatch in input '{}', expected '{}' but got '{}'",
                self.show(),
                wanted.map_or_else(String::new, |hash| hash.to_sri()),
                got.map_or_else(|| "none".to_owned(), |hash| hash.to_sri())
            )));
        }
        if is_final {
            let mut specified = self.attributes.clone();
            if let Some(hash) = wanted {
                specified.set("narHash", hash.to_sri());
            }
            for (name, value) in &specified.0 {
                if fetched.attributes.get(name).is_some_and(|other| other != value) {
                    return Err(FlakeError::Mismatch(format!(
                        "mismatch in field '{name}' of input '{specified}', got '{}'",
                        fetched.attributes
                    )));
                }
            }
            fetched.attributes = specified;
            return Ok(());
        }
        let shown = fetched.show();
        if let Some(wanted) = self.last_modified()
            && fetched.last_modified() != Some(wanted)
        {
            let got = fetched.last_modified().map_or(-1, |time| time as i64);
            return Err(FlakeError::Mismatch(format!(
                "'lastModified' attribute mismatch in input '{shown}', expected {wanted}, got {got}"
            )));
        }
        if let Some(wanted) = self.rev()?
            && fetched.rev()?.as_ref() != Some(&wanted)
        {
            return Err(FlakeError::Mismatch(format!(
                "'rev' attribute mismatch in input '{shown}', expected {wanted}"
            )));
        }
        if let Some(wanted) = self.rev_count()
            && fetched.rev_count() != Some(wanted)
        {
            return Err(FlakeError::Mismatch(format!(
                "'revCount' attribute mismatch in input '{shown}', expected {wanted}"
            )));
        }
        Ok(())
    }
}
