//! What every command that works with the store shares: configuration, view, store, evaluation and building.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rednix_build::{BuildConfig, Builder, CancelToken, WorkFolder, WorkFolders};
use rednix_events::{Event, Events};
use rednix_fetch::Fetcher;
use rednix_store::path::StorePath;
use rednix_store::store::{Access, OpenOptions, Store};

use crate::cli::Global;
use crate::config::Config;
use crate::failure::Failure;
use crate::fetching::Sources;
use crate::outside::{Outside, OutsideMaker};
use crate::project::Project;
use crate::report::last;
use crate::substituting::Substituting;
use crate::view::View;
use crate::{builtins, interrupt};

pub struct Session {
    pub global: Global,
    pub config: Config,
    pub view: View,
    store: std::cell::OnceCell<Arc<Store>>,
    work: std::cell::RefCell<WorkFolders>,
    substitute: std::cell::OnceCell<Arc<Substituting>>,
}

/// A derivation and one of its outputs, as evaluation gives them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub derivation: StorePath,
    pub output: String,
}

/// Everything a build needs but the thing to build; for evaluations that have to build before they can go on.
#[derive(Clone)]
pub struct Builds {
    store: Arc<Store>,
    config: BuildConfig,
    fetch: rednix_fetch::FetchConfig,
    lenders: Vec<PathBuf>,
    substitute: Arc<Substituting>,
    events: Events,
}

impl Builds {
    /// A builder, what it fetches from, and the token that ends it.
    fn builder(&self) -> Result<(Builder, Arc<Sources>, CancelToken), Failure> {
        let sources = Arc::new(Sources::new(Fetcher::new(self.fetch.clone()), &self.lenders));
        let cancel = interrupt::token()?;
        let builder = Builder::new(
            self.store.clone(),
            sources.clone(),
            builtins::registry(),
            self.config.clone(),
            self.events.clone(),
            cancel.clone(),
        )
        .with_substitute(self.substitute.clone());
        Ok((builder, sources, cancel))
    }

    /// Builds outputs; the paths are in the order they were wanted.
    pub fn build(&self, wanted: &[Wanted]) -> Result<Vec<StorePath>, Failure> {
        let (builder, sources, cancel) = self.builder()?;
        let requests: Vec<rednix_build::Wanted> =
            wanted.iter().map(|w| rednix_build::Wanted::output(&w.derivation, &w.output)).collect();
        let built = builder.build(&requests);
        // What is finished survives a power cut from here on, also where something else failed.
        self.store.flush_if_needed()?;
        let built = built.map_err(|errors| build_failure(&errors, &sources, &cancel))?;
        wanted
            .iter()
            .map(|w| {
                let key = (w.derivation.clone(), w.output.clone());
                built.get(&key).cloned().ok_or_else(|| {
                    Failure::failed(format!("`{}` has no output `{}`", w.derivation.name(), w.output))
                })
            })
            .collect()
    }
}

impl Session {
    pub fn new(global: &Global) -> Result<Session, Failure> {
        let config = Config::load(global)?;
        let mut view = View::new(global.log_format);
        if let Some(file) = &global.trace {
            view = view.with_trace(file).map_err(|e| {
                Failure::usage(format!("cannot write the trace to `{}`: {e}", file.display()))
            })?;
        }
        for message in &config.warnings {
            view.events.emit(Event::Notice { message: format!("warning: {message}") });
        }
        let (global, work) = (global.clone(), std::cell::RefCell::default());
        let (store, substitute) = Default::default();
        Ok(Session { config, view, global, store, work, substitute })
    }

    pub fn events(&self) -> &Events {
        &self.view.events
    }

    /// The store, made when it is not there yet.
    pub fn store(&self) -> Result<Arc<Store>, Failure> {
        if let Some(store) = self.store.get() {
            return Ok(store.clone());
        }
        let store = self.open_store(Access::Create)?;
        Ok(self.store.get_or_init(|| Arc::new(store)).clone())
    }

    /// The store for what only reads: also one in which this user can write nothing.
    pub fn store_to_read(&self) -> Result<Arc<Store>, Failure> {
        if let Some(store) = self.store.get() {
            return Ok(store.clone());
        }
        let store = match self.open_store(Access::Create) {
            Err(rednix_store::Error::NotWritable { .. }) => self.open_store(Access::ReadOnly)?,
            other => other?,
        };
        Ok(self.store.get_or_init(|| Arc::new(store)).clone())
    }

