//! Configuration: the file, the environment and the machine's own settings become plain values here, and
//! nowhere else. Rooms get these values and never read the environment themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rednix_cache::aws::Identity;
use rednix_fetch::{FetchConfig, Overrides, Replacement, apt};
use serde::Deserialize;

use crate::cli::Global;
use crate::failure::{EXIT_USAGE, Failure};
use crate::nix_conf::NixConf;

/// `config.toml` in the user's configuration folder. Unknown keys are errors, so that a typo is seen.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct File {
    /// Folder of the store.
    pub store: Option<PathBuf>,
    /// URL prefix → prefix to use in its place (another server, or a folder).
    pub mirrors: BTreeMap<String, String>,
    /// Recipe or URL → what to use in its place.
    pub overrides: BTreeMap<String, OverrideValue>,
    /// Debian suite → base URLs or folders that have its `pool/`, in order.
    pub debian: BTreeMap<String, Vec<String>>,
    pub proxy: Option<String>,
    /// UEFI firmware for virtual machines, where it is in no usual place.
    pub firmware: Option<PathBuf>,
    pub max_jobs: Option<usize>,
    pub cores: Option<usize>,
    /// Store equal files once as they come; else `rednix store optimise` does it when asked.
    pub link_equal_files: Option<bool>,
    /// Addresses of caches, in place of those of nix.conf; `extra-` adds to them.
    pub substituters: Option<Vec<String>>,
    pub extra_substituters: Vec<String>,
    /// Keys whose signatures count, `NAME:BASE64`.
    pub trusted_public_keys: Option<Vec<String>>,
    pub extra_trusted_public_keys: Vec<String>,
    pub netrc_file: Option<PathBuf>,
}

/// An override as the file may say it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum OverrideValue {
    /// A path, or any form of the command line.
    Text(String),
    Crates(Vec<CrateValue>),
    Crate(CrateValue),
    Git(GitValue),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrateValue {
    #[serde(rename = "crate")]
    name: String,
    version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitValue {
    git: Option<String>,
    #[serde(alias = "branch", alias = "tag")]
    rev: String,
}

impl OverrideValue {
    /// Relative paths are relative to the file's folder.
    fn replacement(self, folder: &Path) -> Result<Replacement, String> {
        let pair = |c: CrateValue| (c.name, c.version);
        match self {
            OverrideValue::Text(text) => Ok(match Replacement::parse(&text)? {
                Replacement::Path(path) => Replacement::Path(folder.join(path)),
                other => other,
            }),
            OverrideValue::Crates(list) => Replacement::crates(list.into_iter().map(pair).collect()),
            OverrideValue::Crate(one) => Replacement::crates(vec![pair(one)]),
            OverrideValue::Git(GitValue { git, rev }) => Replacement::git(git, &rev),
        }
    }
}

/// Everything a command needs to know about the machine and the user's wishes.
#[derive(Clone, Debug)]
pub struct Config {
    pub store: PathBuf,
    pub cache: PathBuf,
    /// For what a user would miss: which working copies there are.
    pub state: PathBuf,
    pub mirrors: Vec<(String, String)>,
    /// The file's; the command line's are put over them.
    pub overrides: Overrides,
    /// The checkout of a tree that was named by its address.
    pub tree_checkout: Option<PathBuf>,
    pub debian: BTreeMap<String, Vec<String>>,
    pub http_proxy: Option<String>,
    pub https_proxy: Option<String>,
    pub no_proxy: Option<String>,
    pub certificates: Option<PathBuf>,
    pub cargo_home: PathBuf,
    /// What the user should know about the files read.
    pub warnings: Vec<String>,
    /// (`host` or `host/owner/repo`, token), from C++ Nix's configuration.
    pub access_tokens: Vec<(String, String)>,
    /// Registries of flakes, rednix's own first.
    pub registries: Vec<PathBuf>,
    pub path: Vec<PathBuf>,
    pub firmware: Option<PathBuf>,
    pub max_jobs: usize,
    pub cores: usize,
    pub link_equal_files: bool,
    /// Addresses of caches.
    pub substituters: Vec<String>,
    pub trusted_public_keys: Vec<String>,
    pub netrc_file: Option<PathBuf>,
    pub aws: Aws,
}

/// What the environment says about S3-compatible storage, under AWS's own names.
#[derive(Clone, Debug, Default)]
pub struct Aws {
    pub identity: Option<Identity>,
    pub profile: Option<String>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
    pub credentials_file: Option<PathBuf>,
    pub config_file: Option<PathBuf>,
}

impl Aws {
    fn load(home: Option<&Path>) -> Aws {
        let first = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| std::env::var(name).ok());
            values.find(|value| !value.trim().is_empty())
        };
        let file = |variable: &str, name: &str| {
            first(&[variable]).map(PathBuf::from).or_else(|| home.map(|home| home.join(".aws").join(name)))
        };
        Aws {
            identity: first(&["AWS_ACCESS_KEY_ID"])
                .zip(first(&["AWS_SECRET_ACCESS_KEY"]))
                .map(|(key, secret)| Identity::new(key, secret, first(&["AWS_SESSION_TOKEN"]))),
            profile: first(&["AWS_PROFILE"]),
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
            endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
            credentials_file: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            config_file: file("AWS_CONFIG_FILE", "config"),
        }
    }
}

