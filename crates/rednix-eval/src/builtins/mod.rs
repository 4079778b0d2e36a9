//! The builtin functions, by the names and with the messages of C++ Nix 2.34.
//!
//! A builtin gets its strict arguments computed. One that needs more answers with what it needs or with a state
//! machine; none calls the VM back.

mod arithmetic;
mod attrsets;
mod closure;
mod contexts;
mod control;
mod data;
mod derivation;
pub(crate) mod documentation;
mod downloads;
mod fetching;
mod files;
pub(crate) mod flakes;
mod folds;
mod hashes;
mod import;
pub(crate) mod json;
mod lists;
mod paths;
mod regexes;
mod sort;
mod store_files;
mod strings;
mod types;
pub(crate) mod xml;

use crate::collect::Tracer;
use crate::compiler::{BuiltinShape, Globals, Names};
use crate::error::{EvalError, Result};
use crate::memory::{Gc, Heap, slice};
use crate::source::{Origin, Pos};
use crate::value::{Attrs, BuiltinId, Entry, Thunk, Value, apply, new_attrs};
use crate::vm::Vm;
use crate::vm::native::{Arguments, Native};
use crate::vm::symbols::Symbols;
use rednix_syntax::Interner;
use rustc_hash::FxHashMap;

pub(crate) use derivation::Made;
pub use downloads::hash_mismatch;
pub(crate) use regexes::RegexCache;

/// What a builtin comes to.
pub(crate) enum Outcome {
    Value(Value),
    /// This value, computed.
    Forced(Value),
    /// To be called again once this thunk is computed.
    Need(Gc<Thunk>),
    /// The result of this call.
    Call(Value, Arguments),
    /// The result of this state machine.
    Run(Box<dyn Native>),
}

pub(crate) type Function = fn(&mut Vm, &[Value]) -> Result<Outcome>;

pub(crate) struct Builtin {
    /// With `__` in front where it is only seen through `builtins` (or by that name).
    pub name: &'static str,
    pub arity: u8,
    /// One bit for each argument that is computed before the call.
    pub strict: u8,
    pub function: Function,
}

const fn builtin(name: &'static str, arity: u8, strict: u8, function: Function) -> Builtin {
    Builtin { name, arity, strict, function }
}

