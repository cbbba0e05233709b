//! The grammar of a schedule's fields, checked before croner reads them.
//!
//! croner accepts more than it documents, and misreads some of it: it replaces names of
//! days and months anywhere in a text, skips empty items, ignores what follows `W`, reads
//! `+` as a rule of its own and `*/90` as an hour. This grammar counts:
//!
//! ```text
//! fields  = [second] minute hour day month weekday, separated by blanks
//! field   = item *("," item)
//! item    = all ["/" step] | value | value "-" value ["/" step] | special
//! all     = "*", in day and weekday also "?"
//! value   = one or two digits within the field's range, or the first three letters of
//!           a month or weekday in any case; a weekday is 0 to 7, and 0 and 7 are Sunday
//! step    = 1 up to the number of values of the field
//! special = in day: "L", "LW", value "W"; in weekday: value "#" (1 to 5), value "L"
//! ```

/// A field, in the order of an expression with seconds.
#[derive(Debug)]
struct Field {
    name: &'static str,
    first: u16,
    last: u16,
    /// The names of its values, from the first on.
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Sunday is also the end of a range, as 7.
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

const DAY: &str = "day";
const WEEKDAY: &str = "weekday";
const SUNDAY: u16 = 7;

const FIELDS: [Field; 6] = [
    Field::numeric("second", 0, 59),
    Field::numeric("minute", 0, 59),
    Field::numeric("hour", 0, 23),
    Field::numeric(DAY, 1, 31),
    Field {
        name: "month",
        first: 1,
        last: 12,
        names: &MONTHS,
    },
    Field {
        name: WEEKDAY,
        first: 0,
        last: SUNDAY,
        names: &WEEKDAYS,
    },
];

/// Checks the five or six fields of an expression.
///
/// # Errors
/// The first problem, with the name of its field.
pub(super) fn check(fields: &[&str]) -> Result<(), String> {
    let kinds = FIELDS
        .iter()
        .skip(FIELDS.len().saturating_sub(fields.len()));
    for (kind, text) in kinds.zip(fields) {
        let mut items = text.split(',');
        let is_all = |item: &str| matches!(item, "*" | "?");
        if text.contains(',') && items.clone().any(is_all) {
            return Err(format!(
                "its list of {name}s has * beside other values, which includes them; write * alone",
                name = kind.name
            ));
        }
        items.try_for_each(|item| kind.check_item(item))?;
    }
    Ok(())
}

impl Field {
    const fn numeric(name: &'static str, first: u16, last: u16) -> Self {
        Self {
            name,
            first,
            last,
            names: &[],
        }
    }

    fn check_item(&self, item: &str) -> Result<(), String> {
        if item.is_empty() {
            return Err(format!("its list of {}s has an empty item", self.name));
        }
        if self.is_special(item)? {
            return Ok(());
        }
        let (values, step) = match item.split_once('/') {
            Some((values, step)) => (values, Some(step)),
            None => (item, None),
        };
        let is_all = values == "*" || (values == "?" && matches!(self.name, DAY | WEEKDAY));
        if let Some((start, end)) = values.split_once('-') {
            self.check_range(start, end)?;
        } else if !is_all {
            self.value(values)?;
            if let Some(step) = step {
                self.check_step(step)?;
                return Err(format!(
                    "a step follows * or a range; write the {} as {values}-{}/{step}",
                    self.name, self.last
                ));
            }
        }
        step.map_or(Ok(()), |step| self.check_step(step))
    }

    fn check_range(&self, start: &str, end: &str) -> Result<(), String> {
        let (first, mut last) = (self.value(start)?, self.value(end)?);
        let is_same_name = first == last && !start.starts_with(|c: char| c.is_ascii_digit());
        if is_same_name {
            return Err(format!(
                "the range is one {} long; write {start}",
                self.name
            ));
        }
        if self.name == WEEKDAY && last == 0 && end.eq_ignore_ascii_case(WEEKDAYS[0]) {
            last = SUNDAY;
        }
        if first > last {
            return Err(format!(
                "the {} range {start}-{end} ends before it begins; write {start}-{},{}-{end}",
                self.name, self.last, self.first
            ));
        }
        Ok(())
    }

    fn check_step(&self, step: &str) -> Result<(), String> {
        let count = self.last - self.first + u16::from(self.name != WEEKDAY);
        match number(step) {
            Some(number) if (1..=count).contains(&number) => Ok(()),
            Some(_) | None => Err(format!("invalid {} step; use 1 to {count}", self.name)),
        }
    }

