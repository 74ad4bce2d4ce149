//! Not here yet.

pub fn run(_arguments: &[String]) -> Result<(), String> {
    Err("not here yet".to_owned())
}
