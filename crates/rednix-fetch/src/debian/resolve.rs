//! Dependency resolution: which packages a root needs, with one version of each over all roots.
//!
//! Follows `Pre-Depends` and `Depends`, never `Recommends`. Takes the first alternative that works and prefers
//! what is chosen already. Installs nothing and orders nothing: a build root is a set of unpacked packages.
//!
//! There is no backtracking inside a round. When a package turns out to be unusable (a dependency of it cannot
//! be satisfied) the fact is written down and the round starts over, so every round knows more than the last.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Write as _;

use super::index::{Package, Universe};
use super::relation::{self, Alternatives, Relation};
use crate::limits;

/// Why no set of packages fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// `chain` has one step a line, from the wanted package to what cannot be had.
    #[error("root `{root}`: package `{package}` cannot be had\n{chain}")]
    Unsatisfiable { root: String, package: String, chain: String },
    #[error("root `{root}`: `{item}` is no package; write `name`, `name/suite` or `name (>= version)`")]
    BadItem { root: String, item: String },
    #[error("dependency resolution did not settle within {rounds} rounds")]
    TooManyRounds { rounds: usize },
}

/// What to resolve.
#[derive(Debug)]
pub struct Request<'s> {
    /// Wanted packages by root: `name`, `name/suite` or `name (>= version)`.
    pub roots: &'s BTreeMap<String, Vec<String>>,
    /// Never taken. A dependency with no other alternative than these counts as satisfied.
    pub excluded: &'s BTreeSet<String>,
    /// Names of the suites in order of preference.
    pub suites: &'s [String],
}

/// The closure of every root, as positions in the universe.
#[derive(Debug, Default)]
pub struct Resolution {
    pub roots: BTreeMap<String, BTreeSet<usize>>,
    /// Packages of one root that do not want to be installed together, for people.
    pub conflicts: Vec<String>,
}

/// Finds a closure for every root.
pub fn resolve(universe: &Universe, request: &Request) -> Result<Resolution, ResolveError> {
    let mut resolver = Resolver { universe, request, unusable: HashMap::new(), pins: HashMap::new() };
    for _ in 0..limits::RESOLVE_ROUNDS_MAX {
        match resolver.round() {
            Ok(resolution) => return Ok(resolution),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Learned) => {}
        }
    }
    Err(ResolveError::TooManyRounds { rounds: limits::RESOLVE_ROUNDS_MAX })
}

enum Stop {
    /// A package became unusable or pinned: start over.
    Learned,
    Failed(ResolveError),
}

/// Why a package cannot be used: the relation nobody satisfies, and what was tried.
#[derive(Debug)]
struct Reason<'a> {
    relation: String,
    tried: Alternatives<'a>,
}

struct Resolver<'u, 'a> {
    universe: &'u Universe<'a>,
    request: &'u Request<'u>,
    unusable: HashMap<usize, Reason<'a>>,
    /// Names whose preferred version something else cannot live with.
    pins: HashMap<&'a str, usize>,
}

/// One root's closure while it grows.
#[derive(Default)]
struct Closure<'a> {
    members: BTreeSet<usize>,
    names: HashMap<&'a str, usize>,
    queue: VecDeque<usize>,
    /// Groups with a choice, decided when all certain packages are in.
    deferred: VecDeque<(usize, Alternatives<'a>)>,
}

impl<'a> Closure<'a> {
    fn add(&mut self, position: usize, name: &'a str) {
        if self.members.insert(position) {
            self.names.insert(name, position);
            self.queue.push_back(position);
        }
    }
}

impl<'u, 'a> Resolver<'u, 'a> {
    fn round(&mut self) -> Result<Resolution, Stop> {
        let mut resolution = Resolution::default();
        let request = self.request;
        // One version of a package for all roots, or the lock's package table could not be keyed by name.
        let mut chosen: HashMap<&'a str, usize> = HashMap::new();
        for (root, items) in request.roots {
            let mut closure = Closure::default();
            for item in items {
                let position = self.seed(root, item, &chosen)?;
                self.admit(&mut closure, &mut chosen, position);
            }
            self.grow(&mut closure, &mut chosen)?;
            resolution.conflicts.extend(self.conflicts(root, &closure.members));
            resolution.roots.insert(root.clone(), closure.members);
        }
        Ok(resolution)
    }

    fn package(&self, position: usize) -> &'u Package<'a> {
        &self.universe.packages[position]
    }

    fn admit(&self, closure: &mut Closure<'a>, chosen: &mut HashMap<&'a str, usize>, position: usize) {
        let name = self.package(position).name;
        chosen.insert(name, position);
        closure.add(position, name);
    }

