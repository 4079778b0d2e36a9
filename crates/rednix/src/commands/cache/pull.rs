//! `rednix cache pull`: named store paths from caches, or from another store, into this one.

use std::collections::BTreeSet;
use std::path::Path;

use rednix_cache::cache::Address;
use rednix_store::path::StorePath;

use crate::cli::CachePullArgs;
use crate::failure::Failure;
use crate::interrupt;
use crate::session::Session;
use crate::substituting::{self, Substituting};

use super::print;

pub fn run(session: &Session, arguments: &CachePullArgs) -> Result<(), Failure> {
    let mut paths = BTreeSet::new();
    for text in &arguments.paths {
        let path = StorePath::parse(text).map_err(|error| Failure::usage(error.to_string()))?;
        paths.insert(path);
    }
    for text in &arguments.from {
        let address = Address::parse(text).map_err(|error| substituting::usage(&error))?;
        if let Some(folder) = address.url.strip_prefix("file://")
            && !Path::new(folder).is_dir()
        {
            return Err(Failure::usage(format!("cannot pull from `{text}`: there is no folder `{folder}`"))
                .hint("is it written right, and what it is on mounted?"));
        }
    }
    let caches = match arguments.from.is_empty() {
        true => session.substitute()?,
        false => {
            let mut config = session.config.clone();
            config.substituters.clone_from(&arguments.from);
            let cancelled = interrupt::flag();
            std::sync::Arc::new(Substituting::open(
                &config,
                session.global.offline,
                session.events(),
                cancelled,
            )?)
        }
    };
    if caches.is_empty() {
        return Err(Failure::usage("no cache is configured to pull from")
            .hint("`--from ADDRESS`, or `substituters` in config.toml"));
    }
    let store = session.store()?;
    interrupt::handle()?;
    store.add_temp_roots(&paths)?;
    let pulled = caches.pull(&store, &paths);
    // What came survives a power cut from here on, also where something else failed.
    store.flush_if_needed()?;
    let pulled = pulled.map_err(|error| match error {
        rednix_cache::Error::Cancelled => Failure::interrupted(),
        error => substituting::told(&error),
    })?;
    session.view.finish();
    print(&format!("{} paths pulled ({} bytes)\n", pulled.paths, pulled.nar_bytes))
}
