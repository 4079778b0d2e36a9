//! Buckets of S3-compatible storage: their addresses as C++ Nix writes them, signed requests, and what refusals mean.
//! Sends nothing, and reads neither environment nor files: credentials are handed in.

use std::fmt;
use std::time::Duration;

use reqwest::{Method, Url};
use rusty_s3::{Credentials, UrlStyle};

use crate::aws::{Identity, Profiles};
use crate::error::{Error, Result, quoted};
use crate::limits::{BUCKET_NAME_BYTES_MAX, S3_SIGNATURE_VALID};
use crate::netrc::without_logins;

/// The region of whoever names none.
const REGION: &str = "us-east-1";

/// Who asks, as the user's environment and files say it.
#[derive(Clone, Debug, Default)]
pub struct S3Settings {
    /// Of the environment. They go before those of profiles, unless an address names a profile.
    pub identity: Option<Identity>,
    pub profiles: Profiles,
    /// The profile where an address names none.
    pub profile: Option<String>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
}

/// `s3://BUCKET[/FOLDER]?region=…&endpoint=…&scheme=…&profile=…&addressing-style=…`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Address<'t> {
    bucket: &'t str,
    folder: &'t str,
    region: Option<&'t str>,
    endpoint: Option<&'t str>,
    scheme: Option<&'t str>,
    profile: Option<&'t str>,
    style: Option<&'t str>,
}

impl<'t> Address<'t> {
    fn parse(url: &'t str) -> Result<Address<'t>, String> {
        let rest = url.strip_prefix("s3://").ok_or("it does not begin with s3://")?;
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, folder) = place.split_once('/').unwrap_or((place, ""));
        let mut address = Address { bucket, folder: folder.trim_matches('/'), ..Address::default() };
        let plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if bucket.is_empty()
            || bucket.len() > BUCKET_NAME_BYTES_MAX
            || !plain(bucket)
            || bucket.starts_with('.')
        {
            return Err(format!("`{}` is no name of a bucket", bucket.escape_debug()));
        }
        let is_segment = |part: &str| !part.is_empty() && plain(part) && part != "." && part != "..";
        if !address.folder.is_empty() && !address.folder.split('/').all(is_segment) {
            return Err(format!("`{}` is no folder of a bucket", address.folder.escape_debug()));
        }
        for (key, value) in parameters.split('&').filter_map(|part| part.split_once('=')) {
            match key {
                "region" => address.region = Some(value),
                "endpoint" => address.endpoint = Some(value),
                "scheme" => address.scheme = Some(value),
                "profile" => address.profile = Some(value),
                "addressing-style" => address.style = Some(value),
                // C++ Nix's others are about how it writes.
                _ => {}
            }
        }
        Ok(address)
    }

    /// `https://s3.REGION.amazonaws.com`, or wherever the storage is; and whether it is Amazon's own.
    fn endpoint(&self, given: Option<&str>, region: &str) -> Result<(Url, bool), String> {
        let scheme = self.scheme.filter(|scheme| !scheme.is_empty()).unwrap_or("https");
        if !matches!(scheme, "http" | "https") {
            return Err(format!("its scheme is http or https, not `{}`", scheme.escape_debug()));
        }
        let given = self.endpoint.or(given).filter(|endpoint| !endpoint.is_empty());
        let text = match given {
            Some(endpoint) if endpoint.contains("://") => endpoint.to_owned(),
            Some(endpoint) => format!("{scheme}://{endpoint}"),
            None => format!("{scheme}://s3.{region}.amazonaws.com"),
        };
        let url = Url::parse(&text)
            .map_err(|error| format!("its endpoint `{}`: {error}", without_logins(&text).escape_debug()))?;
        Ok((url, given.is_none()))
    }

    /// Amazon wants the bucket in the host's name; certificates cover no dots there, and others know only paths.
    fn style(&self, is_amazon: bool) -> Result<UrlStyle, String> {
        match self.style.unwrap_or("auto") {
            "path" => Ok(UrlStyle::Path),
            "virtual" => Ok(UrlStyle::VirtualHost),
            "auto" if is_amazon && !self.bucket.contains('.') => Ok(UrlStyle::VirtualHost),
            "auto" => Ok(UrlStyle::Path),
            other => {
                Err(format!("its addressing-style is auto, path or virtual, not `{}`", other.escape_debug()))
            }
        }
    }
}

/// A bucket, or a folder of one, and who asks.
pub struct Bucket {
    inner: rusty_s3::Bucket,
    folder: String,
    /// `None` asks as anybody.
    credentials: Option<Credentials>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.shown(""))
    }
}

impl Bucket {
    pub fn open(url: &str, settings: &S3Settings) -> Result<Bucket> {
        Bucket::read(url, settings).map_err(|reason| Error::BadAddress { url: without_logins(url), reason })
    }

