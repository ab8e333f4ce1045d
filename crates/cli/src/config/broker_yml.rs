//! The settings of `highwater broker` from a file: those of [`BrokerSettings`], by their names.
//!
//! ```yaml
//! listen: 127.0.0.1:9092
//! data_dir: broker-data       # relative to the folder this file is in
//! fsync: 200ms                # always | os | an interval
//! retention_ms: 259200000
//! ```
//!
//! What the file does not say is the broker's default. A value that cannot work is shown in its line.

use std::collections::BTreeMap;
use std::path::Path;

use highwater_broker::{BrokerError, BrokerSettings};
use serde::de::IgnoredAny;
use serde_saphyr::{Location, Spanned};

use super::yaml;
use crate::error::{Failure, Place, Result};

/// A file of broker settings, with the places of its keys.
#[derive(Debug, Default)]
pub(crate) struct BrokerYml {
    /// The settings, with the broker's defaults where the file says nothing.
    pub(crate) settings: BrokerSettings,
    file: String,
    text: String,
    places: BTreeMap<String, Location>,
}

impl BrokerYml {
    /// Reads `path`, which must be there.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Failure::usage(format!("there is no file {file}"))
                .help("--config names a YAML file of broker settings; without it the defaults are used"),
            _ => Failure::runtime(format!("{file} cannot be read: {error}")),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut yml = Self::parse(file, text)?;
        if yml.names("data_dir") {
            yml.settings.data_dir = folder.join(&yml.settings.data_dir);
        }
        Ok(yml)
    }

    fn parse(file: String, text: String) -> Result<Self> {
        // A file of comments only is an empty document, not an empty mapping.
        let settings: Option<BrokerSettings> = yaml::parse(&file, &text)?;
        let keys: Option<BTreeMap<String, Spanned<IgnoredAny>>> = yaml::parse(&file, &text)?;
        let places = keys.unwrap_or_default().into_iter().map(|(key, value)| (key, value.referenced)).collect();
        Ok(Self { settings: settings.unwrap_or_default(), file, text, places })
    }

    /// Whether the file says anything about `key`.
    pub(crate) fn names(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// The failure of settings that cannot work, at the line that says so if the file does.
    pub(crate) fn failure(&self, error: &BrokerError) -> Failure {
        let key = match error {
            BrokerError::InvalidSetting { name, .. } => *name,
            BrokerError::ListenNotLoopback { .. } => "listen",
            _ => return Failure::runtime(error.to_string()),
        };
        match self.places.get(key) {
            Some(location) => {
                let length = self.value_length(*location);
                yaml::failure_at(&self.file, &self.text, *location, error.to_string(), length)
            }
            None if self.file.is_empty() => Failure::usage(error.to_string()),
            None => Failure::usage(error.to_string()).at(Place::file(&self.file)),
        }
    }

    /// How long the value at `location` is, without the comment behind it.
    fn value_length(&self, location: Location) -> usize {
        let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        let line = self.text.lines().nth(index(location.line())).unwrap_or_default();
        let value: String = line.chars().skip(index(location.column())).collect();
        value.split(" #").next().unwrap_or_default().trim_end().chars().count()
    }
}

#[cfg(test)]
mod tests {
    use highwater_broker::FsyncMode;

    use super::*;

    fn parse(text: &str) -> Result<BrokerYml, String> {
        let yml = BrokerYml::parse("broker.yml".to_owned(), text.to_owned());
        let yml = yml.map_err(|failure| failure.render(false))?;
        yml.settings.check().map_err(|error| yml.failure(&error).render(false))?;
        Ok(yml)
    }

    #[test]
    fn settings_have_the_brokers_names() {
        let yml = parse("fsync: 50ms\nretention_ms: 1000\nauto_create_topics: false # comment\n").unwrap();
        assert_eq!(yml.settings.fsync, FsyncMode::Interval { interval_ms: 50 });
        assert_eq!((yml.settings.retention_ms, yml.settings.auto_create_topics), (1000, false));
        assert!(yml.names("fsync") && !yml.names("data_dir"));
        assert_eq!(parse("# nothing\n").unwrap().settings, BrokerSettings::default());
    }

    #[test]
    fn mistakes_are_shown_in_their_line() {
        let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap_err(), expected);
        check(
            "fsync: os\nretention_sm: 5\n",
            "error: unknown key 'retention_sm'\n  --> broker.yml:2:1\n   |\n 2 | retention_sm: 5\n   | ^^^^^^^^^^^^\nhelp: did \
             you mean 'retention_ms'?\n",
        );
        check(
            "segment_bytes: 10 # small\n",
            "error: broker setting `segment_bytes` is 10, expected at least 1024\n  --> broker.yml:1:16\n   |\n 1 | \
             segment_bytes: 10 # small\n   |                ^^\n",
        );
        check(
            "corrupt_log: truncat\n",
            "error: 'truncat' is not one of refuse, truncate\n  --> broker.yml:1:14\n   |\n 1 | corrupt_log: truncat\n   \
             |              ^^^^^^^\nhelp: did you mean 'truncate'?\n",
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_has_its_place() {
        for (text, place) in
            [("fsync: sometimes\n", "1:8"), ("retention_ms: soon\n", "1:15"), ("\nmax_connections: -1\n", "2:18")]
        {
            let shown = parse(text).unwrap_err();
            assert!(shown.contains(&format!("broker.yml:{place}\n")), "{shown}");
        }
        assert!(parse("fsync: sometimes\n").unwrap_err().contains("expected `always`, `os`, or an interval"));
    }
}
