//! The policy of a key: its timetable, and whether its overlap, its budget and
//! the lifetime of its credentials fit it.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::environment::Environment;
use super::key_options::KeyOptions;
use super::key_options::{DEFAULTS, KEY};
use crate::config_reader::location::Location;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::values;
use crate::core::duration::to_text;
use crate::core::ids::KeyName;
use crate::core::plural::counted;
use crate::core::policy::KeyPolicy;
use crate::core::schedule::Schedule;
use crate::core::schedule::timetable::Timetable;
use crate::core::time;

/// The number of firings that a message lists.
const RUNS_IN_HINT: usize = 3;

/// Builds the policies of keys.
pub(super) struct PolicyBuilder<'e> {
    environment: &'e Environment,
    /// The cron expressions of earlier keys, each with its zone: measuring the
    /// gaps of one takes longer than reading a hundred keys.
    measured: BTreeMap<(String, String), Rc<MeasuredTimetable>>,
}

/// A timetable without jitter, and its gaps.
struct MeasuredTimetable {
    timetable: Timetable,
    shortest_gap: Option<Duration>,
    longest_gap: OnceCell<Option<Duration>>,
    runs_per_day: usize,
    /// The policy of the keys that say nothing but when they rotate, once it
    /// passed its checks: they share it.
    shared_policy: OnceCell<Arc<KeyPolicy>>,
}

impl<'e> PolicyBuilder<'e> {
    pub(super) const fn new(environment: &'e Environment) -> Self {
        Self {
            environment,
            measured: BTreeMap::new(),
        }
    }

    /// Builds the policy of the key in `table`. Returns `None` without a valid
    /// schedule.
    pub(super) fn build(
        &mut self,
        table: &ConfigTable<'_>,
        name: Option<&KeyName>,
        defaults: &KeyOptions,
        report: &mut ProblemReport,
    ) -> Option<Arc<KeyPolicy>> {
        let own = table
            .has_any(DEFAULTS)
            .then(|| KeyOptions::read(table, report).with_defaults(defaults));
        let options = own.as_ref().unwrap_or(defaults);
        let measured = self.timetable(table, &options.time_zone(), report)?;
        // The jitter of each key is its own.
        let is_shared = own.is_none() && defaults.jitter.is_none();
        if is_shared && let Some(policy) = measured.shared_policy.get() {
            return Some(Arc::clone(policy));
        }
        let before = report.count();
        let check = PolicyCheck {
            measured: &measured,
            now: self.environment.now,
            table,
            options,
        };
        let shortest_gap = check.check_jitter(report);
        let overlap = check.check_overlap(shortest_gap, report);
        check.check_budget(report);
        check.check_expiry(overlap, report);
        let mut timetable = measured.timetable.clone();
        if let (Some(name), Some((jitter, _))) = (name, &options.jitter) {
            timetable = timetable.with_jitter(name, *jitter);
        }
        let policy = Arc::new(options.to_policy(timetable, overlap));
        // A problem with the defaults is reported for each key.
        if is_shared && report.count() == before {
            measured.shared_policy.get_or_init(|| Arc::clone(&policy));
        }
        Some(policy)
    }

    fn timetable(
        &mut self,
        table: &ConfigTable<'_>,
        zone: &TimeZone,
        report: &mut ProblemReport,
    ) -> Option<Rc<MeasuredTimetable>> {
        let schedule = table.get(KEY, "schedule");
        let every = table.get(KEY, "every");
        match (schedule, every) {
            (Some(value), None) => {
                let text = value.text(report)?;
                self.cron_timetable(text, zone, &value.location, report)
            }
            (None, Some(value)) => {
                let age = values::read_duration(&value, report)?;
                let timetable = Timetable::every(age, zone.clone());
                Some(Rc::new(self.measure_gaps(timetable)))
            }
            (Some(_), Some(every)) => {
                let message = "cannot be combined with `schedule`";
                report.add_problem(&every.location, message, "remove one of them");
                None
            }
            (None, None) => {
                report.add_missing(
                    &table.location,
                    "missing option `schedule`",
                    "add schedule = \"0 3 * * Mon\", or every = \"30d\"",
                );
                None
            }
        }
    }

    fn cron_timetable(
        &mut self,
        text: &str,
        zone: &TimeZone,
        location: &Location,
        report: &mut ProblemReport,
    ) -> Option<Rc<MeasuredTimetable>> {
        let zone_name = zone.iana_name().unwrap_or_default();
        let id = (text.to_owned(), zone_name.to_owned());
        if let Some(measured) = self.measured.get(&id) {
            return Some(Rc::clone(measured));
        }
        let schedule = parse_expression(text, location, report)?.in_zone(zone.clone());
        if schedule.next_after(self.environment.now).is_none() {
            let message = "never runs: the clock of its time zone skips that hour";
            let hint = "use another hour, or a minute and an hour without `*`";
            report.add_problem(location, message, hint);
            return None;
        }
        let measured = Rc::new(self.measure_gaps(schedule.into()));
        self.measured.insert(id, Rc::clone(&measured));
        Some(measured)
    }

    fn measure_gaps(&self, timetable: Timetable) -> MeasuredTimetable {
        MeasuredTimetable {
            shortest_gap: timetable.shortest_gap(self.environment.now),
            longest_gap: OnceCell::new(),
            runs_per_day: timetable.firings_per_day(),
            shared_policy: OnceCell::new(),
            timetable,
        }
    }
}

