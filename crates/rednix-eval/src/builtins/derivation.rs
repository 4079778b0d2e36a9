//! `derivationStrict`: attributes to a derivation, its paths and its file.

use super::json::ToJson;
use super::{Outcome, value};
use crate::collect::Tracer;
use crate::context::{ContextElement, unite};
use crate::error::{ErrorKind, EvalError, Frame, Result};
use crate::source::Range;
use crate::value::{Entry, Value};
use crate::vm::Vm;
use crate::vm::coerce::{Coerce, CoerceOptions};
use crate::vm::native::{Native, Step};
use rednix_store::derivation::{self, Derivation, DerivationHash, Output, hash_modulo};
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{ContentMethod, StorePath, check_name};
use rednix_syntax::Symbol;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn placeholder(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let name = vm.want_plain_string(
        arguments[0],
        "while evaluating the first argument passed to builtins.placeholder",
    )?;
    let name = String::from_utf8_lossy(name).into_owned();
    let text = derivation::placeholder(&name);
    value(vm.string(text.as_bytes()))
}

pub(super) fn derivation_strict(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let set =
        vm.want_attrs(arguments[0], "while evaluating the argument passed to builtins.derivationStrict")?;
    let symbols = vm.symbols;
    let context = "in the attrset passed as argument to builtins.derivationStrict";
    let name = vm.want_attribute(set, symbols.name, context)?;
    let attributes = vm.sorted_entries(set);
    let head = [symbols.structured_attrs, symbols.ignore_nulls];
    Ok(Outcome::Run(Box::new(Making {
        name_entry: name,
        stage: Stage::Name,
        head: head.map(|name| set.get(name).map(|entry| entry.value.get())),
        attributes,
        next: 0,
        name: String::new(),
        structured: None,
        ignore_nulls: false,
        parts: Parts::default(),
    })))
}

/// What the attributes said, before it becomes a derivation.
#[derive(Default)]
struct Parts {
    builder: Vec<u8>,
    system: Vec<u8>,
    arguments: Vec<Vec<u8>>,
    environment: BTreeMap<Vec<u8>, Vec<u8>>,
    context: Vec<u32>,
    outputs: Option<Vec<String>>,
    hash: Option<Vec<u8>>,
    algorithm: Option<HashAlgorithm>,
    method: Option<ContentMethod>,
    content_addressed: bool,
}

