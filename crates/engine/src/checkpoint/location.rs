//! Where a checkpoint lies, in the words of its user: a local path, `file://PATH`, or the URL of an object store.
//!
//! ```text
//!   checkpoints, file:///var/checkpoints     a folder of this machine                    local.rs
//!   s3://bucket/prefix, hdfs://host/path     an object store that was handed in          remote/
//! ```
//!
//! The engine opens no socket: what speaks to an object store is an [`ObjectStores`], registered by the schemes it
//! knows. A URL that carries a user or a password is refused: locations are printed, stored and logged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;

use crate::error::{EngineError, Result, nearest};
use crate::plan::catalog::Options;

/// A location, told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine.
    Local(PathBuf),
    /// A prefix in an object store.
    Remote(RemoteLocation),
}

/// A prefix in an object store, `scheme://authority/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteLocation {
    /// In lower case.
    pub scheme: String,
    /// The bucket, or host and port.
    pub authority: String,
    /// Without a slash at either end; may be empty.
    pub path: String,
}

impl fmt::Display for RemoteLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

impl Location {
    /// Reads what the user wrote.
    pub fn parse(text: &str) -> Result<Self> {
        let path = match text.split_once("://") {
            None => text,
            Some((scheme, path)) if scheme.eq_ignore_ascii_case("file") => path,
            Some((scheme, rest)) => return RemoteLocation::parse(text, scheme, rest).map(Self::Remote),
        };
        if path.is_empty() {
            let message = "the checkpoint location is empty, expected a path or a URL such as s3://BUCKET/PREFIX";
            return Err(EngineError::config(message));
        }
        Ok(Self::Local(PathBuf::from(path)))
    }
}

impl RemoteLocation {
    fn parse(text: &str, scheme: &str, rest: &str) -> Result<Self> {
        let refuse = |found: &str| {
            let scheme = scheme.to_ascii_lowercase();
            // The text is not repeated where it holds a password.
            let shown = if rest.contains('@') { format!("{scheme}://...") } else { text.to_owned() };
            EngineError::config(format!("checkpoint location '{shown}' {found}, expected {scheme}://NAME/PATH"))
        };
        if rest.contains('@') {
            return Err(refuse("holds a user or a password")
                .help("give credentials by environment variables or in the options of the location"));
        }
        if rest.contains(['?', '#', '%', '\\']) || rest.chars().any(char::is_control) {
            return Err(refuse("has a character that has no place in it"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(refuse("names no bucket and no host"));
        }
        let path = path.trim_matches('/');
        if path.split('/').any(|part| part == "." || part == ".." || (part.is_empty() && !path.is_empty())) {
            return Err(refuse("has an empty part or a '..' in its path"));
        }
        Ok(Self { scheme: scheme.to_ascii_lowercase(), authority: authority.to_owned(), path: path.to_owned() })
    }
}

/// A location of one query below the one for all of them.
pub fn below(location: &str, query: &str) -> String {
    format!("{}/{query}", location.trim_end_matches('/'))
}

/// Speaks to object stores of some kind. Opening connects to nothing: what is wrong with the settings is said at once,
/// what is wrong with the store when it is first asked.
pub trait ObjectStores: Send + Sync {
    /// The URL schemes it takes, in lower case.
    fn schemes(&self) -> &[&str];

    /// Options that are secrets, and have to be references: `${env:NAME}` or `${file:PATH}`.
    fn secret_options(&self) -> &[&str] {
        &[]
    }

    /// The store a location is in; object names in it begin with the location's path. Options it does not know are
    /// refused.
    fn open(&self, location: &RemoteLocation, options: &Options) -> Result<Arc<dyn ObjectStore>>;
}

/// Object stores by scheme.
#[derive(Default, Clone)]
pub struct ObjectStoreRegistry(BTreeMap<String, Arc<dyn ObjectStores>>);

impl ObjectStoreRegistry {
    /// Adds stores; later ones of the same scheme replace the earlier.
    pub fn register(&mut self, stores: Arc<dyn ObjectStores>) {
        for scheme in stores.schemes() {
            self.0.insert((*scheme).to_owned(), Arc::clone(&stores));
        }
    }

    /// The schemes there are, in order.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The store of a location. Secrets in the options are put in place here and nowhere earlier.
    pub(crate) fn open(&self, location: &RemoteLocation, options: &Options) -> Result<Arc<dyn ObjectStore>> {
        let Some(stores) = self.0.get(&location.scheme) else { return Err(self.unknown(location)) };
        let object = format!("checkpoint location '{location}'");
        options.refuse_bare_secrets(&object, stores.secret_options())?;
        stores.open(location, &options.resolved(&object)?)
    }

    fn unknown(&self, location: &RemoteLocation) -> EngineError {
        let known: Vec<&str> = std::iter::once("file").chain(self.schemes()).collect();
        let error = EngineError::config(format!(
            "checkpoint location '{location}' has the scheme '{}', expected a path or one of {}",
            location.scheme,
            known.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(", ")
        ));
        match nearest(&location.scheme, known) {
            Some(near) => error.help(format!("did you mean {near}://?")),
            None => error.help("use a path of this machine, or a location of a kind this program was built with"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = match Location::parse(text) {
            Ok(Location::Local(path)) => Ok(format!("local {}", path.display())),
            Ok(Location::Remote(remote)) => Ok(format!("{remote} in {}", remote.authority)),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn locations_are_told_apart() {
        check("checkpoints", Ok("local checkpoints"));
        check("file:///var/c", Ok("local /var/c"));
        check("s3://bucket/a/b/", Ok("s3://bucket/a/b in bucket"));
        check("S3A://bucket", Ok("s3a://bucket in bucket"));
        check("hdfs://namenode:8020/c", Ok("hdfs://namenode:8020/c in namenode:8020"));
        check("", Err("the checkpoint location is empty, expected a path or a URL such as s3://BUCKET/PREFIX"));
        let refused = |text: &str, found: &str| {
            check(text, Err(&format!("checkpoint location '{text}' {found}, expected s3://NAME/PATH")));
        };
        refused("s3:///x", "names no bucket and no host");
        refused("s3://b/../c", "has an empty part or a '..' in its path");
        refused("s3://b/a//c", "has an empty part or a '..' in its path");
        refused("s3://b/a?x=1", "has a character that has no place in it");
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let error = Location::parse("s3://key:secret@bucket/x").unwrap_err();
        assert_eq!(
            error.to_string(),
            "checkpoint location 's3://...' holds a user or a password, expected s3://NAME/PATH"
        );
    }

    #[test]
    fn an_unknown_scheme_names_the_known_ones() {
        let Location::Remote(location) = Location::parse("gopher://b/x").unwrap() else { panic!("remote") };
        let error = ObjectStoreRegistry::default().open(&location, &Options::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "checkpoint location 'gopher://b/x' has the scheme 'gopher', expected a path or one of file://"
        );
    }
}
