//! When a key rotates, and whether its overlap, its budget and the life of its
//! credentials go with that.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::environment::Environment;
use super::key_options::KeyOptions;
use super::options;
use crate::config_reader::location::Location;
use crate::config_reader::quote::{is_secret_like, quoted};
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::values;
use crate::core::duration::{MAX_DURATION, to_text};
use crate::core::ids::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::schedule::timetable::Timetable;
use crate::core::schedule::{SYNTAX_HELP, Schedule, ScheduleError};
use crate::core::time;

/// How many of the next firings a message shows.
const RUNS_IN_HINT: usize = 3;

/// Reads when keys rotate.
pub(super) struct PolicyBuilder<'e> {
    environment: &'e Environment,
    /// The expressions read so far: ten thousand keys with one of them cost
    /// one parse, and one schedule's memory.
    parsed: BTreeMap<String, CachedExpression>,
}

/// An expression that was read.
struct CachedExpression {
    schedule: Result<Schedule, ScheduleError>,
    /// The same in its zones, with what is costly to find out.
    by_zone: BTreeMap<String, Rc<CachedTimetable>>,
}

/// A timetable without jitter, and its gaps.
struct CachedTimetable {
    timetable: Timetable,
    shortest_gap: Option<Duration>,
    longest_gap: OnceCell<Option<Duration>>,
    runs_per_day: usize,
    /// The policy of the keys that have nothing but it and the defaults, once it
    /// was found to be in order.
    shared_policy: OnceCell<Arc<KeyPolicy>>,
}

impl<'e> PolicyBuilder<'e> {
    pub(super) const fn new(environment: &'e Environment) -> Self {
        Self {
            environment,
            parsed: BTreeMap::new(),
        }
    }

    /// The policy of the key in `table`; none if there is no telling when it
    /// rotates.
    pub(super) fn build(
        &mut self,
        table: &ConfigTable<'_>,
        name: Option<&KeyName>,
        defaults: &KeyOptions,
        report: &mut ProblemReport,
    ) -> Option<Arc<KeyPolicy>> {
        let has_own = table.has_any(options::DEFAULTS);
        let own = has_own.then(|| KeyOptions::read(table, report).with_defaults(defaults));
        let patience = own.as_ref().unwrap_or(defaults);
        let known = self.timetable(table, &patience.time_zone(), report)?;
        let is_plain = own.is_none() && patience.jitter.is_none();
        if is_plain && let Some(policy) = known.shared_policy.get() {
            return Some(Arc::clone(policy));
        }
        let before = report.count();
        let check = PolicyCheck {
            cached: &known,
            now: self.environment.now,
            table,
            options: patience,
        };
        let room = check.check_jitter(report);
        let overlap = check.check_overlap(room, report);
        check.check_budget(report);
        check.check_expiry(overlap, report);
        let mut timetable = known.timetable.clone();
        if let (Some(name), Some((jitter, _))) = (name, &patience.jitter) {
            timetable = timetable.with_jitter(name, *jitter);
        }
        let policy = Arc::new(patience.to_policy(timetable, overlap));
        // What is wrong with the defaults is told of each key.
        if is_plain && report.count() == before {
            known.shared_policy.get_or_init(|| Arc::clone(&policy));
        }
        Some(policy)
    }

    fn timetable(
        &mut self,
        table: &ConfigTable<'_>,
        zone: &TimeZone,
        report: &mut ProblemReport,
    ) -> Option<Rc<CachedTimetable>> {
        let schedule = table.get(options::KEY, "schedule");
        let every = table.get(options::KEY, "every");
        match (schedule, every) {
            (Some(value), None) => {
                let text = value.text(report)?;
                self.cron_timetable(text, zone, &value.location, report)
            }
            (None, Some(value)) => {
                let age =
                    values::read_duration(&value, Duration::from_secs(1), MAX_DURATION, report)?;
                let timetable = Timetable::every(age, zone.clone());
                Some(Rc::new(self.measure_gaps(timetable)))
            }
            (Some(_), Some(every)) => {
                let hint = "leave one of them out";
                report.add_problem(&every.location, "there is a schedule, too", hint);
                None
            }
            (None, None) => {
                report.add_missing(
                    &table.location,
                    "has no schedule",
                    "add one, such as schedule = \"0 3 * * Mon\", or every = \"30d\"",
                );
                None
            }
        }
    }

    fn cron_timetable(
        &mut self,
        text: &str,
        zone: &TimeZone,
        place: &Location,
        report: &mut ProblemReport,
    ) -> Option<Rc<CachedTimetable>> {
        let name = zone.iana_name().unwrap_or_default();
        let known = self
            .parsed
            .get(text)
            .and_then(|parsed| parsed.by_zone.get(name));
        if let Some(known) = known {
            return Some(Rc::clone(known));
        }
        let schedule = self
            .parse_expression(text, place, report)?
            .in_zone(zone.clone());
        if schedule.next_after(self.environment.now).is_none() {
            let message = format!("{} never fires", quoted(text));
            let hint = "it falls only into an hour that the clock of its zone skips: \
                        name another hour, or minute and hour without *";
            report.add_problem(place, message, hint);
            return None;
        }
        let known = Rc::new(self.measure_gaps(schedule.into()));
        if let Some(parsed) = self.parsed.get_mut(text) {
            parsed.by_zone.insert(name.to_owned(), Rc::clone(&known));
        }
        Some(known)
    }

