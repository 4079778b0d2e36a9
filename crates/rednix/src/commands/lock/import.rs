//! Upstream's own pin file, `cookbook.lock`, read for the revisions it names. Never written.

use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::Failure;

/// Recipe → git revision, from the file in a tree's root; empty where there is none.
pub fn cookbook_lock(tree: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let file = tree.join("cookbook.lock");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(Failure::usage(format!("cannot read `{}`: {error}", file.display()))),
    };
    parse(&text).map_err(|reason| {
        Failure::usage(format!("`{}` is wrong: {reason}", file.display())).hint("write it anew, or delete it")
    })
}

/// `[recipes.NAME]` with `gitrev`; what else it holds is about binary packages, which rednix does not use.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let Some(recipes) = table.get("recipes") else { return Ok(BTreeMap::new()) };
    let recipes = recipes.as_table().ok_or("`recipes` is no table")?;
    let mut revisions = BTreeMap::new();
    for (name, recipe) in recipes {
        let Some(rev) = recipe.get("gitrev") else { continue };
        let rev = rev.as_str().ok_or_else(|| format!("`gitrev` of {name} is no text"))?;
        if !rev.is_empty() {
            revisions.insert(name.clone(), rev.to_owned());
        }
    }
    Ok(revisions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_upstream() {
        let text = "[recipes.kernel]\ngitrev = \"abc\"\n[recipes.ion]\nfsrule = \"binary\"\n[other]\nx = 1\n";
        assert_eq!(parse(text), Ok(BTreeMap::from([("kernel".to_owned(), "abc".to_owned())])));
        assert_eq!(parse(""), Ok(BTreeMap::new()));
        for wrong in ["[", "recipes = 1", "[recipes.a]\ngitrev = 5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text(text in "(\\[recipes\\.[a-z]{1,3}\\]\n|gitrev = (\"[ -~]{0,4}\"|5)\n|[ -~]{0,6}\n){0,6}") {
            if let Ok(revisions) = parse(&text) {
                proptest::prop_assert!(revisions.values().all(|rev| !rev.is_empty()));
            }
        }
    }
}
