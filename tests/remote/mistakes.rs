//! What a user is told whose checkpoint location is not what it should be.

use std::fs;
use std::path::Path;

use super::server::{BUCKET, S3Server, SECRET_KEY};
use crate::program::{Finished, highwater};

/// A run over one file.
fn run(folder: &Path, environment: &[(&str, String)]) -> Finished {
    fs::create_dir_all(folder.join("in")).unwrap();
    fs::write(folder.join("in/a.json"), "{\"k\":\"a\",\"v\":1}\n").unwrap();
    let sql = "CREATE TABLE ev (k STRING, v BIGINT) USING json OPTIONS (path 'in');
        CREATE STREAMING TABLE copy USING json AS SELECT * FROM STREAM ev;";
    fs::write(folder.join("q.sql"), sql).unwrap();
    let mut command = highwater(folder, &["run", "q.sql", "--storage", "storage", "--trigger", "available-now", "-q"]);
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    command.output().unwrap().into()
}

fn with<'a>(environment: &[(&'a str, String)], name: &'a str, value: &str) -> Vec<(&'a str, String)> {
    let mut changed: Vec<(&str, String)> = environment.iter().filter(|(known, _)| *known != name).cloned().collect();
    changed.push((name, value.to_owned()));
    changed
}

fn check(environment: &[(&str, String)], code: i32, parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let finished = run(folder.path(), environment);
    assert_eq!(finished.code, code, "{}", finished.stderr);
    for part in parts {
        assert!(finished.stderr.contains(part), "no '{part}' in:\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains(SECRET_KEY), "{}", finished.stderr);
}

#[test]
fn what_is_wrong_with_a_location_is_said() {
    let server = S3Server::start();
    let fine = server.environment();
    check(&fine, 0, &[]);
    check(
        &with(&fine, "HIGHWATER_CHECKPOINTS", "s3://nowhere/x"),
        3,
        &["s3://nowhere/x/copy", "there is no 'nowhere' in the object store", "help: make the bucket"],
    );
    check(
        &with(&fine, "AWS_SECRET_ACCESS_KEY", "another-secret-of-this-test"),
        3,
        &[
            "s3://bucket/pipelines/copy",
            "the user or the credentials are not allowed to",
            "help: allow reading, writing",
        ],
    );
    check(
        &with(&fine, "HIGHWATER_CHECKPOINTS", "gopher://bucket/x"),
        3,
        &["has the scheme 'gopher', expected a path or one of file://", "s3://"],
    );
    check(
        &with(&fine, "AWS_ENDPOINT_URL", "http://s3.example:9000"),
        3,
        &["the endpoint 'http://s3.example:9000', which is not encrypted and not on this machine", "allow_http: true"],
    );
    // A port that was free a moment ago: nobody answers there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check(
        &with(&fine, "AWS_ENDPOINT_URL", &format!("http://{nobody}")),
        1,
        &["tries in", "help: see that s3://bucket can be reached from here"],
    );
}

#[test]
fn options_of_a_project_are_used_and_its_secrets_are_not_shown() {
    let server = S3Server::start();
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("project");
    fs::create_dir_all(project.join("transformations")).unwrap();
    fs::create_dir_all(project.join("in")).unwrap();
    fs::write(project.join("in/a.json"), "{\"k\":\"a\",\"v\":1}\n").unwrap();
    let pipeline = format!(
        "name: p\nstorage: s3://{BUCKET}/of-the-project\nlibraries:\n  - glob:\n      include: transformations/**\n"
    );
    fs::write(project.join("spark-pipeline.yml"), pipeline).unwrap();
    let sql = "CREATE TABLE ev (k STRING, v BIGINT) USING json OPTIONS (path '${project.dir}/in');
        CREATE STREAMING TABLE copy USING json AS SELECT * FROM STREAM ev;";
    fs::write(project.join("transformations/copy.sql"), sql).unwrap();
    let options = |secret: &str| {
        format!(
            "trigger: available-now\ncheckpoints:\n  options:\n    endpoint: {}\n    path_style: true\n    access_key_id: \
             AKIDHIGHWATER\n    secret_access_key: {secret}\n",
            server.endpoint()
        )
    };
    let run = |secret: &str| -> Finished {
        fs::write(project.join("highwater.yml"), options(secret)).unwrap();
        let mut command = highwater(folder.path(), &["run", "project", "-q", "--log", "debug"]);
        command.env("SECRET_OF_THE_PROJECT", SECRET_KEY).output().unwrap().into()
    };
    let finished = run("${env:SECRET_OF_THE_PROJECT}");
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert!(!finished.stderr.contains(SECRET_KEY), "{}", finished.stderr);
    assert_eq!(server.objects("of-the-project/checkpoints/copy/commits"), ["0"]);
    assert!(project.join("highwater-data/tables/copy").is_dir(), "tables stay beside the project");
    let bare = run(SECRET_KEY);
    assert_eq!(bare.code, 3, "{}", bare.stderr);
    assert!(bare.stderr.contains("option 'secret_access_key' holds the secret itself"), "{}", bare.stderr);
    assert!(!bare.stderr.contains(SECRET_KEY), "{}", bare.stderr);
    let unset = run("${env:SECRET_THAT_IS_NOT_SET}");
    assert_eq!(unset.code, 3, "{}", unset.stderr);
    assert!(
        unset.stderr.contains("option 'secret_access_key' refers to the environment variable SECRET_THAT_IS_NOT_SET"),
        "{}",
        unset.stderr
    );
}
