//! Runs one machine test and reports. Every wait has an end.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rednix_events::{Event, Events, Outcome};

use super::spec::{Action, Pattern, Step, TestSpec};
use crate::console::Found;
use crate::error::{Error, Result};
use crate::exit::ExitKind;
use crate::limits::{CONSOLE_TAIL_LINES, STEP_TIMEOUT, STEPS_MAX, TEST_TIMEOUT};
use crate::machine::Machine;
use crate::runner::{Config, Runner};

type Matcher = Box<dyn Fn(&str) -> Option<usize>>;

/// How a test ended.
#[derive(Clone, Debug)]
pub struct TestReport {
    pub name: String,
    pub outcome: Outcome,
    pub duration: Duration,
    /// Why it failed or was skipped; empty when it passed.
    pub message: String,
    /// Index of the step that failed.
    pub failed_step: Option<usize>,
    /// The console's last lines, when it failed.
    pub console_tail: Vec<String>,
    /// The whole console, raw; none when no machine was started.
    pub console_log: Option<PathBuf>,
}

/// Runs a test. What the host lacks skips it, everything else that goes wrong fails it; only an interruption is an
/// error. Also sent as an event.
pub fn run_test(
    runner: &dyn Runner,
    spec: &TestSpec,
    config: &Config,
    events: &Events,
) -> Result<TestReport> {
    let started = Instant::now();
    let mut report = TestReport {
        name: spec.name.clone(),
        outcome: Outcome::Passed,
        duration: Duration::ZERO,
        message: String::new(),
        failed_step: None,
        console_tail: Vec::new(),
        console_log: None,
    };
    match attempt(runner, spec, config, events, &mut report) {
        Ok(()) => {}
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            report.outcome = if error.is_missing() { Outcome::Skipped } else { Outcome::Failed };
            report.message = error.to_string();
        }
    }
    report.duration = started.elapsed();
    events.emit(Event::TestDone {
        name: report.name.clone(),
        outcome: report.outcome,
        duration_ms: report.duration.as_millis().try_into().unwrap_or(u64::MAX),
        message: report.message.clone(),
    });
    Ok(report)
}

/// An error here is not about the guest's behaviour; that goes into the report.
fn attempt(
    runner: &dyn Runner,
    spec: &TestSpec,
    config: &Config,
    events: &Events,
    report: &mut TestReport,
) -> Result<()> {
    let script = Script::new(spec, config)?;
    std::fs::create_dir_all(&config.log_folder).map_err(Error::io("create", &config.log_folder))?;
    let log = config.log_folder.join(format!("{}.console", spec.name));
    report.console_log = Some(log.clone());
    let mut machine = match Machine::start(runner, &spec.machine, config, events, &log) {
        Ok(machine) => machine,
        Err(error) => {
            let _ = std::fs::remove_file(&log);
            report.console_log = None;
            return Err(error);
        }
    };
    let deadline = Instant::now() + script.timeout;
    let mut position = 0;
    for (index, step) in spec.steps.iter().enumerate() {
        let timeout = config.timeout_factor.max(1) * step.timeout.unwrap_or(STEP_TIMEOUT);
        let step_deadline = deadline.min(Instant::now() + timeout);
        let result = script.step(&mut machine, index, step, &mut position, step_deadline, config);
        let problem = match result {
            Ok(None) => continue,
            Ok(Some(problem)) => problem,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => error.to_string(),
        };
        report.outcome = Outcome::Failed;
        report.message = format!("step {} ({}): {problem}", index + 1, step.action);
        report.failed_step = Some(index);
        drop_and_tail(machine, report);
        return Ok(());
    }
    Ok(())
}

/// Ends the machine first, so that the tail is complete.
fn drop_and_tail(machine: Machine<'_>, report: &mut TestReport) {
    let console = machine.console.clone();
    drop(machine);
    report.console_tail = console.tail(CONSOLE_TAIL_LINES);
}

/// The test's patterns, compiled before the machine starts.
struct Script {
    expected: Vec<Option<Matcher>>,
    forbidden: Vec<(String, Matcher)>,
    timeout: Duration,
}

