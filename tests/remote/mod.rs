//! Checkpoints in object stores: the binary is killed, requests fail, answers are lost, and the tables are those of a
//! run that nothing happened to. On S3 always, on HDFS by `make hdfs-test`.

mod fencing;
mod hdfs;
mod inspection;
mod mistakes;
mod s3;
mod server;
mod state;
