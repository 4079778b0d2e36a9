//! Package relations: `Depends`, `Provides`, `Conflicts` and their kin, after deb-control(5) and Debian policy chapter 7.
//!
//! Parses and compares; looks nothing up.

use std::fmt;

use super::version;
use crate::limits;

/// How a relation restricts the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

impl Comparison {
    fn sign(self) -> &'static str {
        match self {
            Comparison::Earlier => "<<",
            Comparison::EarlierOrEqual => "<=",
            Comparison::Equal => "=",
            Comparison::LaterOrEqual => ">=",
            Comparison::Later => ">>",
        }
    }
}

/// One name with an optional architecture qualifier and version constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    pub name: &'a str,
    pub architecture: Option<&'a str>,
    pub constraint: Option<(Comparison, &'a str)>,
}

impl Relation<'_> {
    /// Whether a package of this version is meant.
    pub fn accepts(&self, version: &str) -> bool {
        let Some((comparison, wanted)) = self.constraint else { return true };
        let order = version::compare(version, wanted);
        match comparison {
            Comparison::Earlier => order.is_lt(),
            Comparison::EarlierOrEqual => order.is_le(),
            Comparison::Equal => order.is_eq(),
            Comparison::LaterOrEqual => order.is_ge(),
            Comparison::Later => order.is_gt(),
        }
    }

    /// Whether something provided under this name counts: a constraint needs a versioned `Provides` (`= v`).
    pub fn accepts_provided(&self, version: Option<&str>) -> bool {
        match (self.constraint, version) {
            (None, _) => true,
            (Some(_), Some(version)) => self.accepts(version),
            (Some(_), None) => false,
        }
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)?;
        if let Some(architecture) = self.architecture {
            write!(formatter, ":{architecture}")?;
        }
        if let Some((comparison, version)) = self.constraint {
            write!(formatter, " ({} {version})", comparison.sign())?;
        }
        Ok(())
    }
}

/// Alternatives, in the package's order of preference; never empty.
pub type Alternatives<'a> = Vec<Relation<'a>>;

/// A relation that is not written as policy has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a package relation: `{text}`")]
pub struct BadRelation {
    pub text: String,
}

fn bad(text: &str) -> BadRelation {
    BadRelation { text: text.chars().take(limits::EXCERPT_CHARACTERS_MAX).collect() }
}

/// Parses a whole field: groups separated by commas, alternatives by bars.
pub fn parse(field: &str) -> Result<Vec<Alternatives<'_>>, BadRelation> {
    let mut groups = Vec::new();
    for group in field.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        if groups.len() >= limits::RELATIONS_MAX {
            return Err(bad(field));
        }
        groups.push(group.split('|').map(parse_one).collect::<Result<_, _>>()?);
    }
    Ok(groups)
}

fn parse_one(text: &str) -> Result<Relation<'_>, BadRelation> {
    let error = || bad(text);
    let text = text.trim();
    let name_end = text.find(|c: char| c.is_whitespace() || "([<:".contains(c)).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(name_end);
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    if !is_name(name) {
        return Err(error());
    }
    let mut architecture = None;
    if let Some(qualified) = rest.strip_prefix(':') {
        let end = qualified.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(qualified.len());
        architecture = Some(&qualified[..end]).filter(|word| is_name(word));
        if architecture.is_none() {
            return Err(error());
        }
        rest = &qualified[end..];
    }
    rest = rest.trim_start();
    let mut constraint = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let (inner, after) = inner.split_once(')').ok_or_else(error)?;
        constraint = Some(parse_constraint(inner.trim()).ok_or_else(error)?);
        rest = after.trim_start();
    }
    // Binary packages carry no architecture or profile restrictions; refusing is better than ignoring them.
    if rest.is_empty() { Ok(Relation { name, architecture, constraint }) } else { Err(error()) }
}

fn parse_constraint(text: &str) -> Option<(Comparison, &str)> {
    let signs = [
        ("<<", Comparison::Earlier),
        ("<=", Comparison::EarlierOrEqual),
        (">=", Comparison::LaterOrEqual),
        (">>", Comparison::Later),
        ("=", Comparison::Equal),
        // Obsolete spellings, still legal: `<` and `>` mean the inclusive forms.
        ("<", Comparison::EarlierOrEqual),
        (">", Comparison::LaterOrEqual),
    ];
    let (comparison, version) = signs
        .into_iter()
        .find_map(|(sign, comparison)| Some((comparison, text.strip_prefix(sign)?.trim())))?;
    let is_version =
        !version.is_empty() && !version.contains(|c: char| c.is_whitespace() || "()<>=|".contains(c));
    is_version.then_some((comparison, version))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields() {
        let groups = parse("libc6 (>= 2.38), a:any | b(<<1:2~) , python3:any (= 3),").unwrap();
        let shown: Vec<Vec<String>> =
            groups.iter().map(|group| group.iter().map(ToString::to_string).collect()).collect();
        assert_eq!(shown, [vec!["libc6 (>= 2.38)"], vec!["a:any", "b (<< 1:2~)"], vec!["python3:any (= 3)"]]);
        for wrong in ["a b", "a (2)", "a (>= )", "a (>= 1", "|", "a [amd64]", "a <!nocheck>", "a: b", "ä"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("").unwrap(), Vec::<Alternatives>::new());
    }

    #[test]
    fn constraints() {
        let cases = [
            ("a (>= 2)", "2", true),
            ("a (>= 2)", "1.9", false),
            ("a (>> 2)", "2", false),
            ("a (<< 2)", "2~rc", true),
            ("a (<= 2)", "2-1", false),
            ("a (= 1:2)", "1:2", true),
            ("a (= 1:2)", "2", false),
            ("a (> 2)", "2", true),
            ("a", "0", true),
        ];
        for (text, version, expected) in cases {
            assert_eq!(parse(text).unwrap()[0][0].accepts(version), expected, "{text} with {version}");
        }
        let relation = &parse("a (>= 2)").unwrap()[0][0];
        assert!(!relation.accepts_provided(None));
        assert!(relation.accepts_provided(Some("3")));
    }

    proptest! {
        #[test]
        fn never_panics_and_prints_back(text in "[a-z0-9 ,|()<>=:.+~\\[-]{0,60}") {
            if let Ok(groups) = parse(&text) {
                let shown: Vec<String> = groups
                    .iter()
                    .map(|group| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
                    .collect();
                let joined = shown.join(", ");
                prop_assert_eq!(parse(&joined).unwrap(), groups);
            }
        }
    }
}
