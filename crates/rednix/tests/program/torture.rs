//! The program killed (SIGKILL, its whole process group) at random moments of builds, adds, collections, optimising,
//! archiving, restoring, and copies to and from a cache, with equal files linked as they come or not. After each kill
//! the store must be right as it is: no registered path with wrong contents, nothing lost that was finished; and so
//! must the cache, where what is announced is there whole. `REDNIX_TORTURE_KILLS` says how often, `REDNIX_TORTURE_SEED` how.

use std::collections::BTreeMap;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rednix_store::hash::Hash;
use rednix_store::path::StorePath;
use rednix_store::store::{GcOptions, OpenOptions, Store, VerifyOptions};

use crate::Outcome;
use crate::support::{call, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 1] = [("killed_at_random_moments", killed_at_random_moments)];

/// Kills in an ordinary test run.
const KILLS: u64 = 25;
/// No moment later than this after the start is waited for.
const WAIT_MS_MAX: u64 = 1500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Build,
    Add,
    Collect,
    Optimise,
    Archive,
    Restore,
    Push,
    /// A build that a cache may have done already.
    Fetch,
}

const ALL: [Work; 8] = [
    Work::Build,
    Work::Add,
    Work::Collect,
    Work::Optimise,
    Work::Archive,
    Work::Restore,
    Work::Push,
    Work::Fetch,
];

struct Torture {
    folder: tempfile::TempDir,
    random: u64,
    /// Links made by what was finished, and their paths.
    finished: BTreeMap<PathBuf, StorePath>,
    /// How long each kind of work takes when it is left alone, milliseconds.
    durations_ms: BTreeMap<Work, u64>,
    kills: BTreeMap<Work, u64>,
    next: u64,
}

/// Something running, and the link it makes if it gets that far.
struct Running {
    work: Work,
    child: Child,
    link: Option<PathBuf>,
    /// Its standard error.
    said: PathBuf,
    started: Instant,
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn killed_at_random_moments() -> Outcome {
    let goal = number("REDNIX_TORTURE_KILLS", KILLS);
    let seed = number("REDNIX_TORTURE_SEED", 1);
    let mut torture = Torture {
        folder: scratch(),
        random: seed,
        finished: BTreeMap::new(),
        durations_ms: BTreeMap::new(),
        kills: BTreeMap::new(),
        next: 0,
    };
    torture.make_layer()?;
    torture.make_configurations()?;
    if let Some(reason) = torture.warm_up()? {
        return Ok(Some(reason));
    }
    let mut done = 0;
    while done < goal {
        done += torture.round().map_err(|message| format!("seed {seed}, after {done} kills: {message}"))?;
    }
    torture.end()?;
    if goal > KILLS {
        eprintln!("{done} kills: {:?}", torture.kills);
    }
    Ok(None)
}

impl Torture {
    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn open(&self) -> Result<Store, String> {
        Store::open(self.root(), OpenOptions::default()).map_err(|error| error.to_string())
    }

