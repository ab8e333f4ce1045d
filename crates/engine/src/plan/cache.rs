//! How the rows of a static table are kept between batches: options of the table that are the engine's, not the
//! connector's.
//!
//! | option | meaning |
//! |---|---|
//! | `cache.refresh` | rows are kept in memory for so long; not given: they are read anew for each batch |
//! | `cache.maxAge` | how old they may become while reading them anew fails; ten times `cache.refresh` if not given |
//! | `cache.maxBytes` | memory for them in each join; 256MiB if rows are kept |
//! | `lookup` | `always`: only the rows with a batch's keys are asked for; `auto`: where the table has no room; `never` |
//!
//! A key that begins with `cache.` and is none of these is refused here.

use std::collections::BTreeSet;
use std::time::Duration;

use super::catalog::{OptionReader, Options};
use super::interval::parse_duration_us;
use super::size::parse_size;
use crate::error::{EngineError, Result, nearest};

/// When a table is asked for the rows of single keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum LookupMode {
    /// When it has no room in memory.
    #[default]
    Auto,
    /// For each batch.
    Always,
    /// Never: a table without room is an error.
    Never,
}

/// How the rows of a static side are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CacheSettings {
    /// For how long; none to read them for each batch.
    pub(crate) refresh: Option<Duration>,
    max_age: Option<Duration>,
    max_bytes: Option<u64>,
    /// When single keys are asked for.
    pub(crate) lookup: LookupMode,
}

/// Memory for kept rows unless the table says otherwise.
const DEFAULT_MAX_BYTES: u64 = 256 << 20;

impl CacheSettings {
    /// Takes the engine's options out of those of a table.
    pub(crate) fn take(table: &str, options: &mut Options) -> Result<Self> {
        let is_ours = |key: &str| {
            key.eq_ignore_ascii_case("lookup") || key.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("cache."))
        };
        let ours: Options = options.iter().filter(|(key, _)| is_ours(key)).collect();
        *options = options.iter().filter(|(key, _)| !is_ours(key)).collect();
        let object = format!("table {table}");
        let mut reader = ours.reader(&object);
        let refresh = duration(&object, "cache.refresh", &mut reader)?;
        let max_age = duration(&object, "cache.maxAge", &mut reader)?;
        let max_bytes = reader.text("cache.maxBytes").map(parse_size).transpose();
        let max_bytes = max_bytes
            .map_err(|mistake| EngineError::config(format!("{object}: option 'cache.maxBytes': {mistake}")))?;
        let lookup = lookup_mode(&object, reader.text("lookup"))?;
        reader.finish()?;
        if let (Some(age), refresh) = (max_age, refresh.unwrap_or_default())
            && age < refresh
        {
            return Err(EngineError::config(format!("{object}: 'cache.maxAge' is shorter than 'cache.refresh'"))
                .help("make it longer: it is how old rows may become while reading them anew fails"));
        }
        Ok(Self { refresh, max_age, max_bytes, lookup })
    }

    /// Those of a static side that reads several tables: what is kept must be good for each of them.
    pub(crate) fn of_all<'a>(tables: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut tables = tables.into_iter();
        let Some(mut all) = tables.next().cloned() else { return Self::default() };
        for table in tables {
            all.refresh = all.refresh.zip(table.refresh).map(|(a, b)| a.min(b));
            all.max_age = all.max_age.into_iter().chain(table.max_age).min();
            all.max_bytes =
                all.max_bytes.map_or(table.max_bytes, |a| Some(a.saturating_add(table.max_bytes.unwrap_or(0))));
            all.lookup = all.lookup.max(table.lookup);
        }
        all
    }

    /// How old rows may become while reading them anew fails.
    pub(crate) fn max_age(&self, refresh: Duration) -> Duration {
        self.max_age.unwrap_or(refresh.saturating_mul(10))
    }

    /// Memory for the whole table; none if it may take what it needs, as where nothing of it is kept.
    pub(crate) fn whole_limit(&self) -> Option<u64> {
        self.max_bytes.or_else(|| self.refresh.map(|_| DEFAULT_MAX_BYTES))
    }

    /// Memory for the rows of keys that were asked for.
    pub(crate) fn lookup_limit(&self) -> u64 {
        self.max_bytes.unwrap_or(DEFAULT_MAX_BYTES)
    }
}

