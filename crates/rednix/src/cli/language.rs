//! The grammar of the commands of the language: `rednix eval`, `flake`, `fmt`, `repl`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::TreeArgs;

#[derive(Debug, Args)]
pub struct EvalArgs {
    /// File to evaluate, or an attribute of a flake (`.#attr`); `-` is standard input [default: the library]
    pub file: Option<PathBuf>,
    /// The same file, as an option
    #[arg(long = "file", short = 'f', value_name = "FILE", conflicts_with = "file")]
    pub file_option: Option<PathBuf>,
    /// Expression to evaluate in place of a file
    #[arg(long, short = 'E', value_name = "EXPRESSION", conflicts_with_all = ["file", "file_option"])]
    pub expr: Option<String>,
    /// Function to apply to the value
    #[arg(long, value_name = "EXPRESSION")]
    pub apply: Option<String>,
    /// Attribute to select
    #[arg(long, short = 'A', value_name = "PATH", default_value = "")]
    pub attr: String,
    /// Print JSON
    #[arg(long, conflicts_with = "raw")]
    pub json: bool,
    /// Print a string without quotes
    #[arg(long)]
    pub raw: bool,
    /// See no file but what the evaluation itself fetched, no environment and no time
    #[arg(long, conflicts_with = "impure")]
    pub pure_eval: bool,
    /// See only files that the search path names
    #[arg(long)]
    pub restrict_eval: bool,
    /// Put an entry before those of $NIX_PATH: a folder, NAME=PATH or NAME=URL
    #[arg(long, short = 'I', value_name = "ENTRY")]
    pub include: Vec<String>,
    #[command(flatten)]
    pub lock_flags: LockFlags,
    #[command(flatten)]
    pub tree: TreeArgs,
}

/// How a flake's inputs are pinned for this command.
#[derive(Debug, Clone, Default, Args)]
pub struct LockFlags {
    /// Use another flake in an input's place
    #[arg(long, num_args = 2, value_names = ["INPUT", "FLAKE"], action = clap::ArgAction::Append)]
    pub override_input: Vec<String>,
    /// Renew the pin of an input first
    #[arg(long, value_name = "INPUT")]
    pub update_input: Vec<String>,
    /// Work out a new lock file from nothing
    #[arg(long)]
    pub recreate_lock_file: bool,
    /// Use new pins for this command only
    #[arg(long)]
    pub no_write_lock_file: bool,
    /// Fail where the lock file would have to change
    #[arg(long)]
    pub no_update_lock_file: bool,
    /// Commit the lock file when it changed
    #[arg(long)]
    pub commit_lock_file: bool,
    /// Let the evaluation of flakes see files, environment and time
    #[arg(long)]
    pub impure: bool,
    /// Ask sources again, however lately they were asked
    #[arg(long)]
    pub refresh: bool,
}

#[derive(Debug, Args)]
pub struct FlakeArgs {
    #[command(subcommand)]
    pub command: FlakeCommand,
}

#[derive(Debug, Subcommand)]
pub enum FlakeCommand {
    /// Print what a flake provides
    Show {
        #[arg(default_value = ".")]
        flake: String,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Evaluate what a flake provides, and build its checks
    Check {
        #[arg(default_value = ".")]
        flake: String,
        /// Only evaluate the checks
        #[arg(long)]
        no_build: bool,
        /// Let the flake's machine tests have what reaches this machine: files outside the store, interfaces,
        /// bridges and ports, windows, arguments of monitors
        #[arg(long)]
        trust_machines: bool,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Print where a flake and its inputs come from
    Metadata {
        #[arg(default_value = ".")]
        flake: String,
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Pin the inputs that have no pin yet
    Lock {
        #[arg(default_value = ".")]
        flake: String,
        #[command(flatten)]
        lock: LockFlags,
    },
    /// Renew the pins of inputs
    Update {
        /// Inputs to renew, as `a` or `a/b` [default: all]
        inputs: Vec<String>,
        #[arg(long, default_value = ".", value_name = "FLAKE")]
        flake: String,
        #[command(flatten)]
        lock: LockFlags,
    },
}

#[derive(Debug, Args)]
pub struct FmtArgs {
    /// Files, or folders whose .nix files are meant; `-` is standard input [default: this folder]
    pub files: Vec<PathBuf>,
    /// Print which files would change, and fail if any would
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct ReplArgs {
    /// Files whose attributes become variables
    pub files: Vec<PathBuf>,
    /// A set whose attributes become variables
    #[arg(long, short = 'E', value_name = "EXPRESSION")]
    pub expr: Option<String>,
}