    /// Lets builds use a project's working copies, and says which there are: their results are not pure.
    pub fn use_work(&self, project: &Project) {
        for copy in &project.work {
            let folder = WorkFolder { folder: copy.folder.clone(), kept: copy.kept.clone() };
            if self.work.borrow_mut().insert(copy.key(), folder).is_none() {
                let (recipe, folder) = (&copy.recipe, copy.folder.display());
                let message = format!(
                    "`{recipe}` comes from the working copy {folder}; what is built of it is not pure"
                );
                self.events().emit(Event::Notice { message });
            }
        }
    }

    /// Works with the store below another folder from now on.
    pub fn use_store(&mut self, root: &Path) {
        self.config.store = root.to_path_buf();
        self.store = std::cell::OnceCell::new();
    }

    fn open_store(&self, access: Access) -> rednix_store::Result<Store> {
        let link_equal_files = self.config.link_equal_files;
        let options = OpenOptions { access, link_equal_files, ..OpenOptions::default() };
        Store::open(&self.config.store, options.with_events(self.events().clone()))
    }

    /// Evaluators that may run at once.
    pub fn eval_jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.global.eval_jobs.unwrap_or_else(cores)
    }

    pub fn fetcher(&self) -> Fetcher {
        let mut config = self.config.fetch(self.global.offline);
        config.cancel = interrupt::flag();
        Fetcher::new(config)
    }

    /// What builds of this session need.
    pub fn builds(&self) -> Result<Builds, Failure> {
        let mut config = BuildConfig::new(self.config.cores, &format!("{}-linux", std::env::consts::ARCH));
        config.max_jobs = self.config.max_jobs;
        config.timeout_total = self.global.timeout.map(std::time::Duration::from_secs);
        config.keep_failed = self.global.keep_failed;
        config.keep_going = self.global.keep_going;
        config.offline = self.global.offline;
        config.work = self.work.borrow().clone();
        let mut fetch = self.config.fetch(self.global.offline);
        fetch.cancel = interrupt::flag();
        let (store, lenders) = (self.store()?, self.global.borrow_from.clone());
        let substitute = self.substitute()?;
        Ok(Builds { store, config, fetch, lenders, substitute, events: self.events().clone() })
    }

    /// The configured caches.
    pub fn substitute(&self) -> Result<Arc<Substituting>, Failure> {
        if let Some(known) = self.substitute.get() {
            return Ok(known.clone());
        }
        let opened = Substituting::open(&self.config, self.global.offline, self.events(), interrupt::flag())?;
        Ok(self.substitute.get_or_init(|| Arc::new(opened)).clone())
    }

    /// What an evaluation may get from outside.
    pub fn outside(&self) -> Result<Rc<Outside>, Failure> {
        Ok(self.outside_maker()?.make())
    }

    /// What threads make their own from.
    pub fn outside_maker(&self) -> Result<OutsideMaker, Failure> {
        Ok(OutsideMaker {
            store: self.store()?,
            events: self.events().clone(),
            fetching: self.fetcher().config().clone(),
            builds: self.builds()?,
            registries: self.config.registries.clone(),
        })
    }

    /// Builds outputs; the paths are in the order they were wanted.
    pub fn build(&self, wanted: &[Wanted]) -> Result<Vec<StorePath>, Failure> {
        self.builds()?.build(wanted)
    }

    /// Notes what was built, for `rednix why-rebuild`.
    pub fn remember(&self, project: &Project, wanted: &[Wanted]) -> Result<(), Failure> {
        let derivations: Vec<StorePath> = wanted.iter().map(|w| w.derivation.clone()).collect();
        last::remember(&*self.store()?, project, &derivations)
    }

    /// Builds derivations once more and compares; what was not built yet is built first.
    pub fn rebuild(
        &self,
        derivations: &[StorePath],
        keep: bool,
    ) -> Result<Vec<rednix_build::Rebuilt>, Failure> {
        let (builder, sources, cancel) = self.builds()?.builder()?;
        builder.rebuild(derivations, keep).map_err(|errors| build_failure(&errors, &sources, &cancel))
    }

    /// A folder below the cache for what may be lost.
    pub fn cache_folder(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.config.cache.join(name);
        std::fs::create_dir_all(&folder).map_err(|e| {
            Failure::failed(format!("cannot create `{}`: {e}", folder.display()))
                .hint("set XDG_CACHE_HOME to a folder that can be written to")
        })?;
        Ok(folder)
    }
}

/// What failed was told as events already; what remains is the summary and where the logs are.
fn build_failure(errors: &rednix_build::BuildErrors, sources: &Sources, cancel: &CancelToken) -> Failure {
    if cancel.is_cancelled() {
        return Failure::interrupted();
    }
    match sources.gone().as_slice() {
        [] => Failure::failed(errors.to_string()),
        gone => Failure { rotten_pin: true, ..Failure::failed(gone.join("; ")) },
    }
}