    fn read(url: &str, settings: &S3Settings) -> Result<Bucket, String> {
        let address = Address::parse(url)?;
        let profile =
            match address.profile {
                Some(name) => Some(settings.profiles.get(name).ok_or_else(|| {
                    format!("there is no profile `{}` in the AWS files", name.escape_debug())
                })?),
                None => settings.profiles.get(settings.profile.as_deref().unwrap_or("default")),
            };
        let own = settings.identity.as_ref().filter(|_| address.profile.is_none());
        let identity = own.or(profile.and_then(|profile| profile.identity.as_ref()));
        let region = address
            .region
            .or(settings.region.as_deref())
            .or(profile.and_then(|profile| profile.region.as_deref()))
            .filter(|region| !region.is_empty())
            .unwrap_or(REGION);
        if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(format!("`{}` is no region", region.escape_debug()));
        }
        let endpoint =
            settings.endpoint.as_deref().or(profile.and_then(|profile| profile.endpoint.as_deref()));
        let (endpoint, is_amazon) = address.endpoint(endpoint, region)?;
        let style = address.style(is_amazon)?;
        let inner = rusty_s3::Bucket::new(endpoint, style, address.bucket.to_owned(), region.to_owned())
            .map_err(|error| error.to_string())?;
        let folder = match address.folder {
            "" => String::new(),
            folder => format!("{folder}/"),
        };
        Ok(Bucket { inner, folder, credentials: identity.map(Identity::credentials) })
    }

    /// The place as the user writes it, without anything secret.
    pub fn shown(&self, place: &str) -> String {
        format!("s3://{}/{}{place}", self.inner.name(), self.folder)
    }

    /// The address that answers for the next minutes, whoever asks.
    pub fn signed(&self, method: &Method, place: &str, query: &[(&str, &str)]) -> Url {
        let method = match *method {
            Method::HEAD => rusty_s3::Method::Head,
            Method::PUT => rusty_s3::Method::Put,
            Method::POST => rusty_s3::Method::Post,
            Method::DELETE => rusty_s3::Method::Delete,
            _ => rusty_s3::Method::Get,
        };
        let mut query = query.to_vec();
        query.sort_unstable();
        let object = self.inner.object_url(&format!("{}{place}", self.folder));
        let Some(credentials) = &self.credentials else {
            let mut url = object;
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            return url;
        };
        rusty_s3::signing::sign(
            &jiff::Timestamp::now(),
            method,
            object,
            credentials.key(),
            credentials.secret(),
            credentials.token(),
            self.inner.region(),
            Duration::as_secs(&S3_SIGNATURE_VALID),
            query.into_iter(),
            std::iter::empty(),
        )
    }
}

/// The text of the first element of that name. Answers of S3 are flat where they matter.
pub(super) fn element<'t>(xml: &'t str, name: &str) -> Option<&'t str> {
    let open = format!("<{name}>");
    let start = xml.find(&open)? + open.len();
    let length = xml[start..].find(&format!("</{name}>"))?;
    Some(xml[start..start + length].trim())
}

