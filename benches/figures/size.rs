//! The size of the binary.

use crate::support;
use crate::table::{Row, mb};

pub(crate) fn rows() -> Vec<Row> {
    let size = std::fs::metadata(support::binary()).unwrap().len();
    vec![Row::new("release binary", mb(size / 1_024)).reach("10 MB")]
}
