//! One machine of a running test: started and ended by steps, its console read from where the last step stopped, its
//! shell asked. It judges nothing but whether the guest answered.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rednix_events::Events;

use super::keyboard;
use super::network::{self, Switch};
use super::pattern::{Matcher, boundary};
use super::shell::{Answer, Question, Shell, Token};
use crate::console::{Forbidden, Found, Look, Transcript, Wanted};
use crate::error::Error;
use crate::exit::Exit;
use crate::launch::{Extras, PrivateCard};
use crate::limits::{ECHO_PATIENCE, LOGIN_PAUSE, PACED_LINES, PROMPT_PAUSE, REPEAT_PAUSE, STOP_POLL};
use crate::machine::Machine;
use crate::runner::{Config, Runner};
use crate::spec::MachineSpec;

/// What went wrong in a step: the guest did not do what the test wants, or the machine could not be asked.
#[derive(Debug)]
pub enum Problem {
    Guest(String),
    /// The host lacks what this step needs.
    Missing(String),
    Machine(Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Problem::Machine(error)
    }
}

pub type Done<T = ()> = std::result::Result<T, Problem>;

pub fn guest<T>(message: impl Into<String>) -> Done<T> {
    Err(Problem::Guest(message.into()))
}

/// What all machines of a test share.
pub struct Surroundings<'a> {
    pub config: &'a Config,
    pub events: &'a Events,
    /// Where console logs go.
    pub folder: &'a Path,
    pub switch: Option<&'a Switch>,
    /// Text that fails the test, as written and compiled.
    pub forbidden: &'a [(String, Matcher)],
    /// New for each run of a test.
    pub run: u32,
    /// What else is looked at while a guest is waited for.
    pub meanwhile: Option<&'a dyn Meanwhile>,
}

/// Something that is looked at some times a second while a guest is waited for.
pub trait Meanwhile {
    /// A problem ends the wait.
    fn look(&self, machine: &mut Machine<'_>) -> Done;
}

/// What a machine has because of what is done with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its number on the private network.
    pub number: Option<usize>,
    /// A disk for files to and from it.
    pub exchange: bool,
    /// Its console is that of our terminal.
    pub terminal: bool,
}

/// A machine's place in a test, whether it runs or not.
pub struct Guest<'a> {
    around: &'a Surroundings<'a>,
    runner: &'a dyn Runner,
    spec: &'a MachineSpec,
    pub shell: Shell,
    place: Place,
    /// Where the guest has the exchange disk, once that was looked for.
    pub(super) exchange_place: Option<Option<String>>,
    machine: Option<Machine<'a>>,
    /// How the last machine ended.
    exit: Option<Exit>,
    /// The console of the last machine.
    console: Option<Transcript>,
    position: usize,
    /// How far the console was looked through for what must not appear.
    searched: usize,
    starts: usize,
    commands: usize,
    pub logs: Vec<PathBuf>,
}