    /// The schedule of an expression, in no zone yet.
    fn parse_expression(
        &mut self,
        text: &str,
        place: &Location,
        report: &mut ProblemReport,
    ) -> Option<&Schedule> {
        let parsed = self
            .parsed
            .entry(text.to_owned())
            .or_insert_with(|| CachedExpression {
                schedule: Schedule::parse(text, TimeZone::UTC),
                by_zone: BTreeMap::new(),
            });
        match &parsed.schedule {
            Err(error) => {
                let message = if is_secret_like(text) {
                    format!("{} is no cron expression", quoted(text))
                } else {
                    error.to_string()
                };
                report.add_problem(place, message, SYNTAX_HELP);
                None
            }
            Ok(schedule) if !schedule.can_fire() => {
                let message = format!("{} never fires", quoted(text));
                let hint = "no date matches its day and month, so there is no next time: \
                            name a day that the month has";
                report.add_problem(place, message, hint);
                None
            }
            Ok(schedule) => Some(schedule),
        }
    }

    fn measure_gaps(&self, timetable: Timetable) -> CachedTimetable {
        CachedTimetable {
            shortest_gap: timetable.shortest_gap(self.environment.now),
            longest_gap: OnceCell::new(),
            runs_per_day: timetable.firings_per_day(),
            shared_policy: OnceCell::new(),
            timetable,
        }
    }
}

/// Checks what depends on the gaps between firings.
struct PolicyCheck<'c> {
    cached: &'c CachedTimetable,
    now: Timestamp,
    table: &'c ConfigTable<'c>,
    options: &'c KeyOptions,
}

impl PolicyCheck<'_> {
    fn jitter(&self) -> Duration {
        let jitter = self.options.jitter.as_ref();
        jitter.map_or(Duration::ZERO, |(jitter, _)| *jitter)
    }

    /// The shortest time between two firings that may be left of the gap by
    /// the jitter.
    fn check_jitter(&self, report: &mut ProblemReport) -> Duration {
        let gap = self.cached.shortest_gap.unwrap_or(Duration::MAX);
        let Some((jitter, place)) = &self.options.jitter else {
            return gap;
        };
        if *jitter < gap {
            return gap - *jitter;
        }
        self.report_too_long(*jitter, gap, &self.option_location("jitter", place), report);
        gap
    }

    fn check_overlap(&self, room: Duration, report: &mut ProblemReport) -> Duration {
        let Some((overlap, place)) = &self.options.overlap else {
            let plain = KeyPolicy::new(self.cached.timetable.clone()).overlap;
            return plain.min(room / 2);
        };
        if *overlap >= room {
            self.report_too_long(
                *overlap,
                room,
                &self.option_location("overlap", place),
                report,
            );
        }
        *overlap
    }

    /// Where an option is told to stand that may come from `[defaults]`.
    fn option_location(&self, name: &'static str, place: &Location) -> Location {
        place.reported_at(&self.table.location.option(name))
    }

    fn report_too_long(
        &self,
        span: Duration,
        room: Duration,
        place: &Location,
        report: &mut ProblemReport,
    ) {
        let less = if self.jitter().is_zero() || place.is_option("jitter") {
            ""
        } else {
            ", less jitter"
        };
        let message = format!(
            "\"{}\" is not shorter than the shortest gap between two firings of {}{less}",
            to_text(span),
            quoted(&self.cached.timetable.to_string())
        );
        let hint = format!(
            "less than \"{}\" is allowed; {}",
            to_text(room),
            self.next_runs_text()
        );
        report.add_problem(place, message, hint);
    }

    /// A budget that the schedule alone can use up would stop the key on the
    /// first day with a failure.
    fn check_budget(&self, report: &mut ProblemReport) {
        let timetable = &self.cached.timetable;
        let needed = self.cached.runs_per_day.saturating_mul(2);
        let budget = self.options.max_creates_per_day.as_ref();
        let plain = KeyPolicy::new(timetable.clone()).max_creates_per_day;
        let most = budget.map_or(plain, |(most, _)| *most);
        if usize::try_from(most).unwrap_or(usize::MAX) >= needed {
            return;
        }
        let message = format!(
            "{most} creates a day are less than twice what {} needs",
            quoted(&timetable.to_string())
        );
        let hint = format!(
            "at least {needed} are needed: max-creates-per-day = {needed}; {}",
            self.next_runs_text()
        );
        let own = || self.table.location.option("max-creates-per-day");
        let place = budget.map_or_else(own, |(_, place)| place.clone());
        report.add_problem(&place, message, hint);
    }

    /// A credential must outlive the time until its successor is everywhere.
    fn check_expiry(&self, overlap: Duration, report: &mut ProblemReport) {
        let Some((life, place)) = &self.options.expires_after else {
            return;
        };
        let timetable = &self.cached.timetable;
        let longest = || timetable.longest_gap(self.now);
        let Some(gap) = *self.cached.longest_gap.get_or_init(longest) else {
            return;
        };
        let least = gap * 3 / 2 + overlap + self.jitter();
        if *life >= least {
            return;
        }
        let message = format!(
            "\"{}\" is too short a life for {}",
            to_text(*life),
            quoted(&timetable.to_string())
        );
        let hint = format!(
            "1.5 times its longest gap, the overlap and the jitter, at least \"{}\", are needed; {}",
            to_text(least),
            self.next_runs_text()
        );
        report.add_problem(place, message, hint);
    }

    /// The next firings in words.
    fn next_runs_text(&self) -> String {
        let timetable = &self.cached.timetable;
        let firings = timetable.firings_from(self.now);
        let next =
            std::iter::successors(firings.next_after(self.now), |at| firings.next_after(*at));
        let shown: Vec<_> = next.take(RUNS_IN_HINT).map(time::to_text).collect();
        format!("it fires next at {}", shown.join(", "))
    }
}
