//! Which text looks like an API key, in a file that somebody else wrote.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::core::redact::decoded_texts;

/// The prefix of every secret of the provider, whatever its kind.
const PREFIX: &str = "sk-";

/// The shortest text behind the prefix that is taken for a secret.
const MIN_PREFIXED_LEN: usize = 16;

/// The shortest text without the prefix that is taken for a secret, if it is all that
/// a file holds.
const MIN_BARE_LEN: usize = 24;

/// The shortest text behind the prefix that is taken for a secret, if it is all that a
/// file holds: one that was cut short is no reason to overwrite it unseen.
const MIN_LONE_PREFIXED_LEN: usize = 6;

/// The shortest unbroken run of letters and digits that is taken for a secret, if it is all
/// that a file holds.
const MIN_LONE_RUN_LEN: usize = 16;

/// The prefixes of other vendors' secrets.
const OTHER_PREFIXES: [&str; 14] = [
    "AKIA", "ASIA", "AIza", "ghp_", "gho_", "ghs_", "github_", "glpat-", "xoxb-", "xoxp-", "hf_",
    "sess-", "sk_live_", "whsec_",
];

/// The shortest word with such a prefix that is taken for a secret.
const MIN_OTHER_LEN: usize = 16;

/// The shortest run of characters of base64 that is taken for a secret anywhere, and the
/// shortest part of it without a separator.
const MIN_RUN_LEN: usize = 32;
const MIN_RUN_PART_LEN: usize = 16;

/// The shortest word with the provider's prefix that is taken for a secret anywhere.
const MIN_KEY_LEN: usize = PREFIX.len() + MIN_PREFIXED_LEN;

/// The size below which a file holds no whole key, whatever it is.
pub const MIN_KEY_BYTES: usize = MIN_LONE_RUN_LEN;

/// The shortest base64 of the shortest key.
const MIN_ENCODED_LEN: usize = MIN_KEY_LEN * 4 / 3;

/// How often a text may have been percent-encoded.
const MAX_PERCENT_ROUNDS: usize = 3;

/// Returns every text that looks like a key, in order: words with the prefix of a secret,
/// also percent-encoded, and in base64 as in a Kubernetes manifest. Without any, such words
/// in other encodings; or else the single word that is the whole content, if it looks random
/// or begins as a secret does; or else each secret of another vendor; or else each value that
/// looks random; or else tokens, a key in PEM, and long runs with letters and digits.
#[must_use]
pub fn find_keys(content: &str) -> Vec<String> {
    let decoded = decode_percent(content);
    let content = decoded.as_ref();
    let mut found = Vec::new();
    add_prefixed(content, &mut found);
    let encoded = content.split(|character| !is_base64_character(character) || character == '=');
    for run in encoded.filter(|run| run.len() >= MIN_ENCODED_LEN) {
        if let Some(decoded) = decode_base64(run) {
            add_prefixed(&decoded, &mut found);
        }
    }
    if found.is_empty() {
        for decoded in decoded_texts(content) {
            add_prefixed(&decoded, &mut found);
        }
    }
    if found.is_empty() {
        found.extend(bare_key(content).map(str::to_owned));
    }
    if found.is_empty() {
        let words = content.split(|character| !is_key_character(character));
        found.extend(words.filter(is_of_other_vendor).map(str::to_owned));
    }
    if found.is_empty() {
        let values = content.lines().filter_map(assigned_value);
        found.extend(
            values
                .filter(|value| looks_random(value))
                .map(str::to_owned),
        );
    }
    if found.is_empty() {
        found.extend(tokens(content).map(str::to_owned));
    }
    if found.is_empty() {
        found.extend(pem_body(content).map(str::to_owned));
    }
    if found.is_empty() {
        let runs = content.split(|character| !is_base64_character(character) || character == '=');
        found.extend(runs.filter(is_long_run).map(str::to_owned));
    }
    found
}

