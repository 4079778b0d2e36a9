//! How each kind of source is written: as an address and as attributes.

use crate::url::{Url, application, transport};
use crate::{Attribute, Attributes, FlakeError, Input, Kind, Result};

const GIT: &[&str] = &[
    "allRefs",
    "dirtyRev",
    "dirtyShortRev",
    "exportIgnore",
    "keytype",
    "lastModified",
    "lfs",
    "name",
    "narHash",
    "publicKey",
    "publicKeys",
    "ref",
    "rev",
    "revCount",
    "shallow",
    "submodules",
    "url",
    "verifyCommit",
];
const GIT_FLAGS: &[&str] = &["shallow", "submodules", "lfs", "exportIgnore", "allRefs", "verifyCommit"];
const FILE: &[&str] = &["lastModified", "name", "narHash", "rev", "revCount", "unpack", "url"];
const FORGE: &[&str] = &["host", "lastModified", "narHash", "owner", "ref", "repo", "rev", "treeHash"];
const PATH: &[&str] = &["lastModified", "narHash", "path", "rev", "revCount"];
const INDIRECT: &[&str] = &["id", "narHash", "ref", "rev"];

const ARCHIVES: [&str; 7] = [".zip", ".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst"];

fn allowed(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Git => GIT,
        Kind::Tarball | Kind::File => FILE,
        Kind::GitHub | Kind::GitLab | Kind::SourceHut => FORGE,
        Kind::Path => PATH,
        Kind::Indirect => INDIRECT,
        Kind::Unknown => &[],
    }
}

fn bad(message: String) -> FlakeError {
    FlakeError::BadUrl(message)
}

/// What a repository's address may begin with. Whatever else git could fetch, C++ Nix takes these.
const GIT_SCHEMES: [&str; 5] = ["git", "git+http", "git+https", "git+ssh", "git+file"];

pub fn from_url(url: &Url, tree: bool) -> Result<Attributes> {
    let scheme = url.scheme.as_str();
    match scheme {
        "path" => return path_from_url(url),
        "github" | "gitlab" | "sourcehut" => return forge_from_url(url),
        "flake" => return indirect_from_url(url),
        _ => {}
    }
    if GIT_SCHEMES.contains(&scheme) {
        return git_from_url(url);
    }
    if let Some(kind) = file_kind(url, tree) {
        return Ok(file_from_url(url, kind));
    }
    if scheme == "file+git" {
        return Err(FlakeError::Input(format!(
            "input '{url}' is unsupported; did you mean 'git+file' instead of 'file+git'?"
        )));
    }
    if application(scheme) == Some("hg") {
        return Err(mercurial());
    }
    Err(FlakeError::Input(format!("input '{url}' is unsupported")))
}

fn mercurial() -> FlakeError {
    FlakeError::Input(
        "Mercurial repositories are not supported\n\nhint: use a Git mirror of it, or an archive of the revision"
            .to_owned(),
    )
}

pub fn from_attributes(mut attributes: Attributes) -> Result<Attributes> {
    let name = attributes.required_text("type")?.to_owned();
    let kind = Kind::of(&name);
    match kind {
        Kind::Unknown if name == "hg" => return Err(mercurial()),
        Kind::Unknown => return Ok(attributes),
        _ => {}
    }
    for attribute in attributes.0.keys() {
        if attribute != "type" && !allowed(kind).contains(&attribute.as_str()) {
            return Err(FlakeError::Input(format!(
                "input attribute '{attribute}' not supported by scheme '{name}'"
            )));
        }
    }
    match kind {
        Kind::Git => check_git(&mut attributes)?,
        Kind::GitHub | Kind::GitLab | Kind::SourceHut => check_forge(&attributes)?,
        Kind::Path => {
            attributes.required_text("path")?;
        }
        Kind::Indirect => check_id(attributes.required_text("id")?)?,
        Kind::Tarball | Kind::File => {
            attributes.required_text("url")?;
        }
        Kind::Unknown => {}
    }
    Ok(attributes)
}