    /// The package a root asks for by name.
    fn seed(&mut self, root: &str, item: &str, chosen: &HashMap<&'a str, usize>) -> Result<usize, Stop> {
        let bad = || Stop::Failed(ResolveError::BadItem { root: root.to_owned(), item: item.to_owned() });
        let (text, suite) = match item.split_once('/') {
            Some((name, suite)) => {
                let suite =
                    self.request.suites.iter().position(|known| known == suite.trim()).ok_or_else(bad)?;
                (name, Some(suite))
            }
            None => (item, None),
        };
        let mut groups = relation::parse(text).map_err(|_| bad())?;
        let (Some(group), true) = (groups.pop(), groups.is_empty()) else { return Err(bad()) };
        if let (Some(suite), [relation]) = (suite, group.as_slice()) {
            let wanted = self
                .universe
                .named(relation.name)
                .iter()
                .copied()
                .find(|position| self.package(*position).suite == suite && self.is_usable(*position));
            if let Some(position) = wanted {
                let name = self.package(position).name;
                return match chosen.get(name) {
                    Some(other) if *other != position => self.pin(position, root, text),
                    _ => Ok(position),
                };
            }
        } else if let Some(position) = self.choose(&group, chosen, &BTreeSet::new()) {
            return Ok(position);
        }
        let mut chain = String::new();
        let mut seen = HashSet::new();
        self.explain_group(&mut chain, 1, &group, &mut seen);
        Err(Stop::Failed(ResolveError::Unsatisfiable {
            root: root.to_owned(),
            package: item.to_owned(),
            chain,
        }))
    }

    /// Fixes the version of a name; an error when it is fixed to another already.
    fn pin(&mut self, position: usize, root: &str, item: &str) -> Result<usize, Stop> {
        let package = self.package(position);
        if self.pins.insert(package.name, position).is_some() {
            let chain = format!("  two versions of {} are wanted at once", package.name);
            let (root, package) = (root.to_owned(), item.to_owned());
            return Err(Stop::Failed(ResolveError::Unsatisfiable { root, package, chain }));
        }
        Err(Stop::Learned)
    }

    fn is_usable(&self, position: usize) -> bool {
        let package = self.package(position);
        !self.unusable.contains_key(&position)
            && !self.request.excluded.contains(package.name)
            && self.pins.get(package.name).is_none_or(|pinned| *pinned == position)
    }

    /// Takes in everything the closure's packages depend on.
    fn grow(&mut self, closure: &mut Closure<'a>, chosen: &mut HashMap<&'a str, usize>) -> Result<(), Stop> {
        loop {
            if let Some(position) = closure.queue.pop_front() {
                self.expand(closure, chosen, position)?;
            } else if let Some((owner, group)) = closure.deferred.pop_front() {
                if !self.is_satisfied(closure, &group) {
                    self.take(closure, chosen, owner, group)?;
                }
            } else {
                return Ok(());
            }
        }
    }

    fn expand(
        &mut self,
        closure: &mut Closure<'a>,
        chosen: &mut HashMap<&'a str, usize>,
        position: usize,
    ) -> Result<(), Stop> {
        let groups = match Package::relations(&self.package(position).depends) {
            Ok(groups) => groups,
            Err(error) => {
                self.unusable.insert(position, Reason { relation: error.text, tried: Vec::new() });
                return Err(Stop::Learned);
            }
        };
        for group in groups {
            let excluded = |relation: &Relation| self.request.excluded.contains(relation.name);
            if group.iter().all(excluded) || self.is_satisfied(closure, &group) {
                continue;
            }
            let is_certain = group.len() == 1 && !self.universe.named(group[0].name).is_empty();
            if is_certain {
                self.take(closure, chosen, position, group)?;
            } else {
                closure.deferred.push_back((position, group));
            }
        }
        Ok(())
    }

