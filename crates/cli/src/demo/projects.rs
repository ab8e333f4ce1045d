//! The example projects inside the binary, and on disk where the demo runs them.

use std::path::{Path, PathBuf};

use crate::error::{Failure, Result};

/// An example of the demo.
pub(super) struct Example {
    /// Its folder's name.
    name: &'static str,
    /// The topics it reads and writes.
    pub(super) topics: &'static [&'static str],
    files: &'static [(&'static str, &'static str)],
}

macro_rules! files {
    ($example:literal: $($file:literal),+ $(,)?) => {
        &[$(($file, include_str!(concat!("../../../../examples/", $example, "/", $file)))),+]
    };
}

/// What the demo runs.
pub(super) const EXAMPLES: [Example; 3] = [
    Example {
        name: "fraud",
        topics: &["payments.card.authorized", "payments.fraud.suspected"],
        files: files!(
            "fraud": "spark-pipeline.yml", "highwater.yml", "README.md", "transformations/1_topics.sql",
            "transformations/2_alerts.sql",
        ),
    },
    Example {
        name: "user-behaviour",
        topics: &["web.page.viewed"],
        files: files!(
            "user-behaviour": "spark-pipeline.yml", "highwater.yml", "README.md", "pages.csv",
            "transformations/1_tables.sql", "transformations/2_traffic.sql",
        ),
    },
    Example {
        name: "iot",
        topics: &["iot.sensor.measured"],
        files: files!(
            "iot": "spark-pipeline.yml", "highwater.yml", "README.md", "transformations/1_readings.sql",
            "transformations/2_devices.sql",
        ),
    },
];

/// Writes an example below `data`, unless it is there: what a user changed stays. Gives its folder.
pub(super) fn write(example: &Example, data: &Path) -> Result<PathBuf> {
    let folder = data.join(example.name);
    for (name, text) in example.files {
        let path = folder.join(name);
        if path.exists() {
            continue;
        }
        std::fs::create_dir_all(path.parent().unwrap_or(&folder))
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| Failure::runtime(format!("{} cannot be written: {error}", path.display())))?;
    }
    Ok(folder)
}
