//! One step of a test as data: exactly one action, what belongs to it, and how long it may take. It does nothing.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::pattern::Pattern;
use crate::limits::STEP_TIMEOUT_MAX_S;

#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The machine's name; none where there is only one.
    pub on: Option<String>,
    pub action: Action,
    pub timeout: Option<Duration>,
    /// File and line where it was written.
    pub position: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Starts a machine that does not run.
    Start,
    /// Waits for text after the last match.
    Expect(Pattern),
    /// Types the text as it is.
    Send(String),
    /// Types a line and waits for text.
    Command {
        send: String,
        expect: Pattern,
    },
    /// Logs in at the console and waits for a shell.
    Login {
        user: String,
        password: Option<String>,
    },
    /// Runs a command in the guest's shell; its status and output are judged.
    Run(Run),
    /// The same again and again until it is as wanted.
    RunUntil(Run),
    /// Waits until something listens at this port of the guest, through a forward.
    WaitForPort(u16),
    /// Writes a file of the host into the guest.
    CopyIn {
        from: PathBuf,
        to: String,
    },
    /// Takes a file out of the guest, into the results and, where one is named, compares it.
    CopyOut {
        from: String,
        to: String,
        same: Option<PathBuf>,
    },
    /// Takes the screen, and looks at it.
    Screenshot(Screenshot),
    /// Presses keys together on the keyboard, not the console.
    Press(Vec<String>),
    /// Types text on the keyboard.
    Type(String),
    /// Resets the machine, or lets a command do so, and starts it again with the same disk.
    Reboot(Option<String>),
    /// Ends the machine at once, without a word to the guest or the monitor.
    PowerCut,
    /// Presses the power button, or lets a command switch off, and waits for the machine to end.
    Shutdown(Option<String>),
    /// Waits for the machine to end with this status (0: powered off).
    ExpectExit(i32),
    /// Switches the machine off from outside.
    PowerOff,
    /// Stops the machine's processors, and lets them go on.
    Pause,
    Resume,
    /// Waits, in seconds.
    Sleep(u64),
}

/// A command and what is wanted of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub command: String,
    /// None: any.
    pub status: Option<i32>,
    pub output: Option<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Screenshot {
    /// The picture's name in the results.
    pub name: String,
    /// A PNG or PPM picture that the screen must look like.
    #[serde(default)]
    pub reference: Option<PathBuf>,
    /// Pixels, in thousandths of all, that may differ.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
    /// Parts of the screen that are not compared: x, y, width, height.
    #[serde(default)]
    pub ignore: Vec<[u32; 4]>,
    /// Text that must be read on the screen.
    #[serde(default)]
    pub text: Option<Pattern>,
    /// The console font that the text is in: glyphs of one byte by sixteen, or a PSF file. None: by a program.
    #[serde(default)]
    pub font: Option<PathBuf>,
}

fn default_tolerance() -> f64 {
    1.0
}

/// What names an action, in the order of the documentation.
const ACTIONS: [&str; 22] = [
    "start",
    "waitFor",
    "expect",
    "send",
    "command",
    "login",
    "run",
    "runUntil",
    "waitForPort",
    "copyIn",
    "copyOut",
    "screenshot",
    "press",
    "type",
    "reboot",
    "powerCut",
    "shutdown",
    "expectExit",
    "powerOff",
    "pause",
    "resume",
    "sleep",
];

