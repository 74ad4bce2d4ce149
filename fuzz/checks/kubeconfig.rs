//! Any bytes are clusters, or one sentence that says why not.

use std::path::Path;

use podwire::{Clusters, Own};

/// The longest sentence that anybody would read. It names things of the file, which may be long.
const SENTENCE_MAX: usize = 2 * 1024;

pub(crate) fn check(text: &[u8]) {
    // Relative paths lead nowhere.
    let folder = Path::new("/nonexistent/podwire");
    for (context, own) in [(None, Own::Included), (Some("a"), Own::Excluded)] {
        match Clusters::parse(text, folder, context, &[], own) {
            Ok(clusters) => {
                assert!(clusters.get(None).is_some(), "somebody asks for none in particular");
            }
            Err(sentence) => {
                assert!(!sentence.is_empty() && sentence.len() <= SENTENCE_MAX, "{sentence:?}");
                assert!(!sentence.contains(char::is_control), "{sentence:?}");
            }
        }
    }
}
