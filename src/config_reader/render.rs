//! Problems with the lines that they are about, as a terminal shows them.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::problem::{Problem, ProblemKind};

/// Renders problems for people, one after the other.
#[must_use]
pub fn render_problems(problems: &[Problem], is_colored: bool) -> String {
    let renderer = if is_colored {
        Renderer::styled().hyperlink(false)
    } else {
        Renderer::plain()
    };
    let rendered: Vec<_> = problems
        .iter()
        .map(|problem| format!("{}\n", render_problem(problem, &renderer)))
        .collect();
    rendered.join("\n")
}

fn render_problem(problem: &Problem, renderer: &Renderer) -> String {
    let file = problem.file.display().to_string();
    let title = if problem.option.is_empty() {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.option, problem.message)
    };
    let mut group = Group::with_title(Level::ERROR.primary_title(title));
    match (&problem.snippet, problem.line) {
        (Some(snippet), Some(line)) => {
            let marked = AnnotationKind::Primary.span(snippet.marked.clone());
            group = group.element(
                Snippet::<Annotation<'_>>::source(&snippet.text)
                    .path(&file)
                    .line_start(line)
                    .annotation(marked.label(snippet.label)),
            );
        }
        (None, Some(line)) => group = group.element(Origin::path(file).line(line)),
        (_, None) if problem.kind == ProblemKind::Configuration => {
            group = group.element(Origin::path(file));
        }
        // Another file, or another host, is to be repaired.
        (_, None) => {}
    }
    if !problem.hint.is_empty() {
        group = group.element(Level::HELP.message(&problem.hint));
    }
    renderer.render(&[group])
}
