//! A sink that accepts every secret and forgets it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::core::ids::SinkId;
use crate::sink::target::{
    ReadContext, Rehearsal, RehearsalPaths, SinkServices, SinkSettings, SinkTarget, SinkType,
    Substitute,
};
use crate::sink::{DeliveryError, Destination, Payload, Sink, SinkError, SinkProblem};

/// The type of these sinks.
pub static TYPE: SinkType = SinkType {
    name: "null",
    options: OPTIONS,
    replaces_file: false,
    record_folder: None,
    read,
};

/// The options that only a null sink has.
const OPTIONS: Section = Section {
    name: "sink.null",
    about: "Nothing: it accepts every secret and forgets it.",
    options: &[ConfigOption::new(
        "note",
        ValueType::Text(""),
        r#""first""#,
        "Tells null sinks apart.",
    )
    .or(r#""""#)],
};

/// The checked options of a sink with `type = "null"`.
#[derive(Debug, Clone)]
pub struct NullTarget {
    /// Tells null sinks apart.
    pub note: String,
}

fn read(
    table: &ConfigTable<'_>,
    _: &mut ReadContext<'_, '_>,
    report: &mut ProblemReport,
) -> Option<Arc<dyn SinkTarget>> {
    let note = match table.get(OPTIONS, "note") {
        Some(value) => value.text(report)?.to_owned(),
        None => String::new(),
    };
    Some(Arc::new(NullTarget { note }))
}

impl SinkTarget for NullTarget {
    fn sink_type(&self) -> &'static SinkType {
        &TYPE
    }

    fn identity(&self) -> String {
        self.note.clone()
    }

    fn rehearsal(&self, _: &RehearsalPaths<'_>) -> Rehearsal {
        let Self { note } = self;
        Rehearsal {
            original: note.clone(),
            ignored_options: Vec::new(),
            substitute: Substitute::Target {
                target: Arc::new(self.clone()),
                display: note.into(),
                folder: None,
            },
        }
    }

    fn build(self: Arc<Self>, settings: &Arc<SinkSettings>, _: &SinkServices) -> Arc<dyn Sink> {
        Arc::new(NullSink {
            id: settings.id.clone(),
        })
    }
}

/// Accepts every secret and forgets it.
#[derive(Debug)]
pub struct NullSink {
    id: SinkId,
}

#[async_trait]
impl Sink for NullSink {
    fn id(&self) -> &SinkId {
        &self.id
    }

    fn destination(&self) -> Destination {
        Destination::File
    }

    async fn check(&self) -> Vec<SinkProblem> {
        Vec::new()
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn deliver(&self, _: &Payload) -> Result<(), DeliveryError> {
        Ok(())
    }
}
