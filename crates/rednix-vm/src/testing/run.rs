//! Runs one machine test and reports. Every wait has an end.

use std::path::Path;
use std::time::{Duration, Instant};

use rednix_events::{Event, Events, Outcome};

use super::guest::{Done, Guest, Place, Problem, Surroundings, guest};
use super::network::{Switch, address_of};
use super::pattern::{Matcher, Pattern};
use super::report::{StepReport, TestReport};
use super::results::Results;
use super::shell::Answer;
use super::spec::{TestSpec, place};
use super::step::{Action, Run, Step};
use super::{ports, screen, transfer};
use crate::ability;
use crate::console::Look;
use crate::error::{Error, Result};
use crate::exit::{Exit, ExitKind};
use crate::limits::{CONSOLE_TAIL_LINES, CONSOLE_TAIL_WIDTH, OUTPUT_SHOWN, STEP_TIMEOUT, TEST_TIMEOUT};
use crate::runner::{Config, NAMES, Reset, Runner, by_name};
use crate::scratch::Scratch;
use crate::spec::{Display, MachineSpec, Network};

/// What is called when a step failed, before its machines end: the guests, and which of them the step was about.
pub type OnFailure<'f> = &'f dyn Fn(&mut [Guest<'_>], usize, &str);

/// Runs a test whose machines all have this monitor. What the host lacks skips it, everything else that goes wrong
/// fails it; only an interruption is an error. Also sent as an event.
pub fn run_test(
    runner: &dyn Runner,
    spec: &TestSpec,
    config: &Config,
    events: &Events,
) -> Result<TestReport> {
    let runners = vec![runner; spec.machines.len()];
    conclude(spec, events, |report| attempt(&runners, spec, config, events, report, None))
}

/// The same, each machine with the monitor that it names.
pub fn run_test_by_name(
    spec: &TestSpec,
    config: &Config,
    events: &Events,
    on_failure: Option<OnFailure<'_>>,
) -> Result<TestReport> {
    conclude(spec, events, |report| {
        let boxed = spec.machines.iter().map(|machine| by_name(&machine.vmm)).collect::<Result<Vec<_>>>()?;
        let runners: Vec<&dyn Runner> = boxed.iter().map(Box::as_ref).collect();
        attempt(&runners, spec, config, events, report, on_failure)
    })
}

fn conclude(
    spec: &TestSpec,
    events: &Events,
    work: impl FnOnce(&mut TestReport) -> Result<()>,
) -> Result<TestReport> {
    let started = Instant::now();
    let mut report = TestReport::new(&spec.name);
    match work(&mut report) {
        Ok(()) => {}
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => {
            report.outcome = if error.is_missing() { Outcome::Skipped } else { Outcome::Failed };
            report.message = error.to_string();
        }
    }
    report.duration = started.elapsed();
    report.make_plain();
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
    runners: &[&dyn Runner],
    spec: &TestSpec,
    config: &Config,
    events: &Events,
    report: &mut TestReport,
    on_failure: Option<OnFailure<'_>>,
) -> Result<()> {
    let script = Script::new(spec, config)?;
    let results = Results::take(&config.log_folder, &spec.name)?;
    let folder = results.folder();
    let keeps = (0..spec.machines.len()).any(|at| spec.keeps_disk(at));
    let layers = if keeps { Some(Scratch::new(made(&config.scratch_folder)?)?) } else { None };
    let machines = machine_specs(spec, layers.as_ref().map_or(folder, |layers| layers.path()))?;
    let switch = switch(spec, folder)?;
    let around = Surroundings {
        config,
        events,
        folder,
        switch: switch.as_ref(),
        forbidden: &script.forbidden,
        run: std::process::id() ^ started_at(),
        meanwhile: None,
    };
    let result = perform(runners, spec, &script, &around, &machines, report, on_failure);
    drop(switch);
    report.files = results.files();
    result
}

/// The steps, with machines that end before this does.
fn perform<'a>(
    runners: &[&'a dyn Runner],
    spec: &TestSpec,
    script: &Script,
    around: &'a Surroundings<'a>,
    machines: &'a [MachineSpec],
    report: &mut TestReport,
    on_failure: Option<OnFailure<'_>>,
) -> Result<()> {
    let mut numbers = 0..;
    let mut guests: Vec<Guest<'_>> = Vec::new();
    for (at, wanted) in spec.machines.iter().enumerate() {
        let number = if wanted.private_network { numbers.next() } else { None };
        let place = Place { number, exchange: spec.copies(at), terminal: false };
        guests.push(Guest::new(around, runners[at], wanted.shell, &machines[at], place));
    }
    let mut stage = Stage { spec, script, guests, folder: around.folder, skipped: Vec::new(), answer: None };
    let result = stage.play(report, on_failure);
    let Stage { mut guests, skipped, .. } = stage;
    guests.iter_mut().for_each(Guest::finish);
    report.skipped_steps = skipped;
    report.console_log = guests.iter().find_map(|guest| guest.logs.first().cloned());
    let mut blamed = report.failed_step.and_then(|step| spec.machine_of(&spec.steps[step]).ok());
    if result.is_ok() && report.outcome == Outcome::Passed {
        // Consoles are complete only now.
        let last = guests.iter_mut().map(Guest::check_forbidden).enumerate();
        if let Some((at, Err(Problem::Guest(message)))) =
            last.into_iter().find(|(_, checked)| checked.is_err())
        {
            report.outcome = Outcome::Failed;
            report.message = format!("after the last step: {message}");
            blamed = Some(at);
        }
    }
    if let Some(at) = blamed {
        let console = guests[at].console();
        let tail = console.map_or(Vec::new(), |console| console.tail(CONSOLE_TAIL_LINES));
        report.console_tail = tail.iter().map(|line| shortened(line)).collect();
    }
    result
}

/// The end of a line. One that an editor redrew again and again is all of that in one.
fn shortened(line: &str) -> String {
    match line.char_indices().rev().nth(CONSOLE_TAIL_WIDTH) {
        Some((at, _)) => format!("…{}", &line[at..]),
        None => line.to_owned(),
    }
}

/// Refuses a test that no run of it could do, before anything is started: monitors that there are not, and machines
/// beyond their monitors. What the host lacks is no matter here.
pub fn check(spec: &TestSpec) -> Result<()> {
    for machine in completed(spec, Path::new("/"), &mut || Ok(0))?.iter().zip(&spec.machines) {
        let (machine, wanted) = machine;
        let runner = by_name(&wanted.vmm).map_err(|_| {
            machine.refuse(format!("`vmm` is one of {}, not `{}`", NAMES.join(", "), wanted.vmm))
        })?;
        runner.check(machine)?;
        let is_its =
            |step: &Step| spec.machine_of(step).is_ok_and(|at| spec.machines[at].name() == wanted.name());
        for (index, step) in spec.steps.iter().enumerate().filter(|(_, step)| is_its(step)) {
            ability::check_step(runner.as_ref(), wanted, &step.action).map_err(|reason| {
                let message = format!("{} ({}): {reason}", place(index, step), step.action);
                Error::Test { test: spec.name.clone(), message }
            })?;
        }
    }
    Ok(())
}

/// The machines' specifications, completed: layers where a disk has to outlive its machine, ports that are free.
fn machine_specs(spec: &TestSpec, layers: &Path) -> Result<Vec<MachineSpec>> {
    let mut taken = ports::Free::default();
    completed(spec, layers, &mut || taken.next().map_err(Error::io("find a free port for", layers)))
}

fn completed(
    spec: &TestSpec,
    layers: &Path,
    free_port: &mut dyn FnMut() -> Result<u16>,
) -> Result<Vec<MachineSpec>> {
    let mut specs = Vec::new();
    for (at, wanted) in spec.machines.iter().enumerate() {
        let mut machine = wanted.machine.clone();
        let has_disk = by_name(&wanted.vmm).is_ok_and(|runner| runner.has_disk(&machine));
        if spec.keeps_disk(at) && has_disk && machine.persist.is_none() {
            machine.persist = Some(layers.join(format!("{at}.layer")));
        }
        if let Network::User { forwards, .. } = &mut machine.network {
            for forward in forwards.iter_mut().filter(|forward| forward.host == 0) {
                forward.host = free_port()?;
            }
        }
        specs.push(machine);
    }
    Ok(specs)
}

fn switch(spec: &TestSpec, folder: &Path) -> Result<Option<Switch>> {
    let cards = spec.machines.iter().filter(|machine| machine.private_network).count();
    if cards == 0 {
        return Ok(None);
    }
    let leases: Vec<_> = (0..cards).map(address_of).collect();
    let capture = spec.capture.then(|| folder.join("network.pcap"));
    Switch::start(&leases, capture.as_deref()).map(Some).map_err(Error::io("start a network in", folder))
}

fn made(folder: &Path) -> Result<&Path> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    Ok(folder)
}

fn started_at() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos() ^ now.as_secs() as u32
}

