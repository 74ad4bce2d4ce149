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
    /// `Content-Encoding`, if the bytes are packed.
    pub encoding: Option<&'static str>,
    /// The bytes as they go out.
    pub body: &'static [u8],
    /// `Cache-Control: public, max-age=31536000, immutable` if true, `no-cache` if not.
    pub immutable: bool,
    /// `ETag`, quotes included; other bytes have another one.
    pub etag: &'static str,
}

/// What a caller can unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepts {
    /// Browsers do so over https and on loopback.
    pub brotli: bool,
    /// Every browser does so.
    pub gzip: bool,
}

const VERSION: &str = include_str!("../web/dist/VERSION");

/// A file as it was packed: brotli, gzip, plain.
struct Packed(Option<&'static [u8]>, Option<&'static [u8]>, Option<&'static [u8]>);

macro_rules! dist {
    ($file:literal) => {
        Some(include_bytes!(concat!("../web/dist/", $file)))
    };
}

macro_rules! tag {
    ($end:literal) => {
        concat!('"', include_str!("../web/dist/VERSION"), $end, '"')
    };
}

/// The file at `path`, which is relative to the base path and has no leading slash; `""` is the
/// page.
pub(crate) fn asset(path: &str, accepts: Accepts) -> Option<Asset> {
    const JS: &str = "text/javascript; charset=utf-8";
    const CSS: &str = "text/css; charset=utf-8";
    const HTML: &str = "text/html; charset=utf-8";
    const TEXT: &str = "text/plain; charset=utf-8";
    let (version, name) = match path {
        "" => ("", ""),
        _ => path.strip_prefix("assets/")?.split_once('/')?,
    };
    let (content_type, packed) = match name {
        "" if path.is_empty() => {
            (HTML, Packed(dist!("index.html.br"), dist!("index.html.gz"), dist!("index.html")))
        }
        "xterm.mjs" => (JS, Packed(dist!("xterm.mjs.br"), dist!("xterm.mjs.gz"), None)),
        "podwire-page.js" => {
            (JS, Packed(dist!("podwire-page.js.br"), dist!("podwire-page.js.gz"), None))
        }
        "podwire-page.css" => {
            (CSS, Packed(dist!("podwire-page.css.br"), dist!("podwire-page.css.gz"), None))
        }
        "addon-search.mjs" => {
            (JS, Packed(dist!("addon-search.mjs.br"), dist!("addon-search.mjs.gz"), None))
        }
        "addon-webgl.mjs" => (JS, Packed(dist!("addon-webgl.mjs.br"), None, None)),
        "NOTICE.txt" => (TEXT, Packed(None, dist!("NOTICE.txt.gz"), None)),
        _ => return None,
    };
    let Packed(brotli, gzip, plain) = packed;
    let (encoding, body, etag) = match (brotli, gzip, plain) {
        (Some(body), ..) if accepts.brotli => (Some("br"), body, tag!("-br")),
        (_, Some(body), _) if accepts.gzip => (Some("gzip"), body, tag!("-gz")),
        (.., Some(body)) => (None, body, tag!("")),
        // Whoever says nothing, or nothing of these, gets what nearly everybody can unpack.
        (_, Some(body), _) => (Some("gzip"), body, tag!("-gz")),
        (Some(body), ..) => (Some("br"), body, tag!("-br")),
        (None, None, None) => return None,
    };
    Some(Asset { content_type, encoding, body, immutable: version == VERSION, etag })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROTLI: Accepts = Accepts { brotli: true, gzip: true };
    const GZIP: Accepts = Accepts { brotli: false, gzip: true };
    const NOTHING: Accepts = Accepts { brotli: false, gzip: false };

    #[test]
    fn every_address_in_the_page_is_served_packed_and_for_ever() {
        let page = asset("", NOTHING).unwrap();
        assert!(!page.immutable);
        assert_eq!(page.encoding, None);
        let html = std::str::from_utf8(page.body).unwrap();
        let paths: Vec<_> = html.split('"').filter(|part| part.starts_with("assets/")).collect();
        assert_eq!(paths.len(), 3, "{paths:?}");
        for path in paths {
            let packed = asset(path, BROTLI).unwrap();
            assert!(packed.immutable, "{path}");
            assert_eq!(packed.encoding, Some("br"), "{path}");
            for accepts in [GZIP, NOTHING] {
                let packed = asset(path, accepts).unwrap();
                assert_eq!(packed.encoding, Some("gzip"), "{path}");
                assert!(packed.body.starts_with(&[0x1f, 0x8b]), "{path}");
            }
        }
    }

    #[test]
    fn what_is_loaded_before_the_terminal_is_there_fits_into_its_budget() {
        let first =
            ["", "assets/v/xterm.mjs", "assets/v/podwire-page.js", "assets/v/podwire-page.css"];
        let sizes = first.map(|path| asset(path, BROTLI).unwrap().body.len());
        assert!(sizes.iter().sum::<usize>() <= 100_000, "{sizes:?}");
    }

    #[test]
    fn the_page_is_packed_for_those_who_say_that_they_can_unpack_it() {
        for (accepts, encoding) in [(BROTLI, Some("br")), (GZIP, Some("gzip")), (NOTHING, None)] {
            assert_eq!(asset("", accepts).unwrap().encoding, encoding);
        }
    }

    #[test]
    fn another_version_gets_the_same_bytes_but_not_for_ever() {
        let today = asset(&format!("assets/{VERSION}/xterm.mjs"), BROTLI).unwrap();
        let other = asset("assets/0123456789abcdef/xterm.mjs", BROTLI).unwrap();
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
            assert_eq!(asset(path, BROTLI), None, "{path}");
        }
    }

    #[test]
    fn the_tag_is_quoted_and_another_one_for_other_bytes() {
        let tags = [BROTLI, GZIP, NOTHING].map(|accepts| asset("", accepts).unwrap().etag);
        assert_eq!(tags.map(|tag| tag.trim_matches('"').len()), [19, 19, 16]);
        assert_ne!(tags[0], tags[1]);
        assert!(tags.iter().all(|tag| tag.starts_with('"') && tag.ends_with('"')), "{tags:?}");
        assert!(VERSION.bytes().all(|byte| byte.is_ascii_hexdigit()), "{VERSION:?}");
    }
}