/// All builtin functions; a [`BuiltinId`] is an index here.
pub(crate) static TABLE: &[Builtin] = &[
    builtin("abort", 1, 1, control::abort),
    builtin("__add", 2, 3, arithmetic::add),
    builtin("__addDrvOutputDependencies", 1, 1, contexts::add_drv_output_dependencies),
    builtin("__addErrorContext", 2, 0, control::add_error_context),
    builtin("__all", 2, 3, folds::all),
    builtin("__any", 2, 3, folds::any),
    builtin("__appendContext", 2, 3, contexts::append_context),
    builtin("__attrNames", 1, 1, attrsets::attr_names),
    builtin("__attrValues", 1, 1, attrsets::attr_values),
    builtin("baseNameOf", 1, 1, paths::base_name_of),
    builtin("__bitAnd", 2, 3, arithmetic::bit_and),
    builtin("__bitOr", 2, 3, arithmetic::bit_or),
    builtin("__bitXor", 2, 3, arithmetic::bit_xor),
    builtin("break", 1, 1, control::identity),
    builtin("__catAttrs", 2, 3, attrsets::cat_attrs),
    builtin("__ceil", 1, 1, arithmetic::ceil),
    builtin("__compareVersions", 2, 3, strings::compare_versions),
    builtin("__concatLists", 1, 1, lists::concat_lists),
    builtin("__concatMap", 2, 3, folds::concat_map),
    builtin("__concatStringsSep", 2, 3, strings::concat_strings_sep),
    builtin("__convertHash", 1, 1, hashes::convert_hash),
    builtin("__deepSeq", 2, 0, control::deep_seq),
    builtin("derivationStrict", 1, 1, derivation::derivation_strict),
    builtin("dirOf", 1, 1, paths::dir_of),
    builtin("__div", 2, 3, arithmetic::div),
    builtin("__elem", 2, 2, lists::elem),
    builtin("__elemAt", 2, 3, lists::elem_at),
    builtin("fetchGit", 1, 1, fetching::fetch_git),
    builtin("fetchMercurial", 1, 1, fetching::fetch_mercurial),
    builtin("fetchTarball", 1, 1, downloads::fetch_tarball),
    builtin("fetchTree", 1, 1, fetching::fetch_tree),
    builtin("__fetchurl", 1, 1, downloads::fetch_url),
    builtin("__filter", 2, 2, folds::filter),
    builtin("__filterSource", 2, 3, store_files::filter_source),
    builtin("__findFile", 2, 3, files::find_file),
    builtin("__flakeRefToString", 1, 1, flakes::flake_ref_to_string),
    builtin("__floor", 1, 1, arithmetic::floor),
    builtin("__foldl'", 3, 5, folds::foldl),
    builtin("__fromJSON", 1, 1, data::from_json),
    builtin("fromTOML", 1, 1, data::from_toml),
    builtin("__functionArgs", 1, 1, attrsets::function_args),
    builtin("__genList", 2, 2, lists::gen_list),
    builtin("__genericClosure", 1, 1, closure::generic_closure),
    builtin("__getAttr", 2, 3, attrsets::get_attr),
    builtin("__getContext", 1, 1, contexts::get_context),
    builtin("__getEnv", 1, 1, files::get_env),
    builtin("__getFlake", 1, 1, flakes::get_flake),
    builtin("__groupBy", 2, 3, folds::group_by),
    builtin("__hasAttr", 2, 3, attrsets::has_attr),
    builtin("__hasContext", 1, 1, contexts::has_context),
    builtin("__hashFile", 2, 3, hashes::hash_file),
    builtin("__hashString", 2, 3, hashes::hash_string),
    builtin("__head", 1, 1, lists::head),
    builtin("import", 1, 1, import::import),
    builtin("__intersectAttrs", 2, 3, attrsets::intersect_attrs),
    builtin("__isAttrs", 1, 1, types::is_attrs),
    builtin("__isBool", 1, 1, types::is_bool),
    builtin("__isFloat", 1, 1, types::is_float),
    builtin("__isFunction", 1, 1, types::is_function),
    builtin("__isInt", 1, 1, types::is_int),
    builtin("__isList", 1, 1, types::is_list),
    builtin("isNull", 1, 1, types::is_null),
    builtin("__isPath", 1, 1, types::is_path),
    builtin("__isString", 1, 1, types::is_string),
    builtin("__length", 1, 1, lists::length),
    builtin("__lessThan", 2, 3, arithmetic::less_than),
    builtin("__listToAttrs", 1, 1, attrsets::list_to_attrs),
    builtin("map", 2, 2, lists::map),
    builtin("__mapAttrs", 2, 2, attrsets::map_attrs),
    builtin("__match", 2, 3, regexes::matches),
    builtin("__mul", 2, 3, arithmetic::mul),
    builtin("__parseDrvName", 1, 1, strings::parse_drv_name),
    builtin("__parseFlakeRef", 1, 1, flakes::parse_flake_ref),
    builtin("__partition", 2, 3, folds::partition),
    builtin("__path", 1, 1, store_files::path),
    builtin("__pathExists", 1, 1, files::path_exists),
    builtin("placeholder", 1, 1, derivation::placeholder),
    builtin("__readDir", 1, 1, files::read_dir),
    builtin("__readFile", 1, 1, files::read_file),
    builtin("__readFileType", 1, 1, files::read_file_type),
    builtin("removeAttrs", 2, 3, attrsets::remove_attrs),
    builtin("__replaceStrings", 3, 7, strings::replace_strings),
    builtin("scopedImport", 2, 3, import::scoped_import),
    builtin("__seq", 2, 1, control::seq),
    builtin("__sort", 2, 2, sort::sort),
    builtin("__split", 2, 3, regexes::split),
    builtin("__splitVersion", 1, 1, strings::split_version),
    builtin("__storePath", 1, 1, store_files::store_path),
    builtin("__stringLength", 1, 1, strings::string_length),
    builtin("__sub", 2, 3, arithmetic::sub),
    builtin("__substring", 3, 7, strings::substring),
    builtin("__tail", 1, 1, lists::tail),
    builtin("throw", 1, 1, control::throw),
    builtin("__toFile", 2, 3, store_files::to_file),
    builtin("__toJSON", 1, 0, data::to_json),
    builtin("__toPath", 1, 1, paths::to_path),
    builtin("toString", 1, 1, strings::to_string),
    builtin("__toXML", 1, 0, data::to_xml),
    builtin("__trace", 2, 1, control::trace),
    builtin("__traceVerbose", 2, 1, control::trace_verbose),
    builtin("__tryEval", 1, 0, control::try_eval),
    builtin("__typeOf", 1, 1, types::type_of),
    builtin("__unsafeDiscardOutputDependency", 1, 1, contexts::discard_output_dependency),
    builtin("__unsafeDiscardStringContext", 1, 1, contexts::discard_context),
    builtin("__unsafeGetAttrPos", 2, 3, attrsets::unsafe_get_attr_pos),
    builtin("__warn", 2, 1, control::warn),
    builtin("__zipAttrsWith", 2, 2, attrsets::zip_attrs_with),
    builtin(flakes::FETCH_FINAL_TREE, 1, 1, fetching::fetch_final_tree),
    // Behind `builtins.currentTime`, and not a function anybody sees.
    builtin(CLOCK, 1, 0, control::current_time),
];

