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

/// Adds what `config.users` and `config.groups` ask for; a file that would be empty is not written. `system` is the
/// configuration's name, for salts.
pub fn apply(tree: &mut Tree, config: &Config, system: &str) -> Result<()> {
    let (mut next_uid, mut next_gid) = (FIRST_ID, FIRST_ID);
    let mut accounts = Vec::new();
    for (user, wanted) in &config.users {
        let account = account(user, wanted, &mut next_uid, &mut next_gid)?;
        if wanted.password.is_none() && config.general.prompt != Some(false) {
            return Err(Error::Config(format!(
                "user `{user}` has no password, and `general.prompt` wants somebody to be asked for it\n\nhint: set `users.{user}.password` (\"\" for none), or `general.prompt = false`"
            )));
        }
        accounts.push(account);
    }
    let (mut passwd, mut shadow, mut group) = (String::new(), String::new(), String::new());
    for account in &accounts {
        let Account { user, uid, gid, name, home, shell, password } = account;
        make_home(tree, account)?;
        // Writing to a String cannot fail.
        let _ = writeln!(passwd, "{user};{uid};{gid};{name};{home};{shell}");
        let _ = writeln!(shadow, "{user};{}", hash_password(system, user, password)?);
        let _ = writeln!(group, "{user};x;{gid};{user}");
    }
    for (name, wanted) in &config.groups {
        check_name(name)?;
        wanted.members.iter().try_for_each(|member| check_name(member))?;
        let gid = number(wanted.gid, &mut next_gid);
        let _ = writeln!(group, "{name};x;{gid};{}", wanted.members.join(","));
    }
    for (name, text, mode) in [("passwd", passwd, 0o644), ("shadow", shadow, 0o600), ("group", group, 0o600)]
    {
        if text.is_empty() {
            continue;
        }
        let etc = tree.make_directories("etc", ORIGIN)?;
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

/// An encoded argon2 hash, or nothing for an empty password. A random salt would make every image different, so it
/// comes from the names of system and user. It must not come from the password: whoever reads the salt could then
/// try passwords against it, without the slow hash.
fn hash_password(system: &str, user: &str, password: &str) -> Result<String> {
    if password.is_empty() {
        return Ok(String::new());
    }
    let digest = Sha256::digest(format!("rednix password salt\0{system}\0{user}").as_bytes());
    let mut salt = String::new();
    for byte in &digest[..16] {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shadow(system: &str, user: &str, password: &str) -> String {
        let users = [(user.to_owned(), User { password: Some(password.to_owned()), ..User::default() })];
        let config = Config { users: users.into(), ..Config::default() };
        let mut tree = Tree::default();
        apply(&mut tree, &config, system).unwrap();
        text(&tree, "etc/shadow")
    }

    fn text(tree: &Tree, path: &str) -> String {
        match &tree.get(path).unwrap().node {
            Node::File(Content::Bytes(bytes)) => String::from_utf8(bytes.clone()).unwrap(),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn salt(shadow: &str) -> &str {
        shadow.split('$').nth(4).unwrap()
    }

    #[test]
    fn hashes_verify_and_salts_tell_nothing_of_the_password() {
        let line = shadow("minimal", "root", "password");
        let hash = line.strip_prefix("root;").unwrap().trim_end();
        assert!(argon2::verify_encoded(hash, b"password").unwrap());
        assert!(!argon2::verify_encoded(hash, b"passwore").unwrap());
        assert_eq!(line, shadow("minimal", "root", "password"), "the same twice");
        assert_eq!(salt(&line), salt(&shadow("minimal", "root", "another")));
        assert_ne!(salt(&line), salt(&shadow("server", "root", "password")));
        assert_ne!(salt(&line), salt(&shadow("minimal", "user", "password")));
        assert_eq!(shadow("minimal", "user", ""), "user;\n");
    }

    #[test]
    fn files_have_upstreams_lines() {
        let config: Config = toml::from_str(
            r#"
            users.root = { password = "", uid = 0, gid = 0, shell = "/usr/bin/ion", home = "/root" }
            users.alice = { password = "" }
            users.bob = { password = "", uid = 1005, name = "Bob B" }
            users.carol = { password = "" }
            groups.sudo = { gid = 1, members = ["alice", "bob"] }
            groups.wheel = { members = [] }
        "#,
        )
        .unwrap();
        let mut tree = Tree::default();
        apply(&mut tree, &config, "x").unwrap();
        let passwd = "alice;1000;1000;alice;/home/alice;/bin/ion\nbob;1005;1001;Bob B;/home/bob;/bin/ion\n\
            carol;1006;1002;carol;/home/carol;/bin/ion\nroot;0;0;root;/root;/usr/bin/ion\n";
        assert_eq!(text(&tree, "etc/passwd"), passwd);
        assert_eq!(text(&tree, "etc/shadow"), "alice;\nbob;\ncarol;\nroot;\n");
        let group = "alice;x;1000;alice\nbob;x;1001;bob\ncarol;x;1002;carol\nroot;x;0;root\n\
            sudo;x;1;alice,bob\nwheel;x;1003;\n";
        assert_eq!(text(&tree, "etc/group"), group);
        let modes: Vec<u16> =
            ["etc/passwd", "etc/shadow", "etc/group"].map(|path| tree.get(path).unwrap().mode).to_vec();
        assert_eq!(modes, [0o644, 0o600, 0o600]);
        assert!(tree.get("root/Desktop").is_none(), "only people get such directories");
        assert!(tree.get("home/bob/.config/user-dirs.dirs").is_some_and(|entry| entry.uid == 1005));
    }

    #[test]
    fn files_that_would_be_empty_are_not_written() {
        let config: Config = toml::from_str("groups.sudo = { gid = 1, members = [] }").unwrap();
        let mut tree = Tree::default();
        apply(&mut tree, &config, "x").unwrap();
        assert!(tree.get("etc/passwd").is_none() && tree.get("etc/shadow").is_none());
        assert_eq!(text(&tree, "etc/group"), "sudo;x;1;\n");
    }

    #[test]
    fn nobody_can_be_asked_for_a_password() {
        let attempt = |general: &str| {
            let config: Config = toml::from_str(&format!("{general}\n[users.ada]\n")).unwrap();
            apply(&mut Tree::default(), &config, "x").map_err(|error| error.to_string())
        };
        assert!(attempt("").unwrap_err().contains("users.ada.password"));
        assert!(attempt("general.prompt = true").unwrap_err().contains("prompt"));
        attempt("general.prompt = false").unwrap();
    }
}
