//! URLs of receivers, without the parts that may hold a secret.

use url::Url;

use crate::core::secret::Secret;

/// Returns every form of the query that a receiver may echo: the whole, and its
/// values. They are masked as long as they are kept.
#[must_use]
pub fn query_secrets(url: &Url) -> Vec<Secret> {
    let query = url.query().map(str::to_owned);
    let encoded_values = query.iter().flat_map(|query| query.split(['&', '=']));
    let encoded_values: Vec<_> = encoded_values.map(str::to_owned).collect();
    let decoded_values = url.query_pairs().map(|(_, value)| value.into_owned());
    let all = query
        .into_iter()
        .chain(encoded_values)
        .chain(decoded_values);
    all.map(Secret::new).collect()
}

/// Returns the parts of a URL that an answer may quote without giving a secret away: its
/// host, its path, and the parts of its path.
#[must_use]
pub fn quotable_parts(url: &Url) -> Vec<String> {
    let host = url.host_str().into_iter();
    let segments = url.path_segments().into_iter().flatten();
    let parts = host.chain([url.path()]).chain(segments);
    parts.map(str::to_owned).collect()
}

/// Returns the URL for messages. A query may hold a token, the configuration
/// refuses userinfo, and a fragment means nothing to a server.
#[must_use]
pub fn sanitized_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
