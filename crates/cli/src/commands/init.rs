//! `highwater init NAME`: a project folder whose pipeline runs as it is.
//!
//! The files are those of `crates/cli/starter`, with the name put in. Nothing that exists is overwritten.

use std::path::{Path, PathBuf};

use crate::error::{Failure, Result};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder to make; its last part is the project's name
    folder: PathBuf,
}

/// What stands where the project's name belongs.
const NAME_PLACE: &str = "PROJECT_NAME";

const FILES: [(&str, &str); 6] = [
    ("spark-pipeline.yml", include_str!("../../starter/spark-pipeline.yml")),
    ("highwater.yml", include_str!("../../starter/highwater.yml")),
    ("transformations/1_sources.sql", include_str!("../../starter/transformations/1_sources.sql")),
    ("transformations/2_tables.sql", include_str!("../../starter/transformations/2_tables.sql")),
    ("tests/ticks.yml", include_str!("../../starter/tests/ticks.yml")),
    ("README.md", include_str!("../../starter/README.md")),
];

/// Writes the folder and says what to do next.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = &arguments.folder;
    let name = project_name(folder)?;
    if let Some((taken, _)) = FILES.iter().find(|(file, _)| folder.join(file).exists()) {
        return Err(Failure::usage(format!("{} already exists", folder.join(taken).display()))
            .help("choose another folder; init overwrites nothing"));
    }
    for (file, text) in FILES {
        write(&folder.join(file), &text.replace(NAME_PLACE, &name))?;
    }
    tracing::info!(
        "made {}; next: highwater run {} (its README.md says how to look at the result)",
        folder.display(),
        folder.display()
    );
    Ok(())
}

fn project_name(folder: &Path) -> Result<String> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(Failure::usage(format!("'{}' is not a project name", folder.display()))
            .help("use letters, digits, - and _ in the folder's last part"));
    }
    Ok(name.to_owned())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| Failure::runtime(format!("{} cannot be written: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::project::{Project, Target};

    #[test]
    fn the_folder_is_a_project_and_is_made_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let arguments = Arguments { folder: dir.path().join("shop") };
        run(&arguments).unwrap();
        let project = Project::load(&Target::Path(arguments.folder.clone()), &BTreeMap::new()).unwrap();
        assert_eq!((project.name.as_str(), project.files.len()), ("shop", 2));
        let again = run(&arguments).unwrap_err().render(false);
        assert!(again.contains("already exists"), "{again}");
    }

    #[test]
    fn names_are_plain() {
        assert!(project_name(Path::new("a b")).is_err());
        assert!(project_name(Path::new("/")).is_err());
        assert_eq!(project_name(Path::new("x/my-shop_2")).unwrap(), "my-shop_2");
    }
}