    fn is_satisfied(&self, closure: &Closure<'a>, group: &[Relation<'a>]) -> bool {
        group.iter().any(|relation| {
            let by_name = closure.names.get(relation.name).into_iter().copied();
            let providers = self.universe.providing(relation.name).iter().map(|(provider, _)| *provider);
            by_name
                .chain(providers.filter(|provider| closure.members.contains(provider)))
                .any(|position| self.universe.satisfies(position, relation))
        })
    }

    /// Chooses a package for the group and takes it in, or learns why there is none.
    fn take(
        &mut self,
        closure: &mut Closure<'a>,
        chosen: &mut HashMap<&'a str, usize>,
        owner: usize,
        group: Alternatives<'a>,
    ) -> Result<(), Stop> {
        if let Some(position) = self.choose(&group, chosen, &closure.members) {
            self.admit(closure, chosen, position);
            return Ok(());
        }
        // Another version than the chosen one may fit: fix the name to that version and start over.
        let other = group.iter().find_map(|relation| {
            let mut candidates = self.universe.named(relation.name).iter().copied();
            candidates
                .find(|position| self.is_usable(*position) && self.universe.satisfies(*position, relation))
        });
        match other {
            Some(position) if !self.pins.contains_key(self.package(position).name) => {
                self.pins.insert(self.package(position).name, position);
            }
            _ => {
                let relation = group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
                self.unusable.insert(owner, Reason { relation, tried: group });
            }
        }
        Err(Stop::Learned)
    }

    /// The best package for a group, given what is chosen in this round and what the root has already.
    fn choose(
        &self,
        group: &[Relation<'a>],
        chosen: &HashMap<&'a str, usize>,
        members: &BTreeSet<usize>,
    ) -> Option<usize> {
        let candidates: Vec<usize> =
            group.iter().flat_map(|relation| self.candidates(relation, chosen)).collect();
        let peaceful = candidates.iter().copied().find(|candidate| !self.conflicts_with(*candidate, members));
        peaceful.or(candidates.first().copied())
    }

    /// Usable packages that satisfy one relation and agree with the versions chosen, best first.
    fn candidates(&self, relation: &Relation<'a>, chosen: &HashMap<&'a str, usize>) -> Vec<usize> {
        let fits = |position: usize| {
            self.is_usable(position)
                && chosen.get(self.package(position).name).is_none_or(|other| *other == position)
                && self.universe.satisfies(position, relation)
        };
        let mut found: Vec<usize> =
            self.universe.named(relation.name).iter().copied().filter(|p| fits(*p)).collect();
        let mut providers: Vec<usize> =
            self.universe.providing(relation.name).iter().map(|(p, _)| *p).filter(|p| fits(*p)).collect();
        providers.sort_by_key(|position| {
            let package = self.package(*position);
            (!chosen.contains_key(package.name), package.suite, package.rank(), package.name)
        });
        found.extend(providers);
        found
    }

    fn conflicts_with(&self, candidate: usize, members: &BTreeSet<usize>) -> bool {
        members.iter().any(|member| self.excludes(candidate, *member) || self.excludes(*member, candidate))
    }

    /// Whether `package` names `other` in `Conflicts` or `Breaks`.
    fn excludes(&self, package: usize, other: usize) -> bool {
        let this = self.package(package);
        package != other
            && this.name != self.package(other).name
            && this.conflicts != [""; 2]
            && Package::relations(&this.conflicts)
                .unwrap_or_default()
                .iter()
                .flatten()
                .any(|relation| self.universe.satisfies(other, relation))
    }

    fn conflicts(&self, root: &str, members: &BTreeSet<usize>) -> Vec<String> {
        let mut found = Vec::new();
        for package in members {
            for other in members.iter().filter(|other| self.excludes(*package, **other)) {
                let (package, other) = (self.package(*package), self.package(*other));
                found.push(format!(
                    "root `{root}`: {} {} conflicts with {} {}",
                    package.name, package.version, other.name, other.version
                ));
            }
        }
        found
    }

    /// Writes what was tried for a group, and for each unusable candidate why it is so.
    fn explain_group(
        &self,
        text: &mut String,
        depth: usize,
        group: &[Relation<'a>],
        seen: &mut HashSet<usize>,
    ) {
        let indent = "  ".repeat(depth);
        for relation in group {
            let providers = self.universe.providing(relation.name).iter().map(|(provider, _)| *provider);
            let candidates: Vec<usize> =
                self.universe.named(relation.name).iter().copied().chain(providers).collect();
            if self.request.excluded.contains(relation.name) {
                let _ = writeln!(text, "{indent}{relation}: excluded by the specification");
            } else if candidates.is_empty() {
                let suites = self.request.suites.join(", ");
                let _ = writeln!(text, "{indent}{relation}: in none of the suites {suites}");
            }
            for candidate in candidates {
                let package = self.package(candidate);
                let shown = format!("{} {} ({})", package.name, package.version, self.suite_name(package));
                if text.lines().count() >= limits::CHAIN_STEPS_MAX {
                    return;
                } else if !self.universe.satisfies(candidate, relation) {
                    let _ = writeln!(text, "{indent}{relation}: {shown} does not fit");
                } else if let Some(reason) = self.unusable.get(&candidate).filter(|_| seen.insert(candidate))
                {
                    let _ = writeln!(text, "{indent}{shown} depends on {}", reason.relation);
                    self.explain_group(text, depth + 1, &reason.tried, seen);
                } else {
                    let _ = writeln!(text, "{indent}{relation}: {shown} is ruled out by another choice");
                }
            }
        }
    }

    fn suite_name(&self, package: &Package) -> &str {
        self.request.suites.get(package.suite).map(String::as_str).unwrap_or("?")
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
