//! The grammar of `rednix cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::TreeArgs;

#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Serve this store over HTTP, for every Nix
    Serve(CacheServeArgs),
    /// Upload paths with all they refer to
    Push(CachePushArgs),
    /// Bring store paths, with all they refer to, from caches or another store into this store
    Pull(CachePullArgs),
    /// Make a signing key: the secret one to standard output, the public one to standard error
    Keygen {
        /// Name of the key, such as `team-1`; a new key needs a new name
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct CacheServeArgs {
    /// Address and port; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:5000", value_name = "ADDRESS")]
    pub listen: std::net::SocketAddr,
    /// Secret key that what was built here is signed with
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// File with the token that allows uploads; without it nothing is taken
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// Take uploads on the token's word, unsigned ones too, and sign them
    #[arg(long, requires = "token")]
    pub accept_unsigned: bool,
    /// Which cache is asked first: the lowest number
    #[arg(long, default_value_t = 40, value_name = "N")]
    pub priority: u32,
    /// Serve archives as they are, for fast networks
    #[arg(long)]
    pub no_compression: bool,
    /// Most room that uploads may take in all (`10G`); without it, as much as the disk has
    #[arg(long, value_name = "SIZE", requires = "token", value_parser = crate::commands::store::arguments::parse_size)]
    pub max_uploads: Option<u64>,
}

#[derive(Debug, Args)]
pub struct CachePullArgs {
    /// Store paths
    #[arg(required = true)]
    pub paths: Vec<String>,
    /// Only from here, in place of the configured caches: http://, https://, s3://, file:// or local?root=/FOLDER;
    /// `trusted=1` as a parameter takes its word without signatures
    #[arg(long, value_name = "ADDRESS")]
    pub from: Vec<String>,
}

#[derive(Debug, Args)]
pub struct CachePushArgs {
    /// http://, https://, s3:// or file:// address of the cache
    pub to: String,
    /// Store paths, links to such, systems, recipes or `.#attributes` (built where they are not yet)
    pub names: Vec<String>,
    /// All that the named things were built from, too: sources, packages of the build root, tools
    #[arg(long)]
    pub inputs: bool,
    /// Everything in the store but derivations
    #[arg(long, conflicts_with_all = ["names", "inputs"])]
    pub all: bool,
    /// Go on, and push whatever gets into the store, until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Secret key to sign with
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// File with the token for uploads; else the netrc file's password counts
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    #[command(flatten)]
    pub tree: TreeArgs,
}
