//! References to flakes: a source and a folder in it, as people write them.
//!
//! Looks for no file: what is a path, and what that path means, is for whoever knows the current folder.

use crate::schemes::{is_id, is_rev};
use crate::url::{Url, parse_query, percent_decode};
use crate::{Attributes, FlakeError, Input, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlakeRef {
    pub input: Input,
    /// The flake's folder in the source; empty for the source itself.
    pub subdir: String,
}

/// What a text means before anyone looked at the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    Reference { reference: FlakeRef, fragment: String },
    Path { path: String, query: std::collections::BTreeMap<String, String>, fragment: String },
}

impl Parsed {
    /// `tree`: an address without a kind means an archive and not a file.
    pub fn parse(text: &str, tree: bool) -> Result<Parsed> {
        if text.len() > crate::limits::REFERENCE_BYTES_MAX {
            return Err(FlakeError::BadUrl("the flake reference is too long".to_owned()));
        }
        if let Some((id, fragment)) = parse_id(text) {
            let url = Url::of_path("flake", id, false);
            let reference = FlakeRef { input: Input::from_parsed_url(&url, tree)?, subdir: String::new() };
            return Ok(Parsed::Reference { reference, fragment: percent_decode(fragment)? });
        }
        let parsed = Url::parse(text).and_then(|url| FlakeRef::from_url(url, tree));
        match parsed {
            Ok((reference, fragment)) => return Ok(Parsed::Reference { reference, fragment }),
            Err(FlakeError::BadUrl(_)) => {}
            Err(error) => return Err(error),
        }
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, query) = (path.to_owned(), parse_query(query)?);
        Ok(Parsed::Path { path, query, fragment: percent_decode(fragment)? })
    }
}

/// `id`, `id/ref`, `id/rev` or `id/ref/rev`, and the fragment.
fn parse_id(text: &str) -> Option<(&str, &str)> {
    let (id, fragment) = text.split_once('#').unwrap_or((text, ""));
    let is_fragment = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'\"()*+,;=:@/? ^".contains(&b);
    let is_ref = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '@')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_./@+-".contains(&b))
    };
    let right = match id.split_once('/') {
        None => is_id(id),
        Some((id, rest)) => is_id(id) && (is_rev(rest) || is_ref(rest)),
    };
    (right && fragment.bytes().all(is_fragment)).then_some((id, fragment))
}

impl FlakeRef {
    /// A reference that needs no current folder; a relative path is one only with `relative`.
    pub fn parse(text: &str, tree: bool, relative: bool) -> Result<FlakeRef> {
        let (reference, fragment) = match Parsed::parse(text, tree)? {
            Parsed::Reference { reference, fragment } => (reference, fragment),
            Parsed::Path { path, query, fragment } => {
                if !relative && !path.starts_with('/') {
                    return Err(FlakeError::BadUrl(format!(
                        "flake reference '{text}' is not an absolute path"
                    )));
                }
                FlakeRef::of_path("path", &path, query, fragment, tree)?
            }
        };
        if !fragment.is_empty() {
            return Err(FlakeError::Input(format!(
                "unexpected fragment '{fragment}' in flake reference '{text}'"
            )));
        }
        Ok(reference)
    }

    /// A path as a reference of the scheme `path` or `git+file`.
    pub fn of_path(
        scheme: &str,
        path: &str,
        query: std::collections::BTreeMap<String, String>,
        fragment: String,
        tree: bool,
    ) -> Result<(FlakeRef, String)> {
        let mut url = Url::of_path(scheme, path, path.starts_with('/'));
        url.query = query;
        url.fragment = fragment;
        FlakeRef::from_url(url, tree)
    }

    pub fn from_url(mut url: Url, tree: bool) -> Result<(FlakeRef, String)> {
        let subdir = url.query.remove("dir").unwrap_or_default();
        let fragment = std::mem::take(&mut url.fragment);
        Ok((FlakeRef { input: Input::from_parsed_url(&url, tree)?, subdir }, fragment))
    }

    pub fn from_attributes(mut attributes: Attributes) -> Result<FlakeRef> {
        let subdir = attributes.text("dir")?.unwrap_or_default().to_owned();
        attributes.remove("dir");
        Ok(FlakeRef { input: Input::from_attributes(attributes)?, subdir })
    }

    /// A name for a registry to resolve.
    pub fn indirect(id: &str) -> Result<FlakeRef> {
        FlakeRef::from_attributes(Attributes::of([("type", "indirect".into()), ("id", id.into())]))
    }

    pub fn to_attributes(&self) -> Attributes {
        let mut attributes = self.input.attributes.clone();
        if !self.subdir.is_empty() {
            attributes.set("dir", self.subdir.as_str());
        }
        attributes
    }

    pub fn to_url(&self) -> Result<String> {
        let mut url = self.input.to_url()?;
        if !self.subdir.is_empty() {
            url.query.entry("dir".to_owned()).or_insert_with(|| self.subdir.clone());
        }
        Ok(url.to_string())
    }

    /// The address, or the attributes of what has none.
    pub fn show(&self) -> String {
        self.to_url().unwrap_or_else(|_| self.to_attributes().to_string())
    }

    /// The form in which references are compared: older versions left `dir` in the address too.
    pub fn canonical(&self) -> FlakeRef {
        let mut canonical = self.clone();
        if let Some(mut url) = self.input.text("url").and_then(|text| Url::parse(text).ok()) {
            if !self.subdir.is_empty() && url.query.get("dir") == Some(&self.subdir) {
                url.query.remove("dir");
            }
            canonical.input.attributes.set("url", url.to_string());
        }
        canonical
    }
}

impl std::fmt::Display for FlakeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.show())
    }
}

/// `…^out,dev` → what stands before, and the names of outputs (`*` is all, none is the default).
pub fn split_outputs(text: &str) -> (&str, Vec<String>) {
    match text.rsplit_once('^') {
        Some((before, outputs))
            if !outputs.is_empty()
                && outputs.split(',').all(|o| {
                    o == "*"
                        || (!o.is_empty()
                            && o.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b)))
                }) =>
        {
            (before, outputs.split(',').map(str::to_owned).collect())
        }
        _ => (text, Vec::new()),
    }
}
