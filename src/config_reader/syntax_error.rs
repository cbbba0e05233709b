//! The parser's messages in the words of a configuration.

/// What each message of the parser means, and a remedy.
const MEANINGS: [(&[&str], &str, &str); 26] = [
    (
        &["string values must be quoted"],
        "text must be in quotes",
        "write it as OPTION = \"TEXT\"",
    ),
    (
        &["unexpected leading zero"],
        "a number does not begin with 0",
        "write a mode in quotes, such as mode = \"0640\"",
    ),
    (
        &["invalid basic string", "invalid literal string"],
        "a quoted string does not end in this line",
        "add the closing quote",
    ),
    (
        &[
            "invalid multi-line basic string",
            "invalid multi-line literal string",
        ],
        "a quoted string does not end",
        "add the closing quotes",
    ),
    (
        &[
            "missing escaped value",
            "too few unicode value digits",
            "invalid value",
        ],
        "a quoted string has a backslash that begins no escape",
        "write two backslashes for one, or use single quotes",
    ),
    (
        &["unclosed table"],
        "a section header has no closing bracket",
        "add `]`",
    ),
    (
        &["unclosed array table"],
        "a section header has no closing brackets",
        "add `]]`",
    ),
    (
        &["unclosed array"],
        "a list has no closing bracket",
        "add `]`",
    ),
    (
        &["unclosed inline table"],
        "a table in braces has no closing brace",
        "add `}`",
    ),
    (
        &["key with no value"],
        "expected `=` and a value after the name of an option",
        "",
    ),
    (
        &["missing value for key", "missing value"],
        "an option has no value",
        "write one after the `=`",
    ),
    (
        &["duplicate key"],
        "this option or section is set twice",
        "remove one of the two",
    ),
    (
        &["invalid boolean"],
        "expected `true` or `false`",
        "write it in lower case, or text in quotes",
    ),
    (
        &["`_` may only go between digits"],
        "a number has an underscore that is not between two digits",
        "remove it, or write text in quotes",
    ),
    (
        &[
            "invalid integer number",
            "invalid hexadecimal number",
            "invalid octal number",
            "invalid binary number",
            "invalid float",
            "invalid date-time",
            "radix must be lowercase",
            "redundant integer number prefix",
        ],
        "this is neither a number nor a date",
        "write text in quotes",
    ),
    (
        &[
            "redundant numeric sign",
            "unexpected sign",
            "integers with a radix cannot be signed",
        ],
        "a number has a sign that it cannot have",
        "remove the sign",
    ),
    (
        &["missing comma between array elements"],
        "two items of a list have no comma between them",
        "add `,`, or the closing bracket of the list",
    ),
    (
        &[
            "missing comma between key-value pairs",
            "extra assignment between key-value pairs",
        ],
        "two options in braces have no comma between them",
        "add `,`, or the closing brace",
    ),
    (
        &["extra comma in array", "extra comma in inline table"],
        "nothing is before a comma",
        "remove the comma",
    ),
    (
        &[
            "missing assignment between key-value pairs",
            "missing key for inline table element",
            "invalid inline table element",
            "unexpected `=` in array",
            "extra `=`",
        ],
        "this is not of the form OPTION = VALUE",
        "write one `=` between a name and its value",
    ),
    (
        &[
            "unexpected key or value",
            "unexpected content",
            "unexpected content between comment and newline",
        ],
        "there is more text after a value",
        "write each option in a line of its own, and text in quotes",
    ),
    (
        &[
            "invalid unquoted key",
            "unquoted keys cannot be empty",
            "invalid key",
            "invalid key-value pair",
        ],
        "this is not the name of an option",
        "write it as OPTION = VALUE",
    ),
    (
        &["carriage return must be followed by newline"],
        "a carriage return is not followed by a line feed",
        "save the file with line feeds",
    ),
    (
        &["invalid comment character"],
        "a comment has a control character",
        "remove it",
    ),
    (
        &["cannot recurse further; max recursion depth met"],
        "brackets are nested too deeply",
        "remove some of them",
    ),
    (
        &["missing opening quote"],
        "a quoted string does not begin with a quote",
        "add the quote",
    ),
];

/// Returns a message of the parser in the words of a configuration, and a remedy. What it
/// expects is a list of characters, which helps nobody.
pub(super) fn describe_syntax_error(message: &str) -> (&str, &'static str) {
    let words = message.split_once(", expected");
    let words = words.map_or(message, |(words, _)| words);
    let mut meanings = MEANINGS.into_iter();
    let meaning = meanings.find(|(messages, ..)| messages.contains(&words));
    match meaning {
        Some((_, meaning, hint)) => (meaning, hint),
        None if words.starts_with("cannot extend value") => (
            "a section has the name of an option with a value",
            "remove one of the two",
        ),
        None => (words, ""),
    }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    /// Each mistake leads to a message of our own: the parser's words may change.
    #[test]
    fn mistakes_are_described_in_plain_words() {
        let mut wrong = Vec::new();
        for (text, expected) in [
            ("mode = 0640", "a number does not begin with 0"),
            ("sink = [{ mode = 0640 }]", "a number does not begin with 0"),
            ("n = -01", "a number does not begin with 0"),
            ("admins = [\"a\"", "a list has no closing bracket"),
            ("t = { a = 1", "a table in braces has no closing brace"),
            ("required = tru", "expected `true` or `false`"),
            ("required = False", "expected `true` or `false`"),
            ("required = yes", "text must be in quotes"),
            (
                "path = \"C:\\q\"",
                "a quoted string has a backslash that begins no escape",
            ),
            (
                "n = 1_",
                "a number has an underscore that is not between two digits",
            ),
            ("n =", "text must be in quotes"),
            ("n = 1 2", "text must be in quotes"),
            ("every = 30d", "text must be in quotes"),
            (
                "a = [\"1\" \"2\"]",
                "two items of a list have no comma between them",
            ),
            (
                "t = { a = 1 b = 2 }",
                "two options in braces have no comma between them",
            ),
            ("a = [1,,2]", "nothing is before a comma"),
            ("a == 1", "this is not of the form OPTION = VALUE"),
            ("[[key.a.sink]", "a section header has no closing brackets"),
            ("a = 1\n[a]", "this option or section is set twice"),
            (
                "a = 1\na.b = 2",
                "a section has the name of an option with a value",
            ),
            ("= 1", "this is not the name of an option"),
            (
                "schedule",
                "expected `=` and a value after the name of an option",
            ),
        ] {
            let (_, errors) = DeTable::parse_recoverable(text);
            let error = errors.first().expect(text);
            let (message, _) = describe_syntax_error(error.message());
            if message != expected {
                wrong.push(format!("{text}: {message} ({})", error.message()));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
