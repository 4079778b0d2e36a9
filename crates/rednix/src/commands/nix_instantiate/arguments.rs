//! The command line of nix-instantiate, and settings as it takes them: by option, by `--option`, by `NIX_CONFIG`.
//! Evaluates nothing.

use std::ffi::OsString;

use rednix_eval::{Lint, SearchEntry, Settings};

use crate::failure::Failure;

/// What the command line asks for.
#[derive(Default)]
pub struct Request {
    pub eval: bool,
    pub parse: bool,
    pub strict: bool,
    pub output: Output,
    pub no_location: bool,
    pub expression: bool,
    pub standard_input: bool,
    pub find_file: bool,
    pub read_write: bool,
    pub dry_run: bool,
    pub version: bool,
    pub help: bool,
    pub attributes: Vec<String>,
    /// By name; a later one takes the place of an earlier one.
    pub arguments: Vec<(String, Argument)>,
    pub search_path: Vec<String>,
    pub files: Vec<String>,
    pub store: Option<String>,
    /// Where a root that keeps the first derivation goes.
    pub root: Option<String>,
    pub show_trace: bool,
    pub pipe_operators: bool,
    pub toml_timestamps: bool,
    pub pure: bool,
    /// Only what the search path names may be read.
    pub restricted: bool,
    pub max_call_depth: Option<u32>,
    pub trace_verbose: bool,
    pub lints: rednix_eval::Lints,
    pub nix_path: Option<String>,
    pub system: Option<String>,
    pub unknown_settings: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Output {
    #[default]
    Nix,
    Raw,
    Json,
    Xml,
}

pub enum Argument {
    Expression(String),
    Text(String),
    File(String),
    StandardInput,
}

/// Options that change nothing here: they are about building, or about what this program always does.
const WITHOUT_EFFECT: &[&str] = &[
    "--indirect",
    "--verbose",
    "-v",
    "--quiet",
    "--debug",
    "--no-build-output",
    "-Q",
    "--keep-failed",
    "-K",
    "--keep-going",
    "-k",
    "--fallback",
    "--no-gc-warning",
    "--repair",
];

/// The same, with the number of words that follow.
const WITHOUT_EFFECT_VALUED: &[(&str, usize)] = &[
    ("--log-format", 1),
    ("--max-jobs", 1),
    ("-j", 1),
    ("--cores", 1),
    ("--max-silent-time", 1),
    ("--timeout", 1),
    ("--override-flake", 2),
    ("--eval-store", 1),
];

/// C++ Nix's settings that are true or false; each is also an option `--NAME` and `--no-NAME`.
const SWITCHES: &[&str] = &[
    "abort-on-warn",
    "accept-flake-config",
    "allow-dirty",
    "allow-dirty-locks",
    "allow-import-from-derivation",
    "allow-new-privileges",
    "allow-symlinked-store",
    "allow-unsafe-native-code-during-evaluation",
    "always-allow-substitutes",
    "auto-allocate-uids",
    "auto-optimise-store",
    "builders-use-substitutes",
    "compress-build-log",
    "debugger-on-trace",
    "debugger-on-warn",
    "eval-cache",
    "fallback",
    "filter-syscalls",
    "fsync-metadata",
    "fsync-store-paths",
    "http2",
    "ignore-try",
    "impersonate-linux-26",
    "keep-build-log",
    "keep-derivations",
    "keep-env-derivations",
    "keep-failed",
    "keep-going",
    "keep-outputs",
    "preallocate-contents",
    "print-missing",
    "pure-eval",
    "require-drop-supplementary-groups",
    "require-sigs",
    "restrict-eval",
    "run-diff-hook",
    "sandbox-fallback",
    "show-trace",
    "substitute",
    "sync-before-registering",
    "trace-function-calls",
    "trace-import-from-derivation",
    "trace-verbose",
    "trust-tarballs-from-git-forges",
    "use-case-hack",
    "use-cgroups",
    "use-registries",
    "use-sqlite-wal",
    "use-xdg-base-directories",
    "warn-dirty",
    "warn-short-path-literals",
];

/// Its other settings; each is also an option `--NAME VALUE`, and where it is a list `--extra-NAME VALUE`.
const VALUES: &[&str] = &[
    "access-tokens",
    "allowed-impure-host-deps",
    "allowed-uris",
    "allowed-users",
    "bash-prompt",
    "bash-prompt-prefix",
    "bash-prompt-suffix",
    "build-dir",
    "build-hook",
    "build-poll-interval",
    "build-users-group",
    "builders",
    "commit-lock-file-summary",
    "connect-timeout",
    "cores",
    "diff-hook",
    "download-attempts",
    "download-buffer-size",
    "download-speed",
    "eval-profile-file",
    "eval-profiler",
    "eval-profiler-frequency",
    "eval-system",
    "experimental-features",
    "extra-platforms",
    "flake-registry",
    "gc-reserved-space",
    "hashed-mirrors",
    "http-connections",
    "id-count",
    "ignored-acls",
    "impure-env",
    "json-log-path",
    "lint-absolute-path-literals",
    "lint-short-path-literals",
    "lint-url-literals",
    "log-lines",
    "max-build-log-size",
    "max-call-depth",
    "max-free",
    "max-jobs",
    "max-silent-time",
    "max-substitution-jobs",
    "min-free",
    "min-free-check-interval",
    "nar-buffer-size",
    "narinfo-cache-negative-ttl",
    "narinfo-cache-positive-ttl",
    "netrc-file",
    "nix-path",
    "plugin-files",
    "post-build-hook",
    "pre-build-hook",
    "sandbox",
    "sandbox-build-dir",
    "sandbox-dev-shm-size",
    "sandbox-paths",
    "secret-key-files",
    "ssl-cert-file",
    "stalled-download-timeout",
    "start-id",
    "substituters",
    "system",
    "system-features",
    "tarball-ttl",
    "trusted-public-keys",
    "trusted-substituters",
    "trusted-users",
    "upgrade-nix-store-path-url",
    "user-agent-suffix",
    "warn-large-path-threshold",
];

impl Request {
    /// The environment's wishes, then the command line's.
    pub fn read(arguments: &[OsString]) -> Result<Request, Failure> {
        let mut request = Request {
            store: std::env::var("NIX_REMOTE").ok().filter(|store| store.starts_with("dummy")),
            ..Request::default()
        };
        for line in std::env::var("NIX_CONFIG").unwrap_or_default().lines() {
            if let Some((name, value)) = line.split('#').next().unwrap_or_default().split_once('=') {
                request.set(name.trim(), value.trim())?;
            }
        }
        let words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
        let mut words = Words(spread(words).into_iter().collect());
        while let Some(word) = words.0.pop_front() {
            if !request.flag(&word)
                && !request.valued(&word, &mut words)?
                && !request.setting(&word, &mut words)?
            {
                if word.starts_with('-') && word != "-" {
                    return Err(usage(format!("unrecognised flag '{word}'")));
                }
                if word == "-" {
                    request.standard_input = true;
                } else {
                    request.files.push(word);
                }
            }
        }
        Ok(request)
    }