impl Config {
    /// Reads the user's file and the environment; the command line goes before both.
    pub fn load(global: &Global) -> Result<Config, Failure> {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|p| p.is_absolute());
        let xdg = |variable: &str, fallback: &str| -> Option<PathBuf> {
            std::env::var_os(variable)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
                .or_else(|| home.as_ref().map(|h| h.join(fallback)))
        };
        let no_home = || {
            Failure::usage("neither HOME nor the XDG folders are set, so there is no place for the store")
                .hint("set HOME, or pass `--store DIR` and set XDG_CACHE_HOME")
        };

        let settings = xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("rednix"));
        let mut file = match &settings {
            Some(folder) => read_file(&folder.join("config.toml"))?,
            None => File::default(),
        };
        let overrides = read_overrides(
            std::mem::take(&mut file.overrides),
            settings.as_deref().unwrap_or(Path::new("/")),
        )?;
        let data = xdg("XDG_DATA_HOME", ".local/share");
        let store = global
            .store
            .clone()
            .or_else(|| std::env::var_os("REDNIX_STORE").map(PathBuf::from))
            .or(file.store)
            .or_else(|| data.map(|d| d.join("rednix")))
            .ok_or_else(no_home)?;
        let store = std::path::absolute(&store)
            .map_err(|e| Failure::usage(format!("the store's folder `{}`: {e}", store.display())))?;
        let cache =
            xdg("XDG_CACHE_HOME", ".cache").map(|c| c.join("rednix")).unwrap_or_else(|| store.join("cache"));
        let state = xdg("XDG_STATE_HOME", ".local/state")
            .map(|s| s.join("rednix"))
            .unwrap_or_else(|| store.join("state"));
        let user = xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("nix/nix.conf"));
        let nix_conf =
            NixConf::read(&[Some(PathBuf::from("/etc/nix/nix.conf")), user].map(Option::unwrap_or_default));
        let listed = |key: &str, own: Option<Vec<String>>, extra: Vec<String>| {
            let mut list = own.or_else(|| nix_conf.words(key)).unwrap_or_default();
            list.extend(extra);
            list
        };
        let mut substituters = listed("substituters", file.substituters, file.extra_substituters);
        substituters.extend(global.substituters.iter().cloned());
        if global.no_substitute {
            substituters.clear();
        }
        let trusted_public_keys =
            listed("trusted-public-keys", file.trusted_public_keys, file.extra_trusted_public_keys);
        let netrc =
            nix_conf.words("netrc-file").and_then(|words| words.into_iter().next()).map(PathBuf::from);
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let variable =
            |names: [&str; 3]| names.iter().find_map(|n| std::env::var(n).ok()).filter(|v| !v.is_empty());
        Ok(Config {
            store,
            cache,
            state,
            mirrors: file.mirrors.into_iter().collect(),
            overrides,
            tree_checkout: None,
            debian: file.debian,
            http_proxy: file.proxy.clone().or_else(|| variable(["http_proxy", "all_proxy", "ALL_PROXY"])),
            https_proxy: file.proxy.or_else(|| variable(["https_proxy", "HTTPS_PROXY", "all_proxy"])),
            no_proxy: variable(["no_proxy", "NO_PROXY", "no_proxy"]),
            certificates: std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
            cargo_home: std::env::var_os("CARGO_HOME")
                .map(PathBuf::from)
                .or_else(|| home.as_ref().map(|h| h.join(".cargo")))
                .ok_or_else(no_home)?,
            access_tokens: nix_conf.pairs("access-tokens"),
            warnings: nix_conf.warnings.clone(),
            registries: registries(xdg("XDG_CONFIG_HOME", ".config").as_deref()),
            path: std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default(),
            firmware: file.firmware,
            substituters,
            trusted_public_keys,
            netrc_file: file.netrc_file.or(netrc),
            link_equal_files: file
                .link_equal_files
                .or(nix_conf.words("auto-optimise-store").map(|words| words == ["true"]))
                .unwrap_or(false),
            aws: Aws::load(home.as_deref()),
            max_jobs: global.jobs.or(file.max_jobs).or(nix_conf.number("max-jobs")).unwrap_or(cores).max(1),
            cores: global
                .cores
                .or(file.cores)
                // None or all, in that file.
                .or(nix_conf.number("cores").filter(|&n| n > 0))
                .unwrap_or(cores)
                .max(1),
        })
    }

    /// Puts overrides of the command line over those of the file; their paths are relative to the current folder.
    pub fn override_more(&mut self, more: &[(String, Replacement)]) -> Result<(), Failure> {
        for (key, replacement) in more {
            let replacement = match replacement {
                Replacement::Path(path) => Replacement::Path(std::path::absolute(path).map_err(|e| {
                    Failure::usage(format!("the override of `{key}`, `{}`: {e}", path.display()))
                })?),
                other => other.clone(),
            };
            if let Replacement::Path(path) = &replacement
                && !path.exists()
            {
                return Err(Failure::usage(format!(
                    "the override of `{key}`, `{}`, does not exist",
                    path.display()
                ))
                .hint("name a folder or an archive"));
            }
            self.overrides.insert(key, replacement);
        }
        Ok(())
    }

    /// What fetching needs to know, apt's and cargo's own settings included.
    pub fn fetch(&self, offline: bool) -> FetchConfig {
        let mut fetch = FetchConfig::new(self.cache.join("fetch"));
        fetch.mirrors = self.mirrors.clone();
        fetch.overrides = self.overrides.clone();
        fetch.debian_mirrors = self
            .debian
            .iter()
            .flat_map(|(suite, bases)| bases.iter().map(|b| (suite.clone(), b.clone())))
            .collect();
        let templates = Path::new("/usr/share/python-apt/templates");
        fetch.apt_sources = apt::machine_sources(Path::new("/etc/apt"), templates);
        let keyrings = [Path::new("/usr/share/keyrings"), Path::new("/etc/apt/trusted.gpg.d")];
        fetch.keyrings = apt::default_keyrings(&fetch.apt_sources, &keyrings);
        fetch.http_proxy = self.http_proxy.clone();
        fetch.https_proxy = self.https_proxy.clone();
        fetch.no_proxy = self.no_proxy.clone();
        fetch.ca_bundle = self.certificates.clone();
        fetch.offline = offline;
        fetch.access_tokens = self.access_tokens.clone();
        fetch.cargo_home = Some(self.cargo_home.clone());
        for (program, name) in
            [(&mut fetch.cargo, "cargo"), (&mut fetch.git, "git"), (&mut fetch.gpgv, "gpgv")]
        {
            if let Some(found) = self.find_program(name) {
                *program = found;
            }
        }
        fetch
    }

    /// The first program of that name on PATH.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.path.iter().map(|folder| folder.join(name)).find(|file| is_executable(file))
    }
}