const CLOCK: &str = "currentTime";

/// Only the embedded evaluation of lock files may say that a source is final; the time is there for who asks.
pub(crate) fn is_hidden(builtin: &Builtin) -> bool {
    builtin.name == flakes::FETCH_FINAL_TREE || builtin.name == CLOCK
}

/// `derivation` in terms of `derivationStrict`: one set for each output, all of them reachable from each.
const DERIVATION_SOURCE: &str = r#"given@{ outputs ? [ "out" ], ... }:
let
  made = derivationStrict given;
  shared = given // builtins.listToAttrs each // { all = map (one: one.value) each; drvAttrs = given; };
  each = map (outputName: {
    name = outputName;
    value = shared // {
      inherit outputName;
      inherit (made) drvPath;
      outPath = made.${outputName};
      type = "derivation";
    };
  }) outputs;
in (builtins.head each).value
"#;

/// The version of C++ Nix whose language this is.
pub const NIX_VERSION: &str = "2.34.8";

/// Names and functions every file sees. Values that need a VM are added by [`finish_globals`].
pub(crate) fn globals(heap: &mut Heap, interner: &mut Interner, symbols: &Symbols) -> Globals {
    let mut values = FxHashMap::default();
    let mut functions = FxHashMap::default();
    let mut builtins = Vec::with_capacity(TABLE.len());
    for (index, entry) in TABLE.iter().enumerate() {
        let id = BuiltinId(index as u16);
        builtins.push(BuiltinShape { arity: entry.arity, strict: entry.strict });
        if is_hidden(entry) {
            continue;
        }
        values.insert(interner.intern(entry.name.as_bytes()), Value::Builtin(id));
        functions.insert(interner.intern(entry.name.trim_start_matches("__").as_bytes()), id);
    }
    values.insert(interner.intern(b"true"), Value::Bool(true));
    values.insert(interner.intern(b"false"), Value::Bool(false));
    values.insert(interner.intern(b"null"), Value::Null);
    for (name, text) in [("__nixVersion", NIX_VERSION), ("__storeDir", rednix_store::path::STORE_DIR)] {
        values.insert(interner.intern(name.as_bytes()), Value::string(heap, text.as_bytes()));
    }
    values.insert(interner.intern(b"__langVersion"), Value::Int(6));
    let seq = functions[&interner.intern(b"seq")];
    let names = Names {
        builtins: symbols.builtins,
        sub: symbols.sub,
        mul: symbols.mul,
        div: symbols.div,
        less_than: symbols.less_than,
        find_file: symbols.find_file,
        nix_path: symbols.nix_path,
        overrides: symbols.overrides,
        file: symbols.file,
        line: symbols.line,
        column: symbols.column,
        seq,
    };
    Globals { values, builtins, functions, names }
}

