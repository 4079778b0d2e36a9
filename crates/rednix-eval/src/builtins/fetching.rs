//! `fetchTree` and `fetchGit`: sources by their attributes or address.
//!
//! The rules of which attributes there are, and of addresses, are `rednix-flake`'s; fetching is the world's.

use super::{NAMING, Outcome, coerced, ready, value};
use crate::error::{EvalError, Result};
use crate::source::Range;
use crate::value::{Value, entries};
use crate::vm::Vm;
use crate::world::FetchedTree;
use rednix_flake::{Attribute, Attributes, Input};

/// Which of the builtins it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Tree,
    FinalTree,
    Git,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Tree | Who::FinalTree => "fetchTree",
            Who::Git => "fetchGit",
        }
    }
}

pub(super) fn fetch_tree(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    fetch(vm, arguments[0], Who::Tree)
}

pub(super) fn fetch_final_tree(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    fetch(vm, arguments[0], Who::FinalTree)
}

pub(super) fn fetch_git(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    fetch(vm, arguments[0], Who::Git)
}

pub(super) fn fetch_mercurial(vm: &mut Vm, _: &[Value]) -> Result<Outcome> {
    let message = "'fetchMercurial' is not supported: rednix fetches no Mercurial repositories\n\n\
                   hint: use `fetchGit` with a Git mirror of it, or `fetchTarball` with an archive of the revision";
    Err(EvalError::evaluation(message).at(vm.here()))
}

fn fetch(vm: &mut Vm, argument: Value, who: Who) -> Result<Outcome> {
    if let Value::Attrs(set) = argument {
        let mut attributes = Attributes::default();
        for entry in entries(&mut vm.heap, set) {
            let computed = ready!(entry.value.get());
            let name = vm.text_of(entry.name);
            if name == "type" {
                if who == Who::Git {
                    return Err(EvalError::evaluation("unexpected argument 'type'").at(vm.here()));
                }
                let context = "while evaluating the `type` argument passed to 'fetchTree'";
                let kind = vm.want_plain_string(computed, context)?;
                attributes.set("type", String::from_utf8_lossy(kind).into_owned());
                continue;
            }
            let attribute = attribute(vm, &name, computed, who.name(), Range::at(entry.pos))?;
            attributes.0.insert(name, attribute);
        }
        let input = complete(vm, attributes, who)?;
        return finish(vm, input, who);
    }
    let context = match who {
        Who::Git => "while evaluating the first argument passed to 'fetchGit'",
        _ => "while evaluating the first argument passed to 'fetchTree'",
    };
    let is_git = Value::Bool(who == Who::Git);
    coerced(vm, argument, NAMING, context, [is_git, Value::Null, Value::Null], |vm, text, kept| {
        let url = String::from_utf8_lossy(text.as_bytes().unwrap_or_default()).into_owned();
        if matches!(kept[0], Value::Bool(true)) {
            let attributes = Attributes::of([("url", url.into())]);
            let input = complete(vm, attributes, Who::Git)?;
            return finish(vm, input, Who::Git);
        }
        let input = Input::from_url(&url).map_err(|error| wrong(vm, &error))?;
        finish(vm, input, Who::Tree)
    })
}

fn wrong(vm: &Vm, error: &rednix_flake::FlakeError) -> Box<EvalError> {
    EvalError::evaluation(error.to_string()).at(vm.here())
}

/// A value as an attribute of a source.
fn attribute(vm: &mut Vm, name: &str, computed: Value, who: &str, place: Range) -> Result<Attribute> {
    Ok(match computed {
        Value::Bool(flag) => Attribute::Flag(flag),
        Value::Int(number) => match u64::try_from(number) {
            Ok(number) => Attribute::Number(number),
            Err(_) => {
                let message = format!("negative value given for '{who}' argument '{name}': {number}");
                return Err(EvalError::evaluation(message).at(vm.here()));
            }
        },
        Value::Path(length, start) => {
            Attribute::Text(String::from_utf8_lossy(crate::memory::slice(start, length)).into_owned())
        }
        other => match other.as_bytes() {
            Some(bytes) => Attribute::Text(String::from_utf8_lossy(bytes).into_owned()),
            None if name == "publicKeys" => {
                let message =
                    "experimental Nix feature 'verified-fetches' is disabled; 'publicKeys' needs it";
                return Err(EvalError::evaluation(message).at(place));
            }
            None => {
                let kind = vm.type_of(other);
                let message = format!(
                    "argument '{name}' to '{who}' is {kind} while a string, Boolean or integer is expected"
                );
                return Err(EvalError::type_error(message).at(place));
            }
        },
    })
}