/// rednix's own registry of flakes, then C++ Nix's of the user and of the machine.
fn registries(folder: Option<&Path>) -> Vec<PathBuf> {
    let user = folder.unwrap_or(Path::new("/nonexistent"));
    ["rednix", "nix"]
        .iter()
        .map(|program| user.join(program).join("registry.json"))
        .chain([PathBuf::from("/etc/nix/registry.json")])
        .collect()
}

fn read_overrides(values: BTreeMap<String, OverrideValue>, folder: &Path) -> Result<Overrides, Failure> {
    let mut overrides = Overrides::default();
    for (key, value) in values {
        let replacement = value.replacement(folder).map_err(|reason| {
            Failure::usage(format!("the override of `{key}` in the configuration is wrong: {reason}")).hint(
                "a value is a path, { crate = \"NAME\", version = \"1.2.3\" }, a list of such, or { git = \"URL\", rev = \"REV\" }",
            )
        })?;
        overrides.insert(&key, replacement);
    }
    Ok(overrides)
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Err(error) => return Err(Failure::usage(format!("cannot read `{}`: {error}", path.display()))),
    };
    toml::from_str(&text).map_err(|error| Failure {
        status: EXIT_USAGE,
        message: format!("the configuration `{}` is wrong", path.display()),
        details: Some(error.to_string()),
        hint: Some(
            "keys are: store, mirrors, overrides, debian, proxy, firmware, max-jobs, cores, link-equal-files, substituters, trusted-public-keys, netrc-file".to_owned(),
        ),
        rotten_pin: false,
        whole: None,
    })
}
