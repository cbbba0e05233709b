use super::mask::MASK;
use super::prefix::SECRET_PREFIXES;
use super::*;
use crate::core::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

#[test]
fn secrets_in_memory_are_masked_in_every_form() {
    let secret = Secret::new("hunter2-hunter2+?~ÿ".to_owned());
    assert_eq!(
        sanitize(&format!("no {} here", secret.expose())),
        "no [secret] here"
    );
    for padding in ["", "a", "ab", "abc"] {
        for suffix in ["", "z", "zz"] {
            let hidden = STANDARD.encode(format!("{padding}{}{suffix}", secret.expose()));
            let text = sanitize(&format!("basic {hidden}"));
            assert!(text.contains(MASK), "{padding:?} {suffix:?}: {text}");
        }
    }
}

/// The name of an escape, and how it writes a byte.
type EscapeForm = (&'static str, fn(u8) -> String);

#[test]
fn secrets_in_numeric_escapes_are_masked() {
    let secret = Secret::new("octal-Zq7w8e9-of-a-secret".to_owned());
    let forms: [EscapeForm; 9] = [
        ("entity", |byte| format!("&#{byte};")),
        ("open entity", |byte| format!("&#{byte}")),
        ("padded entity", |byte| format!("&#{byte:08};")),
        ("open hexadecimal entity", |byte| format!("&#x{byte:x}")),
        ("padded hexadecimal entity", |byte| {
            format!("&#X{byte:06X};")
        }),
        ("octal", |byte| format!("\\{byte:03o}")),
        ("braces", |byte| format!("\\u{{{byte:x}}}")),
        ("padded braces", |byte| format!("\\u{{{byte:06x}}}")),
        ("eight digits", |byte| format!("\\U{byte:08X}")),
    ];
    for (form, encode) in forms {
        let hidden: String = secret.expose().bytes().map(encode).collect();
        assert_eq!(
            sanitize(&format!("bad <{hidden}>")),
            "bad <[secret]>",
            "{form}"
        );
    }
    for innocent in [
        "&#",
        "&#x",
        "&#;",
        "\\u{",
        "\\u{}",
        "\\U0000",
        "\\39",
        "&#99999999999",
    ] {
        assert_eq!(sanitize(innocent), innocent);
    }
}

#[test]
fn base64_of_a_whole_secret_is_masked_completely() {
    let secret = Secret::new("twelve-bytes".to_owned());
    let hidden = STANDARD.encode(secret.expose());
    assert_eq!(sanitize(&format!("basic {hidden}")), "basic [secret]");
    drop(secret);
}

#[test]
fn unknown_secrets_are_masked_by_prefix() {
    let long = "aB1_".repeat(5);
    for prefix in SECRET_PREFIXES {
        assert_eq!(
            sanitize(&format!(
                "bad key {prefix}AbC_1-2, {prefix}{prefix}x, sk-proj...def"
            )),
            "bad key [secret], [secret], sk-proj...def"
        );
        assert_eq!(
            sanitize(&format!("key{prefix}{long}!")),
            "key[secret]!",
            "glued to a word"
        );
        assert_eq!(sanitize(prefix), MASK);
    }
    for innocent in ["task-proj-alpha", "/etc/disk-admin-1/key", "sk-other-thing"] {
        assert_eq!(sanitize(innocent), innocent);
    }
}

#[test]
fn text_is_truncated_and_printable() {
    assert_eq!(sanitize("a\r\n\tb\u{1b}[31mc\0"), "a b [31mc");
    assert_eq!(sanitize(&"ä".repeat(500)).chars().count(), 201);
    assert_eq!(
        sanitize_bytes(&[0xff, 0xfe, b'x'], &[]),
        "\u{fffd}\u{fffd}x"
    );
}

#[test]
fn secrets_broken_by_whitespace_and_escapes_are_masked() {
    let secret = Secret::new("broken/over+lines-and-more".to_owned());
    for text in [
        "broken/over+lin\r\n  es-and-more",
        "broken\\/over+lin\\r\\nes-and-more",
        "broken/over+lin\u{200b}es-and\u{0}-more",
    ] {
        assert_eq!(sanitize(&format!("a {text} b")), "a [secret] b");
    }
    drop(secret);
}

#[test]
fn secrets_across_line_breaks_are_masked() {
    let secret = Secret::new("broken-into/lines+at-76-columns".repeat(4));
    let encoded = STANDARD.encode(secret.expose());
    let wrapped = format!("{}\n{}", &encoded[..76], &encoded[76..]);
    let output = format!(
        "begun\n\n{wrapped}\r\nin between {}\tdone\n",
        secret.expose()
    );
    let lines = sanitize_lines(output.as_bytes(), false, &[]);
    assert_eq!(lines[0], "begun");
    assert_eq!(lines.last().unwrap(), "in between [secret] done");
    for piece in [&encoded[8..40], &encoded[80..100], "broken-into"] {
        assert!(lines.iter().all(|line| !line.contains(piece)), "{lines:?}");
    }
    let long = "x".repeat(500);
    assert_eq!(
        sanitize_lines(long.as_bytes(), false, &[])[0]
            .chars()
            .count(),
        201
    );
    // Cut within the secret, and within a letter behind it.
    let half = [&secret.expose().as_bytes()[..20], b"\xc3"].concat();
    assert_eq!(sanitize_lines(&half, true, &[]), [MASK]);
}

#[test]
fn overlapping_secrets_are_masked_completely() {
    let whole = "first-half-of-it, second-half-of-it";
    let secrets = [whole, &whole[..16], &whole[8..20]].map(|text| Secret::new(text.to_owned()));
    assert_eq!(sanitize(&format!("a {whole} b")), "a [secret] b");
    drop(secrets);
}

#[test]
fn fragment_of_a_secret_is_masked() {
    let secret = Secret::new("half-of-this-will-do".to_owned());
    let value = secret.expose();
    for start in 0..=10 {
        for end in start + 10..=value.len() {
            let part = &value[start..end];
            let text = format!("note: {part}");
            assert_eq!(sanitize(&text), "note: [secret]", "{part}");
            let text = format!("<{}>", part.to_uppercase());
            assert_eq!(sanitize(&text), "<[secret]>", "{part}");
        }
    }
    let hidden = STANDARD.encode(value);
    for length in 14..hidden.len() {
        let part = &hidden[..length];
        assert_eq!(sanitize(&format!("not with {part}")), "not with [secret]");
    }
    assert_eq!(sanitize("one half-of-t"), "one half-of-t");
    drop(secret);
}

#[test]
fn secret_across_the_search_limit_is_masked() {
    for length in [20, 400, 2_000, 20_000] {
        let secret = Secret::new("S3cret".repeat(length));
        let text = secret.expose().repeat(10 + 68 * 20 / length);
        assert!(!sanitize(&text).contains("S3cr"), "{length}");
        assert!(
            !sanitize_bytes(text.as_bytes(), &[]).contains("S3cr"),
            "{length}"
        );
    }
}

#[test]
fn masked_and_invisible_text_does_not_use_up_the_length_limit() {
    let masked = format!("sk-admin-{} word", "x".repeat(2_000));
    assert_eq!(sanitize(&masked), "[secret] word");
    // Four bytes each, and none of them shown.
    let blanks = "\u{e0001}".repeat(5_000);
    assert_eq!(
        sanitize_bytes(format!("{blanks}word").as_bytes(), &[]),
        "word"
    );
    let secret = Secret::new("𝔰𝔢𝔠𝔯𝔢𝔱".repeat(4));
    for length in MAX_SEARCHED_CHARS - 30..MAX_SEARCHED_CHARS + 5 {
        let text = format!("{}{}", "\u{e0001}".repeat(length), secret.expose());
        assert!(
            !sanitize_bytes(text.as_bytes(), &[]).contains('𝔰'),
            "{length}"
        );
    }
    drop(secret);
}

/// A secret of the form and length that the provider uses.
fn provider_secret() -> Secret {
    let random = "aB7xQ2mK9pL4vN8cR3tY6wE1sD5fG0hJ".repeat(2);
    Secret::new(format!("sk-admin-{random}_T3BlbkFJ-{random}"))
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn json_escapes(text: &str) -> String {
    let units = text.encode_utf16();
    units.map(|unit| format!("\\u{unit:04x}")).collect()
}

fn html(text: &str) -> String {
    let characters = text.chars();
    characters
        .map(|character| format!("&#{};", u32::from(character)))
        .collect()
}

fn html_hex(text: &str) -> String {
    let characters = text.chars();
    characters
        .map(|character| format!("&#x{:X};", u32::from(character)))
        .collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn punctuation_escaped(text: &str) -> String {
    text.replace('-', "%2D").replace('_', "%5f")
}

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

fn base64_url(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

const ENCODINGS: [fn(&str) -> String; 8] = [
    percent,
    json_escapes,
    html,
    html_hex,
    hex,
    punctuation_escaped,
    base64,
    base64_url,
];

/// Asserts that no eleven characters of the encoded secret are left.
#[track_caller]
fn assert_masked(sanitized: &str, encoded: &str) {
    assert!(sanitized.contains(MASK), "{sanitized}");
    let window = 11.min(encoded.len());
    let pieces = (0..=encoded.len() - window).map(|at| &encoded[at..at + window]);
    for piece in pieces {
        assert!(!sanitized.contains(piece), "{piece} in {sanitized}");
    }
}

#[test]
fn encoded_secret_is_masked_through_three_encodings() {
    let secret = provider_secret();
    for first in ENCODINGS {
        let once = first(secret.expose());
        assert_masked(&sanitize(&format!("answer: {once}!")), &once);
        for second in ENCODINGS {
            let twice = second(&once);
            let text: String = twice.chars().take(7_000).collect();
            assert_masked(&sanitize(&format!("answer: {text}!")), &text);
        }
    }
    let thrice = percent(&json_escapes(&base64(&secret.expose()[..39])));
    assert_masked(&sanitize(&thrice), &thrice);
}

#[test]
fn part_of_an_encoded_secret_is_masked() {
    let secret = provider_secret();
    for encode in ENCODINGS {
        for (start, end) in [(0, 30), (20, 60), (70, secret.expose().len())] {
            let encoded = encode(&secret.expose()[start..end]);
            assert_masked(&sanitize(&format!("{encoded}, and more")), &encoded);
        }
    }
}

#[test]
fn cut_encoded_secret_is_masked() {
    let secret = provider_secret();
    for encode in ENCODINGS {
        let encoded = encode(secret.expose());
        for length in 60..encoded.len() {
            let lines = sanitize_lines(&encoded.as_bytes()[..length], true, &[]);
            assert_eq!(
                lines.last().unwrap().rsplit(MASK).next(),
                Some(""),
                "{lines:?}"
            );
        }
    }
}

#[test]
fn long_random_words_are_cut() {
    let random = "Zq3Wm8Xk5Jd7Yb2Hc6Nf4Ts9Gv1Rp0Lw";
    assert_eq!(random.len(), 32);
    for (text, expected) in [
        (
            format!("key {random} is bad"),
            "key Zq3Wm8… is bad".to_owned(),
        ),
        (format!("{random}=="), "Zq3Wm8…".to_owned()),
        (format!("\"{random}%2B\""), "\"Zq3Wm8…\"".to_owned()),
        (format!("x={random}.{random}"), "x=Zq3W…".to_owned()),
        (random[1..].to_owned(), random[1..].to_owned()),
        (random.to_lowercase(), random.to_lowercase()),
        (random.to_uppercase(), random.to_uppercase()),
        (format!("req_{random}"), format!("req_{random}")),
        (format!("req_{random}x"), "req_Zq…".to_owned()),
        (format!("xreq_{random}"), "xreq_Z…".to_owned()),
    ] {
        assert_eq!(sanitize(&text), expected, "{text}");
    }
    assert_eq!(sanitize_name(random), random, "an id stays whole");
}

#[test]
fn sent_values_stay_whole() {
    let sent = [
        "/organization/admin_api_keys/key_Zq3Wm8Xk5Jd7Yb2Hc6Nf",
        "key_Zq3Wm8Xk5Jd7Yb2Hc6Nf",
        "Billing-20261123T030000Z-5f3a9c",
        "Vault-01.Example.internal",
    ];
    for text in [
        "unknown URL GET /v1/organization/admin_api_keys/key_Zq3Wm8Xk5Jd7Yb2Hc6Nf",
        "no key key_Zq3Wm8Xk5Jd7Yb2Hc6Nf.",
        "the name Billing-20261123T030000Z-5f3a9c is taken",
        "cannot forward to https://Vault-01.Example.internal/organization/admin_api_keys",
    ] {
        assert_eq!(sanitize_reply(text, &sent), text);
    }
    let random = "Zq3Wm8Xk5Jd7Yb2Hc6Nf4Ts9Gv1Rp0Lw";
    let text = format!("key_Zq3Wm8Xk5Jd7Yb2Hc6Nf={random}");
    assert_eq!(sanitize_reply(&text, &sent), "key_Zq…");
}

/// Messages of providers, proxies, receivers and programs.
const MESSAGES: [&str; 42] = [
    "You exceeded your current quota, please check your plan and billing details. For more \
     information on this error, read the docs: \
     https://platform.openai.com/docs/guides/error-codes/api-errors. (insufficient_quota)",
    "Incorrect API key provided. You can find your API key at \
     https://platform.openai.com/account/api-keys. (invalid_api_key)",
    "Rate limit reached for requests: Limit 60 / min. Please try again in 1s. \
     (rate_limit_exceeded)",
    "Invalid URL (GET /organization/admin_api_keys) (invalid_request_error)",
    "You have insufficient permissions for this operation. Missing scopes: \
     api.management.write. Check that you have the correct role in your organization (Owner).",
    "The server had an error processing your request. Sorry about that! (server_error)",
    "The server is overloaded or not ready yet. req_0123456789abcdef0123456789abcdef",
    "This organization's API key limit of 100 has been reached.",
    "Your organization must be verified to use this API: \
     https://platform.openai.com/settings/organization/general",
    "Country, region, or territory not supported (unsupported_country_region_territory)",
    "Request timed out after 60000ms (upstream_response_timeout)",
    "502 Bad Gateway nginx/1.25.3",
    "<html><head><title>503 Service Temporarily Unavailable</title></head>",
    "error code: 1015; Ray ID: 8f1a2b3c4d5e6f70-FRA; Your IP: 203.0.113.7",
    "upstream connect error or disconnect/reset before headers. reset reason: overflow",
    "no healthy upstream",
    "504 Gateway Time-out The server didn't respond in time.",
    "curl: (60) SSL certificate problem: unable to get local issuer certificate",
    "curl: (7) Failed to connect to localhost port 8080 after 0 ms: Couldn't connect to server",
    "tls: failed to verify certificate: x509: certificate signed by unknown authority",
    "invalid peer certificate: UnknownIssuer",
    "dns error: failed to lookup address information: Name or service not known",
    "connection error: Connection reset by peer (os error 104)",
    "write /etc/billing/openai.key: permission denied",
    "/usr/local/lib/python3.11/site-packages/billing/config.py: line 42: invalid value",
    "Traceback (most recent call last): File \"/opt/billing/reload.py\", line 7, in <module>",
    "Job for billing.service failed because the control process exited with error code. See \
     \"systemctl status billing.service\" and \"journalctl -xeu billing.service\" for details.",
    "Failed to restart billing.service: Unit billing.service not found.",
    "bash: line 1: systemctl: command not found",
    "{\"errors\":[\"permission denied\"],\"warnings\":null}",
    "{\"message\":\"Not Found\",\"documentation_url\":\"https://docs.github.com/rest\"}",
    "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
    "container 3f29c1b0a7de4e5f8a91b2c3d4e5f6071829304a5b6c7d8e9f0a1b2c3d4e5f60 is not running",
    "commit 046e405ab12cd34ef56ab78cd90ef12ab34cd56e is not on this branch",
    "trace id 4BF92F3577B34DA6A3CE929D0E0E4736",
    "correlation id 123E4567-E89B-12D3-A456-426614174000 was logged",
    "2026-11-23T03:00:00.123456Z WARN could not reload: queue is full",
    "Die Verbindung zum Server wurde unterbrochen: Zeitüberschreitung nach 30 Sekunden",
    "Zugriff auf /srv/abrechnung/schlüssel verweigert; bitte Donaudampfschifffahrtsgesellschaft \
     fragen",
    "错误:请求的资源不存在,请检查您的组织设置(代码 404)",
    "您的配额已用完。请在 2026-12-01 之后重试,或联系管理员。",
    "権限がありません。管理者に連絡してください (403)",
];

#[test]
fn real_messages_stay_whole() {
    let secret = provider_secret();
    let other = Secret::new("whsec_c2lnbmluZy1zZWNyZXQtb2YtYS13ZWJob29r".to_owned());
    for message in MESSAGES {
        let expected = truncate(message);
        assert_eq!(sanitize(message), expected);
        assert_eq!(sanitize_bytes(message.as_bytes(), &[]), expected);
        assert_eq!(sanitize_lines(message.as_bytes(), false, &[]), [expected]);
    }
    drop((secret, other));
}

fn numbers(text: &str, write: impl Fn(u8) -> String, separator: &str) -> String {
    text.bytes().map(write).collect::<Vec<_>>().join(separator)
}

/// Encodes by RFC 4648, with bits as text.
fn base32(text: &str) -> String {
    let bits: String = text.bytes().map(|byte| format!("{byte:08b}")).collect();
    let digits = bits.as_bytes().chunks(5).map(|chunk| {
        let bits = format!("{:0<5}", str::from_utf8(chunk).unwrap());
        let index = usize::from_str_radix(&bits, 2).unwrap();
        char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[index])
    });
    digits.collect()
}

fn split(text: &str, every: usize, separator: &str) -> String {
    let parts = text.as_bytes().chunks(every);
    let parts: Vec<_> = parts.map(|part| str::from_utf8(part).unwrap()).collect();
    parts.join(separator)
}

fn quoted_printable(text: &str) -> String {
    let lines = text.as_bytes().chunks(20);
    let lines = lines.map(|line| {
        numbers(
            str::from_utf8(line).unwrap(),
            |byte| format!("={byte:02X}"),
            "",
        )
    });
    lines.collect::<Vec<_>>().join("=\r\n")
}

/// Returns a dump in columns, with offsets and with the text beside it.
fn dump(text: &str, columns: usize) -> String {
    let lines = text.as_bytes().chunks(columns).enumerate();
    let lines = lines.map(|(number, line)| {
        let line = str::from_utf8(line).unwrap();
        let bytes = numbers(line, |byte| format!("{byte:02x}"), " ");
        format!("{:08x}  {bytes}  |{line}|\n", number * columns)
    });
    lines.collect()
}

fn full_width(text: &str) -> String {
    let wide = text
        .chars()
        .map(|letter| char::from_u32(u32::from(letter) + 0xfee0));
    wide.map(Option::unwrap).collect()
}

/// Returns the lines of a dump by od(1): offsets, and numbers of `width` bytes in the order
/// of the bytes of most hosts, or in the other one.
fn long_words(text: &str, width: usize, is_reversed: bool, write: fn(u64) -> String) -> String {
    let lines = text
        .as_bytes()
        .chunks(16)
        .enumerate()
        .map(|(number, line)| {
            let words = line.chunks(width).map(|word| {
                let mut bytes = word.to_vec();
                bytes.resize(width, 0);
                if is_reversed {
                    bytes.reverse();
                }
                write(
                    bytes
                        .iter()
                        .fold(0, |word, byte| word << 8 | u64::from(*byte)),
                )
            });
            let words: Vec<_> = words.collect();
            format!("{:07o} {}\n", number * 16, words.join(" "))
        });
    lines.collect()
}

/// Encodes groups of four bytes as five digits.
fn base85(text: &str, alphabet: &[u8], columns: usize) -> String {
    let mut encoded = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let mut bytes = group.to_vec();
        bytes.resize(4, 0);
        let mut number = bytes
            .iter()
            .fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
        let mut digits = Vec::new();
        for _ in 0..5 {
            digits.insert(0, alphabet[usize::try_from(number % 85).unwrap()]);
            number /= 85;
        }
        encoded.extend(&digits[..=group.len()]);
    }
    split(str::from_utf8(&encoded).unwrap(), columns, "\n")
}

/// Returns the lines of uuencode, with this digit for zero.
fn uuencode(text: &str, zero: char) -> String {
    let digit = |value: u32| match value & 0x3f {
        0 => zero,
        value => char::from_u32(value + 32).unwrap(),
    };
    let mut encoded = "begin 644 key\n".to_owned();
    for line in text.as_bytes().chunks(45) {
        encoded.push(digit(u32::try_from(line.len()).unwrap()));
        for group in line.chunks(3) {
            let mut bytes = group.to_vec();
            bytes.resize(3, 0);
            let bits = bytes
                .iter()
                .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
            encoded.extend([18, 12, 6, 0].map(|shift| digit(bits >> shift)));
        }
        encoded.push('\n');
    }
    encoded
}

/// Replaces letters and digits by those that begin at these characters.
fn shaped(text: &str, [capital, small, digit]: [u32; 3]) -> String {
    let shape = |letter: char| match letter {
        'A'..='Z' => char::from_u32(capital + u32::from(letter) - 65),
        'a'..='z' => char::from_u32(small + u32::from(letter) - 97),
        '0'..='9' if digit > 0 => char::from_u32(digit + u32::from(letter) - 48),
        other => Some(other),
    };
    text.chars().map(|letter| shape(letter).unwrap()).collect()
}

/// Programs print a secret as numbers of several bytes, in base85, by uuencode, or in
/// letters of another shape.
#[test]
fn rare_encodings_are_masked() {
    let secret = provider_secret();
    let value = secret.expose();
    let ascii: Vec<u8> = (33..118).collect();
    let rfc =
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";
    let zero_mq =
        b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";
    let mut texts = Vec::new();
    for is_reversed in [true, false] {
        texts.extend([
            (
                "od -x",
                long_words(value, 2, is_reversed, |word| format!("{word:04x}")),
            ),
            (
                "od",
                long_words(value, 2, is_reversed, |word| format!("{word:06o}")),
            ),
            (
                "od -d",
                long_words(value, 2, is_reversed, |word| format!("{word:5}")),
            ),
            (
                "od -t x4",
                long_words(value, 4, is_reversed, |word| format!("{word:08x}")),
            ),
            (
                "od -t u4",
                long_words(value, 4, is_reversed, |word| format!("{word:10}")),
            ),
            (
                "od -t o4",
                long_words(value, 4, is_reversed, |word| format!("{word:011o}")),
            ),
            (
                "od -t x8",
                long_words(value, 8, is_reversed, |word| format!("{word:016x}")),
            ),
            (
                "od -t u8",
                long_words(value, 8, is_reversed, |word| format!("{word:20}")),
            ),
        ]);
    }
    let mathematical = shaped(value, [0x1_d400, 0x1_d41a, 0x1_d7ce]);
    texts.extend([
        ("Ascii85", format!("<~{}~>", base85(value, &ascii, 999))),
        ("Ascii85 in lines", base85(value, &ascii, 72)),
        ("Git", base85(value, rfc, 999)),
        ("Git in lines", base85(value, rfc, 66)),
        ("ZeroMQ", base85(value, zero_mq, 999)),
        ("uuencode", uuencode(value, '`')),
        ("uuencode with blanks", uuencode(value, ' ')),
        (
            "uuencode in one line",
            uuencode(value, '`').replace('\n', "\\n"),
        ),
        (
            "percent and u",
            numbers(value, |byte| format!("%u{byte:04X}"), ""),
        ),
        (
            "code points",
            numbers(value, |byte| format!("U+{byte:04X}"), " "),
        ),
        (
            "u and digits",
            numbers(value, |byte| format!("u{byte:04x}"), " "),
        ),
        ("mathematical", mathematical.clone()),
        ("mathematical, escaped", json_escapes(&mathematical)),
        ("mathematical, percent", percent(&mathematical)),
        ("monospace", shaped(value, [0x1_d670, 0x1_d68a, 0x1_d7f6])),
        ("circled", shaped(value, [0x24b6, 0x24d0, 0])),
        (
            "negative circles",
            shaped(&value.to_uppercase(), [0x1_f150, 0x1_f150, 0]),
        ),
    ]);
    for (encoding, encoded) in texts {
        let text = format!("before: {encoded} after");
        let masked = mask(&text, false);
        assert!(masked.contains(MASK), "{encoding}: {masked}");
        let left = masked.chars().count();
        assert!(left < 120, "{encoding}: {left} characters: {masked}");
        assert!(masked.starts_with("before: "), "{encoding}: {masked}");
    }
    drop(secret);
}

/// Each program that quotes a message encodes it again.
#[test]
fn encodings_of_encodings_are_masked() {
    let secret = provider_secret();
    let value = &secret.expose()[9..60];
    let json = |text: &str| serde_json::to_string(text).unwrap();
    let repeat = |encode: &dyn Fn(&str) -> String, times: usize, text: &str| {
        (0..times).fold(text.to_owned(), |text, _| encode(&text))
    };
    let percent_signs = |text: &str| text.replace('%', "%25");
    let printable = |text: &str| numbers(text, |byte| format!("={byte:02X}"), "");
    let dashes = value.replace('a', "%61");
    let quoted = value.replace('a', "\\u0061");
    for (encodings, encoded) in [
        ("percent, four times", repeat(&percent_signs, 3, &dashes)),
        ("JSON, four times", repeat(&json, 3, &quoted)),
        ("base64 in quoted-printable", printable(&base64(value))),
        ("quoted-printable in percent", percent(&printable(value))),
        (
            "quoted-printable in JSON",
            printable(value).replace('=', "\\u003d"),
        ),
        ("base32 of base64", base32(&base64(value))),
        ("base64 of base32", base64(&base32(value))),
        (
            "base64 of numbers",
            base64(&numbers(value, |byte| byte.to_string(), " ")),
        ),
        ("base64, four times", repeat(&base64, 4, value)),
        (
            "dump of base64",
            long_words(&base64(value), 2, true, |word| format!("{word:04x}")),
        ),
        (
            "base64 of a dump",
            base64(&long_words(value, 2, true, |word| format!("{word:04x}"))),
        ),
    ] {
        let masked = mask(&format!("before: {encoded} after"), false);
        assert!(masked.contains(MASK), "{encodings}: {masked}");
        let left = masked.chars().count();
        assert!(left < 60, "{encodings}: {left} characters: {masked}");
    }
    drop(secret);
}

/// Nothing of a secret is left, however a program spreads it over its output.
#[test]
fn spread_secrets_are_masked() {
    let secret = provider_secret();
    let value = secret.expose();
    let decimal = |byte: u8| byte.to_string();
    let octal = |byte: u8| format!("{byte:03o}");
    let base64 = base64(value);
    for (encoding, encoded) in [
        (
            "decimal list",
            format!("[{}]", numbers(value, decimal, ", ")),
        ),
        ("decimal words", numbers(value, decimal, " ")),
        ("decimal lines", numbers(value, decimal, "\n")),
        ("colons", numbers(value, |byte| format!("{byte:02x}"), ":")),
        (
            "upper-case words",
            numbers(value, |byte| format!("{byte:02X}"), " "),
        ),
        (
            "hexadecimal list",
            numbers(value, |byte| format!("0x{byte:x}"), ", "),
        ),
        ("octal words", numbers(value, octal, " ")),
        (
            "octal list",
            numbers(value, |byte| format!("0o{byte:o}"), ","),
        ),
        (
            "octal escapes",
            numbers(value, |byte| format!("\\{byte:03o}"), ""),
        ),
        ("binary", numbers(value, |byte| format!("{byte:08b}"), " ")),
        (
            "braces",
            numbers(value, |byte| format!("\\u{{{byte:x}}}"), ""),
        ),
        (
            "eight digits",
            numbers(value, |byte| format!("\\U{byte:08x}"), ""),
        ),
        (
            "open entities",
            numbers(value, |byte| format!("&#{byte}"), ""),
        ),
        (
            "padded entities",
            numbers(value, |byte| format!("&#{byte:09};"), ""),
        ),
        ("quoted printable", quoted_printable(value)),
        (
            "quoted printable in lower case",
            numbers(value, |byte| format!("={byte:02x}"), ""),
        ),
        ("base32", base32(value)),
        ("base32 in lower case", base32(value).to_lowercase()),
        ("dump of 16", dump(value, 16)),
        ("dump of 8", dump(value, 8)),
        ("bars", split(&base64, 8, "|")),
        ("dashes", split(&base64, 6, "-")),
        ("concatenation", split(&base64, 10, "\" + \"")),
        ("split", split(value, 7, "\", \"")),
        ("full width", full_width(value)),
    ] {
        let text = format!("before: {encoded} after");
        let masked = mask(&text, false);
        assert!(masked.contains(MASK), "{encoding}: {masked}");
        let left = masked.chars().count();
        assert!(left < 90, "{encoding}: {left} characters: {masked}");
        assert!(masked.starts_with("before: "), "{encoding}: {masked}");
    }
    for innocent in [
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16",
        "10.0.0.1, 10.0.0.2, 10.0.0.3: connection refused",
        "a=1&b=2&c=ab&d=cd",
        "2026-11-23T03:00:00Z 12:34:56:78:9a:bc",
        "THEQUICKBROWNFOXJUMPSOVERTHELAZYDOG234567",
    ] {
        assert_eq!(mask(innocent, false), innocent);
    }
    drop(secret);
}
