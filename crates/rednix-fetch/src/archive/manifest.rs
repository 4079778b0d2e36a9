//! Cargo manifests that stand alone: what a crate inherits from its workspace is written into it.
//!
//! Text in, text out; a manifest that inherits nothing is left as it is, byte for byte. Path dependencies keep
//! their `path`: inside a vendored git source cargo reads them as "from the same source".

use std::path::Path;

use toml::{Table, Value};

/// The names of dependency tables, old spellings too.
const DEPENDENCY_TABLES: [&str; 5] =
    ["dependencies", "dev-dependencies", "dev_dependencies", "build-dependencies", "build_dependencies"];

/// Sections that mean something for a workspace or a root package only.
const ROOT_SECTIONS: [&str; 4] = ["workspace", "patch", "replace", "profile"];

/// Whether a manifest's workspace must be known to read it alone.
pub fn inherits(manifest: &Table) -> bool {
    let any = |value: Option<&Value>| {
        value.and_then(Value::as_table).is_some_and(|table| table.values().any(is_inherited))
    };
    let any_dependency = |table: &Table| DEPENDENCY_TABLES.iter().any(|name| any(table.get(*name)));
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flatten();
    any(manifest.get("package"))
        || any_dependency(manifest)
        || targets.filter_map(|(_, target)| target.as_table()).any(any_dependency)
        || manifest.get("lints").is_some_and(is_inherited)
}

fn is_inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

/// Makes a manifest stand alone. `workspace` is the manifest that has the `[workspace]` section (maybe the same);
/// `up` leads from the crate's folder to the workspace's, for paths, such as `../..`.
pub fn standalone(manifest: &str, workspace: Option<&str>, up: &Path) -> Result<Option<String>, String> {
    let mut table: Table = manifest.parse().map_err(|error: toml::de::Error| error.to_string())?;
    if !inherits(&table) {
        if !ROOT_SECTIONS.iter().any(|section| table.contains_key(*section)) {
            return Ok(None);
        }
    } else {
        let workspace = workspace.ok_or("it inherits from a workspace, and no folder above it has one")?;
        let workspace: Table = workspace
            .parse()
            .map_err(|error: toml::de::Error| format!("the workspace's manifest: {error}"))?;
        let workspace = workspace.get("workspace").and_then(Value::as_table);
        let inheritance =
            Inheritance { workspace: workspace.ok_or("the workspace's manifest has no `[workspace]`")?, up };
        inheritance.resolve(&mut table)?;
    }
    for section in ROOT_SECTIONS {
        table.remove(section);
    }
    toml::to_string(&table).map(Some).map_err(|error| error.to_string())
}

struct Inheritance<'w> {
    workspace: &'w Table,
    up: &'w Path,
}