/// Returns what stands behind `Bearer`, and signed tokens: three parts of base64 with dots
/// between them, of which the first encodes an object.
fn tokens(content: &str) -> impl Iterator<Item = &str> {
    let is_end = |character: char| !is_base64_character(character) && character != '.';
    let words = content.split(is_end).filter(|word| !word.is_empty());
    let mut is_behind_bearer = false;
    words.filter_map(move |word| {
        let is_bearer_token =
            std::mem::replace(&mut is_behind_bearer, word.eq_ignore_ascii_case("bearer"));
        let signed = word.find("eyJ").map(|at| &word[at..]);
        let signed = signed.filter(|token| {
            token.len() >= MIN_BARE_LEN
                && token.split('.').filter(|part| part.len() > 1).count() >= 3
        });
        let bearer = is_bearer_token && word.len() >= MIN_LONE_RUN_LEN;
        signed.or_else(|| bearer.then_some(word))
    })
}

/// Returns the last line of the first object in PEM.
fn pem_body(content: &str) -> Option<&str> {
    let (_, rest) = content.split_once("-----BEGIN ")?;
    let (_, body) = rest.split_once("-----")?;
    let body = body.split("-----").next()?;
    let mut words = body.split(|character| !is_base64_character(character));
    words.rfind(|word| word.len() > 1)
}

/// Returns whether a run of characters of base64 is long enough for a secret, wherever it
/// stands. Words and paths have separators.
fn is_long_run(run: &&str) -> bool {
    let has = |is: fn(&u8) -> bool| run.bytes().any(|byte| is(&byte));
    let mut parts = run.split(|character: char| !character.is_ascii_alphanumeric());
    run.len() >= MIN_RUN_LEN
        && !run.starts_with('/')
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && parts.any(|part| part.len() >= MIN_RUN_PART_LEN)
}

/// Returns every word with the prefix of a secret, in order.
#[must_use]
pub fn find_prefixed_keys(content: &str) -> Vec<String> {
    let mut found = Vec::new();
    add_prefixed(content, &mut found);
    found
}

/// Adds every word with the prefix of a secret.
fn add_prefixed(content: &str, found: &mut Vec<String>) {
    for word in content.split(|character| !is_key_character(character)) {
        // A name such as `task-1` may end where the prefix begins.
        let starts = word.match_indices(PREFIX).map(|(at, _)| at);
        let mut starts = starts.filter(|at| !word[..*at].ends_with(char::is_alphanumeric));
        let key = starts.next().map(|at| &word[at..]);
        let key = key.filter(|key| key.len() >= MIN_KEY_LEN);
        found.extend(
            key.filter(|key| !found.iter().any(|found| found == key))
                .map(str::to_owned),
        );
    }
}

/// Returns a text with its percent-encoded printable characters decoded, also those that
/// were encoded again. No key and no base64 has a percent sign.
fn decode_percent(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MAX_PERCENT_ROUNDS {
        let Some((first, rest)) = text.split_once('%') else {
            break;
        };
        let mut decoded = first.to_owned();
        for part in rest.split('%') {
            match part.get(..2).and_then(printable_of_hex) {
                Some(character) => {
                    decoded.push(character);
                    decoded.push_str(&part[2..]);
                }
                None => {
                    decoded.push('%');
                    decoded.push_str(part);
                }
            }
        }
        text = Cow::Owned(decoded);
    }
    text
}

/// Returns the printable character of ASCII that two hexadecimal digits stand for.
fn printable_of_hex(digits: &str) -> Option<char> {
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    byte.is_ascii_graphic().then(|| char::from(byte))
}

/// Returns the text that a run of base64 encodes, in either alphabet.
fn decode_base64(run: &str) -> Option<String> {
    let run = run.trim_end_matches('=');
    let bytes = STANDARD_NO_PAD
        .decode(run)
        .or_else(|_| URL_SAFE_NO_PAD.decode(run));
    String::from_utf8(bytes.ok()?).ok()
}

