//! What a report is about: a store path, a derivation, or something of the tree by name.

use std::path::Path;

use rednix_store::path::StorePath;

use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::project::Project;
use crate::report::graph::{Graph, name};
use crate::report::last;
use crate::session::Session;

/// One thing, as far as it is known.
#[derive(Debug, Clone)]
pub struct Subject {
    /// As the user wrote it.
    pub label: String,
    /// Absent for paths that were copied from elsewhere or whose derivation was collected.
    pub derivation: Option<StorePath>,
    /// The store path itself, if it is there.
    pub path: Option<StorePath>,
}

impl Subject {
    pub fn find(session: &Session, project: &Project, graph: &Graph, text: &str) -> Result<Subject, Failure> {
        if let Some(path) = store_path(graph, text) {
            return Subject::of_path(graph, text, path);
        }
        if let Some(of) = text.strip_prefix("last:") {
            return Subject::last(session, project, graph, text, of);
        }
        let wanted = evaluation::wanted(session, &[Target::reported(project, text)])?;
        let one = wanted.into_iter().next().expect("an evaluation without a derivation is an error");
        let path = graph.output(&one.derivation, &one.output)?;
        Ok(Subject { label: text.to_owned(), derivation: Some(one.derivation), path })
    }

    fn of_path(graph: &Graph, text: &str, path: StorePath) -> Result<Subject, Failure> {
        let label = text.to_owned();
        if path.is_derivation() {
            let derivation = graph.get(&path)?;
            let output = derivation.outputs.keys().next().cloned();
            let out = if derivation.outputs.contains_key("out") { Some("out".to_owned()) } else { output };
            let built = match &out {
                Some(output) => graph.output(&path, output)?,
                None => None,
            };
            return Ok(Subject { label, derivation: Some(path), path: built });
        }
        let info = graph.store().path_info(&path)?.ok_or_else(|| {
            Failure::usage(format!("`{path}` is not in the store"))
                .hint("it may have been collected; build it again")
        })?;
        let deriver = match info.deriver {
            Some(deriver) if graph.store().is_valid(&deriver)? => Some(deriver),
            _ => None,
        };
        Ok(Subject { label, derivation: deriver, path: Some(path) })
    }

    /// The thing as it was remembered when it, or a system with it, was built last.
    fn last(
        session: &Session,
        project: &Project,
        graph: &Graph,
        text: &str,
        of: &str,
    ) -> Result<Subject, Failure> {
        let wanted = evaluation::wanted(session, &[Target::reported(project, of)])?;
        let wanted_name = name(&wanted[0].derivation).to_owned();
        for record in last::records(graph.store(), project)? {
            for root in record.derivations().take(1) {
                if let Some(found) = graph.closure(&root)?.into_iter().find(|path| name(path) == wanted_name)
                {
                    let output = wanted[0].output.clone();
                    let path = graph.output(&found, &output)?;
                    let label = text.to_owned();
                    return Ok(Subject { label, derivation: Some(found), path });
                }
            }
        }
        Err(Failure::failed(format!(
            "`{of}` was not built from this tree yet, as far as this store remembers"
        )))
    }

    /// The store path, where the report needs it to be there.
    pub fn built(&self) -> Result<&StorePath, Failure> {
        self.path.as_ref().ok_or_else(|| {
            Failure::failed(format!("`{}` is not built", self.label))
                .hint(format!("`rednix build {}`, or `rednix image` for a system", self.label))
        })
    }
}

/// A path of the store, or a link to one. A bare word is a name, whatever lies in the current folder, unless it is a
/// link into the store.
pub fn store_path(graph: &Graph, text: &str) -> Option<StorePath> {
    let path = Path::new(text);
    if let Some(found) = graph.store().store_path_of(path) {
        return Some(found);
    }
    let real = std::fs::canonicalize(path).ok()?;
    if !text.contains('/') && !path.is_symlink() {
        return None;
    }
    graph.store().store_path_of(&real)
}