enum Stage {
    Name,
    StructuredAttrs,
    IgnoreNulls,
    /// Looks at the next attribute.
    Next,
    /// Its value is computed, to see whether it is null.
    Null,
    /// Its value as a Boolean.
    Flag,
    /// The list of builder arguments, then each of them as a string.
    Arguments,
    Argument(&'static [Value], usize),
    /// Its value as a string, or as JSON.
    Text,
    Json,
    /// The plain value behind the JSON, for the attributes that matter themselves.
    Plain,
    /// The names of outputs, each computed.
    Outputs(&'static [Value], usize),
}

struct Making {
    name_entry: &'static Entry,
    stage: Stage,
    /// `__structuredAttrs` and `__ignoreNulls`.
    head: [Option<Value>; 2],
    attributes: Vec<&'static Entry>,
    next: usize,
    name: String,
    /// The JSON so far, where attributes are structured.
    structured: Option<Vec<u8>>,
    ignore_nulls: bool,
    parts: Parts,
}

const ENVIRONMENT: CoerceOptions = CoerceOptions { more: true, copy_to_store: true };

impl Making {
    fn entry(&self) -> &'static Entry {
        self.attributes[self.next]
    }

    fn skip(&mut self) -> Stage {
        self.next += 1;
        Stage::Next
    }

    /// Begins the next attribute, or ends.
    fn attribute(&mut self, vm: &mut Vm) -> Result<(Stage, Step)> {
        let symbols = vm.symbols;
        let Some(&entry) = self.attributes.get(self.next) else {
            return Ok((Stage::Next, Step::Return(self.finish(vm)?)));
        };
        if entry.name == symbols.ignore_nulls {
            return Ok((self.skip(), Step::Force(Value::Null)));
        }
        if self.ignore_nulls {
            return Ok((Stage::Null, Step::Force(entry.value.get())));
        }
        Ok(self.begin(vm, entry))
    }

    fn begin(&mut self, vm: &mut Vm, entry: &'static Entry) -> (Stage, Step) {
        let symbols = vm.symbols;
        let found = entry.value.get();
        if entry.name == symbols.content_addressed || entry.name == symbols.impure {
            return (Stage::Flag, Step::Force(found));
        }
        if entry.name == symbols.args {
            return (Stage::Arguments, Step::Force(found));
        }
        if self.structured.is_none() {
            return (Stage::Text, Step::Run(Box::new(Coerce::apart(found, ENVIRONMENT, ""))));
        }
        if entry.name == symbols.structured_attrs {
            return (self.skip(), Step::Force(Value::Null));
        }
        (Stage::Json, Step::Run(Box::new(ToJson::new(found, true))))
    }

    fn argument(&mut self, items: &'static [Value], index: usize) -> (Stage, Step) {
        match items.get(index) {
            Some(&item) => {
                let context = "while evaluating an element of the argument list";
                let coerce = Coerce::apart(item, ENVIRONMENT, context);
                (Stage::Argument(items, index), Step::Run(Box::new(coerce)))
            }
            None => (self.skip(), Step::Force(Value::Null)),
        }
    }

    fn step(&mut self, vm: &mut Vm, stage: Stage, value: Value) -> Result<(Stage, Step)> {
        let symbols = vm.symbols;
        match stage {
            Stage::Name => {
                let context = "while evaluating the `name` attribute passed to builtins.derivationStrict";
                let name = vm.want_plain_string(value, context)?;
                self.name = String::from_utf8_lossy(name).into_owned();
                check_name(&self.name).map_err(|error| bad_name(vm, &self.name, &error.to_string()))?;
                Ok((Stage::StructuredAttrs, Step::Force(self.head[0].unwrap_or(Value::Bool(false)))))
            }
            Stage::StructuredAttrs => {
                let context =
                    "while evaluating the `__structuredAttrs` attribute passed to builtins.derivationStrict";
                if vm.want_bool(value, context)? {
                    self.structured = Some(Vec::new());
                }
                Ok((Stage::IgnoreNulls, Step::Force(self.head[1].unwrap_or(Value::Bool(false)))))
            }
            Stage::IgnoreNulls => {
                let context =
                    "while evaluating the `__ignoreNulls` attribute passed to builtins.derivationStrict";
                self.ignore_nulls = vm.want_bool(value, context)?;
                self.attribute(vm)
            }
            Stage::Next => self.attribute(vm),
            Stage::Null => {
                if let Value::Null = value {
                    return Ok((self.skip(), Step::Force(Value::Null)));
                }
                let entry = self.entry();
                Ok(self.begin(vm, entry))
            }
            Stage::Flag => {
                if vm.want_bool(value, "")? {
                    if self.entry().name == symbols.impure {
                        let message = "experimental Nix feature 'impure-derivations' is disabled; \
                                       add '--extra-experimental-features impure-derivations' to enable it";
                        return Err(EvalError::evaluation(message));
                    }
                    self.parts.content_addressed = true;
                }
                Ok((self.skip(), Step::Force(Value::Null)))
            }
            Stage::Arguments => {
                let items = vm.want_list(value, "")?;
                Ok(self.argument(items, 0))
            }
            Stage::Argument(items, index) => {
                let (bytes, context) = vm.take_apart(value);
                self.parts.arguments.push(bytes);
                unite(&mut self.parts.context, &context);
                Ok(self.argument(items, index + 1))
            }
            Stage::Text => {
                self.text(vm, value)?;
                Ok((self.skip(), Step::Force(Value::Null)))
            }
            Stage::Json => self.json(vm, value),
            Stage::Plain => self.plain(vm, value),
            Stage::Outputs(items, index) => match items.get(index) {
                Some(&item) if index < items.len() => {
                    let item = item.peek();
                    if !item.is_whnf() {
                        return Ok((Stage::Outputs(items, index), Step::Force(item)));
                    }
                    Ok((Stage::Outputs(items, index + 1), Step::Force(Value::Null)))
                }
                _ => {
                    let mut names = Vec::with_capacity(items.len());
                    for item in items {
                        let name = vm.want_plain_string(item.peek(), "")?;
                        names.push(String::from_utf8_lossy(name).into_owned());
                    }
                    self.outputs(names)?;
                    Ok((self.skip(), Step::Force(Value::Null)))
                }
            },
        }
    }

    /// An attribute that becomes an environment variable.
    fn text(&mut self, vm: &mut Vm, value: Value) -> Result<()> {
        let symbols = vm.symbols;
        let name = self.entry().name;
        let (bytes, context) = vm.take_apart(value);
        unite(&mut self.parts.context, &context);
        if name == symbols.outputs {
            let text = String::from_utf8_lossy(&bytes);
            let names = text.split([' ', '\t', '\n', '\r']).filter(|name| !name.is_empty());
            self.outputs(names.map(str::to_owned).collect())?;
        } else {
            self.special(vm, name, &bytes)?;
        }
        self.parts.environment.insert(vm.interner.name(name).to_vec(), bytes);
        Ok(())
    }

    /// Attributes that mean something to the derivation itself.
    fn special(&mut self, vm: &Vm, name: Symbol, bytes: &[u8]) -> Result<()> {
        let symbols = vm.symbols;
        if name == symbols.builder {
            self.parts.builder = bytes.to_vec();
        } else if name == symbols.system {
            self.parts.system = bytes.to_vec();
        } else if name == symbols.output_hash {
            self.parts.hash = Some(bytes.to_vec());
        } else if name == symbols.output_hash_algo {
            self.parts.algorithm = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        } else if name == symbols.output_hash_mode {
            self.mode(&String::from_utf8_lossy(bytes))?;
        }
        Ok(())
    }

    fn mode(&mut self, mode: &str) -> Result<()> {
        let Some(method) = ContentMethod::from_mode(mode) else {
            let message = format!("invalid value '{mode}' for 'outputHashMode' attribute");
            return Err(EvalError::evaluation(message));
        };
        let feature = match method {
            ContentMethod::Text => Some("dynamic-derivations"),
            ContentMethod::Git => Some("git-hashing"),
            _ => None,
        };
        if let Some(feature) = feature {
            let message = format!(
                "experimental Nix feature '{feature}' is disabled; \
                 add '--extra-experimental-features {feature}' to enable it"
            );
            return Err(EvalError::evaluation(message));
        }
        self.parts.method = Some(method);
        Ok(())
    }

    fn outputs(&mut self, names: Vec<String>) -> Result<()> {
        let mut seen = BTreeSet::new();
        for name in &names {
            if !seen.insert(name) {
                return Err(EvalError::evaluation(format!("duplicate derivation output '{name}'")));
            }
            if name == "drvPath" {
                return Err(EvalError::evaluation("invalid derivation output name 'drvPath'"));
            }
        }
        if names.is_empty() {
            return Err(EvalError::evaluation("derivation cannot have an empty set of outputs"));
        }
        self.parts.outputs = Some(names);
        Ok(())
    }

    /// An attribute that becomes a member of the JSON.
    fn json(&mut self, vm: &mut Vm, value: Value) -> Result<(Stage, Step)> {
        let symbols = vm.symbols;
        let entry = self.entry();
        let json = self.structured.as_mut().expect("JSON is made where attributes are structured");
        json.push(if json.is_empty() { b'{' } else { b',' });
        let name = vm.interner.name(entry.name);
        crate::text::json::write_string(json, name)
            .map_err(|error| EvalError::evaluation(format!("JSON serialization error: {error}")))?;
        json.push(b':');
        json.extend_from_slice(value.as_bytes().unwrap_or_default());
        unite(&mut self.parts.context, value.context());
        let own = [
            symbols.builder,
            symbols.system,
            symbols.output_hash,
            symbols.output_hash_algo,
            symbols.output_hash_mode,
            symbols.outputs,
        ];
        if own.contains(&entry.name) {
            return Ok((Stage::Plain, Step::Force(entry.value.get())));
        }
        Ok((self.skip(), Step::Force(Value::Null)))
    }

    fn plain(&mut self, vm: &mut Vm, value: Value) -> Result<(Stage, Step)> {
        let symbols = vm.symbols;
        let name = self.entry().name;
        if name == symbols.outputs {
            let items = vm.want_list(value, "")?;
            return Ok((Stage::Outputs(items, 0), Step::Force(Value::Null)));
        }
        let bytes = if name == symbols.builder {
            unite(&mut self.parts.context, value.context());
            vm.want_string(value, "")?
        } else {
            vm.want_plain_string(value, "")?
        };
        self.special(vm, name, bytes)?;
        Ok((self.skip(), Step::Force(Value::Null)))
    }

    /// The derivation, its file and its paths.
    fn finish(&mut self, vm: &mut Vm) -> Result<Value> {
        let mut parts = std::mem::take(&mut self.parts);
        let error = |message: String| EvalError::evaluation(message);
        if let Some(mut json) = self.structured.take() {
            json.extend_from_slice(if json.is_empty() { b"{}" } else { b"}" });
            parts.environment.insert(b"__json".to_vec(), json);
        }
        let mut made = Derivation::new(&self.name, parts.system, parts.builder);
        made.arguments = parts.arguments;
        made.environment = parts.environment;
        inputs(vm, &mut made, &parts.context)?;
        if made.builder.is_empty() {
            return Err(error("required attribute 'builder' missing".into()));
        }
        if made.system.is_empty() {
            return Err(error("required attribute 'system' missing".into()));
        }
        if self.name.ends_with(".drv") {
            let message =
                "derivation names are allowed to end in '.drv' only if they produce a single derivation file";
            return Err(error(message.into()));
        }
        let outputs = parts.outputs.unwrap_or_else(|| vec!["out".into()]);
        let name = self.name.as_str();
        let world = |vm: &Vm, why: rednix_store::Error| {
            EvalError::new(ErrorKind::World, format!("cannot make derivation '{name}': {why}")).at(vm.here())
        };
        if let Some(hash) = parts.hash {
            if outputs != ["out"] {
                let message = "multiple outputs are not supported in fixed-output derivations";
                return Err(error(message.into()));
            }
            let hash = vm.parse_hash(&hash, parts.algorithm)?;
            let method = parts.method.unwrap_or(ContentMethod::Flat);
            let output = Output::fixed(method, hash, name, "out").map_err(|why| world(vm, why))?;
            made.outputs.insert("out".into(), output);
        } else {
            for output in &outputs {
                let kind = if parts.content_addressed {
                    Output::Floating {
                        method: parts.method.unwrap_or(ContentMethod::Recursive),
                        algorithm: parts.algorithm.unwrap_or(HashAlgorithm::Sha256),
                    }
                } else {
                    Output::Deferred
                };
                made.outputs.insert(output.clone(), kind);
            }
        }
        fill(vm, &mut made)?;
        let aterm = made.to_aterm();
        let path = made.store_path_of(&aterm).map_err(|why| world(vm, why))?;
        if !vm.settings.read_only {
            vm.world.write_derivation(&path, &made, &aterm).map_err(|why| vm.world_error(&why))?;
        }
        let hash = modulo(vm, &made)?;
        vm.derivation_hashes.insert(path.clone(), hash);
        Ok(result(vm, path, &made, parts.context))
    }
}

/// What evaluation keeps of a derivation it made.
pub(crate) struct Made {
    /// The numbers of what it refers to.
    context: Box<[u32]>,
    outputs: Box<[String]>,
}

#[cold]
fn bad_name(vm: &Vm, name: &str, why: &str) -> Box<EvalError> {
    let message = match name.bytes().find(|&byte| !is_name_byte(byte)) {
        _ if name.is_empty() => "name must not be empty".to_string(),
        Some(byte) => format!("name '{name}' contains illegal character '{}'", char::from(byte)),
        None if name.len() > 211 => format!("name '{name}' must be no longer than 211 characters"),
        None if name == "." || name == ".." => format!("name '{name}' is not valid"),
        None if name.starts_with(".-") => {
            format!("name '{name}' is not valid: first dash-separated component must not be '.'")
        }
        None if name.starts_with("..-") => {
            format!("name '{name}' is not valid: first dash-separated component must not be '..'")
        }
        None => why.to_string(),
    };
    EvalError::evaluation(format!("invalid derivation name: {message}. Please pass a different 'name'."))
        .at(vm.here())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte)
}