impl<'a> Guest<'a> {
    pub fn new(
        around: &'a Surroundings<'a>,
        runner: &'a dyn Runner,
        shell: Shell,
        spec: &'a MachineSpec,
        place: Place,
    ) -> Self {
        Guest {
            around,
            runner,
            spec,
            shell,
            place,
            exchange_place: None,
            machine: None,
            exit: None,
            console: None,
            position: 0,
            searched: 0,
            starts: 0,
            commands: 0,
            logs: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn config(&self) -> &Config {
        self.around.config
    }

    pub(super) fn runner(&self) -> &dyn Runner {
        self.runner
    }

    pub fn spec(&self) -> &MachineSpec {
        self.spec
    }

    pub fn console(&self) -> Option<&Transcript> {
        self.console.as_ref()
    }

    pub fn runs(&self) -> bool {
        self.machine.is_some()
    }

    pub fn machine(&mut self) -> Done<&mut Machine<'a>> {
        match &mut self.machine {
            Some(machine) => Ok(machine),
            None => guest(format!("`{}` does not run", self.spec.name)),
        }
    }

    pub fn start(&mut self) -> Done {
        if self.machine.is_some() {
            return guest(format!("`{}` runs already", self.spec.name));
        }
        // What the last machine said is judged before nobody has it any more.
        self.check_forbidden()?;
        self.starts += 1;
        let number = if self.starts == 1 { String::new() } else { format!(".{}", self.starts) };
        let log = self.around.folder.join(format!("{}{number}.console", self.spec.name));
        let mut cards = Vec::new();
        if let (Some(switch), Some(number)) = (self.around.switch, self.place.number) {
            let socket = switch.plug(number).map_err(Error::io("make a network card in", &log))?;
            cards.push(PrivateCard { socket: socket.into(), address: network::mac_of(number).0 });
        }
        let Surroundings { config, events, .. } = self.around;
        let Place { exchange, terminal, .. } = self.place;
        let extras = Extras { cards: &cards, exchange, terminal };
        let machine = Machine::start_with(self.runner, self.spec, config, events, Some(&log), &extras);
        if machine.is_err() {
            let _ = std::fs::remove_file(&log);
        } else {
            self.logs.push(log);
        }
        let machine = machine?;
        self.console = Some(machine.console.clone());
        self.machine = Some(machine);
        (self.exit, self.position, self.searched, self.exchange_place) = (None, 0, 0, None);
        Ok(())
    }

    /// Waits for text after the last match; what was matched up to is behind us then.
    pub fn expect(&mut self, wanted: &Look<'_>, deadline: Instant) -> Done {
        let waiting = Instant::now();
        match self.find(self.position, wanted, deadline)? {
            Found::At(end) => {
                self.position = end;
                Ok(())
            }
            Found::Forbidden(which) => guest(self.appeared(which)),
            Found::TimedOut => guest(format!("not seen within {:.1} s", waiting.elapsed().as_secs_f64())),
            Found::Stopped => Err(Error::Interrupted.into()),
            Found::Ended => {
                let exit = self.ended(Instant::now() + Duration::from_secs(5))?;
                guest(
                    exit.map_or("the console closed".into(), |exit| {
                        format!("the machine ended before: {exit}")
                    }),
                )
            }
        }
    }

    /// Waits at the console, and looks at what is to be looked at meanwhile.
    fn find(&mut self, from: usize, wanted: &Look<'_>, deadline: Instant) -> Done<Found> {
        let Some(console) = &self.console else { return guest("it was never started") };
        let looks: Vec<&Look<'_>> = self.around.forbidden.iter().map(|(_, matcher)| &**matcher).collect();
        let stop = &self.around.config.stop;
        let mut wanted = Wanted::new(from, wanted);
        loop {
            let forbidden = Forbidden { looks: &looks, searched: &mut self.searched };
            let Some(meanwhile) = self.around.meanwhile else {
                return Ok(console.wait(&mut wanted, forbidden, deadline, stop));
            };
            let soon = deadline.min(Instant::now() + STOP_POLL);
            match console.wait(&mut wanted, forbidden, soon, stop) {
                Found::TimedOut if Instant::now() < deadline => {}
                other => return Ok(other),
            }
            if let Some(machine) = &mut self.machine {
                meanwhile.look(machine)?;
            }
        }
    }

    /// Passes over everything that the console has said until now.
    pub fn pass(&mut self) {
        let everything = |text: &str, _| Some(text.len());
        // With nothing to wait for, nothing can go wrong.
        let _ = self.expect(&everything, Instant::now());
    }

    /// Fails when forbidden text is on the console.
    pub fn check_forbidden(&mut self) -> Done {
        if self.console.is_none() {
            return Ok(());
        }
        match self.find(self.position, &|_, _| None, Instant::now())? {
            Found::Forbidden(which) => guest(self.appeared(which)),
            _ => Ok(()),
        }
    }

    fn appeared(&self, which: usize) -> String {
        format!(
            "{} appeared on the console of `{}`, which `failOn` forbids",
            self.around.forbidden[which].0,
            self.name()
        )
    }

    /// A name for something in the guest that nothing else of this run, or of another one, has.
    pub(super) fn next_name(&self) -> String {
        format!("{:08x}-{}", self.around.run, self.commands)
    }

    pub fn send(&mut self, text: &str) -> Done {
        self.machine()?.send(text).map_err(Problem::from)
    }

    /// Types a line; what a terminal sends for Enter follows.
    pub fn send_line(&mut self, line: &str) -> Done {
        self.send(&format!("{line}\r"))
    }

    /// Runs a command in the guest's shell.
    pub fn run(&mut self, command: &str, deadline: Instant) -> Done<Answer> {
        self.run_with_input(command, "", deadline)
    }

    /// The same, with lines for the command to read; none of it may be longer than a terminal takes.
    pub fn run_with_input(&mut self, command: &str, input: &str, deadline: Instant) -> Done<Answer> {
        self.commands += 1;
        let shell = self.shell;
        let token = Token::new(self.around.run, self.commands);
        let question = Question::new(shell, token, command).or_else(guest)?;
        self.send_line(question.line())?;
        // The answer is looked for in all that follows, so nothing waited for on the way is passed over.
        let start = self.position;
        if let Some(closing) = question.closing_line() {
            let waiting = |text: &str, _| question.is_waiting(text).then_some(text.len());
            self.expect(&waiting, deadline).map_err(|problem| unanswered(problem, shell))?;
            self.send_line(&closing)?;
        } else if let (false, Some(mark)) = (input.is_empty(), question.begin_mark()) {
            let begins = |text: &str, known: usize| {
                let start = boundary(text, known.saturating_sub(mark.len()));
                text[start..].find(&mark).map(|at| start + at + mark.len())
            };
            self.expect(&begins, deadline).map_err(|problem| unanswered(problem, shell))?;
            self.send_paced(input, deadline)?;
            // The end of what a terminal reads.
            self.send("\x04")?;
        }
        self.position = start;
        let answer = std::cell::RefCell::new(None);
        let wanted = |text: &str, known| {
            let (at, found) = question.answer(text, known)?;
            *answer.borrow_mut() = Some(found);
            Some(at)
        };
        self.expect(&wanted, deadline).map_err(|problem| unanswered(problem, shell))?;
        match answer.into_inner() {
            Some(answer) => Ok(answer),
            None => guest("no answer"),
        }
    }

    /// Lines for a program that reads the terminal, never far ahead of what the guest has echoed: a terminal of Redox
    /// whose buffer is full takes its login with it.
    fn send_paced(&mut self, input: &str, deadline: Instant) -> Done {
        let mut sent = 0;
        for (index, line) in input.lines().enumerate() {
            self.send_line(line)?;
            sent += line.len() + 1;
            if index % PACED_LINES == PACED_LINES - 1 {
                // As much as was sent, whatever it is: lines may be equal, and messages of the kernel between them.
                let echoed = |text: &str, _| (sent..=text.len()).find(|&at| text.is_char_boundary(at));
                match self.expect(&echoed, deadline.min(Instant::now() + ECHO_PATIENCE)) {
                    // A terminal that does not echo has had its time.
                    Ok(()) | Err(Problem::Guest(_)) => sent = 0,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The same until `is_good` takes the answer; words for the last one that it did not.
    pub fn run_until(
        &mut self,
        command: &str,
        deadline: Instant,
        is_good: &dyn Fn(&Answer) -> std::result::Result<(), String>,
    ) -> Done {
        loop {
            let answer = self.run(command, deadline)?;
            let Err(reason) = is_good(&answer) else { return Ok(()) };
            if Instant::now() + REPEAT_PAUSE >= deadline {
                return guest(format!("not as wanted in time; the last time {reason}"));
            }
            self.sleep(REPEAT_PAUSE)?;
        }
    }

    /// Logs in where a login is asked for, and waits until the shell answers.
    pub fn login(&mut self, user: &str, password: Option<&str>, deadline: Instant) -> Done {
        // Another user may read the disk, or not.
        self.exchange_place = None;
        let asks = |text: &str, _| find_prompt(text, "login: ");
        self.expect(&asks, deadline)?;
        self.send_line(user)?;
        if let Some(password) = password {
            self.expect(&|text: &str, _| find_prompt(text, "assword: "), deadline)?;
            self.send_line(password)?;
        }
        // Until the shell reads lines itself, what is typed is echoed by the terminal and may be lost. A prompt is
        // waited for, but not for long: it can look like anything.
        let prompt = |text: &str, _| {
            let line = text.rsplit('\n').next().unwrap_or_default();
            let is_prompt = line.trim_end().ends_with(['#', '$', '>']) && !line.contains(" login:");
            is_prompt.then_some(text.len())
        };
        let soon = deadline.min(Instant::now() + LOGIN_PAUSE * self.around.config.timeout_factor.max(1));
        match self.expect(&prompt, soon) {
            Ok(()) => {}
            Err(Problem::Guest(_)) if Instant::now() < deadline && self.is_up() => {}
            Err(problem) => return Err(problem),
        }
        self.sleep(PROMPT_PAUSE)?;
        match self.run("true", deadline)? {
            Answer { status: 0, .. } => Ok(()),
            Answer { status, .. } => guest(format!("the shell answers `true` with status {status}")),
        }
    }

    fn is_up(&mut self) -> bool {
        matches!(self.ended(Instant::now()), Ok(None))
    }

    /// Waits for the machine to end; none when it still runs at the deadline.
    pub fn ended(&mut self, deadline: Instant) -> Done<Option<Exit>> {
        if let Some(exit) = &self.exit {
            return Ok(Some(exit.clone()));
        }
        let exit = self.machine()?.wait(deadline)?;
        if let Some(exit) = &exit {
            self.exit = Some(exit.clone());
            self.machine = None;
        }
        Ok(exit)
    }

    /// How it ended, if it was seen to.
    pub fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// Ends the machine, at once or after asking its monitor.
    pub fn cut(&mut self, gently: bool) -> Done {
        let mut machine = match self.machine.take() {
            Some(machine) => machine,
            None => return guest(format!("`{}` does not run", self.spec.name)),
        };
        if gently {
            machine.switch_off()?
        } else {
            machine.cut_power()?
        }
        self.exit = machine.wait(Instant::now())?;
        Ok(())
    }

    /// Presses the keys that write this text, one after another.
    pub fn type_text(&mut self, text: &str) -> Done {
        for character in text.chars() {
            let keys = keyboard::keys(character).or_else(guest)?;
            let machine = self.machine()?;
            machine.press(&keys)?;
            self.sleep(keyboard::PAUSE)?;
        }
        Ok(())
    }

    /// Waits, unless the test is to stop.
    pub fn sleep(&mut self, time: Duration) -> Done {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.around.config.stop.requested() {
                return Err(Error::Interrupted.into());
            }
            if let (Some(meanwhile), Some(machine)) = (self.around.meanwhile, &mut self.machine) {
                meanwhile.look(machine)?;
            }
            let left = end.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(STOP_POLL));
        }
        Ok(())
    }

    /// Ends what runs, so that its console is complete.
    pub fn finish(&mut self) {
        self.machine = None;
    }
}

fn unanswered(problem: Problem, shell: Shell) -> Problem {
    match problem {
        Problem::Guest(message) if message.starts_with("not seen") => Problem::Guest(format!(
            "the guest's shell did not end the command: {message} (the machine's `shell` is `{}`; is somebody logged in?)",
            match shell {
                Shell::Ion => "ion",
                Shell::Sh => "sh",
                Shell::Probe => "probe",
            }
        )),
        other => other,
    }
}

/// The position after a prompt that nothing follows yet.
fn find_prompt(text: &str, prompt: &str) -> Option<usize> {
    text.ends_with(prompt).then_some(text.len())
}