/// What a refusal means, by its status and the code in its text.
pub(super) fn refusal(url: String, status: u16, text: &str) -> Error {
    let code = element(text, "Code").unwrap_or_default();
    let said =
        if code.is_empty() { format!("HTTP {status}") } else { format!("{}, HTTP {status}", quoted(code)) };
    match (status, code) {
        (_, "RequestTimeTooSkewed") => {
            Error::Refused { url, reason: format!("{said}: the clocks differ too much") }
        }
        (_, "NoSuchBucket") => {
            Error::NotWritable { url, reason: format!("there is no such bucket ({said})") }
        }
        (
            301 | 307 | 400,
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
        ) => Error::Refused { url, reason: format!("{said}: it is in another region (`region=`)") },
        (401 | 402 | 403 | 407 | 451, _) => Error::Refused { url, reason: said },
        (404 | 405 | 410, _) => Error::NotWritable { url, reason: said },
        (408 | 425 | 429 | 500.., _) => Error::Server { url, status },
        _ => Error::Protocol { url, reason: said },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings() -> S3Settings {
        let profiles = Profiles::parse(
            "[default]\naws_access_key_id = DEFAULT\naws_secret_access_key = d\n[team]\naws_access_key_id=TEAM\naws_secret_access_key=t\nregion=eu-west-1\n",
            "[profile team]\nendpoint_url = http://storage.example:9000\n",
        );
        S3Settings { profiles, ..S3Settings::default() }
    }

    fn asked(url: &str, settings: &S3Settings) -> (String, String) {
        let bucket = Bucket::open(url, settings).unwrap();
        let signed = bucket.signed(&Method::GET, "nar/a+b.nar", &[]);
        let key = signed.query_pairs().find(|(name, _)| name == "X-Amz-Credential");
        let key = key.map(|(_, value)| value.split('/').next().unwrap_or_default().to_owned());
        let mut address = signed.clone();
        address.set_query(None);
        (address.to_string(), key.unwrap_or_default())
    }

    #[test]
    fn addresses_are_those_of_the_peer() {
        let settings = settings();
        let cases = [
            ("s3://b", "https://b.s3.us-east-1.amazonaws.com/nar/a%2Bb.nar", "DEFAULT"),
            ("s3://b?region=eu-north-1", "https://b.s3.eu-north-1.amazonaws.com/nar/a%2Bb.nar", "DEFAULT"),
            ("s3://b.c", "https://s3.us-east-1.amazonaws.com/b.c/nar/a%2Bb.nar", "DEFAULT"),
            ("s3://b?addressing-style=path", "https://s3.us-east-1.amazonaws.com/b/nar/a%2Bb.nar", "DEFAULT"),
            ("s3://b?endpoint=h:1&scheme=http", "http://h:1/b/nar/a%2Bb.nar", "DEFAULT"),
            ("s3://b/x/y/?endpoint=http://h:1", "http://h:1/b/x/y/nar/a%2Bb.nar", "DEFAULT"),
            ("s3://b?profile=team&compression=zstd", "http://storage.example:9000/b/nar/a%2Bb.nar", "TEAM"),
        ];
        for (url, address, key) in cases {
            assert_eq!(asked(url, &settings), (address.to_owned(), key.to_owned()), "{url}");
        }
        // The environment goes before the files, and not before a profile that was named.
        let own = Identity::new("OWN", "s", None);
        let with = S3Settings { identity: Some(own), ..settings };
        assert_eq!(asked("s3://b", &with).1, "OWN");
        assert_eq!(asked("s3://b?profile=team", &with).1, "TEAM");
        // Without any, nothing is signed.
        assert_eq!(asked("s3://b", &S3Settings::default()).1, "");
    }

    #[test]
    fn wrong_addresses_are_refused() {
        for wrong in [
            "s3://",
            "s3://a b",
            "s3://../x",
            "s3://b/../c",
            "s3://b/./c",
            "s3://b?scheme=ftp",
            "s3://b?endpoint=http://",
            "s3://b?profile=nobody",
            "s3://b?region=a/b",
            "s3://b?addressing-style=odd",
        ] {
            let error = Bucket::open(wrong, &settings()).unwrap_err();
            assert!(error.to_string().contains("is not the address of a cache"), "{wrong}: {error}");
        }
    }

    #[test]
    fn refusals_are_told_apart_and_no_secret_is_shown() {
        let code = |code: &str| {
            format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>")
        };
        let cases = [
            (403, code("SignatureDoesNotMatch"), "SignatureDoesNotMatch"),
            (403, code("RequestTimeTooSkewed"), "clocks"),
            (404, code("NoSuchBucket"), "no such bucket"),
            (301, code("PermanentRedirect"), "another region"),
            (503, code("SlowDown"), "fails at"),
            (418, String::new(), "HTTP 418"),
        ];
        for (status, text, expected) in cases {
            let told = refusal("s3://b/x".to_owned(), status, &text).to_string();
            assert!(told.contains(expected), "{status} {text}: {told}");
        }
        let bucket = Bucket::open("s3://b", &settings()).unwrap();
        assert_eq!(
            format!("{bucket:?} {:?}", settings().profiles.get("team").unwrap().identity)
                .matches("\"t\"")
                .count(),
            0
        );
    }

    proptest! {
        #[test]
        fn whatever_the_place_requests_stay_in_the_bucket(place in "[ -~]{0,40}", url in "s3://[a-z./?&=:-]{0,40}") {
            if let Ok(bucket) = Bucket::open(&url, &S3Settings::default()) {
                let _ = bucket.signed(&Method::GET, &place, &[("a", "b")]);
            }
            let bucket = Bucket::open("s3://b/x?endpoint=http://h:1", &settings()).unwrap();
            let signed = bucket.signed(&Method::PUT, &place, &[("uploadId", "a/b&c"), ("partNumber", "1")]);
            prop_assert_eq!(signed.host_str(), Some("h"));
            if !place.split('/').any(|part| matches!(part, "." | "..")) {
                prop_assert!(signed.path().starts_with("/b/x/"), "{}", signed);
            }
        }

        #[test]
        fn any_text_has_an_element_or_not(text in "[<>/a-z]{0,60}") {
            if let Some(found) = element(&text, "a") {
                prop_assert!(text.contains(found));
            }
        }
    }
}
