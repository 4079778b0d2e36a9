//! Commands at a guest's console: what is typed so that the output and the status of one command can be told from
//! everything else that comes over the same line, and the reading of what came back. It types nothing itself.
//!
//! Before the command the guest prints `TOKEN.begin` and after it `TOKEN.end.STATUS.`. The token is new for each
//! command. What is typed holds it in two pieces, so the echo of the typed line, however an editor redraws it, is
//! never taken for the guest's answer. It has no colon: Redox's ion looks for schemes of such names while a line is
//! typed, and complains. What other programs print to the same console meanwhile is in the output too.

use serde::{Deserialize, Serialize};

use super::pattern::boundary;
use crate::limits::COMMAND_MAX;

/// What reads lines at the guest's console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shell {
    /// Redox's own shell.
    #[default]
    Ion,
    /// A POSIX shell.
    Sh,
    /// The console of this project's probe.
    Probe,
}

/// Marks the answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// `run` is new for each test run, `number` for each command in it.
    pub fn new(run: u32, number: usize) -> Token {
        Token(format!("rdx{run:08x}n{number}"))
    }

    /// In two pieces that a shell joins.
    fn typed(&self) -> String {
        let (start, rest) = self.0.split_at(3);
        format!("{start}\"\"{rest}")
    }
}

/// What a command answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    pub status: i32,
    /// Everything between the marks.
    pub output: String,
}

/// A command that is about to be typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    shell: Shell,
    token: Token,
    line: String,
}

impl Question {
    /// Words when the command cannot be typed.
    pub fn new(shell: Shell, token: Token, command: &str) -> Result<Question, String> {
        if command.trim().is_empty() {
            return Err("the command is empty".into());
        }
        if let Some(bad) = command.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(format!(
                "the command holds {bad:?}: a console takes one line (put a script there with `copyIn`, and run it)"
            ));
        }
        if command.len() > COMMAND_MAX {
            return Err(format!("the command is longer than {COMMAND_MAX} bytes"));
        }
        let mark = token.typed();
        let line = match shell {
            // With `eval` what the shell itself finds wrong (most errors of syntax; in ion, unknown commands too) is the
            // command's own failure and does not take the end mark along.
            Shell::Ion | Shell::Sh => {
                format!("echo {mark}.begin; eval {}; echo \"{mark}.end.$?.\"", quoted(command))
            }
            // Its prompt marks the beginning.
            Shell::Probe => command.trim().to_owned(),
        };
        Ok(Question { shell, token, line })
    }

    /// The line to type, without Enter.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// What is printed before the command's own output, where the shell prints something.
    pub fn begin_mark(&self) -> Option<String> {
        (self.shell != Shell::Probe).then(|| format!("{}.begin\n", self.token.0))
    }

    /// What is typed when the command has ended; none where that was part of its line.
    pub fn closing_line(&self) -> Option<String> {
        (self.shell == Shell::Probe).then(|| format!("status {}", self.token.0))
    }

    /// Whether the text since the line was typed shows that the closing line can be.
    pub fn is_waiting(&self, text: &str) -> bool {
        // The end first: a long text is looked through only where it may be one that waits.
        text.ends_with(PROBE_PROMPT) && self.after_echo(text).is_some_and(|rest| rest.ends_with(PROBE_PROMPT))
    }

    /// What follows the probe's echo of the line. The prompt before it may have been waited for already.
    fn after_echo<'t>(&self, text: &'t str) -> Option<&'t str> {
        let echo = format!("{}\n", self.line);
        let with_prompt = format!("{PROBE_PROMPT}{echo}");
        text.strip_prefix(&echo).or_else(|| Some(&text[text.find(&with_prompt)? + with_prompt.len()..]))
    }

    /// Looks for the answer in the text since the line was typed: the position after it, and the answer. In the text
    /// before `known` an earlier look found none.
    pub fn answer(&self, text: &str, known: usize) -> Option<(usize, Answer)> {
        let end_mark = format!("{}.end.", self.token.0);
        let from = boundary(text, known.saturating_sub(end_mark.len() + STATUS_MAX));
        let (end, after, status) = ends(text, from, &end_mark)?;
        let before = &text[..end];
        let output = match self.begin_mark() {
            // The prompt with the closing line comes last.
            None => {
                let body = self.after_echo(before).unwrap_or(before);
                let closing = format!("{PROBE_PROMPT}status {}\n", self.token.0);
                body.strip_suffix(&closing).unwrap_or(body)
            }
            Some(begin) => match before.find(&begin) {
                Some(at) => &before[at + begin.len()..],
                // So much output that its beginning is not kept any more.
                None => before,
            },
        };
        Some((after, Answer { status, output: output.to_owned() }))
    }
}

/// Before the probe reads a line.
const PROBE_PROMPT: &str = "probe> ";

/// Characters of the longest status and its point.
const STATUS_MAX: usize = 12;

/// The first whole end mark: where it begins, where it ends, the status in it.
fn ends(text: &str, mut from: usize, mark: &str) -> Option<(usize, usize, i32)> {
    while let Some(at) = text[from..].find(mark) {
        let begin = from + at;
        let rest = &text[begin + mark.len()..];
        let (number, _) = rest.split_once('.')?;
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if let Some(status) = number.parse().ok().filter(|_| is_number) {
            return Some((begin, begin + mark.len() + number.len() + 1, status));
        }
        from = begin + mark.len();
    }
    None
}

