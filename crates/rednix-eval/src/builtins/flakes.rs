//! `getFlake`, references to flakes as sets and texts, and how a lock file becomes outputs.

use super::{Outcome, ready, value};
use crate::error::{EvalError, Result};
use crate::source::Origin;
use crate::value::{BuiltinId, Value, entries};
use crate::vm::Vm;
use crate::vm::native::Arguments;
use crate::world::FlakeSources;
use rednix_flake::{Attribute, Attributes, FlakeRef};

/// Seen by [`CALL_FLAKE`] alone.
pub(crate) const FETCH_FINAL_TREE: &str = "«fetchFinalTree»";

/// Outputs of a flake from its lock file. `known` has nodes that are in the store already, `fetch` gets the others.
const CALL_FLAKE: &str = r#"lockText: known: fetch:
let
  lock = builtins.fromJSON lockText;

  # An input is a node's name, or a path from the top for what follows another input.
  nodeOf = input: if builtins.isList input then walk lock.root input else input;
  walk = builtins.foldl' (name: step: nodeOf lock.nodes.${name}.inputs.${step});

  below = folder: path: if folder == "" then path else "${path}/${folder}";

  flakes = builtins.mapAttrs (name: node:
    let
      here = known.${name} or null;
      pin = node.locked or { };
      isRelative = (pin.type or null) == "path" && builtins.substring 0 1 pin.path != "/";
      parent = flakes.${walk lock.root node.parent};

      sourceInfo =
        if here != null then here.sourceInfo
        else if isRelative then parent.sourceInfo
        else fetch (removeAttrs ((node.info or { }) // pin) [ "dir" ]);

      outPath =
        if here == null && isRelative then below pin.path parent.outPath
        else below (if here != null then here.dir else pin.dir or "") sourceInfo.outPath;

      flake = import (outPath + "/flake.nix");
      inputs = builtins.mapAttrs (_: input: flakes.${nodeOf input}.result) (node.inputs or { });
      outputs = flake.outputs (inputs // { self = whole; });
      whole = outputs // sourceInfo // {
        inherit outPath inputs outputs sourceInfo;
        _type = "flake";
      };
    in {
      inherit outPath sourceInfo;
      result =
        if node.flake or true then
          assert builtins.isFunction flake.outputs;
          whole
        else sourceInfo // { inherit sourceInfo outPath; };
    }) lock.nodes;
in flakes.${lock.root}.result
"#;

pub(super) fn get_flake(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the argument passed to builtins.getFlake";
    let text = vm.want_plain_string(arguments[0], context)?;
    let text = String::from_utf8_lossy(text).into_owned();
    let reference = FlakeRef::parse(&text, true, false).map_err(|error| wrong(vm, &error))?;
    let pure = vm.settings.pure;
    if pure && !reference.input.is_locked() {
        let place = vm.sources.place(vm.here().start).map_or_else(|| "«none»".to_owned(), |p| p.to_string());
        let message = format!(
            "cannot call 'getFlake' on unlocked flake reference '{text}', at {place} (use --impure to override)"
        );
        return Err(EvalError::evaluation(message));
    }
    let sources = vm.world.get_flake(&reference, pure).map_err(|error| vm.world_error(&error))?;
    let (function, arguments) = vm.flake_call(&sources)?;
    Ok(Outcome::Call(function, arguments))
}

fn wrong(vm: &Vm, error: &rednix_flake::FlakeError) -> Box<EvalError> {
    EvalError::evaluation(error.to_string()).at(vm.here())
}

impl Vm {
    /// The call whose result is a flake.
    pub(crate) fn flake_call(&mut self, sources: &FlakeSources) -> Result<(Value, Arguments)> {
        let mut known = Vec::new();
        for tree in &sources.trees {
            let info = self.tree_value(&tree.tree, false, tree.is_dirty)?;
            let folder = self.string(tree.folder.as_bytes());
            let set = self.named_attrs(&[("sourceInfo", info), ("dir", folder)]);
            known.push((tree.node.as_str(), set));
        }
        let known = self.named_attrs(&known);
        let lock = self.string(sources.lock.as_bytes());
        let index = super::TABLE.iter().position(|entry| entry.name == FETCH_FINAL_TREE);
        let fetch = Value::Builtin(BuiltinId(index.expect("it stands in the table") as u16));
        let source = CALL_FLAKE.as_bytes().to_vec();
        let function = self.load(Origin::Internal("call-flake.nix"), source, b"/", None)?;
        Ok((function, Arguments::new(&[lock, known, fetch])))
    }

    fn attribute_value(&mut self, attribute: &Attribute) -> Value {
        match attribute {
            Attribute::Text(text) => self.string(text.as_bytes()),
            Attribute::Number(number) => Value::Int(*number as i64),
            Attribute::Flag(flag) => Value::Bool(*flag),
        }
    }
}

pub(super) fn parse_flake_ref(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the argument passed to builtins.parseFlakeRef";
    let text = vm.want_plain_string(arguments[0], context)?;
    let text = String::from_utf8_lossy(text).into_owned();
    let reference = FlakeRef::parse(&text, true, false).map_err(|error| wrong(vm, &error))?;
    let attributes = reference.to_attributes();
    let pairs: Vec<(&str, Value)> =
        attributes.0.iter().map(|(name, value)| (name.as_str(), vm.attribute_value(value))).collect();
    value(vm.named_attrs(&pairs))
}

pub(super) fn flake_ref_to_string(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let context = "while evaluating the argument passed to builtins.flakeRefToString";
    let set = vm.want_attrs(arguments[0], context)?;
    let mut attributes = Attributes::default();
    for entry in entries(&mut vm.heap, set) {
        let computed = ready!(entry.value.get());
        let name = vm.text_of(entry.name);
        let attribute = match computed {
            Value::Bool(flag) => Attribute::Flag(flag),
            Value::Int(number) => Attribute::Number(u64::try_from(number).map_err(|_| {
                let message = format!("negative value given for flake ref attr {name}: {number}");
                EvalError::evaluation(message).at(vm.here())
            })?),
            other => match other.as_bytes() {
                Some(bytes) => Attribute::Text(String::from_utf8_lossy(bytes).into_owned()),
                None => {
                    let kind = vm.type_of(other);
                    let message = format!(
                        "flake reference attribute sets may only contain integers, Booleans, \
                         and strings, but attribute '{name}' is {kind}"
                    );
                    return Err(EvalError::evaluation(message));
                }
            },
        };
        attributes.0.insert(name, attribute);
    }
    let text = FlakeRef::from_attributes(attributes).and_then(|reference| reference.to_url());
    let text = text.map_err(|error| wrong(vm, &error))?;
    value(vm.string(text.as_bytes()))
}
