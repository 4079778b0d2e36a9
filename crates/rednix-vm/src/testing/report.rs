//! How tests ended: as data for programs (JSON), for test services (JUnit's XML), and where everything is kept. It
//! judges nothing and writes no file.

use std::path::PathBuf;
use std::time::Duration;

use rednix_events::Outcome;
use serde::Serialize;
use serde_json::{Value, json};

use super::shell::Answer;
use crate::console::is_plain;

/// How a test ended.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestReport {
    pub name: String,
    pub outcome: Outcome,
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
    /// Why it failed or was skipped; empty when it passed.
    pub message: String,
    /// Index of the step that failed.
    pub failed_step: Option<usize>,
    /// Steps that were done, in order.
    pub steps: Vec<StepReport>,
    /// Steps that could not be judged on this host, with the reason.
    pub skipped_steps: Vec<String>,
    /// The last lines of the console that the failed step was about.
    pub console_tail: Vec<String>,
    /// The first console, raw; none when no machine was started.
    #[serde(serialize_with = "words_of_one")]
    pub console_log: Option<PathBuf>,
    /// Everything that was kept: consoles, screenshots, files of the guest, the network's record.
    #[serde(serialize_with = "words_of_all")]
    pub files: Vec<PathBuf>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    pub step: usize,
    pub action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Of a command that was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
}

/// JSON has no place for the names that are no text, and no reason to fail for them.
fn words_of_one<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

fn words_of_all<S: serde::Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1000.0).round() / 1000.0)
}

impl TestReport {
    pub fn new(name: &str) -> Self {
        TestReport {
            name: name.to_owned(),
            outcome: Outcome::Passed,
            duration: Duration::ZERO,
            message: String::new(),
            failed_step: None,
            steps: Vec::new(),
            skipped_steps: Vec::new(),
            console_tail: Vec::new(),
            console_log: None,
            files: Vec::new(),
        }
    }
}

impl TestReport {
    /// Takes out what controls a terminal: whoever wrote the test need not be whoever looks at the report.
    pub(crate) fn make_plain(&mut self) {
        let words = self.steps.iter_mut().map(|step| &mut step.action);
        for text in words.chain(&mut self.skipped_steps).chain([&mut self.message]) {
            text.retain(is_plain);
        }
    }
}

/// Tests by outcome: passed, failed, skipped.
pub fn counts(reports: &[TestReport]) -> (usize, usize, usize) {
    let count = |outcome| reports.iter().filter(|report| report.outcome == outcome).count();
    (count(Outcome::Passed), count(Outcome::Failed), count(Outcome::Skipped))
}

/// All reports as one JSON value with a version.
pub fn to_json(reports: &[TestReport]) -> Value {
    let (passed, failed, skipped) = counts(reports);
    json!({ "version": 1, "passed": passed, "failed": failed, "skipped": skipped, "tests": reports })
}

