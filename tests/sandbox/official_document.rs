//! Every answer of the sandbox has the members and types that the official document of the
//! API requires.

use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ACCOUNT, PROJECT, create_key, send, start, text};

const DOCUMENT: &str = include_str!("../fixtures/openai-admin-api/openapi.json");

/// Returns the schema of the answer of an operation with this status. A path of the
/// document has parameters in braces.
fn answer_schema(method: &Method, path: &str, status: u16) -> Validator {
    let document: Value = serde_json::from_str(DOCUMENT).unwrap();
    let method = method.as_str().to_lowercase();
    let operation = &document["paths"][path][&method];
    let answer = &operation["responses"][status.to_string()];
    let schema = &answer["content"]["application/json"]["schema"];
    // The document describes errors for some operations alone.
    let schema = match status {
        400.. if schema.is_null() => json!({ "$ref": "#/components/schemas/ErrorResponse" }),
        _ => schema.clone(),
    };
    assert!(
        schema.is_object(),
        "{method} {path} {status} is not described"
    );
    let schema = json!({ "allOf": [schema], "components": document["components"] });
    jsonschema::validator_for(&schema).unwrap()
}

/// Returns the path of the document for the path of a request.
fn documented_path(path: &str) -> String {
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.split('/').collect();
    let named = parts.iter().enumerate().map(|(index, part)| {
        let before = index.checked_sub(1).map_or("", |before| parts[before]);
        match before {
            "admin_api_keys" => "{key_id}",
            "projects" => "{project_id}",
            "service_accounts" => "{service_account_id}",
            "api_keys" => "{api_key_id}",
            _ => part,
        }
    });
    named.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn answers_are_those_of_the_document() {
    let sandbox = start().await;
    let account = format!("{PROJECT}/service_accounts");
    let made = create_key(&sandbox, "{}").await;
    let key = format!("{PROJECT}/api_keys/{}", text(&made, "id"));
    let admin_keys = "/organization/admin_api_keys".to_owned();
    let (id, _) = sandbox.create_manually("by hand");
    let admin_key = format!("{admin_keys}/{id}");
    let named = r#"{"name":"x"}"#;
    let alone = r#"{"name":"x","create_service_account_only":true}"#;
    let cases = [
        (Method::POST, admin_keys.clone(), named, 200),
        (Method::POST, admin_keys.clone(), "{}", 400),
        (Method::GET, admin_keys.clone(), "", 200),
        (Method::GET, format!("{admin_keys}?limit=0"), "", 400),
        (Method::GET, admin_key.clone(), "", 200),
        (Method::DELETE, admin_key.clone(), "", 200),
        (Method::DELETE, admin_key, "", 404),
        (Method::POST, account.clone(), named, 200),
        (Method::POST, account.clone(), alone, 200),
        (Method::POST, account.clone(), "{}", 400),
        (Method::GET, account.clone(), "", 200),
        (Method::GET, format!("{account}/{ACCOUNT}"), "", 200),
        (Method::POST, format!("{account}/{ACCOUNT}"), named, 200),
        (
            Method::POST,
            format!("{account}/{ACCOUNT}/api_keys"),
            named,
            200,
        ),
        (
            Method::GET,
            format!("{PROJECT}/api_keys?owner_project_access=any"),
            "",
            200,
        ),
        (Method::GET, key.clone(), "", 200),
        (Method::DELETE, key.clone(), "", 200),
        (Method::GET, key, "", 404),
        (Method::DELETE, format!("{account}/{ACCOUNT}"), "", 200),
        (Method::DELETE, format!("{account}/{ACCOUNT}"), "", 404),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer) = send(&sandbox, method.clone(), &path, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
        let schema = answer_schema(&method, &documented_path(&path), status);
        let errors: Vec<_> = schema
            .iter_errors(&answer)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{method} {path}: {errors:?} in {answer}");
    }
    // An archived project's are errors of the document, too.
    assert!(sandbox.archive("proj_sandbox"));
    for (method, body) in [(Method::GET, ""), (Method::POST, named)] {
        let (status, answer) = send(&sandbox, method.clone(), &account, body).await;
        assert_eq!(status, 400);
        let schema = answer_schema(&method, &documented_path(&account), status);
        assert!(schema.is_valid(&answer), "{method}: {answer}");
    }
}

#[test]
fn missing_members_are_found() {
    let path = "/organization/projects/{project_id}/service_accounts/{service_account_id}";
    let schema = answer_schema(&Method::GET, path, 200);
    let mut account = json!({
        "object": "organization.project.service_account",
        "id": "svc_acct_a", "name": "a", "role": "member", "created_at": 1,
    });
    assert!(schema.is_valid(&account));
    account["created_at"] = json!("1");
    assert!(!schema.is_valid(&account));
    account.as_object_mut().unwrap().remove("created_at");
    assert!(!schema.is_valid(&account));
}