    /// Whether an item stands for days that depend on the month.
    fn is_special(&self, item: &str) -> Result<bool, String> {
        let upper = item.to_ascii_uppercase();
        if self.name == DAY {
            return match upper.strip_suffix('W') {
                Some("L") => Ok(true),
                Some(day) => self.value(day).map(|_| true),
                None => Ok(upper == "L"),
            };
        }
        if self.name != WEEKDAY {
            return Ok(false);
        }
        if let Some((day, nth)) = upper.split_once('#') {
            self.value(day)?;
            return match number(nth) {
                Some(1..=5) => Ok(true),
                Some(_) | None => Err("invalid weekday; write #1 to #5".to_owned()),
            };
        }
        match upper.strip_suffix('L') {
            Some(day) => self.value(day).map(|_| true),
            None => Ok(false),
        }
    }

    /// Returns the value that a number or a name stands for.
    fn value(&self, text: &str) -> Result<u16, String> {
        let named = self
            .names
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        if let Some(index) = named.and_then(|index| u16::try_from(index).ok()) {
            return Ok(self.first + index);
        }
        match number(text) {
            Some(value) if (self.first..=self.last).contains(&value) => Ok(value),
            Some(_) | None => Err(format!("invalid {}; {}", self.name, self.hint(text))),
        }
    }

    /// Says which values are allowed, and which name was perhaps meant.
    fn hint(&self, text: &str) -> String {
        let start: String = text.chars().take(3).collect();
        let mut names = self.names.iter();
        if let Some(name) = names.find(|name| name.eq_ignore_ascii_case(&start)) {
            return format!("write {name}");
        }
        let numbers = format!("{} to {}", self.first, self.last);
        match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!("use {first} to {last}, or {numbers}"),
            _ => format!("use {numbers}"),
        }
    }
}