/// Adds what depends on settings and world, and `builtins` itself.
pub(crate) fn finish_globals(vm: &mut Vm) {
    let mut more: Vec<(&str, Value)> = Vec::new();
    if !vm.settings.pure {
        let system = vm.settings.system.clone().unwrap_or_else(|| vm.world.current_system());
        more.push(("__currentSystem", vm.string(system.as_bytes())));
        if vm.world.tells_time() {
            // A call that waits: who does not use the time does not depend on it.
            let clock = Value::Builtin(BuiltinId(TABLE.len() as u16 - 1));
            more.push(("__currentTime", apply(&mut vm.heap, clock, &[Value::Null])));
        }
    }
    let path = files::nix_path(vm);
    more.push(("__nixPath", path));
    let globals = std::rc::Rc::get_mut(&mut vm.globals).expect("the VM is not running yet");
    for (name, value) in more {
        globals.values.insert(vm.interner.intern(name.as_bytes()), value);
    }
    // `derivation` is written in terms of `builtins`, which holds it: its cell comes first.
    let derivation = vm.heap.alloc_any(Thunk::new(Value::Blackhole));
    let globals = std::rc::Rc::get_mut(&mut vm.globals).expect("the VM is not running yet");
    globals.values.insert(vm.interner.intern(b"derivation"), Value::Thunk(derivation));
    // `builtins` holds everything, by names without underscores, and itself.
    let mut entries: Vec<Entry> = Vec::new();
    for (&name, &value) in &globals.values {
        let text = vm.interner.name(name).to_vec();
        let short = vm.interner.intern(text.strip_prefix(b"__").unwrap_or(&text));
        entries.push(Entry::new(short, Pos::NONE, value));
    }
    let itself = vm.heap.alloc_any(Thunk::new(Value::Null));
    entries.push(Entry::new(vm.symbols.builtins, Pos::NONE, Value::Thunk(itself)));
    entries.sort_by_key(|entry| entry.name);
    let set = Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, entries));
    itself.set(set);
    let globals = std::rc::Rc::get_mut(&mut vm.globals).expect("the VM is not running yet");
    globals.values.insert(vm.symbols.builtins, set);
    let source = DERIVATION_SOURCE.as_bytes().to_vec();
    let loaded = vm.load(Origin::Internal("derivation.nix"), source, b"/", None);
    if let Value::Thunk(thunk) = loaded.expect("the embedded source compiles") {
        derivation.set(thunk.get());
    }
}

/// Checks of arguments. `context` says which argument of what.
impl Vm {
    pub(crate) fn want_list(&mut self, value: Value, context: &str) -> Result<&'static [Value]> {
        match value {
            Value::List(length, start) => Ok(slice(start, length)),
            other => Err(self.wrong_type("a list", other, context)),
        }
    }

    pub(crate) fn want_attrs(&mut self, value: Value, context: &str) -> Result<Gc<Attrs>> {
        match value {
            Value::Attrs(set) => Ok(set),
            other => Err(self.wrong_type("a set", other, context)),
        }
    }

    pub(crate) fn want_int(&mut self, value: Value, context: &str) -> Result<i64> {
        match value {
            Value::Int(value) => Ok(value),
            other => Err(self.wrong_type("an integer", other, context)),
        }
    }

    pub(crate) fn want_bool(&mut self, value: Value, context: &str) -> Result<bool> {
        match value {
            Value::Bool(value) => Ok(value),
            other => Err(self.wrong_type("a Boolean", other, context)),
        }
    }

    /// A string's bytes; its context is the caller's business.
    pub(crate) fn want_string(&mut self, value: Value, context: &str) -> Result<&'static [u8]> {
        match value.as_bytes() {
            Some(bytes) => Ok(bytes),
            None => Err(self.wrong_type("a string", value, context)),
        }
    }

    pub(crate) fn want_plain_string(&mut self, value: Value, context: &str) -> Result<&'static [u8]> {
        let bytes = self.want_string(value, context)?;
        if !value.context().is_empty() {
            let error = self.context_not_allowed(value);
            return Err(self.frame_here(error, context));
        }
        Ok(bytes)
    }

    pub(crate) fn want_function(&mut self, value: Value, context: &str) -> Result<()> {
        match value {
            Value::Lambda(..) | Value::Builtin(_) | Value::Partial(_) => Ok(()),
            Value::Attrs(set) if set.get(self.symbols.functor).is_some() => Ok(()),
            other => Err(self.wrong_type("a function", other, context)),
        }
    }

    #[cold]
    fn wrong_type(&mut self, what: &str, value: Value, context: &str) -> Box<EvalError> {
        let error = self.expected(what, value);
        self.frame_here(error, context)
    }

    /// The attribute, or the error that it is missing.
    pub(crate) fn want_attribute(
        &mut self,
        set: Gc<Attrs>,
        name: rednix_syntax::Symbol,
        context: &str,
    ) -> Result<&'static Entry> {
        match set.get(name) {
            Some(entry) => Ok(entry),
            None => {
                let error = EvalError::type_error(format!("attribute '{}' missing", self.text_of(name)));
                Err(self.frame_here(error, context))
            }
        }
    }
}

