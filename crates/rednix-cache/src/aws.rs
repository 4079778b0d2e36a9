//! AWS's `credentials` and `config` files: who one is, by profile. Reads text; touches no file.

use std::collections::BTreeMap;
use std::fmt;

use rusty_s3::Credentials;

use crate::limits::PROFILES_MAX;

/// A key with its secret, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    key: String,
    secret: String,
    token: Option<String>,
}

impl Identity {
    /// `token` belongs to keys that are valid for a while only.
    pub fn new(key: impl Into<String>, secret: impl Into<String>, token: Option<String>) -> Identity {
        Identity { key: key.into(), secret: secret.into(), token: token.filter(|token| !token.is_empty()) }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        match &self.token {
            Some(token) => Credentials::new_with_token(&self.key, &self.secret, token),
            None => Credentials::new(&self.key, &self.secret),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.key)
    }
}

/// One section of the files, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub identity: Option<Identity>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles(BTreeMap<String, Profile>);

impl Profiles {
    /// The texts of `~/.aws/credentials` and `~/.aws/config`; what the former says goes first.
    pub fn parse(credentials: &str, config: &str) -> Profiles {
        let mut values: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
        for (text, is_config) in [(credentials, false), (config, true)] {
            let mut section = None;
            for line in text.lines() {
                // Nested settings are indented, and nobody's here.
                if line.starts_with([' ', '\t', '#', ';']) {
                    continue;
                }
                if let Some(name) = line.trim_end().strip_prefix('[').and_then(|line| line.strip_suffix(']'))
                {
                    section = name_of(name.trim(), is_config).filter(|_| values.len() < PROFILES_MAX);
                } else if let (Some(section), Some((key, value))) = (&section, line.split_once('=')) {
                    let profile = values.entry(section.clone()).or_default();
                    profile.entry(key.trim()).or_insert(value.trim());
                }
            }
        }
        let profile = |values: BTreeMap<&str, &str>| {
            let text = |key: &str| values.get(key).filter(|value| !value.is_empty()).map(|&v| v.to_owned());
            let identity = text("aws_access_key_id")
                .zip(text("aws_secret_access_key"))
                .map(|(key, secret)| Identity::new(key, secret, text("aws_session_token")));
            Profile { identity, region: text("region"), endpoint: text("endpoint_url") }
        };
        Profiles(values.into_iter().map(|(name, values)| (name, profile(values))).collect())
    }

    pub fn get(&self, name: &str) -> Option<&Profile> {
        self.0.get(name)
    }
}

/// `[NAME]` among the credentials; `[profile NAME]` or `[default]` in the configuration.
fn name_of(section: &str, is_config: bool) -> Option<String> {
    if !is_config || section == "default" {
        return Some(section.to_owned());
    }
    section
        .strip_prefix("profile")
        .filter(|rest| rest.starts_with([' ', '\t']))
        .map(|name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_files_make_one_profile() {
        let profiles = Profiles::parse(
            "# c\n[default]\naws_access_key_id = A\naws_secret_access_key=s=1\n\n[two]\r\naws_access_key_id=B\r\naws_secret_access_key = t\r\naws_session_token = u\r\n",
            "[default]\nregion = eu-west-1\naws_access_key_id = not-this\ns3 =\n  region = nested\n[profile two]\nendpoint_url = http://x\n[three]\nregion = no-profile\n[profile four]\nregion = only\n",
        );
        let default = profiles.get("default").unwrap();
        assert_eq!(default.identity, Some(Identity::new("A", "s=1", None)));
        assert_eq!(default.region.as_deref(), Some("eu-west-1"));
        let two = profiles.get("two").unwrap();
        assert_eq!(two.identity, Some(Identity::new("B", "t", Some("u".to_owned()))));
        assert_eq!(two.endpoint.as_deref(), Some("http://x"));
        assert_eq!((profiles.get("three"), profiles.get("four").unwrap().identity.as_ref()), (None, None));
        assert!(!format!("{profiles:?}").contains("s=1"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(one in "[\\[\\]a-z =#\n\t]{0,80}", other in ".{0,80}") {
            let _ = (Profiles::parse(&one, &other), Profiles::parse(&other, &one));
        }
    }
}