impl Script {
    fn new(spec: &TestSpec, config: &Config) -> Result<Self> {
        let wrong = |message: String| Error::Specification {
            machine: spec.machine.name.clone(),
            message: format!("test `{}`: {message}", spec.name),
        };
        if spec.name.is_empty() || spec.name.contains(['/', '\0']) || spec.name.starts_with('.') {
            return Err(wrong("the name is no file name".into()));
        }
        if spec.steps.is_empty() || spec.steps.len() > STEPS_MAX {
            return Err(wrong(format!("there must be 1 to {STEPS_MAX} steps")));
        }
        let mut expected = Vec::new();
        for (index, step) in spec.steps.iter().enumerate() {
            let pattern = match &step.action {
                Action::Expect(pattern) | Action::Command { expect: pattern, .. } => Some(pattern),
                _ => None,
            };
            let compiled = pattern.map(Pattern::compile).transpose();
            expected.push(compiled.map_err(|message| wrong(format!("step {}: {message}", index + 1)))?);
        }
        let mut forbidden = Vec::new();
        for pattern in &spec.fail_on {
            forbidden.push((
                pattern.to_string(),
                pattern.compile().map_err(|message| wrong(format!("`failOn`: {message}")))?,
            ));
        }
        let timeout = spec.timeout.map_or(TEST_TIMEOUT, Duration::from_secs) * config.timeout_factor.max(1);
        Ok(Script { expected, forbidden, timeout })
    }

    /// One step; a text when the guest did not do what the test wants.
    fn step(
        &self,
        machine: &mut Machine<'_>,
        index: usize,
        step: &Step,
        position: &mut usize,
        deadline: Instant,
        config: &Config,
    ) -> Result<Option<String>> {
        match &step.action {
            Action::Expect(_) => self.expect(machine, index, position, deadline, config),
            Action::Send(text) => machine.send(text).map(|()| None),
            Action::Command { send, .. } => {
                // What a terminal sends for Enter.
                machine.send(&format!("{send}\r"))?;
                self.expect(machine, index, position, deadline, config)
            }
            Action::Press(keys) => machine.press(keys).map(|()| None),
            Action::ExpectExit(status) => self.expect_exit(machine, *status, deadline, config),
            Action::PowerOff => machine.switch_off().map(|()| None),
        }
    }

    fn expect(
        &self,
        machine: &mut Machine<'_>,
        index: usize,
        position: &mut usize,
        deadline: Instant,
        config: &Config,
    ) -> Result<Option<String>> {
        let Some(wanted) = &self.expected[index] else { return Ok(None) };
        let forbidden: Vec<&dyn Fn(&str) -> Option<usize>> =
            self.forbidden.iter().map(|(_, matcher)| &**matcher).collect();
        let waiting = Instant::now();
        match machine.console.wait(*position, &**wanted, &forbidden, deadline, &config.stop) {
            Found::At(end) => {
                *position = end;
                Ok(None)
            }
            Found::Forbidden(which) => Ok(Some(self.appeared(which))),
            Found::TimedOut => Ok(Some(format!("not seen within {:.1} s", waiting.elapsed().as_secs_f64()))),
            Found::Stopped => Err(Error::Interrupted),
            Found::Ended => {
                let exit = machine.wait(Instant::now() + Duration::from_secs(5))?;
                Ok(Some(
                    exit.map_or("the console closed".into(), |exit| {
                        format!("the machine ended before: {exit}")
                    }),
                ))
            }
        }
    }

    fn appeared(&self, which: usize) -> String {
        format!("{} appeared on the console, which `failOn` forbids", self.forbidden[which].0)
    }

    fn expect_exit(
        &self,
        machine: &mut Machine<'_>,
        status: i32,
        deadline: Instant,
        config: &Config,
    ) -> Result<Option<String>> {
        let Some(exit) = machine.wait(deadline)? else {
            return Ok(Some("the machine still runs".into()));
        };
        // Everything the guest said is there now: look for forbidden text once more.
        let forbidden: Vec<&dyn Fn(&str) -> Option<usize>> =
            self.forbidden.iter().map(|(_, matcher)| &**matcher).collect();
        if let Found::Forbidden(which) =
            machine.console.wait(0, &|_| None, &forbidden, Instant::now(), &config.stop)
        {
            return Ok(Some(self.appeared(which)));
        }
        let powered_off = exit.kind == ExitKind::PoweredOff;
        let as_wanted =
            if status == 0 { powered_off } else { exit.kind == ExitKind::Guest && exit.status == status };
        Ok((!as_wanted).then(|| exit.to_string()))
    }
}
