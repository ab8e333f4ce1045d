//! `hdfs://`: the Hadoop Distributed File System, spoken to without a JVM.
//!
//! Names are those of Hadoop: `core-site.xml` and `hdfs-site.xml` are read from `HADOOP_CONF_DIR` (or
//! `HADOOP_HOME/etc/hadoop`) when it is set, and an option of the location whose key begins with `dfs.`, `fs.` or
//! `hadoop.` goes before them; so a name service with several name nodes is configured as for any other client. The
//! user is `HADOOP_USER_NAME`, else the user of the process, else that of a Kerberos ticket.

use std::sync::Arc;

use hdfs_native_object_store::HdfsObjectStoreBuilder;
use highwater_engine::checkpoint::{ObjectStores, RemoteLocation};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::Options;
use object_store::ObjectStore;

/// HDFS.
#[derive(Debug)]
pub(super) struct Hdfs;

/// The families of settings a Hadoop client knows.
const PREFIXES: [&str; 3] = ["dfs.", "fs.", "hadoop."];

impl ObjectStores for Hdfs {
    fn schemes(&self) -> &[&str] {
        &["hdfs"]
    }

    fn open(&self, location: &RemoteLocation, options: &Options) -> Result<Arc<dyn ObjectStore>> {
        let object = format!("checkpoint location '{location}'");
        let mut settings = Vec::new();
        for (key, value) in options.iter() {
            if !PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
                return Err(EngineError::config(format!("{object} has no option '{key}'"))
                    .help("options of HDFS are Hadoop's own: dfs.*, fs.*, hadoop.*"));
            }
            settings.push((key, value));
        }
        let url = format!("hdfs://{}", location.authority);
        let store = HdfsObjectStoreBuilder::new().with_url(url).with_config(settings).build();
        let store = store.map_err(|error| {
            EngineError::config(format!("{object} cannot be opened"))
                .caused_by(error)
                .help("name the name node as HOST:PORT, or set HADOOP_CONF_DIR to the folder of hdfs-site.xml")
        })?;
        Ok(Arc::new(store))
    }
}

#[cfg(test)]
mod tests {
    use highwater_engine::checkpoint::Location;

    use super::*;

    #[test]
    fn options_are_hadoops() {
        let Location::Remote(location) = Location::parse("hdfs://127.0.0.1:8020/c").unwrap() else { panic!("remote") };
        let open = |key: &str| Hdfs.open(&location, &[(key, "1")].into_iter().collect());
        assert!(open("dfs.replication").is_ok());
        let error = open("region").unwrap_err();
        assert_eq!(error.to_string(), "checkpoint location 'hdfs://127.0.0.1:8020/c' has no option 'region'");
    }
}