/// Returns the single word that is the whole content, or the value of a single
/// `NAME=VALUE`, if it has the form of a random secret.
fn bare_key(content: &str) -> Option<&str> {
    let content = content
        .trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}');
    let is_key = |word: &&str| {
        let has = |is: fn(&u8) -> bool| word.bytes().any(|byte| is(&byte));
        let is_random = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
        let is_word = word.chars().all(is_key_character);
        let is_run = word.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_prefixed = word
            .strip_prefix(PREFIX)
            .is_some_and(|rest| rest.len() >= MIN_LONE_PREFIXED_LEN);
        (is_word && is_prefixed)
            || (is_run && is_random && word.len() >= MIN_LONE_RUN_LEN)
            || (is_word && is_random && word.len() >= MIN_BARE_LEN)
            || looks_random(word)
    };
    let words = [Some(unquote(content)), assigned_value(content)];
    words.into_iter().flatten().find(is_key)
}

/// Returns the value of a line `NAME=VALUE`, `export NAME=VALUE`, `name: value` or
/// `"name": "value",`, without its quotes.
fn assigned_value(line: &str) -> Option<&str> {
    let line = line
        .trim()
        .trim_start_matches(['{', '[', '-', ' '])
        .trim_end_matches(['}', ']', ',', ' ']);
    let (name, value) = line.split_once(['=', ':'])?;
    let name = unquote(name.trim().trim_start_matches("export "));
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_-. ".contains(letter);
    (!name.is_empty() && name.chars().all(is_name)).then(|| unquote(value))
}

fn unquote(text: &str) -> &str {
    text.trim().trim_matches(['"', '\'', ' '])
}

/// Returns whether a word is a secret of another vendor than the provider.
fn is_of_other_vendor(word: &&str) -> bool {
    let mut prefixes = OTHER_PREFIXES.iter();
    word.len() >= MIN_OTHER_LEN
        && word.bytes().any(|byte| byte.is_ascii_digit())
        && prefixes.any(|prefix| word.starts_with(prefix))
}

/// Returns whether a value has the form of a random secret, which may be in base64:
/// letters of both cases and digits.
fn looks_random(value: &str) -> bool {
    let has = |is: fn(&u8) -> bool| value.bytes().any(|byte| is(&byte));
    let word = value.trim_end_matches('=');
    word.len() >= MIN_BARE_LEN
        && !word.starts_with('/')
        && word
            .chars()
            .all(|letter| is_base64_character(letter) && letter != '=')
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
}

fn is_base64_character(character: char) -> bool {
    is_key_character(character) || matches!(character, '+' | '/' | '=')
}

