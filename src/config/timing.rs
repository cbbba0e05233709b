//! When a key rotates, and whether its overlap, its budget and the life of its
//! credentials go with that.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Environment;
use super::options::Section;
use super::patience::Patience;
use super::place::Place;
use super::quote::{looks_secret, quoted};
use super::reader::Table;
use super::report::Report;
use super::values;
use crate::core::duration::{LONGEST, to_text};
use crate::core::names::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::schedule::{ALLOWED, Schedule, ScheduleError};
use crate::core::time;
use crate::core::timetable::Timetable;

/// How many of the next firings a message shows.
const SHOWN: usize = 3;

/// Reads when keys rotate.
pub(super) struct Timing<'e> {
    environment: &'e Environment,
    /// The expressions read so far: ten thousand keys with one of them cost
    /// one parse, and one schedule's memory.
    parsed: BTreeMap<String, Parsed>,
}

/// An expression that was read.
struct Parsed {
    schedule: Result<Schedule, ScheduleError>,
    /// The same in its zones, with what is costly to find out.
    known: BTreeMap<String, Rc<Known>>,
}

/// A timetable without jitter, and its gaps.
struct Known {
    timetable: Timetable,
    shortest: Option<Duration>,
    longest: OnceCell<Option<Duration>>,
    firings_in_a_day: usize,
    /// The policy of the keys that have nothing but it and the defaults, once it
    /// was found to be in order.
    plain: OnceCell<Arc<KeyPolicy>>,
}

impl<'e> Timing<'e> {
    pub(super) const fn new(environment: &'e Environment) -> Self {
        Self {
            environment,
            parsed: BTreeMap::new(),
        }
    }

    /// The policy of the key in `table`; none if there is no telling when it
    /// rotates.
    pub(super) fn policy(
        &mut self,
        table: &Table<'_>,
        name: Option<&KeyName>,
        defaults: &Patience,
        report: &mut Report,
    ) -> Option<Arc<KeyPolicy>> {
        let has_own = table.has_any(Section::Defaults);
        let own = has_own.then(|| Patience::read(table, report).or(defaults));
        let patience = own.as_ref().unwrap_or(defaults);
        let known = self.known(table, &patience.zone(), report)?;
        let is_plain = own.is_none() && patience.jitter.is_none();
        if is_plain && let Some(policy) = known.plain.get() {
            return Some(Arc::clone(policy));
        }
        let before = report.count();
        let check = Check {
            known: &known,
            now: self.environment.now,
            table,
            patience,
        };
        let room = check.room(report);
        let overlap = check.overlap(room, report);
        check.budget(report);
        check.life(overlap, report);
        let mut timetable = known.timetable.clone();
        if let (Some(name), Some((jitter, _))) = (name, &patience.jitter) {
            timetable = timetable.with_jitter(name, *jitter);
        }
        let policy = Arc::new(patience.policy(timetable, overlap));
        // What is wrong with the defaults is told of each key.
        if is_plain && report.count() == before {
            known.plain.get_or_init(|| Arc::clone(&policy));
        }
        Some(policy)
    }

    fn known(
        &mut self,
        table: &Table<'_>,
        zone: &TimeZone,
        report: &mut Report,
    ) -> Option<Rc<Known>> {
        let schedule = table.get(Section::Key, "schedule");
        let every = table.get(Section::Key, "every");
        match (schedule, every) {
            (Some(value), None) => {
                let text = value.text(report)?;
                self.by_schedule(text, zone, &value.place, report)
            }
            (None, Some(value)) => {
                let age = values::span(&value, Duration::from_secs(1), LONGEST, report)?;
                let timetable = Timetable::every(age, zone.clone());
                Some(Rc::new(self.with_gaps(timetable)))
            }
            (Some(_), Some(every)) => {
                let hint = "leave one of them out";
                report.wrong(&every.place, "there is a schedule, too", hint);
                None
            }
            (None, None) => {
                report.missing(
                    &table.place,
                    "has no schedule",
                    "add one, such as schedule = \"0 3 * * Mon\", or every = \"30d\"",
                );
                None
            }
        }
    }

    fn by_schedule(
        &mut self,
        text: &str,
        zone: &TimeZone,
        place: &Place,
        report: &mut Report,
    ) -> Option<Rc<Known>> {
        let name = zone.iana_name().unwrap_or_default();
        let known = self
            .parsed
            .get(text)
            .and_then(|parsed| parsed.known.get(name));
        if let Some(known) = known {
            return Some(Rc::clone(known));
        }
        let schedule = self.parse(text, place, report)?.in_zone(zone.clone());
        if schedule.next_after(self.environment.now).is_none() {
            let message = format!("{} never fires", quoted(text));
            let hint = "it falls only into an hour that the clock of its zone skips: \
                        name another hour, or minute and hour without *";
            report.wrong(place, message, hint);
            return None;
        }
        let known = Rc::new(self.with_gaps(schedule.into()));
        if let Some(parsed) = self.parsed.get_mut(text) {
            parsed.known.insert(name.to_owned(), Rc::clone(&known));
        }
        Some(known)
    }

