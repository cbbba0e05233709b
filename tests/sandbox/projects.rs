//! The projects of the organization.

use rekeyd::sandbox::ApiOperation;
use reqwest::Method;

use crate::client::{check_refusals, created, get, ids, post, start, text};

const PROJECTS: &str = "/organization/projects";

#[tokio::test]
async fn default_project_is_active() {
    let sandbox = start().await;
    let (status, project) = get(&sandbox, &format!("{PROJECTS}/proj_sandbox")).await;
    assert_eq!(status, 200);
    assert_eq!(project["object"], "organization.project");
    assert_eq!(project["status"], "active");
    assert!(project["archived_at"].is_null());
    assert!(project["created_at"].is_i64());
    assert_eq!(sandbox.requests(ApiOperation::Project), 1);
}

#[tokio::test]
async fn archived_projects_are_listed_on_request_alone() {
    let sandbox = start().await;
    let made = created(&sandbox, PROJECTS, r#"{"name":"short-lived"}"#).await;
    let id = text(&made, "id");
    let (_, listed) = get(&sandbox, PROJECTS).await;
    assert_eq!(ids(&listed), ["proj_sandbox", id]);

    let (status, archived) = post(&sandbox, &format!("{PROJECTS}/{id}/archive"), "").await;
    assert_eq!((status, &archived["status"]), (200, &"archived".into()));
    assert!(archived["archived_at"].is_i64());
    for query in ["", "?include_archived=false"] {
        let (_, listed) = get(&sandbox, &format!("{PROJECTS}{query}")).await;
        assert_eq!(ids(&listed), ["proj_sandbox"], "{query}");
    }
    let (_, listed) = get(&sandbox, &format!("{PROJECTS}?include_archived=true")).await;
    assert_eq!(ids(&listed), ["proj_sandbox", id]);
    let (_, shown) = get(&sandbox, &format!("{PROJECTS}/{id}")).await;
    assert_eq!(shown, archived);

    assert!(sandbox.restore(id));
    let (_, shown) = get(&sandbox, &format!("{PROJECTS}/{id}")).await;
    assert_eq!(shown["status"], "active");
}

#[tokio::test]
async fn list_pages_over_projects() {
    let sandbox = start().await;
    for number in 0..24 {
        let _ = sandbox.create_project(&number.to_string());
    }
    let (_, first) = get(&sandbox, PROJECTS).await;
    assert_eq!((ids(&first).len(), &first["has_more"]), (20, &true.into()));
    assert_eq!(text(&first, "first_id"), "proj_sandbox");
    let last = text(&first, "last_id");
    let (_, rest) = get(&sandbox, &format!("{PROJECTS}?limit=100&after={last}")).await;
    assert_eq!((ids(&rest).len(), &rest["has_more"]), (5, &false.into()));
    let last = text(&rest, "last_id");
    let (_, empty) = get(&sandbox, &format!("{PROJECTS}?after={last}")).await;
    assert_eq!((ids(&empty).len(), &empty["has_more"]), (0, &false.into()));
    assert!(empty["first_id"].is_null() && empty["last_id"].is_null());
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let sandbox = start().await;
    let at = |rest: &str| format!("{PROJECTS}{rest}");
    check_refusals(
        &sandbox,
        &[
            (Method::GET, at("?limit=0"), "", 400),
            (Method::GET, at("?limit=101"), "", 400),
            (Method::GET, at("?limit=x"), "", 400),
            (Method::GET, at("?after=proj_none"), "", 400),
            (Method::GET, at("?include_archived=yes"), "", 400),
            (Method::GET, at("/proj_none"), "", 404),
            (Method::POST, at("/proj_none/archive"), "", 404),
            (Method::DELETE, at("/proj_sandbox"), "", 404),
            (Method::POST, at(""), "", 400),
            (Method::POST, at(""), "[]", 400),
            (Method::POST, at(""), "{}", 400),
            (Method::POST, at(""), r#"{"name":""}"#, 400),
            (Method::POST, at(""), r#"{"name":7}"#, 400),
        ],
    )
    .await;
    let (_, listed) = get(&sandbox, PROJECTS).await;
    assert_eq!(ids(&listed), ["proj_sandbox"]);
}
