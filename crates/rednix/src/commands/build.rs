//! `rednix build`: packages or attributes → store paths and a link that keeps them.

use std::path::PathBuf;

use crate::cli::BuildArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::flake::Installable;
use crate::project::Project;
use crate::relock;
use crate::session::{Session, Wanted};

use super::{print, rebuild};

pub fn run(session: &Session, arguments: &BuildArgs) -> Result<(), Failure> {
    let targets = |project: &Project| -> Vec<Target> {
        if let Some(expression) = &arguments.expr {
            return vec![Target::expression(expression)];
        }
        let named = |name: &String| match Installable::is_named(project, name) {
            true => Target::flake(name, &arguments.lock_flags),
            false => Target::installable(project, name),
        };
        arguments.installables.iter().map(named).collect()
    };
    if arguments.expr.is_none() && arguments.installables.is_empty() {
        return Err(
            Failure::usage("nothing to build was named").hint("rednix build NAME…, or --expr EXPRESSION")
        );
    }
    let project = Project::find(&session.config, &arguments.tree)?;
    if arguments.dry_run {
        for wanted in evaluation::wanted(session, &targets(&project))? {
            print(&format!("{}\n", wanted.derivation))?;
        }
        return Ok(());
    }
    if arguments.rebuild {
        return relock::building(session, project, arguments.tree.locked, |project| {
            rebuild::run(session, &evaluation::wanted(session, &targets(project))?, false, arguments.keep)
        });
    }
    let paths = relock::building(session, project, arguments.tree.locked, |project| {
        let wanted: Vec<Wanted> = evaluation::wanted(session, &targets(project))?;
        let paths = session.build(&wanted)?;
        if arguments.expr.is_none() {
            session.remember(project, &wanted)?;
        }
        Ok(paths)
    })?;
    let store = session.store()?;
    session.view.finish();
    for (number, path) in paths.iter().enumerate() {
        if !arguments.no_link {
            let mut link = arguments.out_link.clone().into_os_string();
            if number > 0 {
                link.push(format!("-{}", number + 1));
            }
            store.add_indirect_root(&PathBuf::from(link), path)?;
        }
        print(&format!("{}\n", store.real_path(path).display()))?;
    }
    Ok(())
}
