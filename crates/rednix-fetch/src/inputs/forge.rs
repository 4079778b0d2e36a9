//! GitHub, GitLab and SourceHut: the archive of a commit, and which commit a branch is.

use rednix_flake::{Forge, ForgeAddress, Input};

use super::archive::Header;
use super::{FetchedInput, InputOptions, refuse, wrong};
use crate::error::FetchError;
use crate::fetcher::Fetcher;

pub fn fetch(
    fetcher: &Fetcher,
    input: &Input,
    options: InputOptions<'_>,
) -> Result<FetchedInput, FetchError> {
    let address = ForgeAddress::of(input).map_err(|error| wrong(&error))?;
    let address = address.expect("only forges come here");
    let headers = headers(fetcher, &address);
    let rev = match input.rev().map_err(|error| wrong(&error))? {
        Some(rev) => rev,
        None => resolve(fetcher, &address, input.reference().unwrap_or("HEAD"), &headers, options)?,
    };
    let tree = fetcher.fetch_archive(&address.archive_url(&rev, !headers.is_empty()), &headers, options)?;
    let mut input = input.clone();
    input.attributes.remove("ref");
    input.attributes.set("rev", rev);
    input.attributes.set("lastModified", tree.newest_s);
    Ok(FetchedInput::within(input, tree.place, tree.folder))
}

/// The token with the longest matching key, as a header.
fn headers(fetcher: &Fetcher, address: &ForgeAddress) -> Vec<Header> {
    let key = address.token_key();
    let matches =
        |known: &str| key.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let tokens = fetcher.config.access_tokens.iter().filter(|(known, _)| matches(known));
    let token = tokens.max_by_key(|(known, _)| known.len());
    token.map(|(_, token)| address.token_header(token)).into_iter().collect()
}

fn resolve(
    fetcher: &Fetcher,
    address: &ForgeAddress,
    reference: &str,
    headers: &[Header],
    options: InputOptions<'_>,
) -> Result<String, FetchError> {
    let url = address.reference_url(reference);
    let text = |url: &str| -> Result<String, FetchError> {
        let (file, _folder) = fetcher.fetch_plain(url, None, headers, options)?;
        std::fs::read_to_string(&file).map_err(|error| FetchError::io("read", &file, error))
    };
    if address.forge == Forge::SourceHut {
        let mut wanted = vec![format!("refs/heads/{reference}"), format!("refs/tags/{reference}")];
        if reference == "HEAD" {
            let head = text(&url.replace("/info/refs", "/HEAD"))?;
            wanted = vec![head.trim().trim_start_matches("ref:").trim().to_owned()];
        }
        let listing = text(&url)?;
        let found = listing.lines().find_map(|line| {
            let (rev, name) = line.split_once('\t')?;
            wanted.iter().any(|wanted| wanted == name.trim()).then(|| rev.to_owned())
        });
        return found.ok_or_else(|| refuse(&url, format!("it has no branch or tag '{reference}'")));
    }
    let answer = text(&url)?;
    let json: serde_json::Value = serde_json::from_str(&answer)
        .map_err(|error| refuse(&url, format!("the answer is no JSON: {error}")))?;
    let rev = match address.forge {
        Forge::GitHub => json["sha"].as_str(),
        _ => json[0]["id"].as_str(),
    };
    let rev = rev.filter(|rev| crate::git::is_rev(rev));
    rev.map(str::to_owned).ok_or_else(|| refuse(&url, format!("the answer names no commit of '{reference}'")))
}
