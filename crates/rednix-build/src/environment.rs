//! What a derivation means for its builder: command, environment, files in `/build`, root layers. Pure.
//!
//! Names and values follow C++ Nix's builders, so that a derivation finds what it would find there.

use std::collections::BTreeMap;

use rednix_store::derivation::{Derivation, placeholder};
use rednix_store::hash::Hash;
use rednix_store::path::{STORE_DIR, StorePath};
use serde_json::{Map, Value};

use crate::sandbox::{Bytes, Program};

/// Where the builder works; the same on every machine.
pub const BUILD_FOLDER: &str = "/build";
const BUILTIN_PREFIX: &[u8] = b"builtin:";
const ROOT_ATTRIBUTE: &str = "rednixRoot";

/// A derivation as it is run.
#[derive(Debug)]
pub struct Prepared {
    pub program: Program,
    pub environment: Vec<(Bytes, Bytes)>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub root_layers: Vec<StorePath>,
}

/// Why a derivation cannot be run. Its author, not the machine, must act.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    #[error("its attribute `__json` is no JSON object: {0}")]
    BadStructuredAttributes(String),
    /// Ignoring them would build something else than what was meant.
    #[error("it uses the attribute `{0}`, which rednix does not support")]
    Unsupported(&'static str),
    #[error("its `rednixRoot` names `{0}`, which is no store path")]
    BadRootLayer(String),
}

/// The name after `builtin:`, where the builder is one of rednix's own.
pub fn builtin_name(derivation: &Derivation) -> Option<String> {
    let name = derivation.builder.strip_prefix(BUILTIN_PREFIX)?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Prepares a resolved derivation whose outputs are to be made at the paths `outputs`.
pub fn prepare(
    derivation: &Derivation,
    outputs: &BTreeMap<String, StorePath>,
    cores: usize,
) -> Result<Prepared, PrepareError> {
    let own = OwnPlaceholders::new(outputs);
    let variables: BTreeMap<Vec<u8>, Vec<u8>> =
        derivation.environment.iter().map(|(name, value)| (name.clone(), own.replace(value))).collect();
    let structured = structured_attributes(&variables, outputs)?;
    for name in UNSUPPORTED {
        let structured = structured.as_ref().is_some_and(|attributes| attributes.contains_key(name));
        if structured || variables.contains_key(name.as_bytes()) {
            return Err(PrepareError::Unsupported(name));
        }
    }
    let mut files = BTreeMap::new();
    let mut environment = standard_environment(cores);
    match &structured {
        Some(attributes) => {
            let json = serde_json::to_vec(attributes).expect("a JSON value can always be written");
            files.insert(".attrs.json".to_owned(), json);
            files.insert(".attrs.sh".to_owned(), shell_attributes(attributes).into_bytes());
            for (name, file) in [("NIX_ATTRS_JSON_FILE", ".attrs.json"), ("NIX_ATTRS_SH_FILE", ".attrs.sh")] {
                environment.insert(name.into(), format!("{BUILD_FOLDER}/{file}").into_bytes());
            }
        }
        None => pass_variables(variables.clone(), &mut environment, &mut files),
    }
    if derivation.is_fixed() {
        environment.insert(b"NIX_OUTPUT_CHECKED".to_vec(), b"1".to_vec());
    }
    for (name, value) in [("SOURCE_DATE_EPOCH", "1"), ("TZ", "UTC")] {
        environment.entry(name.into()).or_insert_with(|| value.into());
    }
    for (name, value) in FORCED_VARIABLES {
        environment.insert(name.into(), value.into());
    }
    let root_layers = root_layers(structured.as_ref(), &variables)?;
    let program = match builtin_name(derivation) {
        Some(name) => builtin_program(name, structured, &variables, outputs),
        None => Program::Execute {
            path: own.replace(&derivation.builder).into(),
            arguments: derivation.arguments.iter().map(|text| own.replace(text).into()).collect(),
        },
    };
    let environment = environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    Ok(Prepared { program, environment, files, root_layers })
}

/// Attributes that C++ Nix gives a meaning beyond being passed on.
const UNSUPPORTED: [&str; 8] = [
    "allowedReferences",
    "allowedRequisites",
    "disallowedReferences",
    "disallowedRequisites",
    "exportReferencesGraph",
    "outputChecks",
    "__impure",
    "__noChroot",
];

/// Set whatever the derivation says: they describe the sandbox.
const FORCED_VARIABLES: [(&str, &str); 8] = [
    ("NIX_BUILD_TOP", BUILD_FOLDER),
    ("TMPDIR", BUILD_FOLDER),
    ("TEMPDIR", BUILD_FOLDER),
    ("TMP", BUILD_FOLDER),
    ("TEMP", BUILD_FOLDER),
    ("PWD", BUILD_FOLDER),
    ("NIX_LOG_FD", "2"),
    ("TERM", "xterm-256color"),
];

/// What a derivation may override.
fn standard_environment(cores: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let cores = cores.to_string();
    [
        ("PATH", "/path-not-set"),
        ("HOME", "/homeless-shelter"),
        ("NIX_STORE", STORE_DIR),
        ("NIX_BUILD_CORES", cores.as_str()),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value.into()))
    .collect()
}