/// The test's patterns, compiled before a machine starts, and its time.
struct Script {
    patterns: Vec<Option<Matcher>>,
    forbidden: Vec<(String, Matcher)>,
    timeout: Duration,
    factor: u32,
}

impl Script {
    fn new(spec: &TestSpec, config: &Config) -> Result<Self> {
        let wrong = |message: String| Error::Test { test: spec.name.clone(), message };
        let mut patterns = Vec::new();
        for (index, step) in spec.steps.iter().enumerate() {
            let compiled = step.action.pattern().map(Pattern::compile).transpose();
            patterns.push(compiled.map_err(|message| wrong(format!("{}: {message}", place(index, step))))?);
        }
        let mut forbidden = Vec::new();
        for pattern in &spec.fail_on {
            let matcher = pattern.compile().map_err(|message| wrong(format!("`failOn`: {message}")))?;
            forbidden.push((pattern.to_string(), matcher));
        }
        let factor = config.timeout_factor.max(1);
        let timeout = spec.timeout.map_or(TEST_TIMEOUT, Duration::from_secs) * factor;
        Ok(Script { patterns, forbidden, timeout, factor })
    }
}

/// A test being run.
struct Stage<'s, 'a> {
    spec: &'s TestSpec,
    script: &'s Script,
    guests: Vec<Guest<'a>>,
    folder: &'s Path,
    skipped: Vec<String>,
    /// What the last command answered.
    answer: Option<Answer>,
}

