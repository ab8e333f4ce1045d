//! What `highwater run` is pointed at: a project folder, one SQL file, or SQL text.
//!
//! ```text
//!   folder ─ spark-pipeline.yml ─ libraries (globs) ─> *.sql ─┐
//!          └ highwater.yml ─> settings                        ├─ ${name} replaced ─> Project
//!   file.sql, -e 'SQL' ───────────────────────────────────────┘
//! ```
//!
//! A folder is an open-source Spark 4.3 Declarative Pipelines project. What Spark would read and Highwater cannot run
//! (Python files) is refused by name, never skipped.

mod spark_pipeline;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::highwater_yml::HighwaterYml;
use crate::config::parameters::Parameters;
use crate::error::{Failure, Result};
use spark_pipeline::SparkPipeline;

/// Where a run without a project and without `--storage` keeps tables and checkpoints.
pub(crate) const DEFAULT_STORAGE: &str = "highwater-data";

/// What to run.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A project folder, its `spark-pipeline.yml`, or an SQL file.
    Path(PathBuf),
    /// The text of `-e`.
    Text(String),
}

/// SQL files with their parameters replaced, and the settings they run under.
#[derive(Debug)]
pub(crate) struct Project {
    /// The project's name; a file's stem; `sql` for text.
    pub(crate) name: String,
    /// The folder relative paths in the settings are relative to.
    pub(crate) root: PathBuf,
    /// The files, in the order of their names.
    pub(crate) files: Vec<SqlFile>,
    /// Where tables and checkpoints are kept, if the project says.
    pub(crate) storage: Option<PathBuf>,
    /// Where checkpoints are kept, if the project's storage is an object store.
    pub(crate) checkpoints: Option<String>,
    /// Where Spark is to keep what it writes, and the namespace of the tables there.
    pub(crate) spark: SparkNames,
    /// `configuration` of the project with `--param` on top.
    pub(crate) configuration: BTreeMap<String, String>,
    /// `highwater.yml`, or its defaults.
    pub(crate) settings: HighwaterYml,
}

/// What a project says to Spark alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SparkNames {
    /// `storage`, as a URI.
    pub(crate) storage: Option<String>,
    /// The catalog of its tables.
    pub(crate) catalog: Option<String>,
    /// Their database, also called schema.
    pub(crate) database: Option<String>,
}

/// One SQL file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SqlFile {
    /// The path as errors show it.
    pub(crate) name: String,
    /// The text, parameters replaced.
    pub(crate) text: String,
}

impl Project {
    /// Reads everything `target` names; `params` are those of the command line.
    pub(crate) fn load(target: &Target, params: &BTreeMap<String, String>) -> Result<Self> {
        Self::read(target, params)?.with_parameters()
    }

    fn read(target: &Target, params: &BTreeMap<String, String>) -> Result<Self> {
        match target {
            Target::Text(text) => Ok(Self::from_texts("sql", PathBuf::new(), vec![file("-e", text)], params)),
            Target::Path(path) if path.is_dir() => Self::from_folder(path, params),
            Target::Path(path) if SparkPipeline::is_file_name(path) => Self::from_folder(parent(path), params),
            Target::Path(path) => {
                let text = read(path)?;
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                Ok(Self::from_texts(&name, PathBuf::new(), vec![file(&path.display().to_string(), &text)], params))
            }
        }
    }

    /// The folder of the project that `folder` is in: itself or one above it, as Spark looks for it.
    pub(crate) fn around(folder: &Path) -> Option<PathBuf> {
        if SparkPipeline::is_in(folder) {
            return Some(folder.to_owned());
        }
        let absolute = std::path::absolute(folder).ok()?;
        absolute.ancestors().skip(1).find(|above| SparkPipeline::is_in(above)).map(Path::to_owned)
    }

    /// Reads everything `target` names, but replaces no parameters.
    pub(crate) fn load_unresolved(target: &Target) -> Result<Self> {
        Self::read(target, &BTreeMap::new())
    }

    /// The storage of the project in `folder`, without reading its queries.
    pub(crate) fn storage_in(folder: &Path) -> Result<PathBuf> {
        SparkPipeline::load(folder)?.storage_path(folder)
    }

    fn from_texts(name: &str, root: PathBuf, files: Vec<SqlFile>, params: &BTreeMap<String, String>) -> Self {
        Self {
            name: name.to_owned(),
            root,
            files,
            storage: None,
            checkpoints: None,
            spark: SparkNames::default(),
            configuration: params.clone(),
            settings: HighwaterYml::default(),
        }
    }

    fn from_folder(root: &Path, params: &BTreeMap<String, String>) -> Result<Self> {
        let pipeline = SparkPipeline::load(root)?;
        let settings = HighwaterYml::load(root)?;
        let mut files: Vec<PathBuf> = settings.catalog.iter().map(|name| root.join(name)).collect();
        files.extend(pipeline.sql_files(root)?.into_iter().filter(|path| !files.contains(path)).collect::<Vec<_>>());
        let mut configuration = pipeline.configuration.clone();
        configuration.extend(params.clone());
        Ok(Self {
            storage: Some(pipeline.storage_path(root)?),
            checkpoints: pipeline.remote_checkpoints(),
            spark: pipeline.spark_names(root)?,
            name: pipeline.name,
            root: root.to_owned(),
            files: files
                .iter()
                .map(|path| Ok(file(&path.display().to_string(), &read(path)?)))
                .collect::<Result<_>>()?,
            configuration,
            settings,
        })
    }