/// Everything the context refers to becomes an input.
fn inputs(vm: &mut Vm, made: &mut Derivation, context: &[u32]) -> Result<()> {
    for &number in context {
        match vm.contexts.get(number).clone() {
            ContextElement::Opaque(path) => {
                made.input_sources.insert(path);
            }
            ContextElement::Built { derivation, output } => {
                made.input_derivations.entry(derivation).or_default().insert(output);
            }
            ContextElement::DrvDeep(path) => {
                for (path, outputs) in vm.derivation_closure(path)? {
                    made.input_sources.insert(path.clone());
                    if let Some(outputs) = outputs {
                        made.input_derivations.entry(path).or_default().extend(outputs);
                    }
                }
            }
        }
    }
    Ok(())
}

fn fill(vm: &mut Vm, made: &mut Derivation) -> Result<()> {
    let open = !made.is_fixed() && !made.is_floating() && below_floating(vm, made);
    let Vm { derivation_hashes, world, .. } = vm;
    let filled = if open {
        made.leave_outputs_open()
    } else {
        let mut load = loader(world);
        made.fill_output_paths(&mut |input| derivation_hashes.resolve(input, &mut load))
    };
    filled.map_err(|why| EvalError::new(ErrorKind::World, why.to_string()).at(vm.here()))
}