impl Inheritance<'_> {
    fn resolve(&self, manifest: &mut Table) -> Result<(), String> {
        if let Some(Value::Table(package)) = manifest.get_mut("package") {
            self.resolve_package(package)?;
        }
        self.resolve_dependency_tables(manifest)?;
        if let Some(Value::Table(targets)) = manifest.get_mut("target") {
            for target in targets.iter_mut().filter_map(|(_, value)| value.as_table_mut()) {
                self.resolve_dependency_tables(target)?;
            }
        }
        if manifest.get("lints").is_some_and(is_inherited) {
            match self.workspace.get("lints") {
                Some(lints) => manifest.insert("lints".to_owned(), lints.clone()),
                None => manifest.remove("lints"),
            };
        }
        Ok(())
    }

    fn resolve_package(&self, package: &mut Table) -> Result<(), String> {
        let inherited: Vec<String> =
            package.iter().filter(|(_, value)| is_inherited(value)).map(|(name, _)| name.clone()).collect();
        for name in inherited {
            let value = self.workspace.get("package").and_then(|fields| fields.get(&name));
            let value =
                value.ok_or_else(|| format!("`package.{name}` is inherited, but the workspace has none"))?;
            let value = match (name.as_str(), value.as_str()) {
                ("readme" | "license-file", Some(path)) => Value::String(self.path(path)),
                _ => value.clone(),
            };
            package.insert(name, value);
        }
        Ok(())
    }

    /// A path of the workspace, seen from the crate.
    fn path(&self, path: &str) -> String {
        self.up.join(path).to_string_lossy().into_owned()
    }

    fn resolve_dependency_tables(&self, table: &mut Table) -> Result<(), String> {
        for name in DEPENDENCY_TABLES {
            let Some(Value::Table(dependencies)) = table.get_mut(name) else { continue };
            for (dependency, value) in dependencies.iter_mut().filter(|(_, value)| is_inherited(value)) {
                *value = self.dependency(dependency, value)?;
            }
        }
        Ok(())
    }

    /// The workspace's dependency, with what the crate adds to it.
    fn dependency(&self, name: &str, local: &Value) -> Result<Value, String> {
        let shared = self.workspace.get("dependencies").and_then(|dependencies| dependencies.get(name));
        let mut merged = match shared {
            Some(Value::Table(shared)) => shared.clone(),
            Some(Value::String(version)) => {
                Table::from_iter([("version".to_owned(), Value::String(version.clone()))])
            }
            _ => return Err(format!("dependency `{name}` is inherited, but the workspace has none")),
        };
        if let Some(path) = merged.get("path").and_then(Value::as_str) {
            let path = self.path(path);
            merged.insert("path".to_owned(), Value::String(path));
        }
        for (key, value) in local.as_table().into_iter().flatten() {
            match key.as_str() {
                "workspace" => {}
                "features" => {
                    let mut features = merged.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
                    for feature in value.as_array().into_iter().flatten() {
                        if !features.contains(feature) {
                            features.push(feature.clone());
                        }
                    }
                    merged.insert(key.clone(), Value::Array(features));
                }
                // A crate can turn the default features on, not off.
                "default-features" | "default_features" => {
                    if value.as_bool() == Some(true) {
                        merged.remove("default_features");
                        merged.insert("default-features".to_owned(), value.clone());
                    }
                }
                _ => {
                    merged.insert(key.clone(), value.clone());
                }
            }
        }
        Ok(Value::Table(merged))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORKSPACE: &str = r#"
[workspace]
members = ["crates/*"]
[workspace.package]
version = "1.2.3"
edition = "2024"
readme = "README.md"
authors = ["x"]
[workspace.dependencies]
plain = "1"
rich = { version = "2", default-features = false, features = ["a"] }
beside = { path = "crates/beside", version = "1" }
[workspace.lints.rust]
unused = "allow"
"#;

    #[test]
    fn everything_inherited_is_written_out() {
        let manifest = r#"
[package]
name = "x"
version.workspace = true
edition = { workspace = true }
readme.workspace = true
authors.workspace = true
[dependencies]
plain.workspace = true
rich = { workspace = true, features = ["a", "b"], optional = true, default-features = true }
own = "3"
[target.'cfg(unix)'.build-dependencies]
beside = { workspace = true }
[lints]
workspace = true
[profile.release]
lto = true
"#;
        let text = standalone(manifest, Some(WORKSPACE), Path::new("../..")).unwrap().unwrap();
        let expected: Table = r#"
[package]
name = "x"
version = "1.2.3"
edition = "2024"
readme = "../../README.md"
authors = ["x"]
[dependencies]
plain = { version = "1" }
rich = { version = "2", default-features = true, features = ["a", "b"], optional = true }
own = "3"
[target.'cfg(unix)'.build-dependencies]
beside = { path = "../../crates/beside", version = "1" }
[lints.rust]
unused = "allow"
"#
        .parse()
        .unwrap();
        assert_eq!(text.parse::<Table>().unwrap(), expected);
    }

    #[test]
    fn nothing_inherited_nothing_changed() {
        let manifest =
            "[package]\nname = \"x\" # kept\nversion = \"1.0.0\"\n[package.metadata.x]\nworkspace = true\n";
        assert_eq!(standalone(manifest, None, Path::new("")).unwrap(), None);
        let root = format!("{manifest}[workspace]\nmembers = [\"a\"]\n");
        let text = standalone(&root, None, Path::new("")).unwrap().unwrap();
        assert!(!text.contains("members"), "{text}");
    }

    #[test]
    fn holes_are_named() {
        let cases = [
            ("[package]\nname='x'\nversion.workspace=true\n", None, "no folder above"),
            ("[package]\nname='x'\nrust-version.workspace=true\n", Some(WORKSPACE), "`package.rust-version`"),
            ("[package]\nname='x'\n[dependencies]\nzzz.workspace=true\n", Some(WORKSPACE), "`zzz`"),
            ("[package\n", None, ""),
        ];
        for (manifest, workspace, expected) in cases {
            let error = standalone(manifest, workspace, Path::new("")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends(text in "(\\[package\\]\n|\\[dependencies\\]\n|[a-z]{1,4}(\\.workspace)? ?= ?(true|'1'|\\{workspace=true\\})\n){0,8}") {
            if let Ok(Some(result)) = standalone(&text, Some(WORKSPACE), Path::new("..")) {
                prop_assert!(!inherits(&result.parse::<Table>().unwrap()));
            }
        }
    }
}
