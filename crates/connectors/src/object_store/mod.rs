//! The object stores a checkpoint can be kept in, by the scheme of its URL.
//!
//! ```text
//!   s3://BUCKET/PREFIX (also s3a://)   s3.rs      Amazon S3 and what speaks like it
//!   hdfs://HOST[:PORT]/PATH            hdfs.rs    HDFS, with the cargo feature `hdfs`
//! ```
//!
//! Each checks its options and gives a client that has not connected to anything yet. What is asked of it, and how
//! often, is the engine's business.

#[cfg(feature = "hdfs")]
mod hdfs;
mod s3;

use std::sync::Arc;

use highwater_engine::checkpoint::ObjectStoreRegistry;

/// All object stores.
pub(crate) fn register(registry: &mut ObjectStoreRegistry) {
    registry.register(Arc::new(s3::S3));
    #[cfg(feature = "hdfs")]
    registry.register(Arc::new(hdfs::Hdfs));
}
