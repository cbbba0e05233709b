//! The question before a credential is adopted that nothing shows to be the key's, on a real
//! terminal.

use crate::moving_in::create_manually;
use crate::support::{TestEnv, file_key_text};
use crate::terminal::run_on_terminal;

/// The end of the question, after which it waits.
const PROMPT: &str = "To adopt it, type its name, \"payroll\": ";

#[test]
fn adoption_is_confirmed_by_the_name_alone() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["rotate", "billing"]);
    let (id, _) = create_manually(&world, "payroll");
    let before = world.history();
    for answer in ["no", "", "y", "yes", "Payroll", &id] {
        let (is_done, shown) = run_on_terminal(&world, &["adopt", "billing", &id], PROMPT, answer);
        assert!(!is_done, "{answer:?}: {shown}");
        for part in [
            &format!("{id} was not adopted"),
            "it belongs to ",
            "was created at 2",
            " ago)",
            "never used",
            PROMPT,
            "cancelled; nothing was adopted",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert_eq!(world.history(), before, "{answer:?}");
    }
    let (is_done, shown) = run_on_terminal(&world, &["adopt", "billing", &id], PROMPT, "payroll");
    assert!(is_done, "{shown}");
    assert!(
        shown.contains(&format!("until `rekeyd release {id}`")),
        "{shown}"
    );
    let history = world.history();
    let adopted = history
        .iter()
        .find(|row| row["credential_id"] == id.as_str());
    assert_eq!(adopted.unwrap()["held"], 1);
}
