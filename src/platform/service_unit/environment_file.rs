//! The syntax of a unit's `EnvironmentFile=`, see systemd.exec(5).

use crate::core::variable_name::is_variable_name;

/// The part of a line in which the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    LineStart,
    Comment,
    CommentEscape,
    Name,
    /// Before the value, and behind a quoted part of it.
    ValueStart,
    Value,
    ValueEscape,
    SingleQuoted,
    DoubleQuoted,
    DoubleQuotedEscape,
}

/// Reads the variables of a file, in its order. Other lines are left out, as systemd does.
///
/// A value ends with its line, unless a backslash stands before the end or it is quoted;
/// it loses the blanks around it. Behind a backslash any character stands for itself; in
/// double quotes only `"`, `\`, `` ` `` and `$` do.
pub(super) fn parse(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut position = Position::LineStart;
    let (mut name, mut value) = (String::new(), String::new());
    // The length that the value keeps without the blanks at its end.
    let mut shown_length = 0;
    for letter in text.chars() {
        let is_end = matches!(letter, '\n' | '\r');
        position = match position {
            Position::LineStart if is_blank(letter) || is_end => Position::LineStart,
            Position::LineStart if matches!(letter, '#' | ';') => Position::Comment,
            Position::LineStart => {
                name = letter.to_string();
                Position::Name
            }
            Position::Comment | Position::CommentEscape if is_end => Position::LineStart,
            Position::Comment if letter == '\\' => Position::CommentEscape,
            Position::Comment | Position::CommentEscape => Position::Comment,
            Position::Name if is_end => Position::LineStart,
            Position::Name if letter == '=' => {
                value.clear();
                shown_length = 0;
                Position::ValueStart
            }
            Position::Name => {
                name.push(letter);
                Position::Name
            }
            Position::ValueStart | Position::Value if is_end => {
                push(&mut variables, &name, &value[..shown_length]);
                Position::LineStart
            }
            Position::ValueStart | Position::Value if letter == '\\' => Position::ValueEscape,
            Position::ValueStart if letter == '\'' => Position::SingleQuoted,
            Position::ValueStart if letter == '"' => Position::DoubleQuoted,
            Position::ValueStart if is_blank(letter) => Position::ValueStart,
            Position::ValueStart | Position::Value => {
                value.push(letter);
                if !is_blank(letter) {
                    shown_length = value.len();
                }
                Position::Value
            }
            Position::ValueEscape => {
                if !is_end {
                    value.push(letter);
                    shown_length = value.len();
                }
                Position::Value
            }
            Position::SingleQuoted if letter == '\'' => Position::ValueStart,
            Position::DoubleQuoted if letter == '"' => Position::ValueStart,
            Position::DoubleQuoted if letter == '\\' => Position::DoubleQuotedEscape,
            Position::DoubleQuotedEscape if is_end => Position::DoubleQuoted,
            Position::SingleQuoted | Position::DoubleQuoted | Position::DoubleQuotedEscape => {
                let is_escape = position == Position::DoubleQuotedEscape;
                if is_escape && !matches!(letter, '"' | '\\' | '`' | '$') {
                    value.push('\\');
                }
                value.push(letter);
                shown_length = value.len();
                if is_escape {
                    Position::DoubleQuoted
                } else {
                    position
                }
            }
        };
    }
    let is_outside = matches!(
        position,
        Position::LineStart | Position::Comment | Position::CommentEscape | Position::Name
    );
    if !is_outside {
        push(&mut variables, &name, &value[..shown_length]);
    }
    variables
}

fn push(variables: &mut Vec<(String, String)>, name: &str, value: &str) {
    let name = name.trim_end_matches(is_blank);
    if is_variable_name(name) {
        variables.push((name.to_owned(), value.to_owned()));
    }
}

const fn is_blank(letter: char) -> bool {
    matches!(letter, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_as_systemd_does() {
        for (text, expected) in [
            ("A=b", &[("A", "b")][..]),
            ("A=b\nA=c\n", &[("A", "b"), ("A", "c")]),
            (" A = b c  \r\n", &[("A", "b c")]),
            ("A=\nB=", &[("A", ""), ("B", "")]),
            ("# A=b\n; A=b\n  # A=b\nB=c # d\n", &[("B", "c # d")]),
            ("# A \\\nB=c\n", &[("B", "c")]),
            ("A='b c'\nB=\"d e\"\n", &[("A", "b c"), ("B", "d e")]),
            ("A='b\nc'", &[("A", "b\nc")]),
            ("A='b\\'\n", &[("A", "b\\")]),
            (r#"A="b\"c\$d\e""#, &[("A", r#"b"c$d\e"#)]),
            ("A=\"b\\\nc\"", &[("A", "bc")]),
            ("A='b'\"c\"d", &[("A", "bcd")]),
            ("A=b'c'", &[("A", "b'c'")]),
            ("A=b\\ \\\nc", &[("A", "b c")]),
            (r"A=b\'c\\", &[("A", r"b'c\")]),
            ("A=b=c", &[("A", "b=c")]),
            ("A=${B} $C %n", &[("A", "${B} $C %n")]),
            // What is no variable.
            ("export A=b\nA-B=c\n1A=b\n=b\nA\nÄ=b\n", &[]),
            ("A=\"b", &[("A", "b")]),
            ("", &[]),
        ] {
            let found = parse(text);
            let found: Vec<_> = found
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[A-Za-z=\\\\\"' \n\r#;$0-9\u{e4}]{0,60}") {
            parse(&text);
        }
    }
}
