//! Style and script, in the binary. Their names hold their fingerprint, so browsers keep them for good.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use std::sync::OnceLock;

struct Asset {
    stem: &'static str,
    suffix: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ALL: [Asset; 1] = [Asset {
    stem: "console",
    suffix: "css",
    kind: "text/css; charset=utf-8",
    bytes: include_bytes!("../../assets/console.css"),
}];

/// Path of an asset: `/assets/console-0123456789abcdef.css`.
fn path(asset: &Asset) -> String {
    let print = control::access::fingerprint(asset.bytes);
    let print: String = print.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("/assets/{}-{print}.{}", asset.stem, asset.suffix)
}

fn paths() -> &'static [String; 1] {
    static PATHS: OnceLock<[String; 1]> = OnceLock::new();
    PATHS.get_or_init(|| ALL.each_ref().map(path))
}

/// Path of the style sheet.
pub fn css() -> &'static str {
    &paths()[0]
}

/// `GET /assets/{name}`.
pub async fn serve(Path(name): Path<String>) -> Response {
    let wanted = format!("/assets/{name}");
    let found = paths().iter().position(|path| *path == wanted);
    let Some(asset) = found.and_then(|place| ALL.get(place)) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers =
        [(CONTENT_TYPE, asset.kind), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, asset.bytes).into_response()
}