/// Whether an input is known to float, or to lie below something that does.
fn below_floating(vm: &Vm, made: &Derivation) -> bool {
    let known = |input| vm.derivation_hashes.get(input).is_some_and(|hash| hash.is_deferred());
    made.input_derivations.keys().any(known)
}

fn modulo(vm: &mut Vm, made: &Derivation) -> Result<DerivationHash> {
    // No path that is known while evaluating follows from the hash of something that floats: whoever depends on it
    // only has to know that it does.
    if made.is_floating() || (!made.is_fixed() && below_floating(vm, made)) {
        return Ok(DerivationHash::Deferred(Hash::zero(HashAlgorithm::Sha256)));
    }
    let Vm { derivation_hashes, world, .. } = vm;
    let hash = {
        let mut load = loader(world);
        hash_modulo(made, &mut |input| derivation_hashes.resolve(input, &mut load))
    };
    hash.map_err(|why| EvalError::new(ErrorKind::World, why.to_string()).at(vm.here()))
}

/// Reads derivations this evaluation did not make itself.
fn loader(
    world: &mut Box<dyn crate::world::World>,
) -> impl FnMut(&StorePath) -> rednix_store::Result<Derivation> + '_ {
    move |path| {
        world.read_derivation(path).map_err(|why| rednix_store::Error::BadDerivation {
            name: path.to_string(),
            offset: 0,
            reason: why.to_string(),
        })
    }
}

