//! The dates that a cron expression matches.

use croner::Cron;
use jiff::civil::{Date, Weekday};

/// The number of years searched for a matching date. 29 February falls on each weekday
/// within 40 years, even across 2100, which has none.
const YEARS_SEARCHED: i16 = 48;

/// Returns whether any date matches the expression.
pub(super) fn can_fire(cron: &Cron) -> bool {
    let months: Vec<i8> = to_i8_values(&cron.pattern.months.values());
    (2020..2020 + YEARS_SEARCHED).any(|year| {
        months.iter().any(|month| {
            Date::new(year, *month, 1).is_ok_and(|first| {
                (1..=first.days_in_month())
                    .filter_map(|day| Date::new(year, *month, day).ok())
                    .any(|date| matches_date(cron, date))
            })
        })
    })
}

/// Returns whether the expression's day fields match `date`.
pub(super) fn matches_date(cron: &Cron, date: Date) -> bool {
    let (Ok(month), Ok(day)) = (u32::try_from(date.month()), u32::try_from(date.day())) else {
        return false;
    };
    let pattern = &cron.pattern;
    pattern.month_match(month).unwrap_or(false)
        && pattern
            .day_match(
                i32::from(date.year()),
                month,
                day,
                to_croner_weekday(date.weekday()),
            )
            .unwrap_or(false)
}

const fn to_croner_weekday(day: Weekday) -> croner::time::Weekday {
    use croner::time::Weekday as W;
    match day {
        Weekday::Sunday => W::Sunday,
        Weekday::Monday => W::Monday,
        Weekday::Tuesday => W::Tuesday,
        Weekday::Wednesday => W::Wednesday,
        Weekday::Thursday => W::Thursday,
        Weekday::Friday => W::Friday,
        Weekday::Saturday => W::Saturday,
    }
}

fn to_i8_values(values: &[u16]) -> Vec<i8> {
    values
        .iter()
        .filter_map(|value| i8::try_from(*value).ok())
        .collect()
}