fn duration(object: &str, key: &str, reader: &mut OptionReader<'_>) -> Result<Option<Duration>> {
    let Some(text) = reader.text(key) else { return Ok(None) };
    let micros = parse_duration_us(text, key).ok().and_then(|micros| u64::try_from(micros).ok());
    let micros = micros.ok_or_else(|| {
        EngineError::config(format!("{object}: option '{key}' is '{text}', expected a length of time"))
            .help(format!("write for example '{key}' = '10 minutes'"))
    })?;
    Ok(Some(Duration::from_micros(micros)))
}

fn lookup_mode(object: &str, text: Option<&str>) -> Result<LookupMode> {
    let Some(text) = text else { return Ok(LookupMode::default()) };
    let known = [("auto", LookupMode::Auto), ("always", LookupMode::Always), ("never", LookupMode::Never)];
    if let Some((_, mode)) = known.iter().find(|(word, _)| text.trim().eq_ignore_ascii_case(word)) {
        return Ok(*mode);
    }
    let error = EngineError::config(format!("{object}: option 'lookup' is '{text}', expected auto, always or never"));
    Err(match nearest(text, known.iter().map(|(word, _)| *word)) {
        Some(near) => error.help(format!("did you mean '{near}'?")),
        None => error,
    })
}

/// The names of tables, for messages.
pub(crate) fn names(tables: &BTreeSet<String>) -> String {
    tables.iter().map(|table| format!("'{table}'")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(options: &[(&str, &str)]) -> Result<(CacheSettings, Options)> {
        let mut options: Options = options.iter().copied().collect();
        Ok((CacheSettings::take("t", &mut options)?, options))
    }

    #[test]
    fn the_engines_options_are_taken_and_the_others_left() {
        let given = [("path", "/x"), ("CACHE.refresh", "10 minutes"), ("cache.maxBytes", "1MiB"), ("lookup", "Always")];
        let (settings, left) = taken(&given).unwrap();
        assert_eq!(settings.refresh, Some(Duration::from_secs(600)));
        assert_eq!(settings.max_age(Duration::from_secs(600)), Duration::from_secs(6000));
        assert_eq!((settings.whole_limit(), settings.lookup), (Some(1 << 20), LookupMode::Always));
        assert_eq!(left, [("path", "/x")].into_iter().collect());
        assert_eq!(taken(&[]).unwrap().0.whole_limit(), None);
    }

    #[test]
    fn mistakes_name_the_option() {
        let check = |key: &str, value: &str, expected: &str| {
            let error = taken(&[("cache.refresh", "1 hour"), (key, value)]).unwrap_err();
            let help = error.next_step().map(|help| format!("; {help}")).unwrap_or_default();
            assert_eq!(format!("{error}{help}"), expected);
        };
        check(
            "cache.refersh",
            "1 s",
            "table t has no option of the name 'cache.refersh'; did you mean 'cache.refresh'?",
        );
        check(
            "cache.refresh",
            "soon",
            "table t: option 'cache.refresh' is 'soon', expected a length of time; write for example 'cache.refresh' = '10 minutes'",
        );
        check(
            "cache.maxAge",
            "1 minute",
            "table t: 'cache.maxAge' is shorter than 'cache.refresh'; make it longer: it is how old rows may become while reading them anew fails",
        );
        check(
            "cache.maxBytes",
            "much",
            "table t: option 'cache.maxBytes': 'much' is not a size such as 512, 10kB, 1.5GB, 64MiB, 64m",
        );
        check(
            "lookup",
            "alway",
            "table t: option 'lookup' is 'alway', expected auto, always or never; did you mean 'always'?",
        );
    }

    #[test]
    fn several_tables_are_kept_as_the_shortest_lived() {
        let table = |options: &[(&str, &str)]| taken(options).unwrap().0;
        let long = table(&[("cache.refresh", "1 hour"), ("cache.maxBytes", "10")]);
        let short = table(&[("cache.refresh", "1 minute"), ("cache.maxBytes", "5"), ("lookup", "never")]);
        let both = CacheSettings::of_all([&long, &short]);
        assert_eq!((both.refresh, both.whole_limit()), (Some(Duration::from_secs(60)), Some(15)));
        assert_eq!(both.lookup, LookupMode::Never);
        assert_eq!(CacheSettings::of_all([&long, &table(&[])]).refresh, None);
    }
}