/// Ordinary attributes become variables; those listed in `passAsFile` become files.
fn pass_variables(
    mut variables: BTreeMap<Vec<u8>, Vec<u8>>,
    environment: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    files: &mut BTreeMap<String, Vec<u8>>,
) {
    let as_files = variables.get(&b"passAsFile"[..]).cloned().unwrap_or_default();
    for name in as_files.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty()) {
        let Some(value) = variables.remove(name) else { continue };
        let file = format!(".attr-{}", Hash::sha256(name).to_nix32());
        variables.insert([name, b"Path"].concat(), format!("{BUILD_FOLDER}/{file}").into_bytes());
        files.insert(file, value);
    }
    environment.extend(variables);
}

fn structured_attributes(
    variables: &BTreeMap<Vec<u8>, Vec<u8>>,
    outputs: &BTreeMap<String, StorePath>,
) -> Result<Option<Map<String, Value>>, PrepareError> {
    let Some(json) = variables.get(&b"__json"[..]) else { return Ok(None) };
    let mut attributes: Map<String, Value> = serde_json::from_slice(json)
        .map_err(|error| PrepareError::BadStructuredAttributes(error.to_string()))?;
    let outputs = outputs.iter().map(|(name, path)| (name.clone(), Value::from(path.to_string()))).collect();
    attributes.insert("outputs".to_owned(), Value::Object(outputs));
    Ok(Some(attributes))
}

fn builtin_program(
    name: String,
    structured: Option<Map<String, Value>>,
    variables: &BTreeMap<Vec<u8>, Vec<u8>>,
    outputs: &BTreeMap<String, StorePath>,
) -> Program {
    let attributes = structured.unwrap_or_else(|| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        variables.iter().map(|(name, value)| (text(name), Value::from(text(value)))).collect()
    });
    let attributes = serde_json::to_string(&attributes).expect("a JSON value can always be written");
    let outputs = outputs.iter().map(|(name, path)| (name.clone(), path.to_string())).collect();
    Program::Builtin { name, attributes, outputs }
}