pub fn to_url(input: &Input) -> Result<Url> {
    let attributes = &input.attributes;
    let mut url = match input.kind() {
        Kind::Unknown => {
            return Err(FlakeError::Input(format!("cannot show unsupported input '{attributes}'")));
        }
        Kind::Path => {
            let mut url = Url::of_path("path", attributes.required_text("path")?, false);
            for (name, value) in &attributes.0 {
                let value = match value {
                    Attribute::Text(text) => text.clone(),
                    Attribute::Number(number) => number.to_string(),
                    Attribute::Flag(flag) => u8::from(*flag).to_string(),
                };
                if name != "path" && name != "type" {
                    url.query.insert(name.clone(), value);
                }
            }
            return Ok(url);
        }
        Kind::Git => return git_to_url(input),
        Kind::Tarball | Kind::File => Url::parse(attributes.required_text("url")?)?,
        Kind::Indirect => Url::of_path("flake", attributes.required_text("id")?, false),
        Kind::GitHub | Kind::GitLab | Kind::SourceHut => {
            let mut url = Url { scheme: attributes.required_text("type")?.to_owned(), ..Url::default() };
            url.path.push(attributes.required_text("owner")?.to_owned());
            url.path.push(attributes.required_text("repo")?.to_owned());
            if let Some(host) = input.text("host") {
                url.query.insert("host".to_owned(), host.to_owned());
            }
            url
        }
    };
    if matches!(input.kind(), Kind::Indirect | Kind::GitHub | Kind::GitLab | Kind::SourceHut) {
        url.path.extend(input.reference().map(str::to_owned));
        url.path.extend(input.rev()?);
    }
    if let (Some(hash), true) = (input.nar_hash()?, input.is_direct()) {
        url.query.insert("narHash".to_owned(), hash.to_sri());
    }
    Ok(url)
}

fn path_from_url(url: &Url) -> Result<Attributes> {
    if let Some(authority) = &url.authority
        && !authority.host.is_empty()
    {
        return Err(FlakeError::Input(format!(
            "path URL '{url}' should not have an authority ('{authority}')"
        )));
    }
    let mut attributes = Attributes::of([("type", "path".into()), ("path", url.file_path()?.into())]);
    for (name, value) in &url.query {
        match name.as_str() {
            "rev" | "narHash" => attributes.set(name, value.as_str()),
            "revCount" | "lastModified" => {
                let number: u64 = value.parse().map_err(|_| {
                    FlakeError::Input(format!("path URL '{url}' has invalid parameter '{name}'"))
                })?;
                attributes.set(name, number);
            }
            _ => {
                return Err(FlakeError::Input(format!(
                    "path URL '{url}' has unsupported parameter '{name}'"
                )));
            }
        }
    }
    Ok(attributes)
}

fn git_from_url(url: &Url) -> Result<Attributes> {
    let mut plain = url.clone();
    plain.query.clear();
    let mut attributes = Attributes::of([("type", "git".into())]);
    for (name, value) in &url.query {
        match name.as_str() {
            "rev" | "ref" | "keytype" | "publicKey" | "publicKeys" => attributes.set(name, value.as_str()),
            flag if GIT_FLAGS.contains(&flag) => attributes.set(name, value == "1"),
            _ => {
                plain.query.insert(name.clone(), value.clone());
            }
        }
    }
    attributes.set("url", plain.to_string());
    check_git(&mut attributes)?;
    Ok(attributes)
}

