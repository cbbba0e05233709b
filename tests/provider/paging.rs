//! Valid and invalid lists of several pages, from a test server.

use crate::adapter::adapter;
use crate::canned_server::{CannedServer, ok};
use rekeyd::core::scope::Scope;
use rekeyd::provider::{ErrorKind, Provider, ProviderError};

async fn list_ids(answers: Vec<Vec<u8>>) -> Result<Vec<String>, ProviderError> {
    let server = CannedServer::start(answers).await;
    let listed = adapter(&server.url).list(&Scope::AdminKeys).await?;
    let ids = listed
        .value
        .into_iter()
        .map(|listed| listed.metadata.id.to_string());
    Ok(ids.collect())
}

#[tokio::test]
async fn paging_continues_after_the_last_item() {
    let first = ok(r#"{"data":[{"id":"key_1"},{"id":"key_2"}],"has_more":true,"last_id":"x"}"#);
    let second = ok(r#"{"data":[{"id":"key_2"},{"id":"key_3"}],"has_more":false}"#);
    let server = CannedServer::start(vec![first, second]).await;
    let listed = adapter(&server.url)
        .list(&Scope::AdminKeys)
        .await
        .unwrap()
        .value;
    let ids: Vec<_> = listed
        .iter()
        .map(|listed| listed.metadata.id.as_str())
        .collect();
    assert_eq!(ids, ["key_1", "key_2", "key_3"]);
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /v1/organization/admin_api_keys?limit=100&order=asc HTTP")
    );
    assert!(
        requests[1].starts_with(
            "GET /v1/organization/admin_api_keys?limit=100&order=asc&after=key_2 HTTP"
        )
    );
}

#[tokio::test]
async fn a_full_page_without_has_more_is_not_the_last() {
    let items: Vec<_> = (0..100)
        .map(|number| format!(r#"{{"id":"key_{number}"}}"#))
        .collect();
    let full = ok(&format!(r#"{{"data":[{}]}}"#, items.join(",")));
    let rest = ok(r#"{"data":[{"id":"key_last"}]}"#);
    let ids = list_ids(vec![full, rest]).await.unwrap();
    assert_eq!(ids.len(), 101);
    assert_eq!(ids[100], "key_last");
}

/// A server may have smaller pages than those that were asked for.
#[tokio::test]
async fn without_has_more_a_list_ends_with_an_empty_page() {
    let one = ok(r#"{"data":[{"id":"key_1"}]}"#);
    let two = ok(r#"{"data":[{"id":"key_2"}],"has_more":null}"#);
    let end = ok(r#"{"data":[]}"#);
    let all = ok(r#"{"data":[{"id":"key_1"},{"id":"key_2"}]}"#);
    let rest = ok(r#"{"data":[{"id":"key_2"},{"id":"key_3"}]}"#);
    for (case, answers, expected) in [
        (
            "small pages",
            vec![one.clone(), two, end.clone()],
            &["key_1", "key_2"][..],
        ),
        // A server without pages ignores the cursor.
        (
            "no pages",
            vec![all.clone(), all.clone()],
            &["key_1", "key_2"],
        ),
        (
            "overlap",
            vec![all, rest, end.clone()],
            &["key_1", "key_2", "key_3"],
        ),
        ("nothing", vec![end], &[]),
    ] {
        let count = answers.len();
        let server = CannedServer::start(answers).await;
        let listed = adapter(&server.url).list(&Scope::AdminKeys).await.unwrap();
        let ids = listed
            .value
            .iter()
            .map(|listed| listed.metadata.id.as_str());
        assert_eq!(ids.collect::<Vec<_>>(), expected, "{case}");
        assert_eq!(server.requests().len(), count, "{case}");
    }
}

/// Returns a page with these items.
fn of_items(numbers: std::ops::Range<usize>, has_more: &str) -> Vec<u8> {
    let items: Vec<_> = numbers
        .map(|number| format!(r#"{{"id":"key_{number}"}}"#))
        .collect();
    ok(&format!(
        r#"{{"data":[{}],"has_more":{has_more}}}"#,
        items.join(",")
    ))
}

#[tokio::test]
async fn an_inconsistent_list_is_an_error() {
    let first = ok(r#"{"data":[{"id":"key_1"}],"has_more":true}"#);
    let second = ok(r#"{"data":[{"id":"key_2"}],"has_more":true}"#);
    let end = ok(r#"{"data":[],"has_more":false}"#);
    let wide = vec![first.clone(), second, first.clone(), end];
    for (case, answers) in [
        ("circle", vec![first.clone()]),
        ("wide circle", wide),
        (
            "nothing and more",
            vec![ok(r#"{"data":[],"has_more":true}"#)],
        ),
        ("no data", vec![ok(r#"{"has_more":false}"#)]),
        (
            "more in words",
            vec![ok(r#"{"data":[],"has_more":"false"}"#)],
        ),
        (
            "more twice",
            vec![ok(r#"{"data":[],"has_more":true,"has_more":false}"#)],
        ),
        (
            "an item that leads elsewhere",
            vec![ok(r#"{"data":[{"id":"../x"}]}"#)],
        ),
        ("an item without id", vec![ok(r#"{"data":[{"name":"x"}]}"#)]),
        (
            "more than asked for",
            vec![of_items(0..101, "false"), ok("{}")],
        ),
        ("all at once", vec![of_items(0..20_000, "null")]),
        (
            "more than asked for, later",
            vec![of_items(0..100, "true"), of_items(100..201, "false")],
        ),
        ("html later", vec![first, ok("<html>")]),
    ] {
        let error = list_ids(answers).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadAnswer, "{case}: {error}");
    }
    assert!(
        list_ids(vec![ok(r#"{"data":[]}"#)])
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn an_endless_list_is_an_error() {
    let page = |number| {
        ok(&format!(
            r#"{{"data":[{{"id":"key_{number}"}}],"has_more":true}}"#
        ))
    };
    let error = list_ids((0..1001).map(page).collect()).await.unwrap_err();
    assert!(error.message.contains("1000 pages"), "{error}");
}
