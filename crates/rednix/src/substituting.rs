//! The build room asks for outputs, the cache room has them: this ties both, and reads the files that the
//! configuration of caches names.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rednix_build::{Ask, Substitute};
use rednix_cache::aws::Profiles;
use rednix_cache::cache::Address;
use rednix_cache::caches::{self, Caches, Pulled};
use rednix_cache::limits::NETRC_BYTES_MAX;
use rednix_cache::netrc::Netrc;
use rednix_cache::transport::{HttpSettings, S3Settings};
use rednix_cache::{PublicKey, SecretKey, Trust};
use rednix_events::Events;
use rednix_store::path::StorePath;
use rednix_store::store::Store;

use crate::config::{Aws, Config};
use crate::failure::Failure;

/// The user's caches.
pub struct Substituting {
    caches: Caches,
}

impl Substituting {
    pub fn open(
        config: &Config,
        offline: bool,
        events: &Events,
        cancelled: Arc<AtomicBool>,
    ) -> Result<Substituting, Failure> {
        let wrong = |error: rednix_cache::Error| usage(&error);
        let addresses = config.substituters.iter().map(|text| Address::parse(text));
        let settings = caches::Settings {
            caches: addresses.collect::<Result<_, _>>().map_err(wrong)?,
            trust: trust(config)?,
            http: http(config, None)?,
            state: Some(config.cache.join("caches")),
            offline,
        };
        let caches = Caches::open(settings, events.clone(), cancelled).map_err(wrong)?;
        Ok(Substituting { caches })
    }

    pub fn is_empty(&self) -> bool {
        self.caches.is_empty()
    }

    /// Named paths, whatever they are made by.
    pub fn pull(&self, store: &Store, paths: &BTreeSet<StorePath>) -> Result<Pulled, rednix_cache::Error> {
        self.caches.pull(store, paths)
    }

    /// The log of a build, from whichever cache has it.
    pub fn log(&self, derivation: &StorePath) -> Option<Box<dyn Read + Send>> {
        self.caches.log(derivation)
    }
}

/// An error of the cache room that is about what the user wrote; its hint goes where hints go.
pub fn usage(error: &rednix_cache::Error) -> Failure {
    let failure = told(error);
    Failure { status: crate::failure::EXIT_USAGE, ..failure }
}

/// An error of the cache room as every error is told.
pub fn told(error: &rednix_cache::Error) -> Failure {
    let text = error.to_string();
    match text.split_once("\n\nhint: ") {
        Some((message, hint)) => Failure::failed(message).hint(hint),
        None => Failure::failed(text),
    }
}

/// The keys whose word counts.
pub fn trust(config: &Config) -> Result<Trust, Failure> {
    let keys: Result<Vec<PublicKey>, _> =
        config.trusted_public_keys.iter().map(|key| PublicKey::parse(key)).collect();
    Ok(Trust::new(keys.map_err(|error| usage(&error))?))
}

/// What caches over HTTP need; a token takes the place of the netrc file's password.
pub fn http(config: &Config, token: Option<&str>) -> Result<HttpSettings, Failure> {
    let netrc = match (token, &config.netrc_file) {
        (Some(token), _) => Netrc::token(token),
        (None, Some(path)) => {
            let hint = "`netrc-file` in the configuration names it";
            Netrc::parse(&small_file(path, "the netrc file").map_err(|failure| failure.hint(hint))?)
        }
        (None, None) => Netrc::default(),
    };
    let fetch = config.fetch(true);
    Ok(HttpSettings {
        http_proxy: config.http_proxy.clone(),
        https_proxy: config.https_proxy.clone(),
        no_proxy: config.no_proxy.clone(),
        certificates: fetch.ca_bundle_path(),
        netrc,
        s3: s3(&config.aws),
        patience: Default::default(),
        cancelled: crate::interrupt::flag(),
    })
}

/// Who one is to S3-compatible storage. A file that cannot be read is as good as none: whoever needs what it says is
/// told that it is missing.
fn s3(aws: &Aws) -> S3Settings {
    let text = |file: &Option<std::path::PathBuf>| {
        file.as_ref().and_then(|file| small_file(file, "the AWS file").ok()).unwrap_or_default()
    };
    S3Settings {
        identity: aws.identity.clone(),
        profiles: Profiles::parse(&text(&aws.credentials_file), &text(&aws.config_file)),
        profile: aws.profile.clone(),
        region: aws.region.clone(),
        endpoint: aws.endpoint.clone(),
    }
}

/// A secret key from its file.
pub fn secret_key(path: &Path) -> Result<SecretKey, Failure> {
    let make = "`rednix cache keygen NAME > FILE` makes one; NAME:BASE64 is what it looks like";
    let text = small_file(path, "the secret key").map_err(|failure| failure.hint(make))?;
    SecretKey::parse(&text).map_err(|error| match error {
        rednix_cache::Error::BadKey { reason, .. } => {
            Failure::usage(format!("the secret key file `{}` holds no key: {reason}", path.display()))
                .hint(make)
        }
        error => usage(&error),
    })
}

/// The first word of a token's file.
pub fn token(path: &Path) -> Result<String, Failure> {
    let make = "`head -c 24 /dev/urandom | base64 > FILE` makes a good one; server and clients need the same";
    let text = small_file(path, "the token").map_err(|failure| failure.hint(make))?;
    let word = text.split_whitespace().next().filter(|word| word.len() >= 8);
    word.map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("the token in `{}` has fewer than 8 characters", path.display())).hint(make)
    })
}

fn small_file(path: &Path, what: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(NETRC_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| Failure::usage(format!("cannot read {what} `{}`: {error}", path.display())))?;
    Ok(text)
}

fn question(ask: &Ask) -> caches::Ask {
    caches::Ask {
        derivation: ask.derivation.clone(),
        output: ask.output.clone(),
        path: ask.path.clone(),
        realisation: ask.realisation.clone(),
    }
}

impl Substitute for Substituting {
    fn is_any(&self) -> bool {
        !self.caches.is_empty()
    }

    fn offers(&self, store: &Store, asked: &[Ask]) -> Vec<Option<u64>> {
        let questions: Vec<_> = asked.iter().map(question).collect();
        let offers = self.caches.offers(store, &questions);
        offers.into_iter().map(|offer| offer.map(|offer| offer.transfer_bytes)).collect()
    }

    fn bring(&self, store: &Store, asked: &[Ask], done: &(dyn Fn(usize, Result<StorePath, String>) + Sync)) {
        let questions: Vec<_> = asked.iter().map(question).collect();
        self.caches.bring(store, &questions, &|index, result| {
            done(index, result.map_err(|error| error.to_string()));
        });
    }
}
