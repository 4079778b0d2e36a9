//! The grammar of `rednix store` and `rednix gc`, and nothing of what they do.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub command: StoreCommand,
}

#[derive(Debug, Subcommand)]
#[command(after_help = "A PATH is a store path, a file below one, or a link to either (`./result`).")]
pub enum StoreCommand {
    /// Add files or folders and print their store paths
    Add(AddArgs),
    /// Write a file of a store path to standard output
    Cat { path: String },
    /// List a store path, or a folder in it
    Ls(LsArgs),
    /// Write a path as an archive (NAR) to standard output
    Dump { path: String },
    /// Unpack an archive (NAR) from standard input to DESTINATION; or bring archived store paths back
    Restore {
        #[arg(required = true, value_name = "DESTINATION|PATH")]
        what: Vec<String>,
    },
    /// Say what is known about paths
    PathInfo(PathInfoArgs),
    /// Check that contents are what was registered
    Verify(StoreVerifyArgs),
    /// Store equal files once
    Optimise,
    /// Move what nothing needs into compressed chunks; builds that want it again take it from there
    Archive(ArchiveArgs),
    /// Say what keeps paths from being collected
    Roots,
    /// Compare two paths, as `rednix diff` does
    Diff(crate::cli::DiffArgs),
}

#[derive(Debug, Args)]
pub struct AddArgs {
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Name of the store path [default: the file's]
    #[arg(long)]
    pub name: Option<String>,
    /// Hash a file's bytes and not its archive
    #[arg(long)]
    pub flat: bool,
    /// Link the (last) path here, which keeps it from being collected
    #[arg(long, short, value_name = "LINK")]
    pub out_link: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LsArgs {
    pub path: String,
    /// Everything below, too
    #[arg(long, short)]
    pub recursive: bool,
    /// Kinds and sizes
    #[arg(long, short)]
    pub long: bool,
}

#[derive(Debug, Args)]
pub struct PathInfoArgs {
    pub paths: Vec<String>,
    /// All valid paths
    #[arg(long, conflicts_with = "paths")]
    pub all: bool,
    /// Also what the paths refer to, directly or not
    #[arg(long, short)]
    pub recursive: bool,
    /// The size of each path's archive
    #[arg(long, short)]
    pub size: bool,
    /// The size of each path with all it refers to
    #[arg(long, short = 'S')]
    pub closure_size: bool,
    /// Everything, as one JSON object by path
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct StoreVerifyArgs {
    /// Only look whether the contents are there
    #[arg(long, conflicts_with = "repair")]
    pub no_contents: bool,
    /// Take back what is damaged and make it again: from the archive, else by building; with a damaged database, make
    /// a new one of what the contents prove
    #[arg(long)]
    pub repair: bool,
}

/// What collecting and archiving share.
#[derive(Debug, Clone, Args)]
pub struct UnneededArgs {
    /// Only what was registered longer ago than this: 30d, 12h, 90m
    #[arg(long, value_name = "AGE", value_parser = parse_age)]
    pub older_than: Option<u64>,
    /// Keep the derivations that kept paths were built from (`=false` to let them go)
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub keep_derivations: bool,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct GcArgs {
    #[command(flatten)]
    pub unneeded: UnneededArgs,
    /// Delete only so much that what stays is no larger, oldest first: 20G, 500M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
}

#[derive(Debug, Args)]
pub struct ArchiveArgs {
    #[command(flatten)]
    pub unneeded: UnneededArgs,
    /// List what is archived, with sizes
    #[arg(long, conflicts_with = "forget")]
    pub list: bool,
    /// Delete paths from the archive
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub forget: Vec<String>,
}

/// Seconds.
fn parse_age(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let unit_s = match unit {
        "d" => 86_400,
        "h" => 3600,
        "m" => 60,
        "s" => 1,
        _ => return Err("write it as 30d, 12h, 90m or 10s".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "it does not begin with a number".to_owned())?;
    number.checked_mul(unit_s).ok_or_else(|| "that is too long".to_owned())
}

/// Bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let unit_bytes = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        _ => return Err("write it as 20G, 500M or a number of bytes".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "it does not begin with a number".to_owned())?;
    number.checked_mul(unit_bytes).ok_or_else(|| "that is too large".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes() {
        assert_eq!(parse_age("30d"), Ok(30 * 86_400));
        assert_eq!(parse_age("90m"), Ok(5400));
        assert_eq!(parse_size("20G"), Ok(20 << 30));
        assert_eq!(parse_size("17"), Ok(17));
        for wrong in ["", "d", "3 weeks", "-1d", "99999999999999999999d"] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
        for wrong in ["G", "1.5G", "-1", "99999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