impl Stage<'_, '_> {
    fn play(&mut self, report: &mut TestReport, on_failure: Option<OnFailure<'_>>) -> Result<()> {
        let end = Instant::now() + self.script.timeout;
        for at in 0..self.guests.len() {
            if self.spec.machines[at].start {
                match self.guests[at].start() {
                    Ok(()) => {}
                    Err(Problem::Machine(error)) => return Err(error),
                    Err(Problem::Guest(message) | Problem::Missing(message)) => {
                        let name = self.guests[at].name().to_owned();
                        return Err(Error::Test {
                            test: self.spec.name.clone(),
                            message: format!("{name}: {message}"),
                        });
                    }
                }
            }
        }
        for (index, step) in self.spec.steps.iter().enumerate() {
            let started = Instant::now();
            let at = self.spec.machine_of(step).unwrap_or_default();
            let timeout = self.script.factor * step.timeout.unwrap_or(STEP_TIMEOUT);
            let deadline = end.min(started + timeout);
            let result = self.step(at, index, step, deadline).and_then(|()| self.check_forbidden());
            let several = self.guests.len() > 1;
            let problem = match result {
                Ok(()) => {
                    report.steps.push(StepReport {
                        step: index + 1,
                        action: step.action.to_string(),
                        machine: several.then(|| self.guests[at].name().to_owned()),
                        answer: self.answer.take(),
                        duration: started.elapsed(),
                    });
                    continue;
                }
                Err(Problem::Missing(reason)) => {
                    self.skipped.push(format!("{} ({}): {reason}", place(index, step), step.action));
                    continue;
                }
                Err(Problem::Machine(Error::Interrupted)) => return Err(Error::Interrupted),
                Err(Problem::Machine(error)) => error.to_string(),
                Err(Problem::Guest(message)) => message,
            };
            let on = if several { format!(" on `{}`", self.guests[at].name()) } else { String::new() };
            report.outcome = Outcome::Failed;
            report.message = format!("{}{on} ({}): {problem}", place(index, step), step.action);
            if Instant::now() >= end {
                let seconds = self.script.timeout.as_secs();
                report.message.push_str(&format!("; the whole test has {seconds} s (`timeout`)"));
            }
            report.failed_step = Some(index);
            self.keep_screens();
            if let Some(look) = on_failure {
                look(&mut self.guests, at, &report.message);
            }
            return Ok(());
        }
        Ok(())
    }

