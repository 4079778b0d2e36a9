//! Where bytes come from: everything the binary knows about this machine and its user that fetching needs.
//!
//! Plain values; nothing here looks at the environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::apt::AptSource;
use crate::error::FetchError;
use crate::overrides::Overrides;

/// Configuration of all fetching. Start from [`FetchConfig::new`] and overwrite what is known better.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// (prefix, replacement): urls that begin with the prefix are looked for at the replacement first. A
    /// replacement is an url prefix or an absolute folder; prefixes may be canonical (`debian:trixie/`, `crate:`).
    pub mirrors: Vec<(String, String)>,
    /// What is used in place of recipes' sources, submodules, Cargo git dependencies and files.
    pub overrides: Overrides,
    /// (suite or `*`, base): where a suite's `dists` and `pool` are, before apt's own sources.
    pub debian_mirrors: Vec<(String, String)>,
    /// What the machine's apt uses, from [`crate::apt`].
    pub apt_sources: Vec<AptSource>,
    /// Keyrings for Debian signatures, binary or armoured; see [`crate::apt::default_keyrings`].
    pub keyrings: Vec<PathBuf>,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    /// Comma-separated hosts and domains that are reached directly; `*` means all.
    pub no_proxy: Option<String>,
    /// A PEM bundle (the value of `SSL_CERT_FILE`); without it the usual places of the system.
    pub ca_bundle: Option<PathBuf>,
    /// Use nothing but local files, local mirrors and cargo's cache.
    pub offline: bool,
    pub cargo: PathBuf,
    /// Where cargo keeps its cache of `.crate` files.
    pub cargo_home: Option<PathBuf>,
    pub git: PathBuf,
    pub gpgv: PathBuf,
    pub connect_timeout: Duration,
    /// Longest silence of a server, not the length of a transfer.
    pub read_timeout: Duration,
    /// How long the state of a branch, or of a file without a hash, is taken for the present one, in seconds.
    pub fresh_s: u64,
    /// (`host` or `host/owner/repo`, token): what forges let one in with.
    pub access_tokens: Vec<(String, String)>,
    /// Headers of requests: (origin as `https://host/`, name, value). No other server gets them, redirects or not.
    pub headers: Vec<(String, String, String)>,
    /// Further attempts at one place after a failure that may pass.
    pub retries: u32,
    /// Longest wait before a further attempt; the first waits an eighth of it.
    pub retry_delay: Duration,
    /// Transfers at once.
    pub parallel: usize,
    /// For partial downloads and Debian indexes. May be deleted at any time.
    pub cache_dir: PathBuf,
    /// Set to true, from any thread, to stop everything soon: transfers end, programs are killed.
    pub cancel: Arc<AtomicBool>,
}

impl FetchConfig {
    pub fn new(cache_dir: impl Into<PathBuf>) -> Self {
        FetchConfig {
            mirrors: Vec::new(),
            overrides: Overrides::default(),
            debian_mirrors: Vec::new(),
            apt_sources: Vec::new(),
            keyrings: Vec::new(),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            ca_bundle: None,
            offline: false,
            cargo: "cargo".into(),
            cargo_home: None,
            git: "git".into(),
            gpgv: "gpgv".into(),
            connect_timeout: Duration::from_secs(20),
            read_timeout: Duration::from_secs(60),
            fresh_s: 3600,
            access_tokens: Vec::new(),
            headers: Vec::new(),
            retries: 3,
            retry_delay: Duration::from_secs(4),
            parallel: 8,
            cache_dir: cache_dir.into(),
            cancel: Arc::default(),
        }
    }

    pub(crate) fn check_cancel(&self) -> Result<(), FetchError> {
        if self.cancel.load(Ordering::Relaxed) { Err(FetchError::Cancelled) } else { Ok(()) }
    }

    pub fn ca_bundle_path(&self) -> Option<PathBuf> {
        const USUAL: [&str; 4] = [
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/pki/tls/certs/ca-bundle.crt",
            "/etc/ssl/ca-bundle.pem",
            "/etc/ssl/cert.pem",
        ];
        let usual = || USUAL.iter().map(Path::new).find(|path| path.is_file()).map(Path::to_path_buf);
        self.ca_bundle.clone().or_else(usual)
    }
}