/// `{ drvPath, out, … }`: strings that depend on what they name.
fn result(vm: &mut Vm, path: StorePath, made: &Derivation, context: Vec<u32>) -> Value {
    let symbols = vm.symbols;
    let number = vm.contexts.number(ContextElement::DrvDeep(path.clone()));
    let drv_path = Value::string_with_context(&mut vm.heap, path.to_string().as_bytes(), &[number]);
    let mut pairs = vec![(symbols.drv_path, drv_path)];
    for (output, kind) in &made.outputs {
        let text = match kind.path() {
            Some(path) => path.to_string(),
            None => derivation::upstream_placeholder(&path, output),
        };
        let element = ContextElement::Built { derivation: path.clone(), output: output.clone() };
        let number = vm.contexts.number(element);
        let text = Value::string_with_context(&mut vm.heap, text.as_bytes(), &[number]);
        pairs.push((vm.interner.intern(output.as_bytes()), text));
    }
    let outputs = made.outputs.keys().cloned().collect();
    vm.made_derivations.insert(path, Made { context: context.into_boxed_slice(), outputs });
    vm.attrs(&pairs)
}

impl Vm {
    /// A derivation's file and everything its references lead to, with the outputs of each derivation among it.
    fn derivation_closure(
        &mut self,
        root: StorePath,
    ) -> Result<BTreeMap<StorePath, Option<BTreeSet<String>>>> {
        let mut closure: BTreeMap<StorePath, Option<BTreeSet<String>>> = BTreeMap::new();
        let mut pending = vec![root];
        while let Some(path) = pending.pop() {
            if closure.contains_key(&path) {
                continue;
            }
            if !path.is_derivation() {
                closure.insert(path, None);
                continue;
            }
            if let Some(made) = self.made_derivations.get(&path) {
                pending.extend(made.context.iter().map(|&number| match self.contexts.get(number) {
                    ContextElement::Opaque(path) | ContextElement::DrvDeep(path) => path.clone(),
                    ContextElement::Built { derivation, .. } => derivation.clone(),
                }));
                closure.insert(path, Some(made.outputs.iter().cloned().collect()));
                continue;
            }
            let read = self.world.read_derivation(&path).map_err(|why| self.world_error(&why))?;
            pending.extend(read.references());
            closure.insert(path, Some(read.outputs.keys().cloned().collect()));
        }
        Ok(closure)
    }
}

