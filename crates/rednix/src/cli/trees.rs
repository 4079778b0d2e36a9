//! The grammar of what pins a tree and looks into it: `rednix lock`, `update`, `tree`, `work`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::TreeArgs;

#[derive(Debug, Args)]
#[command(
    long_about = "Pins what floats.\n\n`rednix lock debian` resolves the build root's package lists (nix/debian.json) into \
        nix/debian.lock.json. `rednix lock NAME…` pins the sources of recipes, or of a system's recipes: git revisions \
        with the hash of their trees, the hashes of tarballs, and every crate of their Cargo.lock files; what is pinned \
        already stays. Everything pinned is fetched, so that building works offline afterwards."
)]
pub struct LockArgs {
    /// `debian`, or recipes and systems whose sources to pin [default: every recipe with a source]
    pub names: Vec<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The lock to write [default: where it is read from]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Take git branches as they were at the end of this day (UTC); the lock keeps the day for later pins
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
    /// What builds everything: a Rust release of upstream's (`nightly-2025-10-03`, `1.95.0`), `tree` for the one the
    /// tree's rust-toolchain.toml names, `prefix` for Redox's own gcc and Rust as they are on its server today
    /// (`prefix:URL` for those in another folder), or `debian`. Without names nothing else is locked
    #[arg(long, value_name = "TOOLCHAIN")]
    pub toolchain: Option<String>,
}

#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Recipes whose pins to renew; `tree` is the tree itself [default: everything in the lock that floats]
    pub names: Vec<String>,
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The lock to write [default: where it is read from]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Take git branches as they were at the end of this day (UTC)
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: Option<String>,
}

#[derive(Debug, Args)]
pub struct TreeCommandArgs {
    #[command(subcommand)]
    pub command: TreeCommand,
}

#[derive(Debug, Subcommand)]
pub enum TreeCommand {
    /// Read every recipe and say which cannot be built as they are written
    Check {
        #[command(flatten)]
        tree: TreeArgs,
        /// Exit with status 1 where a recipe is wrong
        #[arg(long)]
        strict: bool,
    },
    /// Print what a system (or package) is built from
    Graph {
        /// A configuration's name, or a package's
        name: String,
        #[command(flatten)]
        tree: TreeArgs,
        #[arg(long, value_enum, default_value = "text")]
        format: GraphFormat,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    Text,
    Dot,
    Json,
}

#[derive(Debug, Args)]
pub struct WorkArgs {
    /// The recipe whose source to work on [default: list working copies]
    pub recipe: Option<String>,
    /// The working folder; builds are kept in a folder of that name with `.build` after it [default: work/RECIPE]
    #[arg(long, value_name = "DIR", requires = "recipe")]
    pub dir: Option<PathBuf>,
    /// Work in the folder as it is, and put nothing into it
    #[arg(long, requires = "recipe")]
    pub existing: bool,
    /// Print the changes as a patch for the recipe
    #[arg(long, requires = "recipe", group = "instead")]
    pub diff: bool,
    /// Throw away what is kept of builds; the next one begins with nothing
    #[arg(long, requires = "recipe", group = "instead")]
    pub clean: bool,
    /// Use the recipe's own source again, and throw away what is kept of builds; the working folder stays
    #[arg(long, requires = "recipe", group = "instead")]
    pub done: bool,
    #[command(flatten)]
    pub tree: TreeArgs,
}
