//! The URL that something is posted to, as far as it may be shown.

use url::Url;

use crate::core::secret::Secret;

/// The query as a receiver may echo it: all of it, and its values. Masked for
/// as long as they are kept.
#[must_use]
pub fn query_secrets(url: &Url) -> Vec<Secret> {
    let whole = url.query().map(str::to_owned);
    let written = whole.iter().flat_map(|query| query.split(['&', '=']));
    let written: Vec<_> = written.map(str::to_owned).collect();
    let meant = url.query_pairs().map(|(_, value)| value.into_owned());
    let all = whole.into_iter().chain(written).chain(meant);
    all.map(Secret::new).collect()
}

/// The URL as it may be shown. A query may hold a token; userinfo is refused by the configuration and a
/// fragment means nothing to a server.
#[must_use]
pub fn sanitized_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
