//! The identifiers of the project's former private vocabulary do not return.
//! docs/design/decisions/names.md has the name that replaced each, and where it is.

use std::path::Path;

/// Identifiers that no code in `src` or `tests` has. Former names that are ordinary words,
/// such as `note` or `show`, are not listed.
const FORMER_IDENTIFIERS: &str = "
About Absence Ahead ALIVE Allowed Answer answer_all are_suspect as_user aside Asked
Asking asks_provider Asleep AT_A_TURN Audience Back become_writer Begin begin_if_due
begin_nothing bereft breakable by_hand ByHand Caller Carrier Carriers Cause Cells Chance
change_over Checks Claims clocks_have_parted Compared conclude count_by Course
CredentialCell daemon_of deliver_last Dense Desk desk doomed Down drive_task Dropped
each_alive Ended ends_as Errand Errands exchange farewell Finding finish_some Found
give_up_open give_way guarded Hand hand_out hand_over has_ears_for has_fallen_back
have_done hear heard_lately Heed heed Held held_by held_for held_from HostChance How
hurried Hurry hurry Instead intend is_alone is_bereft is_everybodys
is_own is_told_as is_trouble is_wished judge KEPT Known LandsLate leftover leftovers Listed
listen_for_readers LONGEST_NAP Look look_again LookAtSinks lose_patience LostReply make_ready
makes_room MANY Matter may_be may_change Maybe Memory Met metered miss_firing Moment
move_on never_sent no_toml Nobody NoChance not_sent not_told NotDone Obey obey Observer
Occasion of_error open_on Order Outcome outgoing outside Overlaps own_credential Parcel
Parked Part Parted Parts Patience PAUSE_AFTER_GIVING_UP Places Post Posted problem_of
promised put_back put_to_work read_anew read_places_again rearm Receipt
RecordAgain Refusal retimed Round see_to_it Seen settings_and_ledger
shown_bytes shown_lines shut_in Simulated Since Slot Stage Standing Standings Stay
still_stopping Stranger stranger strikes StubbornSink swept_in_vain take_back take_in
Taken tell_directly tell_if_it_has_another tell_moved tell_others Telling tells Timing
Told told_as told_of trouble_of Turn unless_secret unlooked unwish Verdict
Waiting Waits Wake Wanted Watch watch_anew Whose Why Wire Wish wish_all WithCredential
Within Witness works_with writing_first
";

/// Words that no item and no public field is named by; a local variable
/// may be.
const FORMER_ITEM_NAMES: &str = "
agenda ahead asking audience believed carriers chance ending errand errands fate foreign
former heard hungry in_spite kept listener look looks lost notice parted patience pieces
plain planned shown slot stage standing stuck takes_over told troubled why wish
";

/// Keywords that an item's name follows.
const ITEM_KEYWORDS: [&str; 8] = [
    "const", "enum", "fn", "mod", "static", "struct", "trait", "type",
];

/// An identifier of a source and the one before it.
#[derive(Debug, PartialEq, Eq)]
struct Identifier<'s> {
    name: &'s str,
    previous: &'s str,
    line: usize,
    /// Whether a single colon follows, as after a field.
    has_type: bool,
}

/// Returns the identifiers of a source, without those in comments and literals.
fn identifiers(source: &str) -> Vec<Identifier<'_>> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let bytes = source.as_bytes();
    let (mut found, mut previous, mut line, mut at) = (Vec::new(), "", 1, 0);
    while at < bytes.len() {
        let start = at;
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").map_or(rest.len(), |end| end + 2);
        } else if rest.starts_with('r') && rest[1..].trim_start_matches('#').starts_with('"') {
            let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            let body = hashes + 2;
            at += rest[body..]
                .find(&end)
                .map_or(rest.len(), |found| body + found + end.len());
        } else if bytes[at] == b'"' {
            at += 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at += 1;
        } else if rest.starts_with("'\\") {
            at += 3;
            at += source[at..].find('\'').map_or(0, |end| end + 1);
        } else if bytes[at] == b'\'' && rest.chars().nth(2) == Some('\'') {
            at += rest
                .char_indices()
                .nth(3)
                .map_or(rest.len(), |(end, _)| end);
        } else if is_part(&bytes[at]) {
            at += bytes[at..].iter().take_while(|byte| is_part(byte)).count();
            let name = &source[start..at];
            let has_type = source[at..].starts_with(": ");
            found.push(Identifier {
                name,
                previous,
                line,
                has_type,
            });
            previous = name;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
        at = at.min(bytes.len());
        line += source[start..at].matches('\n').count();
    }
    found
}

/// Returns each former name in a source, with its line.
fn former_names(source: &str) -> Vec<String> {
    let anywhere: Vec<&str> = FORMER_IDENTIFIERS.split_whitespace().collect();
    let as_item: Vec<&str> = FORMER_ITEM_NAMES.split_whitespace().collect();
    identifiers(source)
        .into_iter()
        .filter(|found| {
            let is_item = ITEM_KEYWORDS.contains(&found.previous)
                || (found.has_type && found.previous == "pub");
            anywhere.contains(&found.name) || (is_item && as_item.contains(&found.name))
        })
        .map(|found| format!("{}: {}", found.line, found.name))
        .collect()
}

fn check_folder(folder: &Path, problems: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // The migration of a ledger of 0.1.0 names what that ledger has.
            if !path.ends_with("migrations/first_release") {
                check_folder(&path, problems);
            }
        } else if let Some("rs" | "sql") = path.extension().and_then(|kind| kind.to_str()) {
            let mut source = std::fs::read_to_string(&path).unwrap();
            if path.extension().is_some_and(|kind| kind == "sql") {
                source = source.replace("--", "//");
            }
            let found = former_names(&source);
            problems.extend(
                found
                    .iter()
                    .map(|found| format!("{}:{found}", path.display())),
            );
        }
    }
}

#[test]
fn former_identifiers_do_not_return() {
    let mut problems = Vec::new();
    for folder in ["src", "tests", "benches", "migrations"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        check_folder(&folder, &mut problems);
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn each_new_name_is_in_the_file_of_its_row() {
    let page = include_str!("../../docs/design/decisions/names.md");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 500, "the rows were read");
    let mut problems = Vec::new();
    for row in rows {
        let cells: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        let [_, name, file] = cells[..] else {
            panic!("{row} has three cells")
        };
        let name = name.rsplit("::").next().unwrap();
        let is_module = file
            .strip_suffix(".rs")
            .map(|path| path.strip_suffix("/mod").unwrap_or(path))
            .is_some_and(|path| path.rsplit('/').next() == Some(name));
        match std::fs::read_to_string(sources.join(file)) {
            Ok(source) if is_module || identifiers(&source).iter().any(|at| at.name == name) => {}
            Ok(_) => problems.push(format!("{row}: the file does not have this name")),
            Err(error) => problems.push(format!("{row}: {error}")),
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn former_identifiers_are_found_in_code_alone() {
    let source = "// Wish\nlet told = Desk::<'a>::new(\"Parcel \\\" Wish\", 'x', '\\'');\n\
                  /* Errand */ fn wish() -> r#\"Told \" \"#;\nstruct A { pub told: Wished, Wish }\n\
                  struct B { r#type: Wish }";
    assert_eq!(
        former_names(source),
        ["2: Desk", "3: wish", "4: told", "4: Wish", "5: Wish"]
    );
}
