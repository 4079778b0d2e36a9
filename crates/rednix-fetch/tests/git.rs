//! Git sources from local repositories: exact revisions, submodules, mirrors, references.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rednix_events::{Events, Recorder};
use rednix_fetch::git::GitRequest;
use rednix_fetch::{FetchConfig, FetchError, Fetcher};

/// Runs git in a repository with nobody's configuration and a fixed clock.
fn git(folder: &Path, day: u32, arguments: &[&str]) -> String {
    let date = format!("2024-01-{day:02}T00:00:00Z");
    let output = Command::new("git")
        .current_dir(folder)
        .args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([
            ("GIT_AUTHOR_NAME", "a"),
            ("GIT_AUTHOR_EMAIL", "a@b"),
            ("GIT_COMMITTER_NAME", "a"),
            ("GIT_COMMITTER_EMAIL", "a@b"),
        ])
        .envs([("GIT_AUTHOR_DATE", &date), ("GIT_COMMITTER_DATE", &date)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn commit(folder: &Path, day: u32, file: &str, text: &str) -> String {
    fs::write(folder.join(file), text).unwrap();
    git(folder, day, &["add", "-A"]);
    git(folder, day, &["commit", "-qm", text]);
    git(folder, day, &["rev-parse", "HEAD"])
}

struct Bench {
    folder: tempfile::TempDir,
    config: FetchConfig,
}

impl Bench {
    fn new() -> Option<Bench> {
        if Command::new("git").arg("--version").output().is_err() {
            println!("skipped: git is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = FetchConfig::new(folder.path().join("cache"));
        Some(Bench { folder, config })
    }

    fn repository(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        git(&path, 1, &["init", "-q"]);
        path
    }

    fn fetch(&self, url: &str, rev: &str, submodules: bool, to: &str) -> Result<PathBuf, FetchError> {
        let output = self.folder.path().join(to);
        let events: Events = Arc::new(Recorder::default());
        let request = GitRequest {
            url: url.to_owned(),
            rev: rev.to_owned(),
            submodules,
            overrides: Default::default(),
        };
        let tree = Fetcher::new(self.config.clone()).fetch_git(&request, &output, &events)?;
        let (hash, _) =
            rednix_store::nar::hash_path(&output, rednix_store::hash::HashAlgorithm::Sha256).unwrap();
        assert_eq!(tree.hash, hash);
        Ok(output)
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn revisions_and_references() {
    let Some(bench) = Bench::new() else { return };
    let repository = bench.repository("one");
    let first = commit(&repository, 1, "a", "first");
    let second = commit(&repository, 2, "a", "second");
    git(&repository, 2, &["tag", "-a", "-m", "tag", "v1"]);
    git(&repository, 2, &["checkout", "-qb", "side"]);
    let third = commit(&repository, 3, "b", "third");
    git(&repository, 3, &["checkout", "-q", "main"]);
    let url = repository.display().to_string();
    let output = bench.fetch(&url, &first, false, "out1").unwrap();
    assert_eq!(fs::read_to_string(output.join("a")).unwrap(), "first");
    assert_eq!(names(&output), ["a"]);
    let file_url = format!("file://{url}");
    assert_eq!(names(&bench.fetch(&file_url, &third, true, "out2").unwrap()), ["a", "b"]);
    let fetcher = Fetcher::new(bench.config.clone());
    for (reference, before, expected) in [
        ("HEAD", None, &second),
        ("main", None, &second),
        ("v1", None, &second),
        ("side", None, &third),
        ("refs/heads/side", None, &third),
        (first.as_str(), None, &first),
        ("side", Some("2024-01-02T12:00:00Z"), &second),
        ("side", Some("2024-01-01T12:00:00Z"), &first),
    ] {
        assert_eq!(
            &fetcher.resolve_ref(&url, reference, before).unwrap(),
            expected,
            "{reference} {before:?}"
        );
    }
    for (reference, before, words) in
        [("none", None, "no branch or tag"), ("main", Some("2023-01-01"), "no commit before")]
    {
        let error = fetcher.resolve_ref(&url, reference, before).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("hint:"), "{error}");
    }
    for (url, rev, words) in [
        (url.as_str(), "0".repeat(40), "git fetch failed"),
        (url.as_str(), "main".to_owned(), "no whole commit id"),
        ("/absent/repository", first.clone(), "/absent/repository"),
    ] {
        let error = bench.fetch(url, &rev, false, "bad").unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!bench.folder.path().join("bad").exists());
    }
}

#[test]
fn submodules_and_mirrors() {
    let Some(mut bench) = Bench::new() else { return };
    let inner = bench.repository("inner");
    commit(&inner, 1, "i", "inner");
    let middle = bench.repository("middle");
    commit(&middle, 1, "m", "middle");
    git(&middle, 2, &["submodule", "--quiet", "add", "../inner", "deep/inner"]);
    commit(&middle, 2, "m", "with inner");
    let outer = bench.repository("outer");
    commit(&outer, 1, "o", "outer");
    git(&outer, 2, &["submodule", "--quiet", "add", &middle.display().to_string(), "sub"]);
    // The address everyone uses is not reachable here; a mirror is.
    let modules = fs::read_to_string(outer.join(".gitmodules")).unwrap();
    let public = modules.replace(&middle.display().to_string(), "https://git.test/middle");
    fs::write(outer.join(".gitmodules"), public).unwrap();
    let rev = commit(&outer, 3, "o", "with sub");
    bench.config.mirrors =
        vec![("https://git.test/".into(), bench.folder.path().display().to_string() + "/")];
    bench.config.offline = true;
    let output = bench.fetch("https://git.test/outer", &rev, true, "with").unwrap();
    assert_eq!(fs::read_to_string(output.join("sub/deep/inner/i")).unwrap(), "inner");
    assert_eq!(names(&output.join("sub")), [".gitmodules", "deep", "m"]);
    let output = bench.fetch("https://git.test/outer", &rev, false, "without").unwrap();
    assert_eq!(names(&output.join("sub")), Vec::<String>::new());
    let found: Vec<String> = names(&output).into_iter().filter(|name| name == ".git").collect();
    assert!(found.is_empty());
}

/// What a repository says must not run anything or change contents.
#[test]
fn hostile_settings_do_nothing() {
    let Some(bench) = Bench::new() else { return };
    let repository = bench.repository("hostile");
    let mark = bench.folder.path().join("mark");
    fs::write(repository.join(".gitattributes"), "* text eol=crlf filter=evil\n*.x export-ignore\n").unwrap();
    let hook = repository.join(".git/hooks/post-checkout");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
    fs::write(repository.join("b.x"), "kept").unwrap();
    let rev = commit(&repository, 1, "a", "one\ntwo\n");
    let output = bench.fetch(&repository.display().to_string(), &rev, true, "out").unwrap();
    assert!(!mark.exists());
    assert_eq!(names(&output), [".gitattributes", "a", "b.x"]);
    // A link where the submodule should go leads nowhere.
    let sub = bench.repository("sub");
    let sub_rev = commit(&sub, 1, "s", "sub");
    let trap = bench.repository("trap");
    let outside = bench.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, trap.join("way")).unwrap();
    let module = format!("[submodule \"x\"]\n\tpath = way/x\n\turl = {}\n", sub.display());
    fs::write(trap.join(".gitmodules"), module).unwrap();
    git(&trap, 1, &["add", ".gitmodules"]);
    git(&trap, 1, &["update-index", "--add", "--cacheinfo", &format!("160000,{sub_rev},other/x")]);
    git(&trap, 1, &["add", "way"]);
    git(&trap, 1, &["commit", "-qm", "trap"]);
    let rev = git(&trap, 1, &["rev-parse", "HEAD"]);
    let output = bench.fetch(&trap.display().to_string(), &rev, true, "trapped").unwrap();
    assert_eq!(names(&outside), Vec::<String>::new());
    assert!(output.join("way").is_symlink());
}
