//! A machine test as data: JSON with camelCase names. It runs nothing.
//!
//! ```text
//! { "name": "probe", "machine": { "name": "probe", "image": "…/disk.img" }, "failOn": ["panicked"],
//!   "steps": [ { "waitFor": "probe>", "timeout": 90 },
//!              { "command": { "send": "sum", "expect": { "regex": "all [0-9]+ files" } } },
//!              { "send": "poweroff\n" }, { "expectExit": 0 } ] }
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::MachineSpec;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TestSpec {
    pub name: String,
    pub machine: MachineSpec,
    pub steps: Vec<Step>,
    /// Text that fails the test whenever it appears.
    #[serde(default)]
    pub fail_on: Vec<Pattern>,
    /// For the whole test, in seconds.
    pub timeout: Option<u64>,
}

/// Plain text, or a regular expression over the console's text.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Pattern {
    Text(String),
    Regex { regex: String },
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pattern::Text(text) => write!(f, "{text:?}"),
            Pattern::Regex { regex } => write!(f, "/{regex}/"),
        }
    }
}

impl Pattern {
    /// A function that answers the end of the first match.
    pub fn compile(&self) -> Result<Box<dyn Fn(&str) -> Option<usize>>, String> {
        match self {
            Pattern::Text(text) if text.is_empty() => Err("an empty text matches everything".into()),
            Pattern::Text(text) => {
                let text = text.clone();
                Ok(Box::new(move |console| console.find(&text).map(|at| at + text.len())))
            }
            Pattern::Regex { regex } => {
                let compiled = regex_lite::RegexBuilder::new(regex)
                    .multi_line(true)
                    .build()
                    .map_err(|error| format!("the regular expression {regex:?} is wrong: {error}"))?;
                if compiled.is_match("") {
                    return Err(format!("the regular expression {regex:?} matches the empty text"));
                }
                Ok(Box::new(move |console| compiled.find(console).map(|found| found.end())))
            }
        }
    }
}

/// One step: exactly one action, and how long it may take.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Step {
    pub action: Action,
    pub timeout: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Waits for text after the last match.
    Expect(Pattern),
    /// Types the text as it is.
    Send(String),
    /// Types a line and waits for text.
    Command { send: String, expect: Pattern },
    /// Presses keys together on the keyboard, not the console.
    Press(Vec<String>),
    /// Waits for the machine to end with this status (0: powered off).
    ExpectExit(i32),
    /// Switches the machine off from outside.
    PowerOff,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_for: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<CommandFields>,
    #[serde(skip_serializing_if = "Option::is_none")]
    press: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect_exit: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    power_off: Option<bool>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CommandFields {
    send: String,
    expect: Pattern,
}

impl TryFrom<Fields> for Step {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Step, String> {
        let power_off = match fields.power_off {
            Some(false) => return Err("`powerOff` can only be true".into()),
            other => other.map(|_| Action::PowerOff),
        };
        let command =
            fields.command.map(|command| Action::Command { send: command.send, expect: command.expect });
        let actions = [
            fields.wait_for.map(Action::Expect),
            fields.expect.map(Action::Expect),
            fields.send.map(Action::Send),
            command,
            fields.press.map(Action::Press),
            fields.expect_exit.map(Action::ExpectExit),
            power_off,
        ];
        let mut actions = actions.into_iter().flatten();
        match (actions.next(), actions.next()) {
            (Some(action), None) => Ok(Step { action, timeout: fields.timeout.map(Duration::from_secs) }),
            (found, _) => Err(format!(
                "a step has exactly one of `waitFor`, `expect`, `send`, `command`, `press`, `expectExit`, `powerOff`; this one has {}",
                if found.is_some() { "several" } else { "none" }
            )),
        }
    }
}

impl From<Step> for Fields {
    fn from(step: Step) -> Fields {
        let mut fields =
            Fields { timeout: step.timeout.map(|timeout| timeout.as_secs()), ..Fields::default() };
        match step.action {
            Action::Expect(pattern) => fields.expect = Some(pattern),
            Action::Send(text) => fields.send = Some(text),
            Action::Command { send, expect } => fields.command = Some(CommandFields { send, expect }),
            Action::Press(keys) => fields.press = Some(keys),
            Action::ExpectExit(status) => fields.expect_exit = Some(status),
            Action::PowerOff => fields.power_off = Some(true),
        }
        fields
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Action::Expect(pattern) => write!(f, "expect {pattern}"),
            Action::Send(text) => write!(f, "send {text:?}"),
            Action::Command { send, expect } => write!(f, "command {send:?}, expect {expect}"),
            Action::Press(keys) => write!(f, "press {}", keys.join("-")),
            Action::ExpectExit(status) => write!(f, "expect exit status {status}"),
            Action::PowerOff => write!(f, "power off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_and_write() {
        let text = |text: &str| Pattern::Text(text.into());
        let cases = [
            (r#"{"waitFor":"ready","timeout":9}"#, Action::Expect(text("ready")), Some(9)),
            (r#"{"expect":{"regex":"a+"}}"#, Action::Expect(Pattern::Regex { regex: "a+".into() }), None),
            (r#"{"send":"x\n"}"#, Action::Send("x\n".into()), None),
            (
                r#"{"command":{"send":"ls","expect":"usr"}}"#,
                Action::Command { send: "ls".into(), expect: text("usr") },
                None,
            ),
            (r#"{"press":["ret"]}"#, Action::Press(vec!["ret".into()]), None),
            (r#"{"expectExit":51}"#, Action::ExpectExit(51), None),
            (r#"{"powerOff":true}"#, Action::PowerOff, None),
        ];
        for (json, action, timeout) in cases {
            let step: Step = serde_json::from_str(json).unwrap();
            assert_eq!(step, Step { action, timeout: timeout.map(Duration::from_secs) }, "{json}");
            let again: Step = serde_json::from_value(serde_json::to_value(&step).unwrap()).unwrap();
            assert_eq!(again, step);
        }
    }

    #[test]
    fn wrong_steps_say_why() {
        let cases = [
            (r#"{}"#, "this one has none"),
            (r#"{"timeout":1}"#, "this one has none"),
            (r#"{"send":"x","expect":"y"}"#, "this one has several"),
            (r#"{"sned":"x"}"#, "unknown field `sned`"),
            (r#"{"powerOff":false}"#, "only be true"),
        ];
        for (json, expected) in cases {
            let message = serde_json::from_str::<Step>(json).unwrap_err().to_string();
            assert!(message.contains(expected), "{json}: {message}");
        }
    }

    #[test]
    fn patterns_that_always_match_are_refused() {
        for pattern in [
            Pattern::Text(String::new()),
            Pattern::Regex { regex: "a*".into() },
            Pattern::Regex { regex: "(".into() },
        ] {
            assert!(pattern.compile().is_err(), "{pattern}");
        }
        let line = Pattern::Regex { regex: "^# $".into() }.compile().unwrap();
        assert_eq!(line("login\n# \n"), Some(8), "lines are matched by ^ and $");
    }
}
