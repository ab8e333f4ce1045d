//! A store in memory that fails on demand, behind the calls of a checkpoint.

use std::io::Write as _;
use std::time::Duration;

use super::*;
use crate::checkpoint::Location;
use crate::error::EngineError;
use crate::testing::{Fault, FaultyStore, ManualClock};

/// Parts are small, so that small objects are large.
const PART: usize = 1000;

fn settings() -> RemoteSettings {
    RemoteSettings { request_timeout_ms: 50, part_bytes: PART as u64, ..RemoteSettings::default() }
}

/// A store of the given objects, with the folder of its large objects.
fn remote_store(objects: &FaultyStore) -> (tempfile::TempDir, RemoteStore) {
    let Location::Remote(location) = Location::parse("memory://bucket/a/b").unwrap() else { panic!("remote") };
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(0));
    let spill_dir = dir.path().join("spill");
    (dir, RemoteStore::new(Arc::new(objects.clone()), location, settings(), clock, spill_dir))
}

fn large() -> Vec<u8> {
    (0..PART * 5 + 17).map(|n| (n / 3) as u8).collect()
}

/// Everything a checkpoint does with a store, once; gives what it found.
fn everything(store: &RemoteStore, dir: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut say = |what: &str, value: String| found.push(format!("{what}: {value}"));
    say("create", format!("{:?}", store.create("offsets/0", b"first")?));
    say("again", format!("{:?}", store.create("offsets/0", b"second")?));
    say("read", format!("{:?}", store.read("offsets/0")?));
    store.replace("metadata", b"old")?;
    store.replace("metadata", b"new")?;
    say("replaced", format!("{:?}", store.read("metadata")?));
    say("none", format!("{:?}", store.read("offsets/7")?));
    let mut writer = store.writer("state/0.changelog")?;
    large().chunks(300).for_each(|piece| writer.write_all(piece).unwrap());
    say("written", format!("{}", writer.finish()?));
    let mut whole = Vec::new();
    store.open("state/0.changelog")?.unwrap().read_to_end(&mut whole).unwrap();
    say("is whole", format!("{}", whole == large()));
    let (from, to) = (dir.join("from"), dir.join("to"));
    std::fs::write(&from, large()).unwrap();
    store.upload(&from, "state/sst/1")?;
    store.download("state/sst/1", &to)?;
    say("came back", format!("{}", std::fs::read(&to).unwrap() == large()));
    std::fs::remove_file(&to).unwrap();
    let mut names: Vec<String> = store.list("state")?.iter().map(|entry| entry.name.clone()).collect();
    names.sort();
    say("listed", names.join(" "));
    say("exist", format!("{:?}", store.exist(&["metadata", "state", "offsets/0"])?));
    store.delete("metadata")?;
    store.delete("metadata")?;
    say("deleted", format!("{:?}", store.exist(&["metadata"])?));
    Ok(found)
}

#[test]
fn any_one_call_may_fail_in_any_way_and_nothing_is_different() {
    let calm = FaultyStore::default();
    let (dir, store) = remote_store(&calm);
    calm.fail_at(usize::MAX, Fault::Refused);
    let expected = everything(&store, dir.path()).unwrap();
    let calls = calm.heal();
    assert_eq!(expected[..2], ["create: true", "again: false"]);
    assert!(expected.contains(&"is whole: true".to_owned()), "{expected:?}");
    assert!(expected.contains(&"listed: 0.changelog".to_owned()), "{expected:?}");
    assert!(calls > 25, "{calls}");
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::Torn, Fault::Silent] {
        for call in 0..calls {
            let objects = FaultyStore::default();
            let (dir, store) = remote_store(&objects);
            objects.fail_at(call, fault);
            let found = everything(&store, dir.path()).unwrap_or_else(|error| panic!("{fault:?} at {call}: {error}"));
            assert_eq!(found, expected, "{fault:?} at {call}");
        }
    }
}

