//! Who somebody is to a cluster, and the Role that they need.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::json;

use crate::proto::ending::is_odd;

/// Where it is asked who one is: Kubernetes 1.28 and later.
pub(super) const WHO_AM_I: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// How Kubernetes calls a service account.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Whoever has shown nothing.
pub(super) const ANONYMOUS: &str = "system:anonymous";

/// How many of somebody's groups are shown.
const GROUPS_MAX: usize = 8;

/// A user, as the cluster knows it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) struct User {
    #[serde(rename = "username")]
    pub(super) name: String,
    #[serde(default)]
    pub(super) groups: Vec<String>,
}

#[derive(Deserialize)]
struct Review {
    status: ReviewStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewStatus {
    user_info: User,
}

impl User {
    /// What is sent to [`WHO_AM_I`].
    pub(super) fn question() -> serde_json::Value {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
    }

    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let review: Review = serde_json::from_slice(body).ok()?;
        Some(review.status.user_info).filter(|user| !user.name.is_empty())
    }

    /// The user whom a sentence of RBAC's names. An older server tells it in no other way.
    pub(super) fn named_in(sentence: &str) -> Option<Self> {
        let (_, rest) = sentence.split_once("User \"")?;
        let (name, _) = rest.split_once('"')?;
        Some(Self { name: name.to_owned(), groups: Vec::new() })
    }

    pub(super) fn sentence(&self) -> String {
        let groups = match self.groups.as_slice() {
            [] => return self.name.clone(),
            groups if groups.len() <= GROUPS_MAX => groups.join(", "),
            groups => {
                let more = groups.len() - GROUPS_MAX;
                format!("{} and {more} more", groups[..GROUPS_MAX].join(", "))
            }
        };
        format!("{}, in the groups {groups}", self.name)
    }
}

/// What to apply so that this user may open shells in a namespace. Nobody's name is known where the
/// server does not tell it.
pub(super) fn role(namespace: &str, user: Option<&User>) -> String {
    let account = user.and_then(|user| user.name.strip_prefix(SERVICE_ACCOUNT)?.split_once(':'));
    let subject = match (account, user) {
        (Some((namespace, name)), _) => {
            format!(
                "- kind: ServiceAccount\n  name: {}\n  namespace: {}",
                text(name),
                text(namespace)
            )
        }
        (None, user) => {
            let name = user.map_or("PUT-THE-USERS-NAME-HERE", |user| user.name.as_str());
            format!("- kind: User\n  apiGroup: rbac.authorization.k8s.io\n  name: {}", text(name))
        }
    };
    format!(
        "\
kubectl apply -f - <<'END'
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: podwire-exec
  namespace: {namespace}
rules:
- apiGroups: [\"\"]
  resources: [\"pods/exec\"]
  verbs: [\"get\", \"create\"]
- apiGroups: [\"\"]
  resources: [\"pods\"]   # only to choose a container where none is named
  verbs: [\"get\"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: podwire-exec
  namespace: {namespace}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: podwire-exec
subjects:
{subject}
END"
    )
}

/// A name as YAML has it in quotes, on one line whatever is in it.
fn text(name: &str) -> String {
    let mut text = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if is_odd(c) => drop(write!(text, "\\U{:08X}", u32::from(c))),
            c => text.push(c),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> User {
        User { name: name.to_owned(), groups: Vec::new() }
    }

    #[test]
    fn a_role_names_who_it_is_for() {
        let text = role("team-a", Some(&user("jane@example.com")));
        assert!(
            text.contains("- kind: User\n  apiGroup: rbac.authorization.k8s.io\n  name: \"jane@")
        );
        assert_eq!(text.matches("namespace: team-a").count(), 2, "{text}");
        let text = role("team-a", Some(&user("system:serviceaccount:ops:relay")));
        let account = "- kind: ServiceAccount\n  name: \"relay\"\n  namespace: \"ops\"";
        assert!(text.contains(account), "{text}");
        assert!(role("team-a", None).contains("PUT-THE-USERS-NAME-HERE"));
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        let text = role("a", Some(&user("x\"\nEND\nrm -rf \\ \u{202e}")));
        assert!(text.contains("name: \"x\\\"\\U0000000AEND\\U0000000Arm -rf \\\\ \\U0000202E\""));
        assert_eq!(text.matches("\nEND").count(), 1, "{text}");
    }

    #[test]
    fn a_user_is_read_from_what_servers_say() {
        let body = br#"{"status":{"userInfo":{"username":"jane","groups":["a","b"]}}}"#;
        assert_eq!(User::read(body).unwrap().sentence(), "jane, in the groups a, b");
        assert_eq!(User::read(b"{}"), None);
        let sentence = r#"pods "x" is forbidden: User "jane" cannot get resource "pods/exec""#;
        assert_eq!(User::named_in(sentence).unwrap().name, "jane");
        let groups = (0..10).map(|number| format!("g{number}")).collect();
        let many = User { groups, ..user("x") };
        assert!(many.sentence().ends_with("g7 and 2 more"), "{}", many.sentence());
    }
}
