//! Whether a folder could be made or written to, found out without leaving anything in it.
//!
//! A dry run asks this of the folders a run would write to. On Linux a file without a name is opened there: the system
//! refuses it for the reasons it refuses any other (rights, a read-only disk), and it is gone when it is closed. Where
//! that is not possible only what stands in the way of the folder is found; the run itself then tells the rest.

use std::io::{self, ErrorKind};
use std::path::{Path, absolute};

use crate::error::{EngineError, Result};

/// Refuses a folder that could not be written to; one that is not there counts as the nearest of its parents that is.
/// `object` says whose it is, e.g. `the storage`.
pub fn refuse_unwritable(object: &str, folder: &Path, help: &str) -> Result<()> {
    let refused = |what: &str| EngineError::unavailable(format!("{object} '{}' {what}", folder.display())).help(help);
    let full = absolute(folder).map_err(|error| refused("is no path").caused_by(error))?;
    for there in full.ancestors() {
        match there.metadata() {
            Ok(found) if found.is_dir() => {
                let verb = if there == full { "cannot be written to" } else { "cannot be made" };
                return open_nameless(there).map_err(|error| refused(verb).caused_by(error));
            }
            Ok(_) if there == full => return Err(refused("is a file, expected a folder")),
            Ok(_) => return Err(refused(&format!("cannot be made: '{}' is a file", there.display()))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(refused("cannot be looked at").caused_by(error)),
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn open_nameless(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let opened = std::fs::OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).open(folder);
    match opened {
        Ok(_) => Ok(()),
        // The file system has no such files, which says nothing of the others.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::IsADirectory) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_nameless(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_the_way_is_named_and_nothing_is_left_behind() {
        let root = tempfile::tempdir().expect("a folder");
        let path = |name: &str| root.path().join(name);
        std::fs::write(path("file"), "").expect("a file");
        let check = |name: &str, expected: Option<&str>| {
            let found =
                refuse_unwritable("the storage", &path(name), "choose another").map_err(|error| error.to_string());
            let root = root.path().display();
            let expected =
                expected.map(|what| format!("the storage '{root}/{name}' {}", what.replace("ROOT", &root.to_string())));
            assert_eq!(found.err(), expected);
        };
        check("", None);
        check("new/below/it", None);
        check("file", Some("is a file, expected a folder"));
        check("file/below", Some("cannot be made: 'ROOT/file' is a file"));
        check("file/below/it", Some("cannot be made: 'ROOT/file' is a file"));
        let left: Vec<_> = std::fs::read_dir(root.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["file"]);
    }

    /// It says what making a file there says: root may do what others may not.
    #[cfg(unix)]
    #[test]
    fn a_folder_that_takes_no_files_is_refused() {
        use std::fs::{Permissions, set_permissions, write};
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().expect("a folder");
        for (mode, name) in [(0o555, "a"), (0o755, "b")] {
            set_permissions(folder.path(), Permissions::from_mode(mode)).expect("permissions");
            let found = refuse_unwritable("the storage", folder.path(), "choose another");
            assert_eq!(found.is_ok(), write(folder.path().join(name), "").is_ok(), "{mode:o}: {found:?}");
        }
    }
}