#[test]
fn a_store_that_fails_every_third_call_is_only_slow() {
    for fault in [Fault::Refused, Fault::AnswerLost, Fault::Torn] {
        let objects = FaultyStore::default();
        let (dir, store) = remote_store(&objects);
        // Parts of one upload cannot be sent again alone, so that one of six parts failing each time fails all.
        objects.fail_every(11, fault);
        assert_eq!(everything(&store, dir.path()).unwrap()[0], "create: true", "{fault:?}");
    }
}

#[test]
fn a_store_that_is_gone_is_said_soon_at_first_and_waited_for_later() {
    let objects = FaultyStore::default();
    let (_dir, store) = remote_store(&objects);
    let clock = |store: &RemoteStore| Duration::from_nanos(store.clock.0.monotonic_ns());
    objects.fail_at(0, Fault::CutOff);
    let error = store.replace("metadata", b"x").unwrap_err();
    assert!(matches!(error, EngineError::Unavailable(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "cannot write memory://bucket/a/b/metadata: 7 tries in 6.3 s failed: Generic faulty error: 503 CutOff"
    );
    assert_eq!(
        error.next_step(),
        Some(
            "see that memory://bucket can be reached from here, then start the query again: it goes on where it stopped"
        )
    );
    assert!(clock(&store) < Duration::from_secs(10));
    objects.heal();
    store.replace("metadata", b"x").unwrap();
    let before = clock(&store);
    objects.fail_at(0, Fault::CutOff);
    store.read("metadata").unwrap_err();
    let waited = clock(&store) - before;
    assert!(waited > Duration::from_secs(100) && waited <= Duration::from_secs(120), "{waited:?}");
}

/// An object store that answers everything with one error.
#[derive(Debug)]
struct Refusing(fn() -> object_store::Error);

impl std::fmt::Display for Refusing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Refusing")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Refusing {
    async fn put_opts(
        &self,
        _: &ObjectPath,
        _: PutPayload,
        _: PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        Err((self.0)())
    }

    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        Err((self.0)())
    }

    async fn get_opts(
        &self,
        _: &ObjectPath,
        _: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        Err((self.0)())
    }

    fn delete_stream(
        &self,
        _: futures::stream::BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<ObjectPath>> {
        Box::pin(futures::stream::iter([Err((self.0)())]))
    }

    fn list(&self, _: Option<&ObjectPath>) -> futures::stream::BoxStream<'static, object_store::Result<ObjectMeta>> {
        Box::pin(futures::stream::iter([Err((self.0)())]))
    }

    async fn list_with_delimiter(&self, _: Option<&ObjectPath>) -> object_store::Result<object_store::ListResult> {
        Err((self.0)())
    }

    async fn copy_opts(
        &self,
        _: &ObjectPath,
        _: &ObjectPath,
        _: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        Err((self.0)())
    }
}

#[test]
fn what_no_other_try_makes_better_is_said_at_once() {
    let check = |error: fn() -> object_store::Error, expected: &str, help: &str| {
        let objects: Arc<dyn ObjectStore> = Arc::new(Refusing(error));
        let (_dir, mut store) = remote_store(&FaultyStore::default());
        store.objects = objects;
        let found = store.create("run/1", b"x").unwrap_err();
        assert!(matches!(found, EngineError::Config(_)), "{found}");
        assert_eq!(found.to_string(), expected);
        assert!(found.next_step().unwrap().contains(help), "{found:?}");
        assert_eq!(store.clock.0.now_ms(), 0, "it waited");
    };
    check(
        || object_store::Error::PermissionDenied { path: "p".into(), source: "403".into() },
        "cannot create memory://bucket/a/b/run/1: the user or the credentials are not allowed to: The operation lacked the \
         necessary privileges to complete for path p: 403",
        "allow reading, writing, listing and deleting under memory://bucket/a/b",
    );
    check(
        || object_store::Error::Unauthenticated { path: "p".into(), source: "401".into() },
        "cannot create memory://bucket/a/b/run/1: the store does not know the credentials: The operation lacked valid \
         authentication credentials for path p: 401",
        "environment variables",
    );
    check(
        || object_store::Error::NotImplemented { operation: "put".into(), implementer: "old".into() },
        "cannot create memory://bucket/a/b/run/1: the store cannot do what a checkpoint needs: Operation put not yet \
         implemented by old.",
        "If-None-Match",
    );
    check(
        || object_store::Error::Generic { store: "S3", source: "404 Not Found: <Code>NoSuchBucket</Code>".into() },
        "cannot create memory://bucket/a/b/run/1: there is no 'bucket' in the object store: Generic S3 error: 404 Not \
         Found: <Code>NoSuchBucket</Code>",
        "make the bucket",
    );
    check(
        || object_store::Error::NotFound { path: "p".into(), source: "NoSuchBucket".into() },
        "cannot create memory://bucket/a/b/run/1: there is no 'bucket' in the object store",
        "make the bucket",
    );
}

