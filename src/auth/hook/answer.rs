//! What an authorizer's answer says, checked by the same rules as a request.
//!
//! Pure. What it must never know: how the authorizer is asked.

use std::time::Duration;

use serde::Deserialize;

use crate::auth::{Granted, Terms, User};
use crate::clusters::Clusters;
use crate::config::{Config, duration};
use crate::credential::{Identity, Impersonated, Token};
use crate::proto::ending::{Ending, Kind};
use crate::route::Wanted;
use crate::target::{Target, Verb};

/// An answer. What it leaves out is as in the request. A field that is not known is none that may be
/// ignored: somebody meant `readOnly`.
#[derive(Clone, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Answer {
    /// The cluster by its name,
    cluster: Option<String>,
    /// or by the URL of its API server.
    server: Option<String>,
    namespace: Option<String>,
    pod: Option<String>,
    container: Option<String>,
    /// The command,
    command: Option<Vec<String>>,
    /// or the shell.
    shell: Option<String>,
    tty: Option<bool>,
    /// Whose rights: those of a token,
    token: Option<String>,
    /// or those of somebody whom the relay impersonates.
    user: Option<String>,
    groups: Vec<String>,
    read_only: bool,
    max_session: Option<String>,
    idle_timeout: Option<String>,
}

fn wrong(what: &str) -> Ending {
    Ending::new(Kind::ClusterProtocol, format!("the authorizer's answer is refused: {what}"))
}