/// A computed value out of one that may be a thunk; else the outcome that asks for it.
macro_rules! ready {
    ($value:expr) => {{
        let value = $value.peek();
        match value {
            crate::value::Value::Thunk(thunk) => return Ok(crate::builtins::Outcome::Need(thunk)),
            computed => computed,
        }
    }};
}
pub(crate) use ready;

pub(crate) fn value(value: Value) -> Result<Outcome> {
    Ok(Outcome::Value(value))
}

pub(crate) fn boolean(answer: bool) -> Result<Outcome> {
    value(Value::Bool(answer))
}

/// Computes every element of a list, then calls the function with the arguments.
pub(crate) struct ForceItems {
    pub items: &'static [Value],
    pub next: usize,
    pub arguments: [Value; 3],
    pub then: fn(&mut Vm, &[Value; 3]) -> Result<Outcome>,
    done: bool,
}

impl ForceItems {
    /// The outcome at once if every element is computed already.
    pub fn outcome(
        vm: &mut Vm,
        items: &'static [Value],
        arguments: [Value; 3],
        then: fn(&mut Vm, &[Value; 3]) -> Result<Outcome>,
    ) -> Result<Outcome> {
        match items.iter().position(|item| !item.peek().is_whnf()) {
            None => then(vm, &arguments),
            Some(next) => {
                Ok(Outcome::Run(Box::new(ForceItems { items, next, arguments, then, done: false })))
            }
        }
    }
}

impl Native for ForceItems {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.list(self.items);
        tracer.values(&self.arguments);
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<crate::vm::native::Step> {
        use crate::vm::native::Step;
        if self.done {
            return Ok(Step::Return(value));
        }
        while let Some(item) = self.items.get(self.next) {
            let item = item.peek();
            if !item.is_whnf() {
                return Ok(Step::Force(item));
            }
            self.next += 1;
        }
        self.done = true;
        Ok(match (self.then)(vm, &self.arguments)? {
            Outcome::Value(value) => Step::Return(value),
            Outcome::Forced(value) => Step::ReturnForced(value),
            Outcome::Need(thunk) => {
                self.done = false;
                Step::Force(Value::Thunk(thunk))
            }
            Outcome::Call(function, arguments) => Step::ReturnCall(function, arguments),
            Outcome::Run(native) => Step::Run(native),
        })
    }
}

/// What follows a coercion: gets the string and the arguments kept for it.
pub(crate) type AfterCoercion = fn(&mut Vm, Value, &[Value; 3]) -> Result<Outcome>;

/// Coerces a value to a string and goes on with it; at once where it is a string already.
pub(crate) fn coerced(
    vm: &mut Vm,
    value: Value,
    options: crate::vm::coerce::CoerceOptions,
    context: &'static str,
    kept: [Value; 3],
    then: AfterCoercion,
) -> Result<Outcome> {
    if value.as_bytes().is_some() {
        return then(vm, value, &kept);
    }
    let coerce = Some(crate::vm::coerce::Coerce::new(value, options, context));
    Ok(Outcome::Run(Box::new(CoerceThen { coerce, kept, then, done: false })))
}

/// Copies paths to the store, and allows nothing but strings, paths and sets that stand for them.
pub(crate) const COPYING: crate::vm::coerce::CoerceOptions =
    crate::vm::coerce::CoerceOptions { more: false, copy_to_store: true };

/// As [`COPYING`], but names paths instead of copying them.
pub(crate) const NAMING: crate::vm::coerce::CoerceOptions =
    crate::vm::coerce::CoerceOptions { more: false, copy_to_store: false };

struct CoerceThen {
    coerce: Option<crate::vm::coerce::Coerce>,
    kept: [Value; 3],
    then: AfterCoercion,
    done: bool,
}

impl Native for CoerceThen {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.values(&self.kept);
        if let Some(coerce) = &self.coerce {
            coerce.trace(tracer);
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<crate::vm::native::Step> {
        use crate::vm::native::Step;
        if let Some(coerce) = self.coerce.take() {
            return Ok(Step::Run(Box::new(coerce)));
        }
        if self.done {
            return Ok(Step::Return(value));
        }
        self.done = true;
        Ok(match (self.then)(vm, value, &self.kept)? {
            Outcome::Value(value) => Step::Return(value),
            Outcome::Forced(value) => Step::ReturnForced(value),
            Outcome::Need(_) => unreachable!("what follows a coercion has computed arguments"),
            Outcome::Call(function, arguments) => Step::ReturnCall(function, arguments),
            Outcome::Run(native) => Step::Run(native),
        })
    }
}