/// A store that takes the condition of a create and does not keep it.
#[derive(Debug)]
struct Careless(FaultyStore);

impl crate::checkpoint::ObjectStores for Careless {
    fn schemes(&self) -> &[&str] {
        &["memory"]
    }

    fn open(
        &self,
        _: &crate::checkpoint::RemoteLocation,
        _: &crate::plan::catalog::Options,
    ) -> Result<Arc<dyn ObjectStore>> {
        self.0.forget_conditions();
        Ok(Arc::new(self.0.clone()))
    }
}

#[test]
fn a_store_that_does_not_keep_conditions_is_found_out() {
    let mut stores = crate::checkpoint::ObjectStoreRegistry::default();
    stores.register(Arc::new(Careless(FaultyStore::default())));
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(0));
    let context = crate::checkpoint::CheckpointContext {
        object_stores: &stores,
        options: &crate::plan::catalog::Options::default(),
        remote: &settings(),
        durability: crate::checkpoint::Durability::None,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        work_dir: dir.path(),
    };
    let checkpoint = crate::checkpoint::CheckpointDir::open_with("memory://b/q", &context).unwrap();
    let error = checkpoint.start_run("q", clock.as_ref()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the object store replaced memory://b/q/run/1, expected it to refuse: it was to be created only if absent"
    );
}

#[test]
fn large_objects_wait_in_a_file_without_a_name() {
    let objects = FaultyStore::default();
    let (dir, store) = remote_store(&objects);
    let mut writer = store.writer("x").unwrap();
    writer.write_all(&large()).unwrap();
    let spill = dir.path().join("spill");
    assert_eq!(std::fs::read_dir(&spill).unwrap().count(), 0, "it has no name");
    drop(writer);
    assert_eq!(store.read("x").unwrap(), None);
}

#[test]
fn what_hdfs_leaves_half_written_is_not_listed_and_removed() {
    let objects = FaultyStore::default();
    let (_dir, store) = remote_store(&objects);
    store.replace("offsets/.3.tmp.1", b"half").unwrap();
    store.replace("offsets/2", b"whole").unwrap();
    assert_eq!(store.list("offsets").unwrap(), [Entry { name: "2".into(), size_bytes: 5 }]);
    store.prepare_folder("offsets").unwrap();
    assert_eq!(store.read("offsets/.3.tmp.1").unwrap(), None);
    assert_eq!(store.read("offsets/2").unwrap().unwrap(), b"whole");
}

#[test]
fn an_object_that_changes_while_it_is_read_is_not_pieced_together() {
    let objects = FaultyStore::default();
    let (_dir, store) = remote_store(&objects);
    store.replace("x", &large()).unwrap();
    objects.fail_at(0, Fault::Torn);
    let mut reader = store.open("x").unwrap().unwrap();
    let mut half = vec![0; PART];
    reader.read_exact(&mut half).unwrap();
    store.replace("x", b"other").unwrap();
    let error = reader.read_to_end(&mut half).unwrap_err();
    assert!(error.to_string().contains("memory://bucket/a/b/x was removed or replaced"), "{error}");
}
