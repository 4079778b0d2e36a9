//! Answers about programs of this host that take time to get, kept in files: a line for each question. A cache that cannot
//! be written only costs the next run the question. What is asked, and how long an answer holds, others know.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::runner::Config;

/// A question: its kind, which is part of the file's name, and all that the answer depends on.
#[derive(Debug)]
pub(crate) struct Question {
    file: Option<PathBuf>,
    key: String,
}

impl Question {
    /// Without a cache folder nothing is kept.
    pub fn new(config: &Config, kind: &str, key: String) -> Self {
        let file = config.cache_folder.as_deref().map(|folder| file(folder, kind, &key));
        Question { file, key }
    }

    /// The kept answer, and when it was given.
    pub fn kept(&self) -> Option<(String, SystemTime)> {
        let file = self.file.as_deref()?;
        let text = std::fs::read_to_string(file).ok()?;
        let (first, answer) = text.split_once('\n')?;
        // Another question with the same hash.
        if first != self.key {
            return None;
        }
        let given = std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()?;
        Some((answer.trim_end().to_owned(), given))
    }

    pub fn keep(&self, answer: &str) {
        let Some((file, folder)) = self.file.as_deref().and_then(|file| Some((file, file.parent()?))) else {
            return;
        };
        let _ = std::fs::create_dir_all(folder);
        let text = format!("{}\n{}\n", self.key, answer.replace('\n', " "));
        if let Ok(temporary) = tempfile::NamedTempFile::new_in(folder)
            && std::fs::write(temporary.path(), text).is_ok()
        {
            let _ = temporary.persist(file);
        }
    }
}

/// `<kind>-<hash of the key>`; the key itself is the first line, so a clash is noticed.
fn file(folder: &Path, kind: &str, key: &str) -> PathBuf {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    folder.join(format!("{kind}-{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_for_their_question_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(vec![], folder.path().into(), folder.path().into());
        let ask = |config: &Config, key: &str| Question::new(config, "kind-1", key.into());
        ask(&config, "key").keep("lost");
        assert_eq!(ask(&config, "key").kept(), None);
        config.cache_folder = Some(folder.path().join("new"));
        let question = ask(&config, "key");
        assert_eq!(question.kept(), None);
        question.keep("two\nlines");
        assert_eq!(question.kept().unwrap().0, "two lines");
        assert_eq!(ask(&config, "other").kept(), None);
        let file = question.file.as_deref().unwrap();
        let other = Question { file: Some(file.into()), key: "of the same hash".into() };
        assert_eq!(other.kept(), None);
        std::fs::write(file, "garbage").unwrap();
        assert_eq!(question.kept(), None);
    }
}
