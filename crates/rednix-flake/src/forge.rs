//! GitHub, GitLab and SourceHut: where they keep archives and say which commit a branch is.
//!
//! Only addresses; nothing is asked.

use crate::url::percent_encode;
use crate::{Input, Kind, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    GitHub,
    GitLab,
    SourceHut,
}

/// A repository of a forge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeAddress {
    pub forge: Forge,
    pub host: String,
    pub owner: String,
    pub repo: String,
}

impl ForgeAddress {
    /// None for what is no forge's.
    pub fn of(input: &Input) -> Result<Option<ForgeAddress>> {
        let (forge, host) = match input.kind() {
            Kind::GitHub => (Forge::GitHub, "github.com"),
            Kind::GitLab => (Forge::GitLab, "gitlab.com"),
            Kind::SourceHut => (Forge::SourceHut, "git.sr.ht"),
            _ => return Ok(None),
        };
        Ok(Some(ForgeAddress {
            forge,
            host: input.text("host").unwrap_or(host).to_owned(),
            owner: input.attributes.required_text("owner")?.to_owned(),
            repo: input.attributes.required_text("repo")?.to_owned(),
        }))
    }

    /// Host and path, which access tokens are looked up by.
    pub fn token_key(&self) -> String {
        format!("{}/{}/{}", self.host, self.owner, self.repo)
    }

    fn project(&self) -> String {
        let (owner, repo) = (percent_encode(&self.owner, b""), percent_encode(&self.repo, b""));
        match self.forge {
            Forge::GitLab => format!("{owner}%2F{repo}"),
            Forge::GitHub | Forge::SourceHut => format!("{}/{}", percent_encode(&self.owner, b"~"), repo),
        }
    }

    /// Where the archive of a commit is.
    pub fn archive_url(&self, rev: &str, with_token: bool) -> String {
        let (host, project) = (&self.host, self.project());
        match self.forge {
            Forge::GitHub if host != "github.com" => {
                format!("https://{host}/api/v3/repos/{project}/tarball/{rev}")
            }
            Forge::GitHub if with_token => format!("https://api.{host}/repos/{project}/tarball/{rev}"),
            Forge::GitHub | Forge::SourceHut => format!("https://{host}/{project}/archive/{rev}.tar.gz"),
            Forge::GitLab => {
                format!("https://{host}/api/v4/projects/{project}/repository/archive.tar.gz?sha={rev}")
            }
        }
    }

    /// Where the repository is for git itself: what mirrors of it rewrite.
    pub fn git_url(&self) -> String {
        format!("https://{}/{}/{}", self.host, self.owner, self.repo)
    }

    /// Where the commit of a branch or tag is told.
    pub fn reference_url(&self, reference: &str) -> String {
        let (host, project) = (&self.host, self.project());
        let reference = percent_encode(reference, b"/");
        match self.forge {
            Forge::GitHub if host == "github.com" => {
                format!("https://api.{host}/repos/{project}/commits/{reference}")
            }
            Forge::GitHub => format!("https://{host}/api/v3/repos/{project}/commits/{reference}"),
            Forge::GitLab => {
                format!("https://{host}/api/v4/projects/{project}/repository/commits?ref_name={reference}")
            }
            Forge::SourceHut => format!("https://{host}/{project}/info/refs"),
        }
    }

    /// The header that carries an access token.
    pub fn token_header(&self, token: &str) -> (String, String) {
        match self.forge {
            Forge::GitHub => ("Authorization".to_owned(), format!("token {token}")),
            Forge::SourceHut => ("Authorization".to_owned(), format!("Bearer {token}")),
            Forge::GitLab => match token.split_once(':') {
                Some(("OAuth2", token)) => ("Authorization".to_owned(), format!("Bearer {token}")),
                Some(("PAT", token)) => ("Private-token".to_owned(), token.to_owned()),
                Some((name, value)) => (name.to_owned(), value.to_owned()),
                None => ("Private-token".to_owned(), token.to_owned()),
            },
        }
    }
}
