//! The size of the binary.

use crate::support;
use crate::table::{TableRow, mb};

pub(crate) fn rows() -> Vec<TableRow> {
    let size = std::fs::metadata(support::binary()).unwrap().len();
    vec![TableRow::new("release binary", mb(size / 1_024)).reach("10 MB")]
}
