//! What was built last: per tree, target and name the derivation, and the one before it. Both are roots, so that
//! their texts and sources are there when somebody asks what changed. Says nothing of results.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rednix_store::hash::Hash;
use rednix_store::path::StorePath;
use rednix_store::store::Store;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::project::Project;

const FORMAT_VERSION: u32 = 1;
/// Things remembered per store; the longest unused goes first.
const RECORDS_MAX: usize = 200;
const FILE_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    format_version: u32,
    records: Vec<Record>,
}

/// One thing that was built, as a user named it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    pub tree: PathBuf,
    pub target: String,
    /// The derivation's name.
    pub name: String,
    pub derivation: String,
    /// The last different one.
    pub before: Option<String>,
    /// Seconds since 1970 of the first build of `derivation`.
    pub built_s: u64,
}

impl Record {
    fn root_name(&self, which: &str) -> String {
        let key = format!("{}\n{}\n{}", self.tree.display(), self.target, self.name);
        format!("last/{}-{which}", &Hash::sha256(key.as_bytes()).to_nix32()[..20])
    }

    pub fn derivations(&self) -> impl Iterator<Item = StorePath> {
        let texts = [Some(&self.derivation), self.before.as_ref()];
        texts
            .into_iter()
            .flatten()
            .filter_map(|text| StorePath::parse(text).ok())
            .collect::<Vec<_>>()
            .into_iter()
    }
}

/// Everything remembered of a project's tree and target, the latest first.
pub fn records(store: &Store, project: &Project) -> Result<Vec<Record>, Failure> {
    let mut records = read(&file_of(store))?.records;
    let tree = project.tree_key();
    records.retain(|record| record.tree == tree && record.target == project.target);
    records.sort_by_key(|record| std::cmp::Reverse(record.built_s));
    Ok(records)
}

/// Notes what has just been built. Costs nothing where it is what was built last.
pub fn remember(store: &Store, project: &Project, derivations: &[StorePath]) -> Result<(), Failure> {
    let file = file_of(store);
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot note what was built in `{}`: {error}", file.display()))
    };
    let known = read(&file)?.records;
    let is_known = |path: &StorePath| {
        known.iter().any(|record| is_of(record, project, path) && record.derivation == path.to_string())
    };
    if derivations.iter().all(is_known) {
        return Ok(());
    }
    let lock = std::fs::File::create(file.with_extension("lock")).map_err(failed)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
    let mut known = read(&file)?;
    known.format_version = FORMAT_VERSION;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    for path in derivations {
        note(&mut known.records, project, path, now);
        let record = known.records.iter().find(|record| is_of(record, project, path)).expect("noted above");
        for (which, derivation) in ["now", "before"].into_iter().zip(record.derivations()) {
            store.add_root(&record.root_name(which), &derivation)?;
        }
    }
    for gone in forget(&mut known.records) {
        store.remove_root(&gone.root_name("now"))?;
        store.remove_root(&gone.root_name("before"))?;
    }
    let text = serde_json::to_vec_pretty(&known).expect("records hold only text and numbers");
    let folder = file.parent().expect("the file lies in a folder");
    tempfile::NamedTempFile::new_in(folder)
        .and_then(|mut temporary| {
            temporary.write_all(&text)?;
            temporary.persist(&file).map_err(|e| e.error)
        })
        .map_err(failed)?;
    Ok(())
}

fn file_of(store: &Store) -> PathBuf {
    store.layout().own_state().join("last.json")
}

fn is_of(record: &Record, project: &Project, path: &StorePath) -> bool {
    record.tree == project.tree_key()
        && record.target == project.target
        && record.name == super::graph::name(path)
}