fn check_git(attributes: &mut Attributes) -> Result<()> {
    for name in ["verifyCommit", "keytype", "publicKey", "publicKeys"] {
        if attributes.has(name) {
            return Err(FlakeError::Input(format!(
                "experimental Nix feature 'verified-fetches' is disabled; input attribute '{name}' needs it\n\n\
                 hint: rednix checks no signatures of commits; pin the source by its revision"
            )));
        }
    }
    if let Some(reference) = attributes.text("ref")?
        && !is_reference_name(reference)
    {
        return Err(bad(format!("invalid Git branch/tag name '{reference}'")));
    }
    for flag in ["shallow", "submodules", "allRefs"] {
        attributes.flag(flag)?;
    }
    let url = git_address(attributes.required_text("url")?)?.to_string();
    attributes.set("url", url);
    Ok(())
}

fn git_to_url(input: &Input) -> Result<Url> {
    let attributes = &input.attributes;
    let mut url = Url::parse(attributes.required_text("url")?)?;
    if url.scheme != "git" {
        url.scheme = format!("git+{}", url.scheme);
    }
    let mut put = |name: &str, value: String| url.query.insert(name.to_owned(), value);
    if let Some(rev) = input.rev()? {
        put("rev", rev);
    }
    if let Some(reference) = input.reference() {
        put("ref", reference.to_owned());
    }
    for flag in ["shallow", "lfs", "submodules", "exportIgnore"] {
        if attributes.is_set(flag) {
            put(flag, "1".to_owned());
        }
    }
    Ok(url)
}

/// What git understands as an address or a path, as an address.
pub fn git_address(text: &str) -> Result<Url> {
    let mut text = text.to_owned();
    // user@host:path, as ssh and scp write it.
    if !text.starts_with('/')
        && let Some((before, path)) = text.rsplit_once(':')
        && let Some((user, host)) = before.split_once('@')
        && !user.contains('/')
    {
        text = format!("ssh://{user}@{host}/{path}");
    }
    let is_path = !text.starts_with("file:") && !text.starts_with("git+file:") && !text.contains("://");
    if is_path {
        if text.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err(bad(format!(
                "SCP-like URL '{text}' is not supported; use SSH URL syntax instead (ssh://...)"
            )));
        }
        return Ok(Url::of_path("file", &text, text.starts_with('/')));
    }
    let mut url = Url::parse(&text)?;
    if application(&url.scheme) == Some("git") {
        url.scheme = transport(&url.scheme).to_owned();
    }
    Ok(url)
}

/// Whether git would take the name for a branch, a tag or a whole reference.
pub fn is_reference_name(name: &str) -> bool {
    let pieces_are_right = |name: &str| {
        name.split('/').all(|piece| !piece.is_empty() && !piece.starts_with('.') && !piece.ends_with(".lock"))
    };
    let has_wrong_byte = name.bytes().any(|b| b <= b' ' || b == 0x7f || b"~^:?*[\\".contains(&b));
    !name.is_empty()
        && name != "@"
        && !has_wrong_byte
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && !name.starts_with('-')
        && pieces_are_right(name)
}

/// Whether an address is that of a file or of an archive, if it can be either.
fn file_kind(url: &Url, tree: bool) -> Option<&'static str> {
    if !["file", "http", "https"].contains(&transport(&url.scheme)) {
        return None;
    }
    match application(&url.scheme) {
        Some("file") => Some("file"),
        Some("tarball") => Some("tarball"),
        Some(_) => None,
        None => {
            let last = url.path.last().map_or("", String::as_str);
            let is_archive = ARCHIVES.iter().any(|ending| last.ends_with(ending));
            Some(if tree || is_archive { "tarball" } else { "file" })
        }
    }
}

fn file_from_url(url: &Url, kind: &str) -> Attributes {
    let mut plain = url.clone();
    plain.scheme = transport(&url.scheme).to_owned();
    let mut attributes = Attributes::of([("type", kind.into())]);
    for (name, value) in &url.query {
        match name.as_str() {
            "narHash" | "rev" => attributes.set(name, value.as_str()),
            "revCount" | "lastModified" => {
                if let Ok(number) = value.parse::<u64>() {
                    attributes.set(name, number);
                }
            }
            _ => {}
        }
    }
    plain.query.retain(|name, _| !FILE.contains(&name.as_str()));
    attributes.set("url", plain.to_string());
    attributes
}