    fn flag(&mut self, word: &str) -> bool {
        match word {
            "--eval" | "--eval-only" => self.eval = true,
            "--parse" | "--parse-only" => (self.parse, self.eval) = (true, true),
            "--strict" => self.strict = true,
            "--json" => self.output = Output::Json,
            "--xml" => self.output = Output::Xml,
            "--raw" => self.output = Output::Raw,
            "--no-location" => self.no_location = true,
            "--read-write-mode" => self.read_write = true,
            "--readonly-mode" | "--dry-run" => self.dry_run = true,
            "--find-file" => self.find_file = true,
            "--expr" | "-E" => self.expression = true,
            "--impure" => self.pure = false,
            "--version" => self.version = true,
            "--help" => self.help = true,
            _ => return WITHOUT_EFFECT.contains(&word),
        }
        true
    }

    fn valued(&mut self, word: &str, words: &mut Words) -> Result<bool, Failure> {
        match word {
            "-A" | "--attr" => self.attributes.push(words.after(word, 1)?.remove(0)),
            "-I" | "--include" => self.search_path.push(words.after(word, 1)?.remove(0)),
            "--store" => self.store = Some(words.after(word, 1)?.remove(0)),
            "--add-root" => self.root = Some(words.after(word, 1)?.remove(0)),
            "--option" => {
                let pair = words.after(word, 2)?;
                self.set(&pair[0], &pair[1])?;
            }
            "--arg" | "--argstr" | "--arg-from-file" => {
                let pair: [String; 2] = words.after(word, 2)?.try_into().expect("two were asked for");
                let [name, value] = pair;
                let argument = match word {
                    "--arg" => Argument::Expression(value),
                    "--argstr" => Argument::Text(value),
                    _ => Argument::File(value),
                };
                self.give(name, argument);
            }
            "--arg-from-stdin" => {
                let name = words.after(word, 1)?.remove(0);
                self.give(name, Argument::StandardInput);
            }
            other => match WITHOUT_EFFECT_VALUED.iter().find(|(name, _)| *name == other) {
                Some((_, count)) => drop(words.after(word, *count)?),
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    fn give(&mut self, name: String, argument: Argument) {
        self.arguments.retain(|(given, _)| *given != name);
        self.arguments.push((name, argument));
    }

    /// A setting under its own name.
    fn setting(&mut self, word: &str, words: &mut Words) -> Result<bool, Failure> {
        let Some(name) = word.strip_prefix("--") else { return Ok(false) };
        if SWITCHES.contains(&name) {
            self.set(name, "true")?;
            return Ok(true);
        }
        if let Some(positive) = name.strip_prefix("no-").filter(|positive| SWITCHES.contains(positive)) {
            self.set(positive, "false")?;
            return Ok(true);
        }
        if VALUES.contains(&name.strip_prefix("extra-").unwrap_or(name)) {
            let value = words.after(word, 1)?.remove(0);
            self.set(name, &value)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Takes a setting that means something here; the others are known and change nothing.
    fn set(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let switch = || match value {
            "true" | "yes" | "1" => Ok(true),
            "false" | "no" | "0" => Ok(false),
            _ => Err(usage(format!("Boolean setting '{name}' has invalid value '{value}'"))),
        };
        let lint = || {
            let wrong = || {
                format!("option '{name}' has invalid value '{value}' (expected 'ignore', 'warn', or 'fatal')")
            };
            Lint::parse(value).ok_or_else(|| usage(wrong()))
        };
        match name {
            "show-trace" => self.show_trace = switch()?,
            "pure-eval" => self.pure = switch()?,
            "trace-verbose" => self.trace_verbose = switch()?,
            "max-call-depth" => {
                let depth = value.parse();
                self.max_call_depth =
                    Some(depth.map_err(|_| usage(format!("setting '{name}' has invalid value '{value}'")))?);
            }
            "experimental-features" | "extra-experimental-features" => {
                let has = |feature| value.split_whitespace().any(|word| word == feature);
                self.pipe_operators |= has("pipe-operators");
                self.toml_timestamps |= has("parse-toml-timestamps");
            }
            "lint-url-literals" => self.lints.urls = lint()?,
            "lint-short-path-literals" => self.lints.short_paths = lint()?,
            "lint-absolute-path-literals" => self.lints.absolute_paths = lint()?,
            "warn-short-path-literals" => {
                self.lints.short_paths = if switch()? { Lint::Warn } else { Lint::Ignore };
            }
            "restrict-eval" => self.restricted = switch()?,
            "eval-system" | "system" if !value.is_empty() => self.system = Some(value.to_owned()),
            "nix-path" => self.nix_path = Some(value.to_owned()),
            other => {
                let known = |name| SWITCHES.contains(&name) || VALUES.contains(&name);
                if !known(other.strip_prefix("extra-").unwrap_or(other)) {
                    self.unknown_settings.push(other.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Settings of the evaluation, after those of the environment.
    pub fn settings(&self, mut settings: Settings) -> Settings {
        if let Some(path) = &self.nix_path
            && std::env::var_os("NIX_PATH").is_none()
        {
            settings.search_path = path.split_whitespace().map(SearchEntry::parse).collect();
        }
        let given = self.search_path.iter().map(|entry| SearchEntry::parse(entry));
        settings.search_path = given.chain(settings.search_path).collect();
        settings.read_only = self.dry_run
            || (self.eval && !self.read_write)
            || self.store.as_deref().is_some_and(|store| store.starts_with("dummy"));
        settings.pure = self.pure;
        settings.pipe_operators = self.pipe_operators;
        settings.toml_timestamps = self.toml_timestamps;
        settings.trace_verbose = self.trace_verbose;
        settings.lints = self.lints;
        settings.system = self.system.clone();
        settings.max_call_depth = self.max_call_depth.unwrap_or(settings.max_call_depth);
        settings
    }
}

/// What is left of the command line.
struct Words(std::collections::VecDeque<String>);

impl Words {
    /// The words an option takes.
    fn after(&mut self, option: &str, count: usize) -> Result<Vec<String>, Failure> {
        if self.0.len() < count {
            if matches!(option, "-A" | "--attr" | "--add-root") {
                return Err(usage(format!("'{option}' requires an argument")));
            }
            return Err(usage(format!(
                "flag '{option}' requires {count} argument(s), but only {} were given",
                self.0.len()
            )));
        }
        Ok(self.0.drain(..count).collect())
    }
}

/// Short options written together or with their value are parted: `-Ifoo`, `-vv`.
fn spread(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = Vec::new();
    for word in words {
        let mut letters = word.chars();
        let short = letters.next() == Some('-') && letters.next().is_some_and(|c| c.is_ascii_alphabetic());
        if !short || word.len() == 2 {
            all.push(word);
        } else if word.starts_with("-I") || word.starts_with("-j") {
            all.extend([word[..2].to_owned(), word[2..].to_owned()]);
        } else if word[1..].chars().all(|letter| letter.is_ascii_alphabetic()) {
            all.extend(word[1..].chars().map(|letter| format!("-{letter}")));
        } else {
            all.push(word);
        }
    }
    all
}

fn usage(message: String) -> Failure {
    Failure::usage(message).hint("Try 'nix-instantiate --help' for more information.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Request, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Request::read(&words).map_err(|failure| failure.message)
    }

    #[test]
    fn words_become_a_request() {
        let request =
            read(&["--eval", "-E", "1", "-Ia=b", "-I", "c", "--arg", "x", "1", "--argstr", "x", "2", "-vvv"])
                .unwrap();
        assert!(request.eval && request.expression);
        assert_eq!(request.files, ["1"]);
        assert_eq!(request.search_path, ["a=b", "c"]);
        assert_eq!(request.arguments.len(), 1);
        let request =
            read(&["--option", "max-call-depth", "7", "--no-show-trace", "--max-jobs", "3", "-"]).unwrap();
        assert_eq!(request.max_call_depth, Some(7));
        assert!(request.standard_input && request.files.is_empty());
    }

    #[test]
    fn what_is_unknown_or_cut_short_is_said() {
        assert_eq!(read(&["--evaluate"]).err().as_deref(), Some("unrecognised flag '--evaluate'"));
        let short = "flag '--arg' requires 2 argument(s), but only 1 were given";
        assert_eq!(read(&["--arg", "x"]).err().as_deref(), Some(short));
    }
}