    /// The schedule of an expression, in no zone yet.
    fn parse(&mut self, text: &str, place: &Place, report: &mut Report) -> Option<&Schedule> {
        let parsed = self
            .parsed
            .entry(text.to_owned())
            .or_insert_with(|| Parsed {
                schedule: Schedule::parse(text, TimeZone::UTC),
                known: BTreeMap::new(),
            });
        match &parsed.schedule {
            Err(error) => {
                let message = if looks_secret(text) {
                    format!("{} is no cron expression", quoted(text))
                } else {
                    error.to_string()
                };
                report.wrong(place, message, ALLOWED);
                None
            }
            Ok(schedule) if !schedule.ever_fires() => {
                let message = format!("{} never fires", quoted(text));
                let hint = "no date matches its day and month, so there is no next time: \
                            name a day that the month has";
                report.wrong(place, message, hint);
                None
            }
            Ok(schedule) => Some(schedule),
        }
    }

    fn with_gaps(&self, timetable: Timetable) -> Known {
        Known {
            shortest: timetable.shortest_gap(self.environment.now),
            longest: OnceCell::new(),
            firings_in_a_day: timetable.firings_in_a_day(),
            plain: OnceCell::new(),
            timetable,
        }
    }
}

/// Checks what depends on the gaps between firings.
struct Check<'c> {
    known: &'c Known,
    now: Timestamp,
    table: &'c Table<'c>,
    patience: &'c Patience,
}

impl Check<'_> {
    fn jitter(&self) -> Duration {
        let jitter = self.patience.jitter.as_ref();
        jitter.map_or(Duration::ZERO, |(jitter, _)| *jitter)
    }

    /// The shortest time between two firings that may be left of the gap by
    /// the jitter.
    fn room(&self, report: &mut Report) -> Duration {
        let gap = self.known.shortest.unwrap_or(Duration::MAX);
        let Some((jitter, place)) = &self.patience.jitter else {
            return gap;
        };
        if *jitter < gap {
            return gap - *jitter;
        }
        self.too_long(*jitter, gap, &self.own("jitter", place), report);
        gap
    }

    fn overlap(&self, room: Duration, report: &mut Report) -> Duration {
        let Some((overlap, place)) = &self.patience.overlap else {
            let plain = KeyPolicy::new(self.known.timetable.clone()).overlap;
            return plain.min(room / 2);
        };
        if *overlap >= room {
            self.too_long(*overlap, room, &self.own("overlap", place), report);
        }
        *overlap
    }

    /// Where an option is told to stand that may come from `[defaults]`.
    fn own(&self, name: &'static str, place: &Place) -> Place {
        place.told_as(&self.table.place.option(name))
    }

    fn too_long(&self, span: Duration, room: Duration, place: &Place, report: &mut Report) {
        let less = if self.jitter().is_zero() || place.is_option("jitter") {
            ""
        } else {
            ", less jitter"
        };
        let message = format!(
            "\"{}\" is not shorter than the shortest gap between two firings of {}{less}",
            to_text(span),
            quoted(&self.known.timetable.to_string())
        );
        let hint = format!(
            "less than \"{}\" is allowed; {}",
            to_text(room),
            self.next_times()
        );
        report.wrong(place, message, hint);
    }

    /// A budget that the schedule alone can use up would stop the key on the
    /// first day with a failure.
    fn budget(&self, report: &mut Report) {
        let timetable = &self.known.timetable;
        let needed = self.known.firings_in_a_day.saturating_mul(2);
        let budget = self.patience.creates_per_day.as_ref();
        let plain = KeyPolicy::new(timetable.clone()).creates_per_day;
        let most = budget.map_or(plain, |(most, _)| *most);
        if usize::try_from(most).unwrap_or(usize::MAX) >= needed {
            return;
        }
        let message = format!(
            "{most} creates a day are less than twice what {} needs",
            quoted(&timetable.to_string())
        );
        let hint = format!(
            "at least {needed} are needed: creates-per-day = {needed}; {}",
            self.next_times()
        );
        let own = || self.table.place.option("creates-per-day");
        let place = budget.map_or_else(own, |(_, place)| place.clone());
        report.wrong(&place, message, hint);
    }

    /// A credential must outlive the time until its successor is everywhere.
    fn life(&self, overlap: Duration, report: &mut Report) {
        let Some((life, place)) = &self.patience.expires_after else {
            return;
        };
        let timetable = &self.known.timetable;
        let longest = || timetable.longest_gap(self.now);
        let Some(gap) = *self.known.longest.get_or_init(longest) else {
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
            self.next_times()
        );
        report.wrong(place, message, hint);
    }

    /// The next firings in words.
    fn next_times(&self) -> String {
        let timetable = &self.known.timetable;
        let firings = timetable.since(self.now);
        let next =
            std::iter::successors(firings.next_after(self.now), |at| firings.next_after(*at));
        let shown: Vec<_> = next.take(SHOWN).map(time::to_text).collect();
        format!("it fires next at {}", shown.join(", "))
    }
}
