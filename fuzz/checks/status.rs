//! No bytes on the status channel are a success, or an exit code, unless they say so.

use podwire::proto::channel::Status;
use serde::Deserialize;

#[derive(Deserialize)]
struct Said {
    status: String,
    reason: Option<String>,
}

pub(crate) fn check(text: &[u8]) {
    let Some(status) = Status::parse(text) else { return };
    let said = serde_json::from_slice::<Said>(text);
    match (status, said) {
        (Status::Success, said) => assert_eq!(said.unwrap().status, "Success"),
        (Status::Exited(code), said) => {
            let said = said.unwrap();
            assert_ne!(code, 0, "0 is told by a success only");
            assert_eq!(said.status, "Failure");
            assert_eq!(said.reason.as_deref(), Some("NonZeroExitCode"));
        }
        (Status::Failed(_), said) => assert_eq!(said.unwrap().status, "Failure"),
        (Status::Malformed, _) => {}
    }
}
