//! The queries of lists. Each error is the response to the request.

use std::collections::HashMap;

use serde_json::Value;

use crate::sandbox::objects;
use crate::sandbox::reply::ApiReply;
use crate::sandbox::server::WorkMode;
use crate::sandbox::state::collection::{Page, PageQuery, Record, UnknownCursor};

/// The default number of items on a page.
const DEFAULT_PAGE_SIZE: usize = 20;

/// The largest number of items on a page.
const MAX_PAGE_SIZE: usize = 100;

/// The parameters of a query, each with its last value.
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn parse(text: Option<String>) -> Self {
        let text = text.unwrap_or_default();
        Self(
            url::form_urlencoded::parse(text.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the page that is asked for, in ascending order.
    pub(super) fn page(&self, mode: WorkMode) -> Result<PageQuery, ApiReply> {
        let limit = match self.get("limit").map(str::parse) {
            None => DEFAULT_PAGE_SIZE,
            Some(Ok(number)) if (1..=MAX_PAGE_SIZE).contains(&number) => number,
            Some(Ok(_) | Err(_)) => {
                return Err(ApiReply::bad_request("Invalid value: 'limit' (1 to 100)."));
            }
        };
        Ok(PageQuery {
            after: self.get("after").map(str::to_owned),
            limit,
            descending: false,
            is_stale: mode == WorkMode::StaleList,
        })
    }
}

/// Returns the response with a page, whose items `to_json` shows.
pub(super) fn page_reply<T: Record>(
    page: Result<Page<T>, UnknownCursor>,
    to_json: impl Fn(&T) -> Value,
) -> Result<ApiReply, ApiReply> {
    let page = page.map_err(|UnknownCursor| {
        ApiReply::bad_request("Invalid value: 'after' names no object of this list.")
    })?;
    Ok(ApiReply::ok(objects::list(&page, to_json)))
}
