//! The terminal page and its assets, embedded as `web/vendor.mjs` packed them.
//!
//! The page names its assets by the version of the whole set (`assets/VERSION/xterm.mjs`), so a
//! browser may keep them for ever. Any other version is answered with today's bytes, to be asked
//! for again: while a new release rolls out, a page from one replica gets its assets from another.

/// One file, ready to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asset {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Content-Encoding`; what is packed is sent packed to everyone.
    pub encoding: Option<&'static str>,
    /// The bytes as they go out.
    pub body: &'static [u8],
    /// `Cache-Control: public, max-age=31536000, immutable` if true, `no-cache` if not.
    pub immutable: bool,
    /// `ETag`, quotes included.
    pub etag: &'static str,
}

const VERSION: &str = include_str!("../web/dist/VERSION");
const ETAG: &str = concat!('"', include_str!("../web/dist/VERSION"), '"');

/// The file at `path`, which is relative to the base path and has no leading slash; `""` is the
/// page.
pub(crate) fn asset(path: &str) -> Option<Asset> {
    const JS: &str = "text/javascript; charset=utf-8";
    const CSS: &str = "text/css; charset=utf-8";
    if path.is_empty() {
        return Some(Asset {
            content_type: "text/html; charset=utf-8",
            encoding: None,
            body: include_bytes!("../web/dist/index.html"),
            immutable: false,
            etag: ETAG,
        });
    }
    let (version, name) = path.strip_prefix("assets/")?.split_once('/')?;
    let (content_type, body): (_, &[u8]) = match name {
        "addon-fit.mjs" => (JS, include_bytes!("../web/dist/addon-fit.mjs.gz")),
        "podwire-page.css" => (CSS, include_bytes!("../web/dist/podwire-page.css.gz")),
        "podwire-page.js" => (JS, include_bytes!("../web/dist/podwire-page.js.gz")),
        "xterm.css" => (CSS, include_bytes!("../web/dist/xterm.css.gz")),
        "xterm.mjs" => (JS, include_bytes!("../web/dist/xterm.mjs.gz")),
        "NOTICE.txt" => ("text/plain; charset=utf-8", include_bytes!("../web/dist/NOTICE.txt.gz")),
        _ => return None,
    };
    Some(Asset {
        content_type,
        encoding: Some("gzip"),
        body,
        immutable: version == VERSION,
        etag: ETAG,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_in_the_page_is_served_packed_and_for_ever() {
        let page = asset("").unwrap();
        assert!(!page.immutable);
        assert_eq!(page.encoding, None);
        let html = std::str::from_utf8(page.body).unwrap();
        let paths: Vec<_> = html.split('"').filter(|part| part.starts_with("assets/")).collect();
        assert_eq!(paths.len(), 5, "{paths:?}");
        for path in paths {
            let asset = asset(path).unwrap();
            assert!(asset.immutable, "{path}");
            assert_eq!(asset.encoding, Some("gzip"), "{path}");
            assert!(asset.body.starts_with(&[0x1f, 0x8b]), "{path}");
        }
    }

    #[test]
    fn another_version_gets_the_same_bytes_but_not_for_ever() {
        let today = asset(&format!("assets/{VERSION}/xterm.mjs")).unwrap();
        let other = asset("assets/0123456789abcdef/xterm.mjs").unwrap();
        assert_eq!(other, Asset { immutable: false, ..today });
    }

    #[test]
    fn nothing_else_is_served() {
        for path in [
            "/",
            "index.html",
            "assets",
            "assets/",
            "assets/xterm.mjs",
            "assets/v/",
            "assets/v/VERSION",
            "assets/v/../index.html",
            "assets/v/w/xterm.mjs",
            "exec",
        ] {
            assert_eq!(asset(path), None, "{path}");
        }
    }

    #[test]
    fn the_tag_is_quoted_and_short() {
        assert_eq!(ETAG.len(), VERSION.len() + 2);
        assert!(VERSION.bytes().all(|byte| byte.is_ascii_hexdigit()), "{VERSION:?}");
    }
}
