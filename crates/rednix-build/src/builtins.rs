//! The registry of builders that are part of rednix. The binary fills it; this crate only calls what it is
//! given, inside the sandbox, and knows no builtin by name.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

/// Attributes of the derivation and, per output name, the absolute path to create.
pub type BuiltinFunction = dyn Fn(&Value, &BTreeMap<String, PathBuf>) -> Result<(), String> + Send + Sync;

/// Functions by builder name without the `builtin:` prefix.
#[derive(Clone, Default)]
pub struct Builtins {
    functions: BTreeMap<String, Arc<BuiltinFunction>>,
}

impl Builtins {
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers `function` under `name`; a later one of the same name wins.
    pub fn register<F, E>(mut self, name: &str, function: F) -> Self
    where
        F: Fn(&Value, &BTreeMap<String, PathBuf>) -> Result<(), E> + Send + Sync + 'static,
        E: Display,
    {
        let function = move |attributes: &Value, outputs: &BTreeMap<String, PathBuf>| -> Result<(), String> {
            function(attributes, outputs).map_err(|error| error.to_string())
        };
        self.functions.insert(name.to_owned(), Arc::new(function));
        self
    }

    pub fn contains(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// Runs one; a panic becomes an error, for the caller reports errors by structure.
    pub fn call(
        &self,
        name: &str,
        attributes: &Value,
        outputs: &BTreeMap<String, PathBuf>,
    ) -> Result<(), String> {
        let Some(function) = self.functions.get(name) else {
            return Err(format!("this rednix has no builder `builtin:{name}`"));
        };
        let call = std::panic::AssertUnwindSafe(|| function(attributes, outputs));
        std::panic::catch_unwind(call).unwrap_or_else(|_| {
            Err(format!("the builder `builtin:{name}` panicked; its message is in the log"))
        })
    }
}

impl std::fmt::Debug for Builtins {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.functions.keys()).finish()
    }
}