fn is_key_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-admin-AbCd0123EfGh4567";
    const OTHER: &str = "sk-proj-0123456789abcdefXYZ";

    #[test]
    fn keys_are_found_in_every_form_of_a_file() {
        for content in [
            "KEY",
            "KEY\n",
            "KEY\r\n",
            "\u{feff}KEY",
            "  KEY  ",
            "OPENAI_API_KEY=KEY\n",
            "export OPENAI_API_KEY=\"KEY\"\nDEBUG=1\n",
            "# note\nkey: 'KEY' # mine\n",
            "{\"value\":\"KEY\",\"created_at\":1732854839}",
            "[openai]\napi_key = KEY\n",
            "Authorization: Bearer KEY",
            "https://user:KEY@host/path",
        ] {
            let content = content.replace("KEY", KEY);
            assert_eq!(find_keys(&content), [KEY], "{content:?}");
        }
        let two = format!("A={KEY}\nB={OTHER}\nC={KEY}\n");
        assert_eq!(find_keys(&two), [KEY, OTHER]);
        // Of another kind, and without the prefix of one.
        for bare in ["sk-0123456789abcdefghij", "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4"] {
            assert_eq!(find_keys(&format!("{bare}\n")), [bare]);
            assert_eq!(find_keys(&format!("TOKEN={bare}\n")), [bare]);
        }
    }

    #[test]
    fn other_text_is_no_key() {
        for content in [
            "",
            "\n",
            "sk-",
            "sk-short",
            "changeme",
            "to be filled in by rekeyd",
            "{\"value\":null}",
            "the-quick-brown-fox-jumps-over-it",
            "/etc/ssl/certs/ca-certificates-2026.crt",
            "CERT=/etc/ssl/certs/CaCertificates2026/all",
            "A=1\nPATH=/usr/local/sbin:/usr/local/bin\nLONG=the-quick-brown-fox-jumps-over-2026\n",
            "name: the-quick-brown-fox-jumps-over-it-2026\nsize: 123456789012345678901234567890\n",
            "https://example.com/v1/organization/admin",
        ] {
            assert_eq!(find_keys(content), [""; 0], "{content:?}");
        }
    }

    /// What another program or another encoding left is not overwritten unseen.
    #[test]
    fn secrets_of_every_form_are_found_somewhere_in_a_text() {
        let hex = "0f1e2d3c4b5a69788796a5b4c3d2e1f001122334";
        let base64 = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=";
        let pem = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\nAgEGCCqGSM49AwEH\n\
                   -----END PRIVATE KEY-----\n";
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVPmB92K27uhbUJU1p1r";
        for content in [
            pem.to_owned(),
            pem.replace('\n', "\r\n"),
            format!("# mine\n{pem}"),
            pem.replace("PRIVATE", "EC PRIVATE")
                .replace(char::is_numeric, "x"),
            format!("{token}\n"),
            format!("jwt = '{token}' # mine\n"),
            "see eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.ab for it".to_owned(),
            format!("Authorization: Bearer {hex}\n"),
            "authorization: bearer \"qwertyuiopasdfgh\"\n".to_owned(),
            format!("A=1\nOPENAI_API_KEY={hex}\nB=2\n"),
            format!("key=\"{hex}\"\n"),
            format!("<key name=\"openai\">{hex}</key>"),
            format!("machine host login me password {hex}\n"),
            format!("id,name,key\n1,me,{hex}\n"),
            format!("https://me:{hex}@host/path"),
            format!("value: ENC[AES256_GCM,data:{base64},iv:1]\n"),
            "AGE-SECRET-KEY-1QQPZRY9X8GF2TVDW0S3JN54KHCE6MUA7LQPZRY9X8GF2TVDW0S3\n".to_owned(),
            format!("the key is {base64} and no other"),
        ] {
            assert_ne!(find_keys(&content), [""; 0], "{content:?}");
        }
        for content in [
            KEY.replacen('s', "\\u0073", 1),
            KEY.replace('-', "\\u002d"),
            KEY.replace('-', "&#45;"),
            KEY.replace('-', "&#x2d;"),
            KEY.replace('-', "=2D"),
            KEY.replace('-', "&amp;#45;"),
            KEY.replace('-', "\\\\u002d").replace("\\\\", "\\"),
        ] {
            for content in [
                content.clone(),
                format!("{{\"key\":\"{content}\"}}\n"),
                format!("<key>{content}</key>\n"),
            ] {
                assert_eq!(find_keys(&content), [KEY], "{content:?}");
            }
        }
        for content in [
            "# rekeyd writes the key of billing here, once a month, since 2026-11-30\n",
            "bearer of bad news\n",
            "Bearer changeme\n",
            "of a-long-name-of-words-with-hyphens-and-the-year-2026\n",
            "/usr/share/a/very/long/path/to/some/file2026.txt\n",
            "0123456789 0123456789 0123456789 0123456789\n",
            "------------------------------------------------\n",
            "AT&amp;T 100% a=b \\n\n",
        ] {
            assert_eq!(find_keys(content), [""; 0], "{content:?}");
        }
    }

    #[test]
    fn percent_encoded_keys_are_found() {
        let all = |text: &str| -> String {
            let bytes = text.bytes();
            bytes.map(|byte| format!("%{byte:02X}")).collect()
        };
        for encoded in [
            KEY.replace('-', "%2D"),
            KEY.replace('-', "%2d"),
            KEY.replacen('-', "%2D", 1),
            KEY.replace('-', "%252D"),
            KEY.replace('4', "%34"),
            all(KEY),
            all(&all(KEY)),
        ] {
            for content in [
                format!("{encoded}\n"),
                format!("KEY={encoded}\nDISCOUNT=5%\n"),
                format!("https://host/?a=%00%ff%zz%&key={encoded}&b=100%25"),
                format!("%{encoded}%"),
            ] {
                let found = find_keys(&content);
                assert_eq!(found, [KEY], "{content:?}");
            }
        }
        for content in ["%", "%2", "%é", "100%", "a%2Db", "sk%2Dshort", "%E2%82%AC"] {
            assert_eq!(find_keys(content), [""; 0], "{content:?}");
        }
    }

    /// What is all that a file holds is not overwritten unseen because it is short.
    #[test]
    fn a_lone_short_word_that_may_be_a_key_is_one() {
        for key in [
            "sk-admin-",
            "sk-admin-short",
            "sk-root01",
            "AKIAIOSFODNN7EXAMPLE",
            "0123456789abcdef",
            "xoxb-123456789012-abc",
            "hf_abcdefghij0123456",
        ] {
            for content in [
                key.to_owned(),
                format!("\u{feff}{key}\r\n"),
                format!("TOKEN={key}\n"),
                format!("export TOKEN='{key}'\n"),
                format!("token: \"{key}\"\n"),
            ] {
                assert_eq!(find_keys(&content), [key], "{content:?}");
            }
        }
        for key in ["AKIAIOSFODNN7EXAMPLE", "glpat-0123456789abcdefghij"] {
            let content = format!("# made by hand\nREGION=eu\nTOKEN={key}\nDEBUG=1\n");
            assert_eq!(find_keys(&content), [key], "{content:?}");
        }
        for content in [
            "hunter2hunter2",
            "placeholder-2026-01",
            "sk-a",
            "a note about sk-admin- keys",
            "xoxb-is-a-prefix-of-tokens",
            "githubber_2026",
            "release = 2026.11.30-rc1",
        ] {
            assert_eq!(find_keys(content), [""; 0], "{content:?}");
        }
    }

    /// A key that the provider did not make, or that a tool encoded, is not overwritten
    /// unseen.
    #[test]
    fn encoded_and_unprefixed_keys_are_found() {
        let standard = base64::engine::general_purpose::STANDARD;
        for key in [KEY, OTHER] {
            for encoded in [
                standard.encode(key),
                URL_SAFE_NO_PAD.encode(format!("{key}\n")),
            ] {
                for content in [
                    format!("{encoded}\n"),
                    format!("apiVersion: v1\nkind: Secret\ndata:\n  key: {encoded}\n"),
                    format!("{{\"data\":{{\"key\":\"{encoded}\"}}}}"),
                    format!("KEY={encoded}\nOTHER=1\n"),
                ] {
                    assert_eq!(find_keys(&content), [key], "{content:?}");
                }
            }
        }
        for bare in [
            "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4",
            "Zm9v+mFyYmF6/XV4MDEyMzQ1Njc4Zg",
        ] {
            for padding in ["", "=", "=="] {
                for content in [
                    format!("{bare}{padding}\n"),
                    format!("TOKEN={bare}{padding}\n"),
                    format!("TOKEN=\"{bare}{padding}\"\n"),
                    format!("A=1\nTOKEN={bare}{padding}\nB=2\n"),
                    format!("export TOKEN='{bare}{padding}'\nexport B=2\n"),
                    format!("# note\n[openai]\napi_key = \"{bare}{padding}\"\nname = \"x\"\n"),
                    format!(
                        "{{\n  \"name\": \"x\",\n  \"token\": \"{bare}{padding}\",\n  \"a\": 1\n}}\n"
                    ),
                    format!("openai:\n  token: {bare}{padding}\n"),
                ] {
                    let found = find_keys(&content);
                    assert_eq!(found.len(), 1, "{content:?}: {found:?}");
                    assert!(found[0].starts_with(bare), "{content:?}: {found:?}");
                }
            }
        }
    }
}