    fn with_parameters(mut self) -> Result<Self> {
        // `project.dir` lets a project name files of its own wherever it is run from.
        let root = if self.root.as_os_str().is_empty() { Path::new(".") } else { self.root.as_path() };
        let dir = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
        let parameters = Parameters::default()
            .with([("project.dir".to_owned(), dir.display().to_string())])
            .with(self.configuration.clone());
        for file in &mut self.files {
            file.text = parameters.substitute(&file.name, &file.text)?;
        }
        Ok(self)
    }
}

fn file(name: &str, text: &str) -> SqlFile {
    SqlFile { name: name.to_owned(), text: text.to_owned() }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::usage(format!("there is no file or folder {}", path.display()))
            .help("name an SQL file, a folder with a spark-pipeline.yml, or give the SQL itself with -e"),
        std::io::ErrorKind::InvalidData => Failure::invalid(format!("{} is not UTF-8 text", path.display())),
        _ => Failure::runtime(format!("{} cannot be read: {error}", path.display())),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn load(dir: &tempfile::TempDir, params: &[(&str, &str)]) -> Result<Project> {
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Project::load(&Target::Path(dir.path().to_owned()), &params)
    }

    /// The error's text with the test's own folder taken out.
    fn mistake(dir: &tempfile::TempDir) -> String {
        load(dir, &[]).unwrap_err().render(false).replace(&format!("{}/", dir.path().display()), "")
    }

    const YML: &str = "name: p\nstorage: data\nconfiguration:\n  topic: a\nlibraries:\n  - glob:\n      include: \
                       transformations/**\n";

    #[test]
    fn a_folder_gives_its_files_in_order_with_parameters_replaced() {
        let dir = folder(&[
            ("spark-pipeline.yml", YML),
            ("transformations/b.sql", "SELECT '${topic}'"),
            ("transformations/deep/a.sql", "SELECT 2"),
            ("transformations/notes.md", "not SQL"),
            ("highwater.yml", "trigger: once\n"),
        ]);
        let project = load(&dir, &[("topic", "b")]).unwrap();
        assert_eq!(project.name, "p");
        assert_eq!(project.storage, Some(dir.path().join("data")));
        let texts: Vec<&str> = project.files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["SELECT 'b'", "SELECT 2"]);
        assert!(project.settings.trigger.is_some());
    }

    #[test]
    fn mistakes_name_file_line_and_column() {
        let dir = folder(&[("spark-pipeline.yml", "name: p\nstorge: data\n")]);
        assert_eq!(
            mistake(&dir),
            "error: unknown key 'storge'\n  --> spark-pipeline.yml:2:1\n   |\n 2 | storge: data\n   | \
             ^^^^^^\nhelp: did you mean 'storage'?\n"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let empty = folder(&[]);
        assert!(mistake(&empty).contains("has no spark-pipeline.yml"), "{}", mistake(&empty));
        let none = folder(&[("spark-pipeline.yml", YML)]);
        assert!(mistake(&none).contains("no .sql file matches transformations/**"), "{}", mistake(&none));
        let python = folder(&[("spark-pipeline.yml", YML), ("transformations/a.py", "")]);
        assert!(mistake(&python).contains("transformations/a.py is Python"), "{}", mistake(&python));
    }

    #[test]
    fn remote_storage_is_for_checkpoints_and_file_uris_are_taken() {
        let stored_in = |storage: &str| {
            folder(&[("spark-pipeline.yml", &YML.replace("data", storage)), ("transformations/a.sql", "")])
        };
        let remote = stored_in("s3a://bucket/x/");
        let project = load(&remote, &[]).unwrap();
        assert_eq!(project.checkpoints.as_deref(), Some("s3a://bucket/x/checkpoints"));
        assert_eq!(project.storage, Some(remote.path().join("highwater-data")));
        let uri = load(&stored_in("file:///var/x"), &[]).unwrap();
        assert_eq!((uri.storage, uri.checkpoints), (Some(PathBuf::from("/var/x")), None));
        let unknown = mistake(&stored_in("gopher://bucket/x"));
        assert!(unknown.contains("storage 'gopher://bucket/x' is neither a local folder nor"), "{unknown}");
    }

    #[test]
    fn sql_text_and_single_files_need_no_project() {
        let dir = folder(&[("q.sql", "SELECT '${x}'")]);
        let params = BTreeMap::from([("x".to_owned(), "1".to_owned())]);
        let project = Project::load(&Target::Path(dir.path().join("q.sql")), &params).unwrap();
        assert_eq!((project.name.as_str(), project.files[0].text.as_str()), ("q", "SELECT '1'"));
        let project = Project::load(&Target::Text("SELECT '${x}'".to_owned()), &params).unwrap();
        assert_eq!(project.files, [file("-e", "SELECT '1'")]);
        assert!(Project::load(&Target::Path(dir.path().join("no.sql")), &params).is_err());
    }
}