    /// Looks at all consoles: a machine that no step is about may be in trouble too.
    fn check_forbidden(&mut self) -> Done {
        self.guests.iter_mut().try_for_each(Guest::check_forbidden)
    }

    /// What the screens show when a test fails.
    fn keep_screens(&mut self) {
        for guest in &mut self.guests {
            let file = self.folder.join(format!("{}.failed.png", guest.name()));
            if guest.spec().display != Display::None {
                // No picture is no further failure.
                if let Ok(machine) = guest.machine() {
                    let _ = machine.screenshot(&file);
                }
            }
        }
    }

    fn step(&mut self, at: usize, index: usize, step: &Step, deadline: Instant) -> Done {
        let folder = self.folder;
        let pattern = self.script.patterns[index].as_deref();
        let one = &mut self.guests[at];
        match &step.action {
            Action::Start => one.start(),
            Action::Expect(_) => expect(one, pattern, deadline),
            Action::Send(text) => one.send(text),
            Action::Command { send, .. } => {
                one.send_line(send)?;
                expect(one, pattern, deadline)
            }
            Action::Login { user, password } => one.login(user, password.as_deref(), deadline),
            Action::Run(run) => {
                let answer = one.run(&run.command, deadline)?;
                judge(run, pattern, &answer).or_else(guest)?;
                self.answer = Some(answer);
                Ok(())
            }
            Action::RunUntil(run) => {
                one.run_until(&run.command, deadline, &|answer| judge(run, pattern, answer))
            }
            Action::WaitForPort(port) => wait_for_port(one, *port, deadline),
            Action::CopyIn { from, to } => transfer::copy_in(one, from, to, deadline),
            Action::CopyOut { from, to, same } => {
                copy_out(one, from, &folder.join(to), same.as_deref(), deadline)
            }
            Action::Screenshot(wanted) => screen::look(one, wanted, pattern, folder, deadline),
            Action::Press(keys) => one.machine()?.press(keys).map_err(Problem::from),
            Action::Type(text) => one.type_text(text),
            Action::Reboot(command) => reboot(one, command.as_deref(), deadline),
            Action::PowerCut => one.cut(false),
            Action::PowerOff => one.cut(true),
            Action::Shutdown(command) => shut_down(one, command.as_deref(), deadline),
            Action::ExpectExit(status) => expect_exit(one, *status, deadline),
            Action::Pause => one.machine()?.pause().map_err(Problem::from),
            Action::Resume => one.machine()?.resume().map_err(Problem::from),
            Action::Sleep(seconds) => one.sleep(Duration::from_secs(*seconds)),
        }
    }
}

fn expect(one: &mut Guest<'_>, pattern: Option<&Look<'_>>, deadline: Instant) -> Done {
    match pattern {
        Some(pattern) => one.expect(pattern, deadline),
        None => Ok(()),
    }
}

