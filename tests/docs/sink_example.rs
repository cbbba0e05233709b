//! The source in docs/development/adding-a-sink.md is the one that `src/sink` compiles
//! in its tests.

const PAGE: &str = include_str!("../../docs/development/adding-a-sink.md");
const SOURCE: &str = include_str!("null_sink.rs");

#[test]
fn the_page_shows_the_compiled_source_of_the_example() {
    let block = PAGE.split("```rust\n").nth(1);
    assert_eq!(
        block.and_then(|rest| rest.split("```\n").next()),
        Some(SOURCE)
    );
    let lines = format!("src/sink/null/mod.rs  | {} +", SOURCE.lines().count());
    assert!(PAGE.contains(&lines), "the diff has {lines}");
}