impl Step {
    /// Reads a step; words when it is wrong.
    pub fn read(value: Value) -> Result<Step, String> {
        let Value::Object(mut fields) = value else { return Err("it is no attribute set".into()) };
        let on = take(&mut fields, "on")?;
        let position = take(&mut fields, "position")?;
        let timeout: Option<u64> = take(&mut fields, "timeout")?;
        if timeout.is_some_and(|seconds| seconds == 0 || seconds > STEP_TIMEOUT_MAX_S) {
            return Err(format!("`timeout` is 1 to {STEP_TIMEOUT_MAX_S} seconds"));
        }
        let named: Vec<&str> = ACTIONS.iter().copied().filter(|name| fields.contains_key(*name)).collect();
        let name = match named.as_slice() {
            [one] => *one,
            [] => return Err(without_action(&fields)),
            [first, second, ..] => {
                return Err(format!(
                    "a step has exactly one action; this one has several: `{first}`, `{second}`"
                ));
            }
        };
        let value = fields.remove(name).unwrap_or_default();
        let action = Action::read(name, value, &mut fields)?;
        if let Some((unknown, _)) = fields.iter().next() {
            return Err(format!("unknown field `{unknown}` beside `{name}`"));
        }
        Ok(Step { on, action, timeout: timeout.map(Duration::from_secs), position })
    }
}

fn without_action(fields: &Map<String, Value>) -> String {
    let all = || ACTIONS.iter().copied();
    let hint = fields.keys().find_map(|given| {
        let near = all().find(|known| distance(given, known) <= 2)?;
        Some(format!("unknown field `{given}`; did you mean `{near}`?"))
    });
    let unknown = || fields.keys().next().map(|given| format!("unknown field `{given}`"));
    let what = hint.or_else(unknown).unwrap_or_else(|| "this one has none".into());
    format!("{what}\n  a step has exactly one of: {}", all().collect::<Vec<_>>().join(", "))
}

/// Letters to change, add or leave out to get from one word to the other; swapped neighbours are one.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().take(40).collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let changed = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

