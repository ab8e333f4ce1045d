//! `spark-pipeline.yml`, the file open-source Spark 4.3 reads: its keys, no more and no fewer.
//!
//! `storage` may also be a path relative to the file, which Spark refuses; a `file:` URI works on both. An object store
//! as storage is for checkpoints, as it is in Spark: tables without a path of their own stay beside the project. A glob
//! is what Spark takes, the path of a file or `FOLDER/**`, or any other that the crate `glob` reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use highwater_connectors::registry::connectors;
use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

use super::{DEFAULT_STORAGE, SparkNames};
use crate::config::yaml;
use crate::error::{Failure, Result};

/// The file's names inside a project; Spark knows both.
const FILE_NAMES: [&str; 2] = ["spark-pipeline.yml", "spark-pipeline.yaml"];

/// A project's description.
#[derive(Debug)]
pub(super) struct SparkPipeline {
    /// The project's name.
    pub(super) name: String,
    /// Values for `${name}`.
    pub(super) configuration: BTreeMap<String, String>,
    storage: String,
    catalog: Option<String>,
    database: Option<String>,
    includes: Vec<String>,
    source: Source,
    storage_location: Location,
    libraries_location: Location,
}

/// The file and its text, for errors.
#[derive(Debug)]
struct Source {
    file: String,
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    storage: Spanned<String>,
    #[serde(default)]
    catalog: Option<String>,
    #[serde(default)]
    database: Option<String>,
    #[serde(default)]
    schema: Option<Spanned<String>>,
    #[serde(default)]
    configuration: Option<BTreeMap<String, String>>,
    #[serde(default)]
    libraries: Option<Spanned<Vec<Library>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Library {
    glob: Glob,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Glob {
    include: String,
}

impl SparkPipeline {
    /// Whether there is such a file in `folder`.
    pub(super) fn is_in(folder: &Path) -> bool {
        FILE_NAMES.iter().any(|name| folder.join(name).is_file())
    }

    /// Whether a path names such a file.
    pub(super) fn is_file_name(path: &Path) -> bool {
        path.file_name().is_some_and(|found| FILE_NAMES.iter().any(|name| found == *name))
    }

    /// Reads the file in `root`.
    pub(super) fn load(root: &Path) -> Result<Self> {
        let [yml, yaml] = FILE_NAMES.map(|name| root.join(name));
        if yml.is_file() && yaml.is_file() {
            return Err(Failure::invalid(format!("{} and {} are both there", yml.display(), yaml.display()))
                .help("keep one of the two"));
        }
        let path = if yaml.is_file() { yaml } else { yml };
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::usage(format!("the folder {} has no {}", root.display(), FILE_NAMES[0]))
                    .help("name a project folder or an SQL file; 'highwater init NAME' makes a project")
            }
            _ => Failure::runtime(format!("{} cannot be read: {error}", path.display())),
        })?;
        Self::parse(Source { file: path.display().to_string(), text })
    }

    fn parse(source: Source) -> Result<Self> {
        let file: File = yaml::parse(&source.file, &source.text)?;
        if let (Some(schema), Some(_)) = (&file.schema, &file.database) {
            let message = "'database' and 'schema' mean the same and both are given".to_owned();
            return Err(source.failure(schema.referenced, message).help("keep one of the two"));
        }
        Ok(Self {
            name: file.name,
            // The namespace of the tables on Spark; Highwater's own catalog has one.
            catalog: file.catalog,
            database: file.database.or(file.schema.map(|schema| schema.value)),
            configuration: file.configuration.unwrap_or_default(),
            storage_location: file.storage.referenced,
            storage: file.storage.value,
            libraries_location: file.libraries.as_ref().map_or(Location::UNKNOWN, |libraries| libraries.referenced),
            includes: file
                .libraries
                .into_iter()
                .flat_map(|libraries| libraries.value)
                .map(|library| library.glob.include)
                .collect(),
            source,
        })
    }

    /// The local folder of tables and status files: `storage`, unless that is an object store.
    pub(super) fn storage_path(&self, root: &Path) -> Result<PathBuf> {
        if let Some(rest) = self.storage.strip_prefix("file:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if path.starts_with('/') {
                return Ok(PathBuf::from(path));
            }
            let message = format!("storage '{}' is not absolute, expected file:///FOLDER", self.storage);
            return Err(self.source.failure(self.storage_location, message));
        }
        if let Some((scheme, _)) = self.storage.split_once("://") {
            let registry = connectors();
            let known: Vec<&str> = registry.object_stores.schemes().collect();
            if known.contains(&scheme) {
                return Ok(root.join(DEFAULT_STORAGE));
            }
            let message = format!("storage '{}' is neither a local folder nor an object store", self.storage);
            let failure = self.source.failure(self.storage_location, message);
            return Err(failure.help(format!("use a path, file:///FOLDER, or one of: {}", known.join(", "))));
        }
        Ok(root.join(&self.storage))
    }

    /// What Spark is told: a storage on this machine as an absolute URI, which is what it takes.
    pub(super) fn spark_names(&self, root: &Path) -> Result<SparkNames> {
        let storage = if self.remote_checkpoints().is_some() {
            self.storage.clone()
        } else {
            file_uri(&self.storage_path(root)?)
        };
        Ok(SparkNames { storage: Some(storage), catalog: self.catalog.clone(), database: self.database.clone() })
    }

    /// Where checkpoints are, if `storage` is an object store.
    pub(super) fn remote_checkpoints(&self) -> Option<String> {
        let is_remote = self.storage.contains("://") && !self.storage.starts_with("file:");
        is_remote.then(|| format!("{}/checkpoints", self.storage.trim_end_matches('/')))
    }

    /// The SQL files the libraries name, each once, in the order of their paths.
    pub(super) fn sql_files(&self, root: &Path) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for include in &self.includes {
            for path in self.matches(root, include)? {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("sql") if !files.contains(&path) => files.push(path),
                    Some("py") => return Err(self.python(&path)),
                    _ => {}
                }
            }
        }
        if self.includes.is_empty() {
            let failure = self.source.failure(self.libraries_location, "'libraries' names no SQL files".to_owned());
            return Err(failure.help("add them: libraries: [{glob: {include: transformations/**}}]"));
        }
        if files.is_empty() {
            let message = format!("no .sql file matches {}", self.includes.join(", "));
            let failure = self.source.failure(self.libraries_location, message);
            return Err(failure.help("put SQL files under transformations/, or change the glob"));
        }
        files.sort();
        Ok(files)
    }

    fn matches(&self, root: &Path, include: &str) -> Result<Vec<PathBuf>> {
        let bad = |reason: String| {
            self.source.failure(self.libraries_location, format!("'{include}' is not a usable glob: {reason}"))
        };
        // `transformations/**` means every file below; the glob crate takes a last `**` for folders only.
        let pattern = if include.ends_with("**") { format!("{include}/*") } else { include.to_owned() };
        let root = glob::Pattern::escape(&root.display().to_string());
        let paths = glob::glob(&format!("{root}/{pattern}")).map_err(|error| bad(error.msg.to_owned()))?;
        let mut found: Vec<PathBuf> =
            paths.collect::<Result<_, _>>().map_err(|error| Failure::runtime(error.to_string()))?;
        found.retain(|path| path.is_file());
        Ok(found)
    }

    fn python(&self, path: &Path) -> Failure {
        Failure::invalid(format!("{} is Python, Highwater runs SQL", path.display()))
            .help("write it as SQL, or narrow the glob in spark-pipeline.yml to *.sql files")
    }
}

/// A folder of this machine as a URI.
fn file_uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    format!("file://{}", absolute.display().to_string().trim_end_matches('/'))
}

impl Source {
    fn failure(&self, location: Location, message: String) -> Failure {
        yaml::failure_at(&self.file, &self.text, location, message, 1)
    }
}
