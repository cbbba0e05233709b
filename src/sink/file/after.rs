//! What is run once the file has changed.

use secrecy::zeroize::Zeroizing;

use crate::core::command::delivery_variables;
use crate::core::duration;
use crate::core::names::SinkId;
use crate::core::settings::After;
use crate::host::program::{Ended, How, Run, run};
use crate::sink::Receipt;
use crate::sink::program::{self, Whose};

/// The program has done what it is for.
const DONE: i32 = 0;

/// Runs it once. It reads nothing, and knows in its environment whose file has
/// changed.
pub(super) async fn run_after(after: &After, sink: &SinkId, taken: &Receipt) -> Result<(), String> {
    let variables = delivery_variables(
        taken.key.as_str(),
        taken.rotation.as_str(),
        taken.sequence,
        &sink.name,
        taken.credential.id.as_str(),
    );
    let ended = run(Run {
        line: &after.argv,
        variables: &variables,
        input: Zeroizing::new(Vec::new()),
        timeout: after.timeout,
    })
    .await;
    let whose = Whose {
        what: "after",
        key: &taken.key,
        rotation: &taken.rotation,
        sink,
    };
    program::log(&whose, &ended);
    judge(after, &ended)
}

fn judge(after: &After, ended: &Ended) -> Result<(), String> {
    let program = &after.argv.program;
    let quoted = ended.quoted();
    Err(match &ended.how {
        How::Code(DONE) => return Ok(()),
        How::NotStarted(why) => why.clone(),
        How::Code(code) => format!("{program} ended with exit code {code}{quoted}"),
        How::Signal(signal) => format!("{program} was ended by signal {signal}{quoted}"),
        How::TimedOut => format!(
            "{program} did not end within {} and was killed{quoted}",
            duration::to_text(after.timeout)
        ),
        How::Failed(why) => format!("{program} was started, and then the system failed: {why}"),
    })
}