impl Action {
    fn read(name: &str, value: Value, fields: &mut Map<String, Value>) -> Result<Action, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Command {
            send: String,
            expect: Pattern,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Login {
            User(String),
            #[serde(rename_all = "camelCase")]
            Both {
                user: String,
                #[serde(default)]
                password: Option<String>,
            },
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct CopyIn {
            from: PathBuf,
            to: String,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct CopyOut {
            from: String,
            #[serde(default)]
            to: Option<String>,
            #[serde(default)]
            same: Option<PathBuf>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Picture {
            Name(String),
            All(Screenshot),
        }
        let is_true = |action: Action| match &value {
            Value::Bool(true) => Ok(action),
            _ => Err(format!("`{name}` can only be true")),
        };
        let by_command = |value: &Value| match value {
            Value::Bool(true) => Ok(None),
            Value::String(command) => Ok(Some(command.clone())),
            _ => Err(format!("`{name}` is true, or the command that does it")),
        };
        Ok(match name {
            "start" => is_true(Action::Start)?,
            "waitFor" | "expect" => Action::Expect(of(name, value)?),
            "send" => Action::Send(of(name, value)?),
            "command" => {
                let Command { send, expect } = of(name, value)?;
                Action::Command { send, expect }
            }
            "login" => match of::<Login>(name, value)? {
                Login::User(user) => Action::Login { user, password: None },
                Login::Both { user, password } => Action::Login { user, password },
            },
            "run" => Action::Run(Run::read(of(name, value)?, fields)?),
            "runUntil" => Action::RunUntil(Run::read(of(name, value)?, fields)?),
            "waitForPort" => Action::WaitForPort(of(name, value)?),
            "copyIn" => {
                let CopyIn { from, to } = of(name, value)?;
                Action::CopyIn { from, to }
            }
            "copyOut" => {
                let CopyOut { from, to, same } = of(name, value)?;
                let last = from.rsplit('/').next().unwrap_or_default().to_owned();
                Action::CopyOut { to: file_name(to.unwrap_or(last))?, from, same }
            }
            "screenshot" => Action::Screenshot(match of::<Picture>(name, value)? {
                Picture::Name(name) => Screenshot {
                    name: file_name(name)?,
                    reference: None,
                    tolerance: default_tolerance(),
                    ignore: Vec::new(),
                    text: None,
                    font: None,
                },
                Picture::All(all) => Screenshot { name: file_name(all.name)?, ..all },
            }),
            "press" => Action::Press(of(name, value)?),
            "type" => Action::Type(of(name, value)?),
            "reboot" => Action::Reboot(by_command(&value)?),
            "powerCut" => is_true(Action::PowerCut)?,
            "shutdown" => Action::Shutdown(by_command(&value)?),
            "expectExit" => Action::ExpectExit(of(name, value)?),
            "powerOff" => is_true(Action::PowerOff)?,
            "pause" => is_true(Action::Pause)?,
            "resume" => is_true(Action::Resume)?,
            "sleep" => match of(name, value)? {
                seconds @ 0..=STEP_TIMEOUT_MAX_S => Action::Sleep(seconds),
                _ => return Err(format!("`sleep` is at most {STEP_TIMEOUT_MAX_S} seconds")),
            },
            other => return Err(format!("unknown action `{other}`")),
        })
    }

    /// Whether a file goes to the machine, or comes from it.
    pub fn copies(&self) -> bool {
        matches!(self, Action::CopyIn { .. } | Action::CopyOut { .. })
    }

    /// Whether the machine's disk has to outlive its process.
    pub fn keeps_disk(&self) -> bool {
        matches!(self, Action::Start | Action::Reboot(_) | Action::PowerCut)
    }

    /// The patterns in it, to be compiled before anything starts.
    pub fn pattern(&self) -> Option<&Pattern> {
        match self {
            Action::Expect(pattern) | Action::Command { expect: pattern, .. } => Some(pattern),
            Action::Run(run) | Action::RunUntil(run) => run.output.as_ref(),
            Action::Screenshot(screenshot) => screenshot.text.as_ref(),
            _ => None,
        }
    }
}

impl Run {
    fn read(command: String, fields: &mut Map<String, Value>) -> Result<Run, String> {
        let status = match fields.remove("status") {
            None => Some(0),
            Some(Value::Null) => None,
            Some(value) => Some(of("status", value)?),
        };
        Ok(Run { command, status, output: take(fields, "output")? })
    }
}

/// A name for a file in the results.
fn file_name(name: String) -> Result<String, String> {
    let is_good = !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 100
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+ ".contains(c));
    if is_good { Ok(name) } else { Err(format!("`{name}` is no name for a file of the results")) }
}

fn of<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, String> {
    serde_json::from_value(value.clone()).map_err(|error| {
        let shown = value.to_string();
        let shown = if shown.len() > 60 { "what it is given".to_owned() } else { format!("`{shown}`") };
        format!("`{name}` does not take {shown}: {error}")
    })
}

fn take<T: DeserializeOwned>(fields: &mut Map<String, Value>, name: &str) -> Result<Option<T>, String> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => of(name, value).map(Some),
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by = |command: &Option<String>| command.as_ref().map_or(String::new(), |c| format!(" by {c:?}"));
        match self {
            Action::Start => write!(f, "start"),
            Action::Expect(pattern) => write!(f, "expect {pattern}"),
            Action::Send(text) => write!(f, "send {text:?}"),
            Action::Command { send, expect } => write!(f, "command {send:?}, expect {expect}"),
            Action::Login { user, .. } => write!(f, "log in as `{user}`"),
            Action::Run(run) => write!(f, "run {:?}", run.command),
            Action::RunUntil(run) => write!(f, "run until it succeeds {:?}", run.command),
            Action::WaitForPort(port) => write!(f, "wait for port {port}"),
            Action::CopyIn { from, to } => write!(f, "copy {} to {to}", from.display()),
            Action::CopyOut { from, .. } => write!(f, "copy out {from}"),
            Action::Screenshot(screenshot) => write!(f, "screenshot `{}`", screenshot.name),
            Action::Press(keys) => write!(f, "press {}", keys.join("-")),
            Action::Type(text) => write!(f, "type {text:?}"),
            Action::Reboot(command) => write!(f, "reboot{}", by(command)),
            Action::PowerCut => write!(f, "cut the power"),
            Action::Shutdown(command) => write!(f, "shut down{}", by(command)),
            Action::ExpectExit(status) => write!(f, "expect exit status {status}"),
            Action::PowerOff => write!(f, "power off"),
            Action::Pause => write!(f, "pause"),
            Action::Resume => write!(f, "resume"),
            Action::Sleep(seconds) => write!(f, "sleep {seconds} s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Step, String> {
        Step::read(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn steps_read() {
        let text = |text: &str| Pattern::Text(text.into());
        let run = |status, output| Run { command: "ls /".into(), status, output };
        let cases = [
            (r#"{"waitFor":"ready","timeout":9}"#, Action::Expect(text("ready"))),
            (r#"{"expect":{"regex":"a+"}}"#, Action::Expect(Pattern::Regex { regex: "a+".into() })),
            (r#"{"send":"x\n"}"#, Action::Send("x\n".into())),
            (
                r#"{"command":{"send":"ls","expect":"usr"}}"#,
                Action::Command { send: "ls".into(), expect: text("usr") },
            ),
            (r#"{"press":["ret"]}"#, Action::Press(vec!["ret".into()])),
            (r#"{"expectExit":51}"#, Action::ExpectExit(51)),
            (r#"{"powerOff":true}"#, Action::PowerOff),
            (r#"{"run":"ls /"}"#, Action::Run(run(Some(0), None))),
            (r#"{"run":"ls /","status":null,"output":"usr"}"#, Action::Run(run(None, Some(text("usr"))))),
            (r#"{"runUntil":"ls /","status":2}"#, Action::RunUntil(run(Some(2), None))),
            (r#"{"login":"root"}"#, Action::Login { user: "root".into(), password: None }),
            (
                r#"{"login":{"user":"root","password":"x"}}"#,
                Action::Login { user: "root".into(), password: Some("x".into()) },
            ),
            (r#"{"reboot":true}"#, Action::Reboot(None)),
            (r#"{"shutdown":"shutdown"}"#, Action::Shutdown(Some("shutdown".into()))),
            (
                r#"{"copyOut":{"from":"/etc/motd"}}"#,
                Action::CopyOut { from: "/etc/motd".into(), to: "motd".into(), same: None },
            ),
        ];
        for (json, action) in cases {
            assert_eq!(read(json).unwrap().action, action, "{json}");
        }
        let step = read(r#"{"on":"server","start":true,"timeout":9,"position":"a.nix:3"}"#).unwrap();
        assert_eq!((step.on.as_deref(), step.timeout), (Some("server"), Some(Duration::from_secs(9))));
        assert_eq!(step.position.as_deref(), Some("a.nix:3"));
    }

    #[test]
    fn wrong_steps_say_why() {
        let cases = [
            (r#"{}"#, "this one has none"),
            (r#"{"timeout":1}"#, "this one has none"),
            (r#"{"send":"x","expect":"y"}"#, "this one has several: `expect`, `send`"),
            (r#"{"sned":"x"}"#, "unknown field `sned`; did you mean `send`?"),
            (r#"{"powerOff":false}"#, "only be true"),
            (r#"{"run":"x","statsu":1}"#, "unknown field `statsu` beside `run`"),
            (r#"{"send":"x","status":1}"#, "unknown field `status` beside `send`"),
            (r#"{"run":5}"#, "`run` does not take `5`"),
            (r#"{"run":"x","timeout":0}"#, "`timeout` is 1 to"),
            (r#"{"screenshot":"../x"}"#, "no name for a file"),
            (r#"{"copyOut":{"from":"/etc/"}}"#, "no name for a file"),
            (r#"{"waitForPort":70000}"#, "`waitForPort`"),
            (r#"[]"#, "no attribute set"),
        ];
        for (json, expected) in cases {
            let message = read(json).unwrap_err();
            assert!(message.contains(expected), "{json}: {message}");
        }
    }

    #[test]
    fn every_action_has_its_name_in_the_list() {
        for name in ACTIONS {
            let error = Action::read(name, Value::Object(Map::new()), &mut Map::new());
            assert!(!matches!(&error, Err(message) if message.starts_with("unknown")), "{name}");
        }
    }
}
