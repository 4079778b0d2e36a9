//! The merged configuration as text again, for `/filesystem.toml` inside the image. It holds no password: everyone
//! on the installed system can read that file.

use super::Config;

/// The configuration in upstream's format. Where a password was left out, `prompt` is set: an installation from
/// this file then asks for one, and does not make an account that anybody may use.
pub fn without_secrets(config: &Config) -> String {
    let mut config = config.clone();
    let mut secrets = config.general.encrypt_disk.take().is_some_and(|secret| !secret.is_empty());
    for user in config.users.values_mut() {
        if user.password.as_ref().is_some_and(|password| !password.is_empty()) {
            user.password = None;
            secrets = true;
        }
    }
    if secrets {
        config.general.prompt = Some(true);
    }
    // A null in a package's rule is the one thing TOML cannot say; upstream gives such rules no meaning.
    config.packages.values_mut().for_each(drop_nulls);
    toml::to_string_pretty(&config).expect("a configuration is tables of texts and numbers")
}

fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(list) => {
            list.retain(|value| !value.is_null());
            list.iter_mut().for_each(drop_nulls);
        }
        serde_json::Value::Null => *value = serde_json::Value::Object(serde_json::Map::new()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        packages = { base = {}, ion = "local", x = { version = "1" } }
        files = [{ path = "/a", data = "line\nline", mode = 420, append = true }]
        groups.sudo = { gid = 1, members = ["user"] }
        users.root = { password = "open sesame", uid = 0 }
        users.user = { password = "" }
        [general]
        filesystem_size = 196
        prompt = false
    "#;

    #[test]
    fn it_reads_back_without_passwords() {
        let config: Config = toml::from_str(CONFIG).unwrap();
        let text = without_secrets(&config);
        assert!(!text.contains("sesame"), "{text}");
        let mut expected = config;
        expected.users.get_mut("root").unwrap().password = None;
        expected.general.prompt = Some(true);
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), expected);
    }

    #[test]
    fn without_passwords_it_is_the_same() {
        let mut config: Config = toml::from_str(CONFIG).unwrap();
        config.users.remove("root");
        assert_eq!(toml::from_str::<Config>(&without_secrets(&config)).unwrap(), config);
    }

    #[test]
    fn odd_rules_do_not_stop_it() {
        let rules = serde_json::json!({ "a": null, "b": { "c": null }, "d": [1, null] });
        let config = Config { packages: serde_json::from_value(rules).unwrap(), ..Config::default() };
        assert!(toml::from_str::<Config>(&without_secrets(&config)).is_ok());
    }
}