fn note(records: &mut Vec<Record>, project: &Project, path: &StorePath, now_s: u64) {
    let derivation = path.to_string();
    match records.iter_mut().find(|record| is_of(record, project, path)) {
        Some(record) if record.derivation == derivation => {}
        Some(record) => {
            record.before = Some(std::mem::replace(&mut record.derivation, derivation));
            record.built_s = now_s;
        }
        None => records.push(Record {
            tree: project.tree_key(),
            target: project.target.clone(),
            name: super::graph::name(path).to_owned(),
            derivation,
            before: None,
            built_s: now_s,
        }),
    }
}

/// Takes out what belongs to trees that are gone, and the oldest where there are too many.
fn forget(records: &mut Vec<Record>) -> Vec<Record> {
    records.sort_by_key(|record| std::cmp::Reverse(record.built_s));
    let mut kept = 0;
    let (stay, go) = records.drain(..).partition(|record| {
        kept += usize::from(record.tree.is_dir());
        record.tree.is_dir() && kept <= RECORDS_MAX
    });
    *records = stay;
    go
}

fn read(path: &Path) -> Result<File, Failure> {
    let wrong = |reason: String| {
        Failure::failed(format!("`{}` is not as rednix writes it: {reason}", path.display()))
            .hint("delete the file; then it is not known what was built last, and nothing else is lost")
    };
    let text = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(File::default()),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => return Err(wrong("it is too large".to_owned())),
        _ => std::fs::read(path).map_err(|error| wrong(error.to_string()))?,
    };
    // The version first: a newer file may have anything else in it.
    let version =
        serde_json::from_slice::<serde_json::Value>(&text).map_err(|error| wrong(error.to_string()))?;
    match version["formatVersion"].as_u64() {
        Some(version) if version == u64::from(FORMAT_VERSION) => {}
        _ => return Err(wrong("its format is not one this rednix knows".to_owned())),
    }
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn project(tree: &Path) -> Project {
        Project {
            root: tree.to_owned(),
            tree: tree.to_owned(),
            lock: None,
            debian_lock: tree.to_owned(),
            overrides: vec![],
            work: vec![],
            target: "t".to_owned(),
        }
    }

    #[test]
    fn the_last_and_the_one_before_are_known_and_rooted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("s"), Default::default()).unwrap();
        let add = |text: &str| store.add_text("x.drv", text.as_bytes(), &Default::default()).unwrap();
        let (one, two, three) = (add("1"), add("2"), add("3"));
        let project = project(folder.path());
        for path in [&one, &two, &two, &three] {
            remember(&store, &project, &[(*path).clone()]).unwrap();
        }
        let records = records(&store, &project).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].derivations().collect::<Vec<_>>(), [three.clone(), two.clone()]);
        let rooted: Vec<StorePath> = store
            .roots()
            .unwrap()
            .into_iter()
            .filter(|root| root.link.to_string_lossy().contains("gcroots/rednix/last/"))
            .map(|root| root.path)
            .collect();
        assert_eq!(rooted.len(), 2);
        assert!(rooted.contains(&two) && rooted.contains(&three) && !rooted.contains(&one));
    }

    #[test]
    fn trees_that_are_gone_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("s"), Default::default()).unwrap();
        let path = store.add_text("x.drv", b"1", &Default::default()).unwrap();
        let gone = folder.path().join("gone");
        std::fs::create_dir(&gone).unwrap();
        remember(&store, &project(&gone), std::slice::from_ref(&path)).unwrap();
        std::fs::remove_dir(&gone).unwrap();
        remember(&store, &project(folder.path()), &[path]).unwrap();
        assert_eq!(read(&file_of(&store)).unwrap().records.len(), 1);
    }

    #[test]
    fn newer_and_broken_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("last.json");
        for text in
            ["", "[]", "{\"formatVersion\":2,\"records\":[]}", "{\"formatVersion\":1,\"records\":[{}]}"]
        {
            std::fs::write(&file, text).unwrap();
            assert!(read(&file).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text: String) {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("last.json");
            std::fs::write(&file, text).unwrap();
            let _ = read(&file);
        }
    }
}
