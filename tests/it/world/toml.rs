//! A config file as tests write it: tables of raw TOML values that can be set and removed one by one.

/// The text of a config file, table by table.
#[derive(Clone, Debug, Default)]
pub struct Toml(Vec<(String, Vec<(String, String)>)>);

impl Toml {
    /// Sessions in the Redis at `url`, and the key that all processes of this test have.
    pub fn in_redis(&mut self, url: &str) -> &mut Self {
        let key = std::env::temp_dir().join(format!("vestibule-shared-{}.key", std::process::id()));
        std::fs::write(&key, "a key that every process has, of more than 32 bytes").unwrap();
        std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        self.set("sessions", "store", &format!("{{ redis = \"{url}\" }}")).set(
            "sessions",
            "keys",
            &format!("[{{ file = \"{}\" }}]", key.display()),
        )
    }

    /// Sets `key` in `[table]` to raw TOML: quotes and all.
    pub fn set(&mut self, table: &str, key: &str, raw: &str) -> &mut Self {
        let keys = self.keys(table);
        match keys.iter_mut().find(|(name, _)| name == key) {
            Some((_, value)) => raw.clone_into(value),
            None => keys.push((key.to_owned(), raw.to_owned())),
        }
        self
    }

    /// Sets `key` in `[table]` to a string.
    pub fn text(&mut self, table: &str, key: &str, text: &str) -> &mut Self {
        self.set(table, key, &format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
    }

    /// Removes `key` from `[table]`.
    pub fn unset(&mut self, table: &str, key: &str) -> &mut Self {
        self.keys(table).retain(|(name, _)| name != key);
        self
    }

    /// Gives `[table]` another name.
    pub fn rename(&mut self, table: &str, name: &str) -> &mut Self {
        self.0.iter_mut().filter(|(known, _)| known == table).for_each(|(known, _)| name.clone_into(known));
        self
    }

    /// Removes `[table]`.
    pub fn remove(&mut self, table: &str) -> &mut Self {
        self.0.retain(|(name, _)| name != table);
        self
    }

    fn keys(&mut self, table: &str) -> &mut Vec<(String, String)> {
        let at = self.0.iter().position(|(name, _)| name == table).unwrap_or_else(|| {
            self.0.push((table.to_owned(), Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// The file.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (table, keys) in &self.0 {
            out.push_str(&format!("[{table}]\n"));
            keys.iter().for_each(|(key, raw)| out.push_str(&format!("{key} = {raw}\n")));
            out.push('\n');
        }
        out
    }
}