pub fn is_rev(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn forge_from_url(url: &Url) -> Result<Attributes> {
    let pieces = url.pieces();
    let (mut rev, mut reference) = (None, None);
    match pieces.as_slice() {
        [_, _] => {}
        [_, _, one] if is_rev(one) => rev = Some((*one).to_owned()),
        [_, _, rest @ ..] => reference = Some(rest.join("/")),
        _ => return Err(bad(format!("URL '{url}' is invalid"))),
    }
    let mut attributes = Attributes::of([
        ("type", url.scheme.as_str().into()),
        ("owner", pieces[0].into()),
        ("repo", pieces[1].into()),
    ]);
    for (name, value) in &url.query {
        match name.as_str() {
            "rev" if rev.is_some() => {
                return Err(bad(format!("URL '{url}' contains multiple commit hashes")));
            }
            "rev" => rev = Some(value.clone()),
            "ref" if reference.is_some() => {
                return Err(bad(format!("URL '{url}' contains multiple branch/tag names")));
            }
            "ref" => reference = Some(value.clone()),
            "host" | "narHash" => attributes.set(name, value.as_str()),
            _ => {}
        }
    }
    if let Some(rev) = rev {
        attributes.set("rev", rev);
    }
    if let Some(reference) = reference {
        attributes.set("ref", reference);
    }
    check_forge(&attributes)?;
    Ok(attributes)
}

fn check_forge(attributes: &Attributes) -> Result<()> {
    attributes.required_text("owner")?;
    attributes.required_text("repo")?;
    let (reference, rev) = (attributes.text("ref")?, attributes.text("rev")?);
    if let (Some(reference), Some(rev)) = (reference, rev) {
        return Err(bad(format!(
            "input {attributes} contains both a commit hash ('{rev}') and a branch/tag name ('{reference}')"
        )));
    }
    if reference.is_some_and(|reference| !is_reference_name(reference)) {
        return Err(bad(format!("input {attributes} contains an invalid branch/tag name")));
    }
    let is_host = |host: &str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    if attributes.text("host")?.is_some_and(|host| !is_host(host)) {
        return Err(bad(format!("input {attributes} contains an invalid instance host")));
    }
    Ok(())
}

/// Whether a text can name a flake in a registry or an input.
pub fn is_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

fn check_id(id: &str) -> Result<()> {
    if is_id(id) { Ok(()) } else { Err(bad(format!("'{id}' is not a valid flake ID"))) }
}

fn indirect_from_url(url: &Url) -> Result<Attributes> {
    let pieces = url.pieces();
    let (mut rev, mut reference) = (None, None);
    match pieces.as_slice() {
        [_] => {}
        [_, one] if is_rev(one) => rev = Some(*one),
        [_, one] if is_reference_name(one) => reference = Some(*one),
        [_, one] => {
            return Err(bad(format!(
                "in flake URL '{url}', '{one}' is not a commit hash or branch/tag name"
            )));
        }
        [_, one, _] if !is_reference_name(one) => {
            return Err(bad(format!("in flake URL '{url}', '{one}' is not a branch/tag name")));
        }
        [_, _, two] if !is_rev(two) => {
            return Err(bad(format!("in flake URL '{url}', '{two}' is not a commit hash")));
        }
        [_, one, two] => (reference, rev) = (Some(*one), Some(*two)),
        _ => return Err(bad(format!("flake URL '{url}' is invalid"))),
    }
    check_id(pieces[0])?;
    let mut attributes = Attributes::of([("type", "indirect".into()), ("id", pieces[0].into())]);
    if let Some(rev) = rev {
        attributes.set("rev", rev.to_ascii_lowercase());
    }
    if let Some(reference) = reference {
        attributes.set("ref", reference);
    }
    Ok(attributes)
}
