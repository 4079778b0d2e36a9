//! Users and groups: `/etc/passwd`, `/etc/shadow`, `/etc/group` in Redox's semicolon format, and home directories.
//! It knows no login; password hashes are made here and nowhere else.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::config::{Config, User};
use crate::error::{Error, Result};
use crate::tree::{Content, Entry, Node, Tree, join, normalise};

const ORIGIN: &str = "users";
/// First id given to users and groups that ask for none.
const FIRST_ID: u32 = 1000;
const XDG_DIRECTORIES: [&str; 8] =
    ["Desktop", "Documents", "Downloads", "Music", "Pictures", "Public", "Templates", "Videos"];
const HIDDEN_DIRECTORIES: [&str; 5] =
    [".config", ".local", ".local/share", ".local/share/Trash", ".local/share/Trash/info"];

struct Account<'a> {
    user: &'a str,
    uid: u32,
    gid: u32,
    name: &'a str,
    home: String,
    shell: &'a str,
    password: &'a str,
}

/// Adds what `config.users` and `config.groups` ask for. Without users nothing is written.
pub fn apply(tree: &mut Tree, config: &Config) -> Result<()> {
    if config.users.is_empty() && config.groups.is_empty() {
        return Ok(());
    }
    let (mut next_uid, mut next_gid) = (FIRST_ID, FIRST_ID);
    let mut accounts = Vec::new();
    for (user, wanted) in &config.users {
        accounts.push(account(user, wanted, &mut next_uid, &mut next_gid)?);
    }
    let (mut passwd, mut shadow, mut group) = (String::new(), String::new(), String::new());
    for account in &accounts {
        let Account { user, uid, gid, name, home, shell, password } = account;
        make_home(tree, account)?;
        // Writing to a String cannot fail.
        let _ = writeln!(passwd, "{user};{uid};{gid};{name};{home};{shell}");
        let _ = writeln!(shadow, "{user};{}", hash_password(user, password)?);
        let _ = writeln!(group, "{user};x;{gid};{user}");
    }
    for (name, wanted) in &config.groups {
        check_name(name)?;
        wanted.members.iter().try_for_each(|member| check_name(member))?;
        let gid = number(wanted.gid, &mut next_gid);
        let _ = writeln!(group, "{name};x;{gid};{}", wanted.members.join(","));
    }
    let etc = tree.make_directories("etc", ORIGIN)?;
    for (name, text, mode) in [("passwd", passwd, 0o644), ("shadow", shadow, 0o600), ("group", group, 0o600)]
    {
        let place = tree.resolve(&join(&etc, name))?;
        tree.put(&place, Entry::file(Content::Bytes(text.into_bytes()), mode, ORIGIN))?;
    }
    Ok(())
}

fn account<'a>(
    user: &'a str,
    wanted: &'a User,
    next_uid: &mut u32,
    next_gid: &mut u32,
) -> Result<Account<'a>> {
    let account = Account {
        user,
        uid: number(wanted.uid, next_uid),
        gid: number(wanted.gid, next_gid),
        name: wanted.name.as_deref().unwrap_or(user),
        home: wanted.home.clone().unwrap_or_else(|| format!("/home/{user}")),
        shell: wanted.shell.as_deref().unwrap_or("/bin/ion"),
        password: wanted.password.as_deref().unwrap_or(""),
    };
    check_name(user)?;
    for field in [account.name, &account.home, account.shell] {
        check_field(user, field)?;
    }
    Ok(account)
}

/// The id asked for, or the next free one.
fn number(wanted: Option<u32>, next: &mut u32) -> u32 {
    let id = wanted.unwrap_or(*next);
    if id >= *next {
        *next = id.saturating_add(1);
    }
    id
}

fn check_field(owner: &str, field: &str) -> Result<()> {
    if field.contains([';', '\n', '\0']) {
        return Err(Error::Config(format!("user `{owner}`: the field {field:?} holds `;` or a line break")));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains([';', ',', '/', '\n', '\0']) {
        return Err(Error::Config(format!("{name:?} is no name for a user or group")));
    }
    Ok(())
}

/// An encoded argon2 hash, or nothing for an empty password. The salt comes from the name: a random one would
/// make every image different. Different users still have different salts.
fn hash_password(user: &str, password: &str) -> Result<String> {
    if password.is_empty() {
        return Ok(String::new());
    }
    let digest = Sha256::digest(format!("rednix password salt\0{user}\0{password}").as_bytes());
    let mut salt = String::new();
    for byte in &digest[..8] {
        let _ = write!(salt, "{byte:02x}");
    }
    argon2::hash_encoded(password.as_bytes(), salt.as_bytes(), &argon2::Config::default())
        .map_err(|error| Error::Config(format!("user `{user}`: the password cannot be hashed: {error}")))
}

fn make_home(tree: &mut Tree, account: &Account<'_>) -> Result<()> {
    let home = tree.make_directories(&normalise(&account.home)?, ORIGIN)?;
    if home.is_empty() {
        return Err(Error::Config(format!("user `{}`: the root directory cannot be a home", account.user)));
    }
    if let Some(entry) = tree.get_mut(&home) {
        entry.mode = 0o700;
    }
    if account.uid >= FIRST_ID {
        for name in XDG_DIRECTORIES.iter().chain(&HIDDEN_DIRECTORIES) {
            let place = tree.make_directories(&join(&home, name), ORIGIN)?;
            if let Some(entry) = tree.get_mut(&place) {
                entry.mode = 0o700;
            }
        }
        let user_directories = tree.resolve_parent(&join(&home, ".config/user-dirs.dirs"))?;
        tree.put(&user_directories, Entry::file(Content::Bytes(user_directories_file()), 0o600, ORIGIN))?;
        copy_skeleton(tree, &home)?;
    }
    for (_, entry) in tree.below_mut(&home) {
        entry.uid = account.uid;
        entry.gid = account.gid;
    }
    Ok(())
}

/// The file desktop programs read to find `Desktop`, `Documents` and so on.
fn user_directories_file() -> Vec<u8> {
    let mut text = String::new();
    for name in XDG_DIRECTORIES {
        let key = match name {
            "Downloads" => "DOWNLOAD".to_owned(),
            "Public" => "PUBLICSHARE".to_owned(),
            name => name.to_uppercase(),
        };
        let _ = writeln!(text, "XDG_{key}_DIR=\"$HOME/{name}\"");
    }
    text.into_bytes()
}

/// Copies files and directories of `/etc/skel`; symlinks stay behind, modes are forced private.
fn copy_skeleton(tree: &mut Tree, home: &str) -> Result<()> {
    let skeleton = tree.resolve("etc/skel")?;
    for path in tree.paths_below(&skeleton) {
        let Some(inside) = path.strip_prefix(&skeleton).map(|rest| rest.trim_start_matches('/')) else {
            continue;
        };
        let Some(entry) = tree.get(&path).cloned() else { continue };
        if inside.is_empty() {
            continue;
        }
        let place = join(home, inside);
        match entry.node {
            Node::Directory => {
                let place = tree.make_directories(&place, ORIGIN)?;
                if let Some(entry) = tree.get_mut(&place) {
                    entry.mode = 0o700;
                }
            }
            Node::File(content) => tree.put(&place, Entry::file(content, 0o600, ORIGIN))?,
            Node::Symlink(_) => {}
        }
    }
    Ok(())
}
