//! The options in the manual page, between two comments.

use rekeyd::alerting::channel::CHANNEL_TYPES;
use rekeyd::alerting::channel::target::COMMON_OPTIONS as CHANNEL_OPTIONS;
use rekeyd::cli::manual::{escape_roff, roff};
use rekeyd::config::options;
use rekeyd::config_reader::section::{ConfigOption, Section};
use rekeyd::sink::SINK_TYPES;
use rekeyd::sink::target::COMMON_OPTIONS as SINK_OPTIONS;

use super::{default_text, meaning_of};

/// The line before the options.
const BEGIN: &str = ".\\\" The options are made from their descriptions in the program.\n";

/// The line after them.
const END: &str = ".\\\" The end of the options.\n";

/// Returns the page with its options as the program describes them.
pub(super) fn render(page: &str) -> String {
    let (before, rest) = page.split_once(BEGIN).expect("the options begin");
    let (_, after) = rest.split_once(END).expect("the options end");
    format!("{before}{BEGIN}{}{END}{after}", options_text())
}

fn options_text() -> String {
    let mut text = String::new();
    for section in [
        options::PROVIDER,
        options::LEDGER,
        options::CONTROL,
        options::METRICS,
        options::LOG,
        options::SECURITY,
    ] {
        push_section(&mut text, &format!(".SH [{}]", section.name), section);
    }
    push_section(&mut text, ".SH [defaults]", options::DEFAULTS);
    push_section(&mut text, ".SH [key.NAME]", options::KEY);
    text.push_str(".PP\nA key may also set every option of\n.BR [defaults] .\n");
    push_section(&mut text, ".SH [[key.NAME.sink]]", SINK_OPTIONS);
    for sink_type in SINK_TYPES {
        push_type(&mut text, sink_type.name, sink_type.options);
    }
    push_section(&mut text, ".SH [[notify]]", CHANNEL_OPTIONS);
    for channel_type in CHANNEL_TYPES {
        push_type(&mut text, channel_type.name, channel_type.options);
    }
    text
}

fn push_type(text: &mut String, name: &str, section: Section) {
    let heading = format!(".SS \"type = \\(dq{name}\\(dq\"");
    push_section(text, &heading, section);
}

fn push_section(text: &mut String, heading: &str, section: Section) {
    text.push_str(&format!("{heading}\n{}", roff(section.about)));
    for option in section.options {
        text.push_str(&format!(".TP\n.B {}\n", escape_roff(option.name)));
        text.push_str(&roff(&paragraph(option)));
    }
}

/// Returns the whole description, with the default in parentheses behind it.
fn paragraph(option: &ConfigOption) -> String {
    let mut text = meaning_of(option);
    if !option.details.is_empty() {
        text.push_str(&format!(" {}", option.details));
    }
    let default = default_text(option).unwrap_or_else(|| "none".to_owned());
    format!("{text} ({default})")
}