/// A word that a POSIX shell, and ion, take as `text`.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(shell: Shell, command: &str) -> Result<Question, String> {
        Question::new(shell, Token::new(0xbeef, 3), command)
    }

    #[test]
    fn answers_are_told_from_everything_else() {
        let question = ask(Shell::Ion, "ls /").unwrap();
        let cases = [
            ("usr\nbin\n", 0),
            ("", 1),
            ("no line end", 127),
            ("rdx0000beefn3.end.x.\nrdx0000beefn3:end", -1),
            ("rdx0000beefn2.end.0.\n", 4),
        ];
        for (output, status) in cases {
            let text = format!(
                "root:~# {}\nrdx0000beefn3.begin\n{output}rdx0000beefn3.end.{status}.\nroot:~# next",
                question.line()
            );
            let (at, answer) = question.answer(&text, 0).unwrap();
            assert_eq!(answer, Answer { status, output: output.into() });
            assert_eq!(&text[at..], "\nroot:~# next");
        }
    }

    #[test]
    fn half_an_answer_is_none() {
        for text in ["", "rdx0000beefn3.begin\nx\nrdx0000beefn3.end.", "rdx0000beefn3.end.12"] {
            assert_eq!(ask(Shell::Sh, "x").unwrap().answer(text, 0), None, "{text:?}");
        }
    }

    #[test]
    fn the_probe_is_asked_for_its_status() {
        let question = ask(Shell::Probe, "ls /etc ").unwrap();
        assert_eq!(question.closing_line().unwrap(), "status rdx0000beefn3");
        for before in ["", "of before\nprobe> "] {
            let text = format!("{before}ls /etc\nmotd 26\nprobe> ");
            assert!(question.is_waiting(&text), "{text}");
            assert!(!question.is_waiting(before), "the prompt before the command's echo");
            let text = format!("{text}status rdx0000beefn3\nrdx0000beefn3.end.0.\nprobe> ");
            let (_, answer) = question.answer(&text, 0).unwrap();
            assert_eq!(answer, Answer { status: 0, output: "motd 26\n".into() });
        }
    }

    #[test]
    fn what_cannot_be_typed_says_why() {
        for (command, reason) in [(" ", "empty"), ("a\nb", "one line"), ("a\x03", "one line")] {
            let message = ask(Shell::Ion, command).unwrap_err();
            assert!(message.contains(reason), "{message}");
        }
        assert!(ask(Shell::Ion, &"x".repeat(COMMAND_MAX + 1)).is_err());
    }

    #[test]
    fn a_shell_agrees() {
        let sh = |text: &str| std::process::Command::new("sh").arg("-c").arg(text).output().unwrap();
        for command in ["printf 'a\\nb'; false", "echo \"it's\" | cat", "(exit 7)", "echo unbalanced '"] {
            let question = ask(Shell::Sh, command).unwrap();
            let (run, expected) = (sh(question.line()), sh(command));
            let text = String::from_utf8(run.stdout).unwrap();
            match question.answer(&text, 0) {
                Some((_, answer)) => {
                    assert_eq!(answer.output.as_bytes(), expected.stdout, "{command}");
                    assert_eq!(Some(answer.status), expected.status.code(), "{command}");
                }
                // A shell that is not interactive ends at a syntax error, and says so by its status.
                None => assert!(command.contains("unbalanced") && !run.status.success(), "{command}: {text}"),
            }
        }
    }

    proptest! {
        #[test]
        fn the_echo_of_what_is_typed_is_no_answer(
            command in "[ -~]{1,80}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
            shell in prop::sample::select(vec![Shell::Ion, Shell::Sh]),
        ) {
            prop_assume!(!command.trim().is_empty());
            let question = ask(shell, &command).unwrap();
            let line = question.line();
            // An editor that redraws the line as it grows.
            let mut text = String::new();
            for cut in cuts {
                text.push_str(&line[..cut.index(line.len())]);
            }
            text.push_str(line);
            prop_assert_eq!(question.answer(&text, 0), None);
        }

        #[test]
        fn any_output_comes_back(
            output in ".{0,200}",
            noise in ".{0,50}",
            status in -200..200i32,
        ) {
            let text = format!("{noise}\nrdx0000beefn3.begin\n{output}rdx0000beefn3.end.{status}.\n");
            let (_, answer) = ask(Shell::Sh, "x").unwrap().answer(&text, 0).unwrap();
            prop_assert_eq!(answer, Answer { status, output });
        }

        /// In whatever pieces it comes.
        #[test]
        fn answers_are_found_in_pieces(
            output in "(\\PC|rdx0000beefn3.end.){0,40}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let question = ask(Shell::Sh, "x").unwrap();
            let text = format!("rdx0000beefn3.begin\n{output}rdx0000beefn3.end.7.\n");
            let mut ends: Vec<usize> = cuts.iter().map(|cut| boundary(&text, cut.index(text.len() + 1))).collect();
            ends.sort_unstable();
            ends.push(text.len());
            let mut known = 0;
            for end in ends {
                let found = question.answer(&text[..end], known);
                prop_assert_eq!(&found, &question.answer(&text[..end], 0));
                if found.is_some() {
                    break;
                }
                known = end;
            }
        }

        #[test]
        fn no_text_stops_it(text in "(rdx0000beefn3|[.]end[.]|[.]begin|[.]|\n|[0-9-]|probe> |x|.){0,40}") {
            for shell in [Shell::Ion, Shell::Sh, Shell::Probe] {
                let question = ask(shell, "x").unwrap();
                if let Some((at, answer)) = question.answer(&text, 0) {
                    prop_assert!(text.is_char_boundary(at) && answer.output.len() <= text.len());
                }
                let _ = question.is_waiting(&text);
            }
        }
    }
}
