//! Registries: names for flakes, from files in JSON.

use serde_json::Value;

use crate::{Attributes, FlakeError, Input, Result, limits};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryEntry {
    pub from: Input,
    pub to: Input,
    /// The flake's folder in what the name stands for.
    pub subdir: Option<String>,
    /// Holds only for exactly this, and not with a branch or commit added.
    pub exact: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    pub entries: Vec<RegistryEntry>,
}

impl Registry {
    /// `name` is the file's, for errors.
    pub fn parse(text: &str, name: &str) -> Result<Registry> {
        let wrong =
            |reason: String| FlakeError::Input(format!("cannot read flake registry '{name}': {reason}"));
        let json: Value = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let version = json.get("version").and_then(Value::as_u64).unwrap_or(0);
        if version != 2 {
            return Err(wrong(format!("version {version} is not supported")));
        }
        let mut entries = Vec::new();
        for entry in json.get("flakes").and_then(Value::as_array).into_iter().flatten() {
            let attributes = |side: &str| match entry.get(side) {
                Some(value) => Attributes::from_json(value),
                None => Err(wrong(format!("an entry has no `{side}`"))),
            };
            let mut to = attributes("to")?;
            let subdir = to.text("dir")?.map(str::to_owned);
            to.remove("dir");
            entries.push(RegistryEntry {
                from: Input::from_attributes(attributes("from")?)?,
                to: Input::from_attributes(to)?,
                subdir,
                exact: entry.get("exact").and_then(Value::as_bool).unwrap_or(false),
            });
        }
        Ok(Registry { entries })
    }
}

impl RegistryEntry {
    fn applies_to(&self, input: &Input) -> bool {
        if self.from == *input {
            return true;
        }
        let mut plain = input.clone();
        plain.attributes.remove("ref");
        plain.attributes.remove("rev");
        !self.exact && self.from == plain
    }

    fn apply(&self, input: &Input) -> Result<Input> {
        if self.exact {
            return Ok(self.to.clone());
        }
        let reference = input.reference().filter(|_| self.from.reference().is_none());
        let rev = if self.from.rev()?.is_none() { input.rev()? } else { None };
        self.to.with_overrides(reference, rev.as_deref())
    }
}

/// Follows the registries, first to last, until none applies. The folder is the last entry's.
pub fn resolve(input: &Input, registries: &[Registry]) -> Result<(Input, Option<String>)> {
    let mut resolved = (input.clone(), None);
    for _ in 0..limits::REGISTRY_STEPS_MAX {
        let found = registries
            .iter()
            .flat_map(|registry| &registry.entries)
            .find(|entry| entry.applies_to(&resolved.0));
        match found {
            Some(entry) => resolved = (entry.apply(&resolved.0)?, entry.subdir.clone()),
            None if resolved.0.is_direct() => return Ok(resolved),
            None => {
                return Err(FlakeError::Input(format!(
                    "cannot find flake '{}' in the flake registries\n\n\
                     hint: rednix asks no registry on the network: write the flake's whole address, or name it in \
                     registry.json of the configuration's folder",
                    resolved.0.show()
                )));
            }
        }
    }
    Err(FlakeError::Input(format!("cycle detected in flake registry for '{}'", resolved.0.show())))
}