impl Native for Making {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.entries(std::slice::from_ref(self.name_entry));
        self.head.iter().for_each(|value| tracer.optional(*value));
        self.attributes.iter().for_each(|entry| tracer.entries(std::slice::from_ref(*entry)));
        if let Stage::Argument(items, _) | Stage::Outputs(items, _) = self.stage {
            tracer.list(items);
        }
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        if self.name.is_empty() && matches!(self.stage, Stage::Name) {
            let name = self.name_entry.value.get().peek();
            if !name.is_whnf() {
                return Ok(Step::Force(name));
            }
            let (stage, step) = self.step(vm, Stage::Name, name)?;
            self.stage = stage;
            return Ok(step);
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Next);
        let (stage, step) = match self.step(vm, stage, value) {
            Ok(next) => next,
            Err(error) => return Err(self.explain(vm, error)),
        };
        self.stage = stage;
        Ok(step)
    }

    fn recover(&mut self, vm: &mut Vm, error: Box<EvalError>) -> Result<Value> {
        Err(self.explain(vm, error))
    }
}

impl Making {
    /// Adds which attribute of which derivation it was.
    fn explain(&self, vm: &Vm, mut error: Box<EvalError>) -> Box<EvalError> {
        error = error.at(vm.here());
        if let Some(entry) = self.attributes.get(self.next).filter(|_| !self.name.is_empty()) {
            let message = format!(
                "while evaluating attribute '{}' of derivation '{}'",
                vm.interner.text(entry.name),
                self.name
            );
            error.frames.push(Frame { range: Range::at(entry.pos), message });
        }
        if !self.name.is_empty() {
            let place = vm.sources.place(self.name_entry.pos);
            let place = place.map_or_else(|| "«none»:0".into(), |place| place.to_string());
            let message = format!(
                "while evaluating derivation '{}'\n  whose name attribute is located at {place}",
                self.name
            );
            error.frames.push(Frame { range: Range::default(), message });
        }
        error
    }
}