fn root_layers(
    structured: Option<&Map<String, Value>>,
    variables: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Vec<StorePath>, PrepareError> {
    let words: Vec<String> = match structured.map(|attributes| attributes.get(ROOT_ATTRIBUTE)) {
        Some(Some(Value::Array(list))) => {
            list.iter().map(|entry| entry.as_str().unwrap_or_default().to_owned()).collect()
        }
        Some(Some(Value::String(text))) => text.split_whitespace().map(str::to_owned).collect(),
        Some(_) => Vec::new(),
        None => {
            let text = variables.get(ROOT_ATTRIBUTE.as_bytes()).map(Vec::as_slice).unwrap_or_default();
            String::from_utf8_lossy(text).split_whitespace().map(str::to_owned).collect()
        }
    };
    words
        .into_iter()
        .map(|word| StorePath::parse(&word).map_err(|_| PrepareError::BadRootLayer(word)))
        .collect()
}

/// The derivation's own outputs' placeholders and the paths they stand for.
struct OwnPlaceholders(Vec<(Vec<u8>, Vec<u8>)>);

impl OwnPlaceholders {
    fn new(outputs: &BTreeMap<String, StorePath>) -> Self {
        let pair = |(name, path): (&String, &StorePath)| {
            (placeholder(name).into_bytes(), path.to_string().into_bytes())
        };
        OwnPlaceholders(outputs.iter().map(pair).collect())
    }

    fn replace(&self, text: &[u8]) -> Vec<u8> {
        let mut result = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(slash) = rest.iter().position(|&byte| byte == b'/') {
            result.extend_from_slice(&rest[..slash]);
            rest = &rest[slash..];
            match self.0.iter().find(|(from, _)| rest.starts_with(from)) {
                Some((from, to)) => {
                    result.extend_from_slice(to);
                    rest = &rest[from.len()..];
                }
                None => {
                    result.push(b'/');
                    rest = &rest[1..];
                }
            }
        }
        result.extend_from_slice(rest);
        result
    }
}

/// Structured attributes as bash declarations, for builders that source `.attrs.sh`.
fn shell_attributes(attributes: &Map<String, Value>) -> String {
    let mut text = String::new();
    let mut names: Vec<&String> = attributes.keys().collect();
    names.sort();
    for name in names.into_iter().filter(|name| is_shell_name(name)) {
        match &attributes[name] {
            Value::Array(list) => {
                let Some(words) = list.iter().map(shell_word).collect::<Option<Vec<_>>>() else { continue };
                let words: String = words.iter().map(|word| format!("{word} ")).collect();
                text += &format!("declare -a {name}=({words})\n");
            }
            Value::Object(map) => {
                let pair = |(key, value): (&String, &Value)| {
                    Some(format!("[{}]={} ", shell_quoted(key), shell_word(value)?))
                };
                let Some(pairs) = map.iter().map(pair).collect::<Option<String>>() else { continue };
                text += &format!("declare -A {name}=({pairs})\n");
            }
            simple => {
                let Some(word) = shell_word(simple) else { continue };
                text += &format!("declare {name}={word}\n");
            }
        }
    }
    text
}

/// A value that fits one shell word; floats and nested values do not.
fn shell_word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(shell_quoted(text)),
        Value::Number(number) => number.as_i64().map(|number| number.to_string()),
        Value::Null | Value::Bool(false) => Some("''".to_owned()),
        Value::Bool(true) => Some("1".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn is_shell_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out() -> BTreeMap<String, StorePath> {
        let path = StorePath::parse("/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-x").unwrap();
        BTreeMap::from([("out".to_owned(), path)])
    }

    fn derivation(variables: &[(&str, &str)]) -> Derivation {
        let mut derivation = Derivation::new("x", "x86_64-linux", "/usr/bin/bash");
        derivation.arguments = vec![b"-c".to_vec(), format!("echo {}", placeholder("out")).into_bytes()];
        for (name, value) in variables {
            derivation.environment.insert(name.as_bytes().to_vec(), value.as_bytes().to_vec());
        }
        derivation
    }

    fn variable(prepared: &Prepared, name: &str) -> Option<String> {
        let found = prepared.environment.iter().find(|(key, _)| key.0 == name.as_bytes())?;
        Some(String::from_utf8(found.1.0.clone()).unwrap())
    }

    #[test]
    fn variables_table() {
        let out_path = out()["out"].to_string();
        let hole = placeholder("out");
        let prepared = prepare(
            &derivation(&[
                ("out", &hole),
                ("PATH", "/usr/bin"),
                ("TMPDIR", "/elsewhere"),
                ("twice", &format!("{hole}/bin:{hole}/lib")),
                ("passAsFile", "text"),
                ("text", "long"),
                ("rednixRoot", &format!("{out_path} {out_path}")),
            ]),
            &out(),
            3,
        )
        .unwrap();
        let expected = [
            ("out", Some(out_path.clone())),
            ("PATH", Some("/usr/bin".to_owned())),
            ("TMPDIR", Some("/build".to_owned())),
            ("twice", Some(format!("{out_path}/bin:{out_path}/lib"))),
            ("SOURCE_DATE_EPOCH", Some("1".to_owned())),
            ("NIX_BUILD_CORES", Some("3".to_owned())),
            ("HOME", Some("/homeless-shelter".to_owned())),
            ("text", None),
        ];
        for (name, value) in expected {
            assert_eq!(variable(&prepared, name), value, "{name}");
        }
        let file = variable(&prepared, "textPath").unwrap();
        assert_eq!(prepared.files[file.strip_prefix("/build/").unwrap()], b"long");
        assert_eq!(prepared.root_layers, [out()["out"].clone(), out()["out"].clone()]);
        let Program::Execute { arguments, .. } = prepared.program else { panic!("not a builtin") };
        assert_eq!(arguments[1], Bytes::from(format!("echo {out_path}").as_str()));
    }

    #[test]
    fn structured_attributes_become_files() {
        let json = r#"{"b":true,"f":1.5,"l":["a b","it's"],"m":{"k":1},"n":null,"o":[[1]],"bad-name":1}"#;
        let prepared = prepare(&derivation(&[("__json", json)]), &out(), 1).unwrap();
        let shell = String::from_utf8(prepared.files[".attrs.sh"].clone()).unwrap();
        let path = &out()["out"];
        assert_eq!(
            shell,
            format!(
                "declare b=1\ndeclare -a l=('a b' 'it'\\''s' )\ndeclare -A m=(['k']=1 )\ndeclare n=''\n\
                 declare -A outputs=(['out']='{path}' )\n"
            )
        );
        assert_eq!(variable(&prepared, "NIX_ATTRS_SH_FILE").as_deref(), Some("/build/.attrs.sh"));
        assert_eq!(variable(&prepared, "__json"), None);
        let error = prepare(&derivation(&[("__json", "[]")]), &out(), 1).unwrap_err();
        assert!(matches!(error, PrepareError::BadStructuredAttributes(_)));
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for variables in [("exportReferencesGraph", "x"), ("__json", r#"{"exportReferencesGraph":{}}"#)] {
            let error = prepare(&derivation(&[variables]), &out(), 1).unwrap_err();
            assert_eq!(error, PrepareError::Unsupported("exportReferencesGraph"));
        }
    }

    #[test]
    fn a_root_layer_must_be_a_store_path() {
        let error = prepare(&derivation(&[("rednixRoot", "/usr")]), &out(), 1).unwrap_err();
        assert_eq!(error, PrepareError::BadRootLayer("/usr".to_owned()));
    }

    proptest::proptest! {
        #[test]
        fn any_attributes_are_survived(json: String, root: String, files: String) {
            let _ = prepare(&derivation(&[("__json", &json)]), &out(), 1);
            let _ = prepare(&derivation(&[("rednixRoot", &root), ("passAsFile", &files)]), &out(), 1);
        }
    }
}