/// Returns a number of one or two digits.
fn number(text: &str) -> Option<u16> {
    let is_number = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::super::Schedule;
    use super::FIELDS;

    fn parse(expression: &str) -> Result<Schedule, String> {
        Schedule::parse(expression, TimeZone::UTC).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_of_the_grammar_are_accepted() {
        for expression in [
            "* * * * *",
            "0 3 * * Mon",
            "0 3 * * mon,WED,fRi",
            "0 3 * * Mon-Fri",
            "0 3 * * Fri-Sun",
            "0 3 * * Sun-Tue",
            "0 3 * * 0-7",
            "0 3 * * 5-7",
            "0 3 * Jan-Mar,Dec *",
            "*/15 */2 */10 */3 */7",
            "00-59/60 0-23/24 01-31/31 1-12/12 0-7/1",
            "30 0 3 * * ?",
            "0 3 ? * 1",
            "0 3 ?/2 * *",
            "0 3 L * *",
            "0 3 LW * *",
            "0 3 l,15w * *",
            "0 3 * * Mon#1,5#5",
            "0 3 * * FriL,0L",
            "\t0  3 * * 1 ",
            "@weekly",
            "@Daily",
        ] {
            assert!(
                parse(expression).is_ok(),
                "{expression}: {:?}",
                parse(expression)
            );
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_field() {
        for (expression, reason) in [
            ("60 3 * * *", "invalid minute; use 0 to 59"),
            ("0 24 * * *", "invalid hour"),
            ("0 3 0 * *", "invalid day"),
            ("0 3 32 * *", "invalid day"),
            ("0 3 * 13 *", "use Jan to Dec, or 1 to 12"),
            ("0 3 * * 8", "use Sun to Sat, or 0 to 7"),
            ("0 3 * * Monday", "write Mon"),
            ("0 3 * January *", "write Jan"),
            ("0 3 * * SunMon", "invalid weekday"),
            ("0 3 * * Mo", "invalid weekday"),
            ("Mon 3 * * *", "invalid minute"),
            ("0 Jan * * *", "invalid hour"),
            ("0 3 * Mon *", "invalid month"),
            ("0 3 * * Jan", "invalid weekday"),
            ("0 3 * * +1", "invalid weekday"),
            ("0 3 * * -1", "invalid weekday"),
            ("003 3 * * *", "invalid minute"),
            ("*/90 * * * *", "use 1 to 60"),
            ("*/0 * * * *", "use 1 to 60"),
            ("*/ * * * *", "use 1 to 60"),
            ("*/5/5 * * * *", "use 1 to 60"),
            ("5/15 * * * *", "as 5-59/15"),
            ("/15 * * * *", "invalid minute"),
            ("50-10 * * * *", "write 50-59,0-10"),
            ("0 3 * * 5-0", "ends before it begins"),
            ("0 3 * * Sun-Sun", "is one weekday long; write Sun"),
            ("1--2 * * * *", "invalid minute"),
            ("1-2-3 * * * *", "invalid minute"),
            ("1, * * * *", "has an empty item"),
            (", * * * *", "has an empty item"),
            ("1,,2 * * * *", "has an empty item"),
            ("** * * * *", "invalid minute"),
            (
                "*,5 * * * *",
                "its list of minutes has * beside other values",
            ),
            ("0 3 *,5 * *", "its list of days has * beside other values"),
            ("0 3 5,? * *", "its list of days has * beside other values"),
            (
                "0 3 * * *,Mon",
                "its list of weekdays has * beside other values",
            ),
            (
                "0 3 * *,* *",
                "its list of months has * beside other values",
            ),
            ("?/5 * * * *", "invalid minute"),
            ("0 3 15W3 * *", "invalid day"),
            ("0 3 W * *", "invalid day"),
            ("0 3 32W * *", "invalid day"),
            ("0 3 * * 1#6", "write #1 to #5"),
            ("0 3 * * 1#", "write #1 to #5"),
            ("0 3 * * 1#2L", "write #1 to #5"),
            ("0 3 * * 1-3#2", "invalid weekday"),
            ("0 3 * * */2#1", "invalid weekday"),
            ("0 3 * * 1-5L", "invalid weekday"),
            ("0 3 * * L", "invalid weekday"),
            ("0 L * * *", "invalid hour"),
            ("0 3 * * fr\u{131}", "invalid weekday"),
            ("0 3 * * \u{17f}un", "invalid weekday"),
            ("\u{661} 3 * * *", "invalid minute"),
            ("0\u{a0}3 * * *", "it has 4 fields"),
            ("0 3 * *", "it has 4 fields"),
            ("0 0 3 * * * 2026", "it has 7 fields"),
            ("@midnight", "unknown short name"),
            ("@reboot", "unknown short name"),
            ("0 3 * * @weekly", "invalid weekday"),
            ("", "it has 0 fields"),
        ] {
            let error = parse(expression).unwrap_err();
            assert!(error.contains(reason), "{expression}: {error}");
        }
    }

    /// One item: how it may be written, and its values.
    fn item(first: u16, last: u16) -> impl Strategy<Value = (String, BTreeSet<u16>)> {
        let values = first..=last;
        prop_oneof![
            values
                .clone()
                .prop_map(|value| (value.to_string(), BTreeSet::from([value]))),
            (1..=last - first).prop_map(move |step| {
                let all = (first..=last).step_by(step.into());
                (format!("*/{step}"), all.collect())
            }),
            (values.clone(), values, 1..=last - first).prop_map(|(one, other, step)| {
                let (start, end) = (one.min(other), one.max(other));
                let all = (start..=end).step_by(step.into());
                (format!("{start:02}-{end:02}/{step}"), all.collect())
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

        /// croner reads what the grammar accepts as it is meant.
        #[test]
        fn croner_reads_the_values_of_the_grammar(
            minute in prop::collection::vec(item(0, 59), 1..4),
            hour in prop::collection::vec(item(0, 23), 1..4),
            day in prop::collection::vec(item(1, 31), 1..4),
            month in prop::collection::vec(item(1, 12), 1..4),
        ) {
            let join = |items: &[(String, BTreeSet<u16>)]| {
                let texts: Vec<&str> = items.iter().map(|(text, _)| text.as_str()).collect();
                let values: BTreeSet<u16> = items.iter().flat_map(|(_, values)| values.clone()).collect();
                (texts.join(","), values.into_iter().collect::<Vec<_>>())
            };
            let [minute, hour, day, month] = [join(&minute), join(&hour), join(&day), join(&month)];
            let expression = format!("{} {} {} {} *", minute.0, hour.0, day.0, month.0);
            let schedule = parse(&expression).unwrap();
            let pattern = &schedule.parsed.cron.pattern;
            prop_assert_eq!(pattern.minutes.values(), minute.1);
            prop_assert_eq!(pattern.hours.values(), hour.1);
            prop_assert_eq!(pattern.days.values(), day.1);
            prop_assert_eq!(pattern.months.values(), month.1);
        }

        /// Whatever croner accepts besides is refused, and nothing panics.
        #[test]
        fn random_fields_are_read_or_refused(
            fields in prop::collection::vec("[*?,/0-9LW#+@ -]{1,6}|(Sun|Mon|Jan|Dec)[a-zL,-]{0,4}", 5..7),
        ) {
            let expression = fields.join(" ");
            let is_one_field = fields.iter().all(|field| !field.contains(' '));
            if is_one_field && parse(&expression).is_ok() {
                for (field, text) in FIELDS[FIELDS.len() - fields.len()..].iter().zip(&fields) {
                    for item in text.split(',') {
                        prop_assert!(field.check_item(item).is_ok(), "{}", expression);
                        prop_assert!(!item.is_empty() && !item.contains(['+', '@']));
                    }
                }
            }
        }
    }
}
