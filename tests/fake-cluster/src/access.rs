//! Who a request comes from and what that user may do: tokens, rights and impersonation.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::http::Request;
use crate::random;

const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// What a user may do, as pairs of verb and resource (`("get", "pods/exec")`); `*` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights(Vec<(String, String)>);

impl Rights {
    /// Everything, impersonation too.
    pub fn all() -> Rights {
        Rights::of(&[("*", "*")])
    }

    /// `get` and `create` on `pods/exec`, which is all that a shell needs.
    pub fn exec() -> Rights {
        Rights::of(&[("get", "pods/exec"), ("create", "pods/exec")])
    }

    /// `get` and `create` on `pods/attach`, which `exec` does not include.
    pub fn attach() -> Rights {
        Rights::of(&[("get", "pods/attach"), ("create", "pods/attach")])
    }

    /// Nothing.
    pub fn none() -> Rights {
        Rights::default()
    }

    /// Exactly these pairs of verb and resource.
    pub fn of(pairs: &[(&str, &str)]) -> Rights {
        Rights(pairs.iter().map(|(verb, on)| ((*verb).into(), (*on).into())).collect())
    }

    /// Whether `verb` on `resource` is among them.
    pub fn allow(&self, verb: &str, resource: &str) -> bool {
        self.0.iter().any(|(may, on)| (may == "*" || may == verb) && (on == "*" || on == resource))
    }
}

/// An authenticated caller, after impersonation.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) name: String,
    rights: Vec<Rights>,
}

impl User {
    pub(crate) fn may(&self, verb: &str, resource: &str) -> bool {
        self.rights.iter().any(|rights| rights.allow(verb, resource))
    }
}

/// Why a caller was not let in.
pub(crate) enum Denied {
    /// A credential was shown and is wrong: 401.
    Unauthorized,
    /// The caller may not be somebody else: 403 with this message and this user's name.
    Impersonation { caller: String, target: String },
}

struct Account {
    token: String,
    rights: Rights,
}

/// The cluster's accounts.
pub(crate) struct Access(Mutex<BTreeMap<String, Account>>);

impl Access {
    pub(crate) fn new() -> Access {
        let users = [
            ("admin", Rights::all()),
            ("execer", Rights::exec()),
            ("nobody", Rights::none()),
            ("system:anonymous", Rights::none()),
        ];
        let account = |(name, rights): (&str, Rights)| {
            (name.to_owned(), Account { token: random::token(), rights })
        };
        Access(Mutex::new(users.into_iter().map(account).collect()))
    }

    pub(crate) fn token(&self, user: &str) -> String {
        self.with(|users| users.get(user).map(|found| found.token.clone()).unwrap_or_default())
    }

    pub(crate) fn set_token(&self, user: &str, token: &str) {
        self.with(|users| token.clone_into(&mut account(users, user).token));
    }

    pub(crate) fn set_rights(&self, user: &str, rights: Rights) {
        self.with(|users| account(users, user).rights = rights);
    }

    /// The order is the API server's: a credential that is present and wrong is 401, none at
    /// all is `system:anonymous` (recordings `unauthenticated_bad_token` and `_no_token`).
    pub(crate) fn authenticate(
        &self,
        request: &Request,
        certificate: Option<&str>,
    ) -> Result<User, Denied> {
        let name = match (certificate, bearer(request)) {
            (Some(name), _) => name.to_owned(),
            (None, None) => "system:anonymous".to_owned(),
            (None, Some(token)) => {
                self.owner(&token).filter(|_| !token.is_empty()).ok_or(Denied::Unauthorized)?
            }
        };
        let user = self.user(&name, &[]);
        let Some(target) = request.header("impersonate-user") else { return Ok(user) };
        if !user.may("impersonate", "users") {
            return Err(Denied::Impersonation { caller: user.name, target: target.to_owned() });
        }
        Ok(self.user(target, &request.header_lines("impersonate-group")))
    }

    fn owner(&self, token: &str) -> Option<String> {
        self.with(|users| {
            users.iter().find(|(_, account)| account.token == token).map(|(name, _)| name.clone())
        })
    }

    /// A group's rights are kept under `group:NAME`, beside the users.
    fn user(&self, name: &str, groups: &[&str]) -> User {
        self.with(|users| {
            let keys = groups.iter().map(|group| format!("group:{group}"));
            let rights = std::iter::once(name.to_owned())
                .chain(keys)
                .filter_map(|key| users.get(&key).map(|account| account.rights.clone()))
                .collect();
            User { name: name.to_owned(), rights }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Account>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn account<'a>(users: &'a mut BTreeMap<String, Account>, name: &str) -> &'a mut Account {
    users
        .entry(name.to_owned())
        .or_insert_with(|| Account { token: random::token(), rights: Rights::none() })
}

fn bearer(request: &Request) -> Option<String> {
    if let Some(value) = request.header("authorization") {
        return Some(value.strip_prefix("Bearer ").unwrap_or_default().trim().to_owned());
    }
    let name = request
        .header_lines("sec-websocket-protocol")
        .iter()
        .flat_map(|line| line.split(','))
        .find_map(|name| name.trim().strip_prefix(BEARER_PROTOCOL))?
        .to_owned();
    // What is not base64url of UTF-8 is a credential all the same, and a wrong one.
    let token = URL_SAFE_NO_PAD.decode(name).ok().and_then(|raw| String::from_utf8(raw).ok());
    Some(token.unwrap_or_default())
}

/// The offered subprotocols without the one that carries a token: the authenticator takes that
/// entry out before anything else sees the list. Only the first header line counts, as the
/// server reads no other, except that removing the token rejoins all lines into one.
pub(crate) fn offered_protocols(request: &Request) -> Vec<String> {
    let lines = request.header_lines("sec-websocket-protocol");
    let split = |line: &str| -> Vec<String> {
        line.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let all: Vec<String> = lines.iter().flat_map(|line| split(line)).collect();
    if all.iter().any(|name| name.starts_with(BEARER_PROTOCOL)) {
        return all.into_iter().filter(|name| !name.starts_with(BEARER_PROTOCOL)).collect();
    }
    lines.first().map(|line| split(line)).unwrap_or_default()
}
