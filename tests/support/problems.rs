//! What is wrong with a configuration, in the words that a person sees.

use std::path::Path;

use rekeyd::config::{Environment, parse};

pub(crate) fn problems(file: &Path, text: &str) -> Vec<String> {
    match parse(file, text, &Environment::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}