impl Answer {
    /// Reads an answer.
    pub(super) fn parse(json: &[u8]) -> Result<Self, Ending> {
        // serde would take an array for the fields in their order.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(wrong("it is no JSON object"));
        }
        serde_json::from_slice(json).map_err(|error| {
            // What serde says itself shows the value that it did not expect, perhaps a token.
            let what =
                if error.is_data() { "a field is unknown, wrong or doubled" } else { "malformed" };
            let (line, column) = (error.line(), error.column());
            wrong(&format!("{what} at line {line}, column {column}"))
        })
    }

    /// What must not be another when the same is asked again: the target, the user, and whether
    /// anything may be typed. A token may be a newer one.
    pub(super) fn decided(&self) -> Self {
        let mut groups = self.groups.clone();
        groups.sort_unstable();
        Self { token: None, max_session: None, idle_timeout: None, groups, ..self.clone() }
    }

    /// What is granted by it.
    pub(super) fn granted(&self) -> Result<Granted, Ending> {
        let (identity, user, expires) = match (&self.token, &self.user) {
            (Some(token), None) if self.groups.is_empty() => {
                let token = Token::new(token).ok_or_else(|| wrong("the token is no token"))?;
                let expires = token.expires();
                (Identity::Token(token.clone()), User::Token(token), expires)
            }
            (None, Some(user)) => {
                let groups = self.groups.iter().map(String::as_str);
                let it = Impersonated::new(user, groups).map_err(|why| wrong(&why.message))?;
                (Identity::Impersonated(it.into()), User::Name(user.as_str().into()), None)
            }
            // The relay's own rights are not for whoever has none.
            _ => return Err(wrong("either a token is needed, or a user with groups")),
        };
        let time = |text: &Option<String>| -> Result<Option<Duration>, Ending> {
            text.as_deref().map(duration).transpose().map_err(|why| wrong(&why))
        };
        let terms = Terms {
            max_session: time(&self.max_session)?,
            idle_timeout: time(&self.idle_timeout)?,
        };
        Ok(Granted { identity, user: Some(user), expires, terms, ..Granted::default() })
    }

    /// Puts what it says into what is asked for. Nothing is changed if it makes no sense.
    pub(super) fn put_into(
        &self,
        wanted: &mut Wanted,
        clusters: &Clusters,
        config: &Config,
    ) -> Result<(), Ending> {
        let cluster = self.cluster(clusters)?;
        if self.command.is_some() && self.shell.is_some() {
            return Err(wrong("it names a command and a shell"));
        }
        let is_known = |shell: &str| shell == "auto" || config.shells.iter().any(|it| it == shell);
        if self.shell.as_deref().is_some_and(|shell| !is_known(shell)) {
            return Err(wrong("the shell is none of --shells"));
        }
        // By itself, so that it is clear whose mistake it is.
        let mut alone = Wanted::new(Target::new("any", "any"));
        self.apply(&mut alone, cluster.clone());
        alone.check().map_err(|why| wrong(&why.message))?;
        self.apply(wanted, cluster);
        Ok(())
    }

    /// The cluster that it names, which is one that callers may name.
    fn cluster(&self, clusters: &Clusters) -> Result<Option<String>, Ending> {
        match (&self.cluster, &self.server) {
            (None, None) => Ok(None),
            (Some(name), None) if clusters.get(Some(name)).is_some() => Ok(Some(name.clone())),
            (None, Some(url)) => {
                let name = clusters.by_server(url).map(str::to_owned);
                name.map(Some).ok_or_else(|| wrong("the server is that of no configured cluster"))
            }
            (Some(_), None) => Err(wrong("no such cluster")),
            (Some(_), Some(_)) => Err(wrong("it names a cluster and a server")),
        }
    }

    fn apply(&self, wanted: &mut Wanted, cluster: Option<String>) {
        let target = &mut wanted.target;
        wanted.cluster = cluster.or(wanted.cluster.take());
        for (said, place) in
            [(&self.namespace, &mut target.namespace), (&self.pod, &mut target.pod)]
        {
            if let Some(name) = said {
                place.clone_from(name);
            }
        }
        target.container = self.container.clone().or(target.container.take());
        if self.command.is_some() || self.shell.is_some() {
            // Whoever may run one thing may not attach to another.
            target.verb = Verb::Exec;
            target.command = self.command.clone().unwrap_or_default();
            wanted.shell.clone_from(&self.shell);
            wanted.is_laid_down = true;
        }
        if let Some(tty) = self.tty {
            // Without a terminal, stderr is a stream of its own.
            target.stderr = !tty && (target.stderr || target.tty && target.stdout);
            target.tty = tty;
        }
        target.stdin &= !self.read_only;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_token_and_other_limits_are_no_other_decision() {
        let decided = |json: &str| Answer::parse(json.as_bytes()).unwrap().decided();
        let first = decided(r#"{"token":"a","pod":"x","groups":["a","b"],"maxSession":"1h"}"#);
        let same = r#"{"pod":"x","token":"b","groups":["b","a"],"idleTimeout":"1m"}"#;
        assert!(first == decided(same));
        for other in [
            r#"{"pod":"y","groups":["a","b"]}"#,
            r#"{"groups":["a","b"]}"#,
            r#"{"pod":"x","groups":["a"]}"#,
            r#"{"pod":"x","groups":["a","b"],"readOnly":true}"#,
            r#"{"pod":"x","groups":["a","b"],"user":"u"}"#,
            r#"{"pod":"x","groups":["a","b"],"command":["id"]}"#,
            r#"{"pod":"x","groups":["a","b"],"tty":true}"#,
        ] {
            assert!(first != decided(other), "{other}");
        }
    }

    #[test]
    fn nobody_gets_the_relays_own_rights() {
        let granted = |json: &str| Answer::parse(json.as_bytes()).unwrap().granted();
        assert!(matches!(granted(r#"{"token":"t"}"#).unwrap().identity, Identity::Token(_)));
        let somebody = granted(r#"{"user":"u","groups":["g"]}"#).unwrap();
        assert!(matches!(somebody.identity, Identity::Impersonated(_)));
        for json in [
            "{}",
            r#"{"token":null,"user":null}"#,
            r#"{"token":""}"#,
            r#"{"token":"a\nb"}"#,
            r#"{"token":"t","user":"u"}"#,
            r#"{"token":"t","groups":["g"]}"#,
            r#"{"groups":["g"]}"#,
            r#"{"user":""}"#,
            r#"{"user":"system:admin"}"#,
            r#"{"user":"u","groups":["system:masters"]}"#,
            r#"{"user":"u","groups":[""]}"#,
            r#"{"token":"t","maxSession":"0s"}"#,
            r#"{"token":"t","idleTimeout":"soon"}"#,
        ] {
            let Err(ending) = granted(json) else { panic!("{json}") };
            assert_eq!(ending.kind, Kind::ClusterProtocol, "{json}");
            assert!(ending.message.starts_with("the authorizer"), "{json}: {}", ending.message);
        }
    }

    #[test]
    fn no_value_is_shown_when_an_answer_is_wrong() {
        for json in [
            r#"{"token":"secret"#,
            r#"{"command":"secret"}"#,
            r#"{"tty":"secret"}"#,
            r#"{"readonly":"secret"}"#,
            r#"{"token":"secret","token":"secret"}"#,
            r#"["secret"]"#,
            "secret",
            "",
        ] {
            let Err(ending) = Answer::parse(json.as_bytes()) else { panic!("{json}") };
            assert_eq!(ending.kind, Kind::ClusterProtocol, "{json}");
            assert!(!ending.message.contains("secret"), "{}", ending.message);
        }
    }

    #[test]
    fn a_terminal_is_taken_away_with_its_stderr_given_back() {
        let asked =
            |tty: bool, stderr: bool| Wanted::new(Target { stderr, tty, ..Target::new("n", "p") });
        let streams = |json: &str, mut wanted: Wanted| {
            Answer::parse(json.as_bytes()).unwrap().apply(&mut wanted, None);
            (wanted.target.tty, wanted.target.stderr, wanted.target.stdin)
        };
        assert_eq!(streams(r#"{"tty":false}"#, asked(true, false)), (false, true, true));
        assert_eq!(streams(r#"{"tty":true}"#, asked(false, true)), (true, false, true));
        assert_eq!(streams(r#"{"tty":false}"#, asked(false, false)), (false, false, true));
        assert_eq!(streams(r#"{"readOnly":true}"#, asked(true, false)), (true, false, false));
    }
}