/// Whether a command's answer is as wanted; words when not.
fn judge(run: &Run, pattern: Option<&Look<'_>>, answer: &Answer) -> std::result::Result<(), String> {
    let shown = || {
        let text = answer.output.trim_end();
        let start = text.len().saturating_sub(OUTPUT_SHOWN);
        let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or_default();
        if text.is_empty() {
            ", without output".to_owned()
        } else {
            format!(", with the output\n{}", &text[start..])
        }
    };
    if let Some(wanted) = run.status.filter(|&status| status != answer.status) {
        return Err(format!("it ended with status {}, not {wanted}{}", answer.status, shown()));
    }
    match (&run.output, pattern) {
        (Some(wanted), Some(pattern)) if pattern(&answer.output, 0).is_none() => {
            Err(format!("{wanted} is not in its output{}", shown()))
        }
        _ => Ok(()),
    }
}

fn wait_for_port(one: &mut Guest<'_>, port: u16, deadline: Instant) -> Done {
    let forwards = match &one.spec().network {
        Network::User { forwards, .. } => forwards.as_slice(),
        _ => &[],
    };
    let Some(host) = forwards.iter().find(|forward| forward.guest == port).map(|forward| forward.host) else {
        return guest(format!(
            "nothing leads to port {port}: give the machine `network.user.forwards = [ {{ host = 0; guest = {port}; }} ]`"
        ));
    };
    while !ports::answers(host) {
        if Instant::now() >= deadline {
            return guest("nothing listens there");
        }
        if let Some(exit) = one.ended(Instant::now())? {
            return guest(format!("the machine ended before: {exit}"));
        }
        one.sleep(crate::limits::REPEAT_PAUSE)?;
    }
    Ok(())
}

fn copy_out(one: &mut Guest<'_>, from: &str, to: &Path, same: Option<&Path>, deadline: Instant) -> Done {
    let bytes = transfer::read(one, from, deadline)?;
    std::fs::write(to, &bytes).map_err(Error::io("write", to))?;
    if let Some(same) = same {
        let expected = std::fs::read(same).map_err(Error::io("read", same))?;
        if expected != bytes {
            return guest(format!(
                "it differs from `{}`; what the guest has is in {}",
                same.display(),
                to.display()
            ));
        }
    }
    Ok(())
}

fn reboot(one: &mut Guest<'_>, command: Option<&str>, deadline: Instant) -> Done {
    match command {
        Some(command) => one.send_line(command)?,
        None => one.machine()?.reset()?,
    }
    let reset = one.runner().reset();
    if reset == Reset::Restarts {
        // It was, and goes on in the same process.
        return Ok(());
    }
    match one.ended(deadline)? {
        None => guest("the machine was not reset"),
        // A guest's reset, or one from outside, which a monitor that ends at resets tells as being switched off.
        Some(Exit { kind: ExitKind::Reset, .. }) => one.start(),
        Some(Exit { kind: ExitKind::PoweredOff, .. }) if command.is_none() || reset == Reset::EndsAsOff => {
            one.start()
        }
        Some(exit) => guest(format!("{exit}, and was to restart")),
    }
}

fn shut_down(one: &mut Guest<'_>, command: Option<&str>, deadline: Instant) -> Done {
    match command {
        Some(command) => one.send_line(command)?,
        None => one.machine()?.shutdown()?,
    }
    match one.ended(deadline)? {
        None if command.is_none() => {
            guest("the machine still runs: the guest does not listen to the power button")
        }
        None => guest("the machine still runs"),
        Some(Exit { kind: ExitKind::PoweredOff, .. }) => Ok(()),
        Some(exit) => guest(exit.to_string()),
    }
}

fn expect_exit(one: &mut Guest<'_>, status: i32, deadline: Instant) -> Done {
    let Some(exit) = one.ended(deadline)? else { return guest("the machine still runs") };
    let as_wanted = match status {
        0 => exit.kind == ExitKind::PoweredOff,
        status => exit.kind == ExitKind::Guest && exit.status == status,
    };
    if as_wanted { Ok(()) } else { guest(exit.to_string()) }
}
