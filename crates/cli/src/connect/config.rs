//! The configuration of a session: keys that PySpark's client asks for have Spark's defaults, others are what was set.
//!
//! A key that nobody set and that is not here is none, as in Spark. What is set is kept and told; of Spark's keys the engine
//! follows those of the session's time zone, of the watermark, and of what checkpoints and state keep.

use std::collections::BTreeMap;

use highwater_engine::plan::datetime_pattern::zone::Zone;

use super::problem::{Problem, Result};
use crate::spark_connect::messages::{ConfigKind, KeyValue};

/// How many keys a session may set, and how long a key and its value may be.
const MAX_KEYS: usize = 4096;
const MAX_TEXT_BYTES: usize = 64 << 10;

/// The key of the session's time zone.
const TIME_ZONE: &str = "spark.sql.session.timeZone";

/// Defaults that clients ask for.
const DEFAULTS: [(&str, &str); 27] = [
    ("spark.connect.session.planCompression.defaultAlgorithm", "NONE"),
    ("spark.connect.session.planCompression.threshold", "-1"),
    ("spark.sql.ansi.enabled", "true"),
    ("spark.sql.caseSensitive", "false"),
    ("spark.sql.connect.serverStacktrace.enabled", "false"),
    ("spark.sql.execution.arrow.pyspark.selfDestruct.enabled", "false"),
    ("spark.sql.execution.arrow.useLargeVarTypes", "false"),
    ("spark.sql.execution.pandas.convertToArrowArraySafely", "false"),
    ("spark.sql.execution.pandas.inferPandasDictAsMap", "false"),
    ("spark.sql.execution.pandas.structHandlingMode", "legacy"),
    ("spark.sql.execution.pyspark.binaryAsBytes", "true"),
    ("spark.sql.execution.pythonUDF.arrow.enabled", "true"),
    ("spark.sql.execution.pythonUDTF.arrow.enabled", "false"),
    ("spark.sql.pyspark.inferNestedDictAsStruct.enabled", "false"),
    ("spark.sql.pyspark.jvmStacktrace.enabled", "false"),
    ("spark.sql.pyspark.legacy.inferArrayTypeFromFirstElement.enabled", "false"),
    ("spark.sql.pyspark.legacy.inferMapTypeFromFirstPair.enabled", "false"),
    ("spark.sql.repl.eagerEval.enabled", "false"),
    ("spark.sql.repl.eagerEval.maxNumRows", "20"),
    ("spark.sql.repl.eagerEval.truncate", "20"),
    ("spark.sql.session.localRelationBatchOfChunksSizeBytes", "1073741824"),
    ("spark.sql.session.localRelationCacheThreshold", "67108864"),
    ("spark.sql.session.localRelationChunkSizeBytes", "16777216"),
    ("spark.sql.session.localRelationChunkSizeRows", "10000"),
    ("spark.sql.session.localRelationSizeLimit", "3221225472"),
    (TIME_ZONE, "UTC"),
    ("spark.sql.timestampType", "TIMESTAMP_LTZ"),
];

/// The keys of a session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config(BTreeMap<String, String>);

impl Config {
    /// Keys a session begins with.
    pub(crate) fn new(given: BTreeMap<String, String>) -> Self {
        Self(given)
    }

    /// What was set.
    pub(crate) fn given(&self) -> BTreeMap<String, String> {
        self.0.clone()
    }

    /// Sets a key.
    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if key.len() + value.len() > MAX_TEXT_BYTES {
            return Err(Problem::argument(format!(
                "a configuration key and its value are longer than {MAX_TEXT_BYTES} bytes"
            )));
        }
        if self.0.len() >= MAX_KEYS && !self.0.contains_key(key) {
            return Err(Problem::exhausted(format!("a session has at most {MAX_KEYS} configuration keys")));
        }
        self.0.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Answers an operation.
    pub(crate) fn answer(&mut self, operation: &ConfigKind) -> Result<Vec<KeyValue>> {
        match operation {
            ConfigKind::Set(set) => {
                for pair in &set.pairs {
                    self.set(&pair.key, pair.value.as_deref().unwrap_or_default())?;
                }
                Ok(Vec::new())
            }
            ConfigKind::Get(keys) => keys
                .keys
                .iter()
                .map(|key| match self.get(key) {
                    Some(value) => Ok(pair(key, Some(value))),
                    None => {
                        Err(Problem::handle("SQL_CONF_NOT_FOUND", format!("The SQL config \"{key}\" cannot be found.")))
                    }
                })
                .collect(),
            ConfigKind::GetWithDefault(pairs) => {
                let value = |given: &KeyValue| self.get(&given.key).map(str::to_owned).or_else(|| given.value.clone());
                Ok(pairs.pairs.iter().map(|given| KeyValue { key: given.key.clone(), value: value(given) }).collect())
            }
            ConfigKind::GetOption(keys) => Ok(keys.keys.iter().map(|key| pair(key, self.get(key))).collect()),
            ConfigKind::GetAll(all) => {
                let prefix = all.prefix.as_deref().unwrap_or_default();
                let given = self.0.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
                Ok(given.map(|(key, value)| pair(key, Some(value))).collect())
            }
            ConfigKind::Unset(keys) => {
                keys.keys.iter().for_each(|key| drop(self.0.remove(key)));
                Ok(Vec::new())
            }
            ConfigKind::IsModifiable(keys) => {
                let modifiable = |key: &str| if key.starts_with("spark.sql.") { "true" } else { "false" };
                Ok(keys.keys.iter().map(|key| pair(key, Some(modifiable(key)))).collect())
            }
        }
    }

    /// Whose clocks instants are shown by.
    pub(crate) fn zone(&self) -> Result<Zone> {
        let name = self.get(TIME_ZONE).unwrap_or("UTC");
        Zone::parse(name).ok_or_else(|| {
            Problem::argument(format!("{TIME_ZONE} is '{name}', which is no time zone\nset one such as Europe/Berlin"))
        })
    }

    fn get(&self, key: &str) -> Option<&str> {
        let default = || DEFAULTS.iter().find(|(known, _)| *known == key).map(|(_, value)| *value);
        self.0.get(key).map(String::as_str).or_else(default)
    }
}

fn pair(key: &str, value: Option<&str>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spark_connect::messages::{ConfigKeys, ConfigPairs};

    #[test]
    fn keys_are_set_told_and_forgotten() {
        let mut config = Config::default();
        let keys = |key: &str| ConfigKeys { keys: vec![key.to_owned()] };
        let get = |config: &mut Config, key: &str| {
            config.answer(&ConfigKind::Get(keys(key))).map(|pairs| pairs[0].value.clone()).ok().flatten()
        };
        assert_eq!(get(&mut config, "spark.sql.session.timeZone").as_deref(), Some("UTC"));
        assert_eq!(get(&mut config, "no.such.key"), None);
        config.answer(&ConfigKind::Set(ConfigPairs { pairs: vec![pair("a", Some("b"))] })).unwrap();
        assert_eq!(get(&mut config, "a").as_deref(), Some("b"));
        config.answer(&ConfigKind::Unset(keys("a"))).unwrap();
        assert_eq!(get(&mut config, "a"), None);
        assert!(config.set("a", &"x".repeat(MAX_TEXT_BYTES)).is_err());
    }
}