/// Parses an expression, without a zone yet.
fn parse_expression(
    text: &str,
    location: &Location,
    report: &mut ProblemReport,
) -> Option<Schedule> {
    let problem = match Schedule::parse(text, TimeZone::UTC) {
        Ok(schedule) if schedule.can_fire() => return Some(schedule),
        Ok(_) => {
            let message = "never runs: no date has its day and month".to_owned();
            (message, "use a day that the month has")
        }
        Err(error) => (error.to_string(), error.help.unwrap_or_default()),
    };
    report.add_problem(location, problem.0, problem.1);
    None
}

/// Checks the options that depend on the gaps between firings.
struct PolicyCheck<'c> {
    measured: &'c MeasuredTimetable,
    now: Timestamp,
    table: &'c ConfigTable<'c>,
    options: &'c KeyOptions,
}

impl PolicyCheck<'_> {
    fn jitter(&self) -> Duration {
        let jitter = self.options.jitter.as_ref();
        jitter.map_or(Duration::ZERO, |(jitter, _)| *jitter)
    }

    /// Returns the shortest time between two firings that the jitter may leave
    /// of a gap.
    fn check_jitter(&self, report: &mut ProblemReport) -> Duration {
        let gap = self.measured.shortest_gap.unwrap_or(Duration::MAX);
        let Some((jitter, location)) = &self.options.jitter else {
            return gap;
        };
        if *jitter < gap {
            return gap - *jitter;
        }
        self.report_too_long(gap, &self.option_location("jitter", location), report);
        gap
    }

    fn check_overlap(&self, limit: Duration, report: &mut ProblemReport) -> Duration {
        let Some((overlap, location)) = &self.options.overlap else {
            let default = KeyPolicy::new(self.measured.timetable.clone()).overlap;
            return default.min(limit / 2);
        };
        if *overlap >= limit {
            self.report_too_long(limit, &self.option_location("overlap", location), report);
        }
        *overlap
    }

    /// Returns the location to report for an option that may come from
    /// `[defaults]`.
    fn option_location(&self, name: &'static str, location: &Location) -> Location {
        location.reported_at(&self.table.location.option(name))
    }

    fn report_too_long(&self, limit: Duration, location: &Location, report: &mut ProblemReport) {
        let suffix = if self.jitter().is_zero() || location.is_option("jitter") {
            ""
        } else {
            " after jitter"
        };
        let limit = to_text(limit);
        let message =
            format!("too long: the runs of the key can be as little as {limit} apart{suffix}");
        let hint = format!("use less than {limit}; {}", self.next_runs_text());
        report.add_problem(location, message, hint);
    }

    /// Checks the daily budget: one that the schedule alone can use up would
    /// stop the key on the first day with a failure.
    fn check_budget(&self, report: &mut ProblemReport) {
        let timetable = &self.measured.timetable;
        let runs = self.measured.runs_per_day;
        let needed = runs.saturating_mul(2);
        let budget = self.options.max_creates_per_day.as_ref();
        let default = KeyPolicy::new(timetable.clone()).max_creates_per_day;
        let limit = budget.map_or(default, |(limit, _)| *limit);
        if usize::try_from(limit).unwrap_or(usize::MAX) >= needed {
            return;
        }
        let message = format!(
            "{limit} is too low for a key that runs up to {} a day",
            counted(runs, "time")
        );
        let hint = format!(
            "set max-creates-per-day = {needed} or more, twice as many; {}",
            self.next_runs_text()
        );
        let own_location = || self.table.location.option("max-creates-per-day");
        let location = budget.map_or_else(own_location, |(_, location)| location.clone());
        report.add_problem(&location, message, hint);
    }

    /// Checks that a credential lives until every sink has its successor.
    fn check_expiry(&self, overlap: Duration, report: &mut ProblemReport) {
        let Some((lifetime, location)) = &self.options.expires_after else {
            return;
        };
        let timetable = &self.measured.timetable;
        let measure = || timetable.longest_gap(self.now);
        let Some(gap) = *self.measured.longest_gap.get_or_init(measure) else {
            return;
        };
        let minimum = gap * 3 / 2 + overlap + self.jitter();
        if *lifetime >= minimum {
            return;
        }
        let message = "too short for the runs of the key";
        let hint = format!(
            "use at least {}: 1.5 times the longest gap, and the overlap and the jitter; {}",
            to_text(round_up(minimum)),
            self.next_runs_text()
        );
        report.add_problem(location, message, hint);
    }

    /// Describes the next firings for a message.
    fn next_runs_text(&self) -> String {
        let timetable = &self.measured.timetable;
        let firings = timetable.firings_from(self.now);
        let next =
            std::iter::successors(firings.next_after(self.now), |at| firings.next_after(*at));
        let times: Vec<_> = next.take(RUNS_IN_HINT).map(time::to_text).collect();
        format!("next runs: {}", times.join(", "))
    }
}

/// Rounds a duration of days up to whole days, for a message.
fn round_up(span: Duration) -> Duration {
    let day = time::DAY.as_secs();
    if span < 2 * time::DAY {
        return span;
    }
    Duration::from_secs(span.as_secs().div_ceil(day).saturating_mul(day))
}