/// What the builtins add to the attributes they were given.
fn complete(vm: &Vm, mut attributes: Attributes, who: Who) -> Result<Input> {
    if who == Who::Git {
        attributes.set("type", "git");
        if !attributes.has("exportIgnore") && !attributes.is_set("submodules") {
            attributes.set("exportIgnore", true);
        }
    } else if !attributes.has("type") {
        let message = "argument 'type' is missing in call to 'fetchTree'";
        return Err(EvalError::evaluation(message).at(vm.here()));
    }
    if who != Who::Git {
        if attributes.get("type") == Some(&Attribute::from("git")) && !attributes.has("shallow") {
            attributes.set("shallow", true);
        }
        if attributes.has("name") {
            let message = "argument 'name' isn’t supported in call to 'fetchTree'";
            return Err(EvalError::evaluation(message).at(vm.here()));
        }
    }
    Input::from_attributes(attributes).map_err(|error| wrong(vm, &error))
}

fn finish(vm: &mut Vm, input: Input, who: Who) -> Result<Outcome> {
    if vm.settings.pure && !input.is_locked() {
        let shown = input.show();
        if !input.attributes.has("narHash") {
            let message =
                format!("in pure evaluation mode, '{}' doesn't fetch unlocked input '{shown}'", who.name());
            return Err(EvalError::evaluation(message).at(vm.here()));
        }
        vm.world.message(&format!(
            "warning: Input '{shown}' is unlocked (e.g. lacks a Git revision) but is checked by NAR hash. \
             This is not reproducible and will break after garbage collection or when shared."
        ));
    }
    let fetched =
        vm.world.fetch_tree(&input, who == Who::FinalTree).map_err(|error| vm.world_error(&error))?;
    let tree = vm.tree_value(&fetched, who == Who::Git, false)?;
    value(tree)
}

impl Vm {
    /// The set that stands for a source. `fallback` gives a revision of zeros to what has none.
    pub(crate) fn tree_value(
        &mut self,
        fetched: &FetchedTree,
        fallback: bool,
        is_dirty: bool,
    ) -> Result<Value> {
        let input = Input { attributes: fetched.attributes.clone() };
        let out_path = self.store_path_string(fetched.path.clone());
        let mut pairs: Vec<(&str, Value)> = vec![("outPath", out_path)];
        if let Some(hash) = input.nar_hash().map_err(|error| wrong(self, &error))? {
            pairs.push(("narHash", self.string(hash.to_sri().as_bytes())));
        }
        if input.kind() == rednix_flake::Kind::Git {
            pairs.push(("submodules", Value::Bool(input.attributes.is_set("submodules"))));
        }
        if !is_dirty {
            let rev = input.rev().map_err(|error| wrong(self, &error))?;
            if let Some(rev) = rev.or_else(|| fallback.then(|| "0".repeat(40))) {
                pairs.push(("rev", self.string(rev.as_bytes())));
                pairs.push(("shortRev", self.string(&rev.as_bytes()[..7])));
            }
            if let Some(count) = input.rev_count().or_else(|| fallback.then_some(0)) {
                pairs.push(("revCount", Value::Int(count as i64)));
            }
        }
        for name in ["dirtyRev", "dirtyShortRev"] {
            if let Some(text) = input.text(name) {
                pairs.push((name, self.string(text.as_bytes())));
            }
        }
        if let Some(time) = input.last_modified() {
            pairs.push(("lastModified", Value::Int(time as i64)));
            let date = rednix_flake::compact_date(time);
            pairs.push(("lastModifiedDate", self.string(date.as_bytes())));
        }
        Ok(self.named_attrs(&pairs))
    }

    /// A set by names that are not known beforehand.
    pub(crate) fn named_attrs(&mut self, pairs: &[(&str, Value)]) -> Value {
        let pairs: Vec<_> =
            pairs.iter().map(|&(name, value)| (self.interner.intern(name.as_bytes()), value)).collect();
        self.attrs(&pairs)
    }
}
