//! The people who can log in at the development provider, and the claims that the scopes show of them.

use serde_json::{Map, Value, json};

/// Somebody whom the picker offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// What the picker and `login_hint` call the user; `preferred_username`.
    pub name: String,
    /// `sub`.
    pub subject: String,
    /// `given_name`.
    pub given_name: String,
    /// `family_name`.
    pub family_name: String,
    /// `email`.
    pub email: String,
    /// `email_verified`.
    pub email_verified: bool,
    /// `groups`; left out when empty.
    pub groups: Vec<String>,
    /// `realm_access.roles`, nested as Keycloak does it.
    pub roles: Vec<String>,
}

impl User {
    /// Three people who differ in what authorization rules look at: groups, roles, and a verified address.
    #[must_use]
    pub fn samples() -> Vec<Self> {
        vec![
            Self::sample("alice", "Alice", "Adams", &["staff", "admins"]),
            Self::sample("bob", "Bob", "Brown", &["staff"]),
            Self { email_verified: false, ..Self::sample("carol", "Carol", "Clark", &[]) },
        ]
    }

    /// A user whose address is `name@example.com` and whose roles are the groups and `user`.
    fn sample(name: &str, given_name: &str, family_name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            subject: format!("{name}-0001"),
            given_name: given_name.to_owned(),
            family_name: family_name.to_owned(),
            email: format!("{name}@example.com"),
            email_verified: true,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            roles: groups.iter().chain(&["user"]).map(|role| (*role).to_owned()).collect(),
        }
    }

    /// Whether `hint` is this user's name or address.
    #[must_use]
    pub(super) fn is_called(&self, hint: &str) -> bool {
        self.name == hint || self.email == hint
    }

    /// The claims that `scopes` ask for (OpenID Connect Core 5.4); groups and roles come with `profile`.
    #[must_use]
    pub(super) fn claims(&self, scopes: &[String]) -> Map<String, Value> {
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        set("sub", json!(self.subject));
        if scopes.iter().any(|scope| scope == "profile") {
            set("name", json!(format!("{} {}", self.given_name, self.family_name)));
            set("preferred_username", json!(self.name));
            set("given_name", json!(self.given_name));
            set("family_name", json!(self.family_name));
            set("picture", json!(format!("https://pictures.test/{}.png", self.name)));
            set("updated_at", json!(1_700_000_000));
            set("realm_access", json!({ "roles": self.roles }));
            if !self.groups.is_empty() {
                set("groups", json!(self.groups));
            }
        }
        if scopes.iter().any(|scope| scope == "email") {
            set("email", json!(self.email));
            set("email_verified", json!(self.email_verified));
        }
        claims
    }
}