/// All reports in the form that test services read: one suite, one case a test.
pub fn to_junit(suite: &str, reports: &[TestReport]) -> String {
    let (_, failed, skipped) = counts(reports);
    let total: Duration = reports.iter().map(|report| report.duration).sum();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    text.push_str(&format!(
        "<testsuites>\n  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\" time=\"{:.3}\">\n",
        escape(suite),
        reports.len(),
        total.as_secs_f64()
    ));
    for report in reports {
        text.push_str(&format!(
            "    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\"",
            escape(suite),
            escape(&report.name),
            report.duration.as_secs_f64()
        ));
        let mut inner = String::new();
        let first_line = report.message.lines().next().unwrap_or_default();
        match report.outcome {
            Outcome::Passed => {}
            Outcome::Failed => {
                let mut whole = report.message.clone();
                whole.push('\n');
                report.console_tail.iter().for_each(|line| whole.push_str(&format!("| {line}\n")));
                inner.push_str(&format!(
                    "      <failure message=\"{}\">{}</failure>\n",
                    escape(first_line),
                    escape(&whole)
                ));
            }
            Outcome::Skipped => {
                inner.push_str(&format!("      <skipped message=\"{}\"/>\n", escape(first_line)));
            }
        }
        let mut notes: Vec<String> =
            report.skipped_steps.iter().map(|reason| format!("skipped: {reason}")).collect();
        // The form that services take for files to keep with a case.
        notes.extend(report.files.iter().map(|file| format!("[[ATTACHMENT|{}]]", file.display())));
        if !notes.is_empty() {
            inner.push_str(&format!("      <system-out>{}</system-out>\n", escape(&notes.join("\n"))));
        }
        if inner.is_empty() {
            text.push_str("/>\n");
        } else {
            text.push_str(&format!(">\n{inner}    </testcase>\n"));
        }
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// Text inside XML. What no XML file may hold becomes a replacement character.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            // Nor what controls a terminal that shows the file.
            other if other == '\r' || is_plain(other) => escaped.push(other),
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports() -> Vec<TestReport> {
        let passed = TestReport { duration: Duration::from_millis(1500), ..TestReport::new("good") };
        let failed = TestReport {
            outcome: Outcome::Failed,
            message: "step 2 at a.nix:7 (run \"x\"): status 1\nand <more>".into(),
            failed_step: Some(1),
            console_tail: vec!["\u{1}oops & out".into()],
            files: vec!["/r/bad/m.console".into()],
            ..TestReport::new("bad")
        };
        let skipped =
            TestReport { outcome: Outcome::Skipped, message: "no QEMU".into(), ..TestReport::new("none") };
        vec![passed, failed, skipped]
    }

    #[test]
    fn reports_control_no_terminal() {
        let odd = "a\u{1b}[2J\u{202e}b\n";
        let step =
            StepReport { step: 1, action: odd.into(), machine: None, answer: None, duration: Duration::ZERO };
        let mut report = TestReport {
            message: odd.into(),
            skipped_steps: vec![odd.into()],
            steps: vec![step],
            ..TestReport::new("odd")
        };
        report.make_plain();
        assert_eq!([&report.message, &report.skipped_steps[0], &report.steps[0].action], ["a[2Jb\n"; 3]);
    }

    #[test]
    fn junit_says_it_all() {
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites>
  <testsuite name=\"machines\" tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"1.500\">
    <testcase classname=\"machines\" name=\"good\" time=\"1.500\"/>
    <testcase classname=\"machines\" name=\"bad\" time=\"0.000\">
      <failure message=\"step 2 at a.nix:7 (run &quot;x&quot;): status 1\">step 2 at a.nix:7 (run &quot;x&quot;): status 1
and &lt;more&gt;
| \u{fffd}oops &amp; out
</failure>
      <system-out>[[ATTACHMENT|/r/bad/m.console]]</system-out>
    </testcase>
    <testcase classname=\"machines\" name=\"none\" time=\"0.000\">
      <skipped message=\"no QEMU\"/>
    </testcase>
  </testsuite>
</testsuites>
";
        assert_eq!(to_junit("machines", &reports()), expected);
    }

    #[test]
    fn json_says_it_all() {
        let value = to_json(&reports());
        assert_eq!(
            (&value["passed"], &value["failed"], &value["skipped"]),
            (&json!(1), &json!(1), &json!(1))
        );
        assert_eq!(value["tests"][0]["seconds"], json!(1.5));
        assert_eq!(value["tests"][1]["failedStep"], json!(1));
        assert_eq!(value["tests"][2]["outcome"], json!("skipped"));
        // Files have names that are no text.
        use std::os::unix::ffi::OsStringExt;
        let odd = PathBuf::from(std::ffi::OsString::from_vec(b"/r/\xff".to_vec()));
        let report =
            TestReport { console_log: Some(odd.clone()), files: vec![odd], ..TestReport::new("odd") };
        let value = to_json(&[report]);
        assert_eq!(value["tests"][0]["files"], json!(["/r/\u{fffd}"]));
        assert_eq!(value["tests"][0]["consoleLog"], json!("/r/\u{fffd}"));
    }
}