    /// A root for builders: the machine's bash and what it is linked with.
    fn make_layer(&self) -> Result<(), String> {
        let layer = self.folder.path().join("layer");
        let copy = |from: &Path, to: &Path| {
            std::fs::create_dir_all(to.parent().expect("a file lies in a folder"))
                .and_then(|()| std::fs::copy(from, to))
                .map(drop)
                .map_err(|error| format!("{}: {error}", from.display()))
        };
        copy(Path::new("/bin/bash"), &layer.join("usr/bin/bash"))?;
        let listed =
            std::process::Command::new("ldd").arg("/bin/bash").output().map_err(|e| e.to_string())?;
        for word in String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|w| w.starts_with('/'))
        {
            copy(Path::new(word), &layer.join(word.trim_start_matches('/')))?;
        }
        for index in 0..40 {
            let folder = self.folder.path().join(format!("source/{}", index % 4));
            std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
            let text = format!("{}\n", index % 7).repeat(100 + index);
            std::fs::write(folder.join(index.to_string()), text).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Both sign what they push and believe that signature; the second links equal files.
    fn make_configurations(&self) -> Result<(), String> {
        let made = run(&mut call(&["cache", "keygen", "torture-1"]));
        made.expect(0, &[])?;
        let public = made.stderr.rsplit(": ").next().unwrap_or_default().trim().to_owned();
        write(&self.folder.path().join("key"), &made.stdout);
        for (number, more) in ["", "link-equal-files = true\n"].into_iter().enumerate() {
            let file = self.folder.path().join(format!("config-{number}/rednix/config.toml"));
            write(&file, &format!("trusted-public-keys = [\"{public}\"]\n{more}"));
        }
        Ok(())
    }

    fn cache(&self) -> String {
        format!("file://{}", self.folder.path().join("cache").display())
    }

    /// Two floating derivations, one from the other; few different ones, so that later rounds meet what earlier
    /// ones left.
    fn expression(&mut self) -> String {
        let (low, high) = (self.below(6), self.below(4));
        let layer = self.folder.path().join("layer");
        format!(
            "let one = name: script: more: derivation ({{ inherit name; system = \"x86_64-linux\"; \
             builder = \"/usr/bin/bash\"; args = [ \"-ec\" script ]; rednixRoot = \"${{{}}}\"; PATH = \"/usr/bin\"; \
             requiredSystemFeatures = \"rednix\"; __contentAddressed = true; outputHashMode = \"recursive\"; \
             outputHashAlgo = \"sha256\"; }} // more); \
             low = one \"low\" \"echo {low} > $out\" {{ }}; \
             in one \"high\" \"echo {high} $low > $out\" {{ inherit low; }}",
            layer.display()
        )
    }

    fn start(&mut self, work: Work) -> Result<Running, String> {
        self.next += 1;
        let link = self.folder.path().join(format!("link-{}", self.next));
        let said = self.folder.path().join(format!("said-{}", self.next % 4));
        let (link_text, source) = (link.display().to_string(), self.folder.path().join("source"));
        let mut arguments: Vec<String> = match work {
            Work::Build => vec!["build".into(), "--expr".into(), self.expression(), "-o".into(), link_text],
            Work::Fetch => {
                let (expression, cache) = (self.expression(), self.cache());
                let from = ["build", "--substituter", &cache, "--expr", &expression, "-o", &link_text];
                from.map(str::to_owned).into()
            }
            Work::Push => {
                let (cache, key) = (self.cache(), self.folder.path().join("key").display().to_string());
                ["cache", "push", &cache, "--all", "--key", &key].map(str::to_owned).into()
            }
            Work::Add => {
                // Changed each time in one file, so that most of it is there already.
                let mark = self.below(5).to_string();
                // Replaced, not written to: another one may be reading it.
                let draft = self.folder.path().join("mark");
                std::fs::write(&draft, mark).map_err(|e| e.to_string())?;
                std::fs::rename(&draft, source.join("mark")).map_err(|e| e.to_string())?;
                let source = source.display().to_string();
                vec!["store".into(), "add".into(), source, "-o".into(), link_text]
            }
            Work::Collect => vec!["gc".into()],
            Work::Optimise => vec!["store".into(), "optimise".into()],
            Work::Archive => vec!["store".into(), "archive".into()],
            Work::Restore => {
                let archived: Vec<StorePath> = {
                    let store = self.open()?;
                    store.archived_paths().map_err(|e| e.to_string())?.into_keys().collect()
                };
                match archived.get(self.below(archived.len() as u64) as usize) {
                    Some(path) => vec!["store".into(), "restore".into(), path.to_string()],
                    None => vec!["store".into(), "archive".into()],
                }
            }
        };
        arguments.extend(["--store".to_owned(), self.root().display().to_string()]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let configuration = format!("config-{}", self.below(2));
        let configuration = self.folder.path().join(configuration);
        let child = call(&arguments)
            .env("XDG_CONFIG_HOME", configuration)
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said).map_err(|e| e.to_string())?)
            .spawn()
            .map_err(|e| e.to_string())?;
        let link = matches!(work, Work::Build | Work::Add | Work::Fetch).then_some(link);
        Ok(Running { work, child, link, said, started: Instant::now() })
    }

    /// Does everything once, undisturbed, to learn how long it takes.
    fn warm_up(&mut self) -> Result<Option<String>, String> {
        for work in ALL {
            let mut running = self.start(work)?;
            let status = running.child.wait().map_err(|e| e.to_string())?;
            let took_ms = running.started.elapsed().as_millis() as u64;
            if work == Work::Build && !status.success() {
                return Ok(Some("a sandbox with this machine's bash cannot be had".to_owned()));
            }
            if !status.success() {
                return Err(format!("{work:?} fails undisturbed: {status}"));
            }
            self.durations_ms.insert(work, took_ms.clamp(5, WAIT_MS_MAX));
            self.note(&running)?;
        }
        Ok(None)
    }

    /// Remembers what finished work promised to keep.
    fn note(&mut self, running: &Running) -> Result<(), String> {
        let Some(link) = &running.link else { return Ok(()) };
        let target = std::fs::read_link(link)
            .map_err(|e| format!("it ended well and left no link `{}`: {e}", link.display()))?;
        let store = self.open()?;
        let path = store.store_path_of(&target).ok_or("the link leads elsewhere")?;
        self.finished.insert(link.clone(), path);
        Ok(())
    }

    /// Starts one or two things at once, kills them, and looks at the store. Returns how many were killed.
    fn round(&mut self) -> Result<u64, String> {
        if self.finished.len() > 6 {
            let at = self.below(self.finished.len() as u64) as usize;
            let link = self.finished.keys().nth(at).expect("it is that long").clone();
            std::fs::remove_file(&link).map_err(|e| e.to_string())?;
            self.finished.remove(&link);
        }
        let mut all = Vec::new();
        for _ in 0..1 + self.below(2) {
            let work = match self.below(14) {
                0..=3 => Work::Build,
                4 | 5 => Work::Add,
                6 | 7 => Work::Collect,
                8 => Work::Optimise,
                9 => Work::Archive,
                10 => Work::Restore,
                11 | 12 => Work::Fetch,
                _ => Work::Push,
            };
            all.push(self.start(work)?);
        }
        let typical_ms = all.iter().map(|running| self.durations_ms[&running.work]).max().unwrap_or(1);
        std::thread::sleep(Duration::from_micros(self.below(typical_ms * 1000)));
        let mut killed = 0;
        for mut running in all {
            let group = rustix::process::Pid::from_child(&running.child);
            // Nothing to kill where it ended by itself.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            let status = running.child.wait().map_err(|e| e.to_string())?;
            if status.signal() == Some(9) {
                killed += 1;
                *self.kills.entry(running.work).or_default() += 1;
            } else if status.success() {
                self.note(&running)?;
            } else {
                let said = std::fs::read_to_string(&running.said).unwrap_or_default();
                if running.work == Work::Restore && said.contains("that it needs was deleted") {
                    // An earlier round archived something while what it refers to was still in use.
                    continue;
                }
                return Err(format!("{:?} failed by itself: {status}\n{said}", running.work));
            }
        }
        self.look()?;
        self.look_into_cache()?;
        Ok(killed)
    }

    /// Whoever reads an entry of the cache finds what it announces, whole.
    fn look_into_cache(&self) -> Result<(), String> {
        let cache = self.folder.path().join("cache");
        let Ok(entries) = std::fs::read_dir(&cache) else { return Ok(()) };
        for entry in entries {
            let file = entry.map_err(|e| e.to_string())?.path();
            if file.extension().is_none_or(|extension| extension != "narinfo") {
                continue;
            }
            let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
            let field = |name: &str| {
                let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                found.ok_or_else(|| format!("`{}` says no {name}: {text}", file.display()))
            };
            let archive = std::fs::read(cache.join(field("URL")?)).map_err(|e| format!("{text}: {e}"))?;
            let wanted = Hash::parse_any(field("FileHash")?, None).map_err(|e| e.to_string())?;
            if Hash::sha256(&archive) != wanted {
                return Err(format!("`{}` is announced and is not whole", field("URL")?));
            }
        }
        Ok(())
    }

    /// The store as the next start finds it.
    fn look(&self) -> Result<(), String> {
        let store = self.open()?;
        let report = store.verify(VerifyOptions::default()).map_err(|e| e.to_string())?;
        if !report.is_clean() {
            return Err(format!("wrong paths: {:?}", report.problems));
        }
        for (link, path) in &self.finished {
            if !store.is_valid(path).map_err(|e| e.to_string())? {
                return Err(format!("`{path}` was finished, `{}` keeps it, and it is lost", link.display()));
            }
        }
        Ok(())
    }

    /// Work goes on, the peer agrees, and without roots nothing is left.
    fn end(&mut self) -> Result<(), String> {
        self.warm_up()?;
        self.look()?;
        crate::support::verify(&self.root())?;
        for path in self.open()?.archived_paths().map_err(|e| e.to_string())?.keys() {
            if !self.open()?.check_archived(path).map_err(|e| e.to_string())? {
                return Err(format!("`{path}` is damaged in the archive"));
            }
        }
        // Those too whose makers were killed after they had made them.
        for entry in std::fs::read_dir(self.folder.path()).map_err(|e| e.to_string())? {
            let path = entry.map_err(|e| e.to_string())?.path();
            if path.is_symlink() {
                std::fs::remove_file(&path).map_err(|e| e.to_string())?;
            }
        }
        let store = self.open()?;
        store.gc(&GcOptions::default()).map_err(|e| e.to_string())?;
        let left: Vec<_> = store.contents().entries().map_err(|e| e.to_string())?;
        let left: Vec<_> = left.iter().filter(|entry| entry.name != ".links").collect();
        let valid = store.all_valid_paths().map_err(|e| e.to_string())?;
        if left.is_empty() && valid.is_empty() { Ok(()) } else { Err(format!("left: {left:?} {valid:?}")) }
    }
}
