//! An object store that misbehaves on demand, over one in memory or any other.
//!
//! ```text
//!   call 0 1 2 3 ...  n                 Fault
//!                     ├ not carried out ────────── Refused (503)     CutOff: nor is any later call
//!                     ├ carried out, not answered ─ AnswerLost       CutOffAfter: later calls are not carried out
//!                     ├ never answered ─────────── Silent
//!                     └ answered by half ───────── Torn
//! ```
//!
//! Every request counts as a call: also each part of an upload, its end, and each deletion.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

use crate::checkpoint::{ObjectStores, RemoteLocation};
use crate::plan::catalog::Options;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request is not carried out.
    Refused,
    /// The request is carried out, and the answer is lost.
    AnswerLost,
    /// The request is not carried out and not answered either.
    Silent,
    /// Half of an object is given, then the connection breaks; any other request is refused.
    Torn,
    /// Neither this request nor any later one is carried out: what a killed process leaves behind.
    CutOff,
    /// This request is carried out, no later one is.
    CutOffAfter,
}

/// When it goes wrong, and how often a request was made.
#[derive(Debug, Default)]
struct Plan {
    calls: usize,
    fault: Option<(usize, Fault)>,
    /// Repeats the fault each so many calls.
    every: Option<usize>,
    is_cut_off: bool,
}

/// An object store with faults; clones share the objects and the count.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
    is_careless: Arc<AtomicBool>,
}

impl Default for FaultyStore {
    fn default() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }
}

impl FaultyStore {
    /// Wraps a store.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, plan: Arc::default(), is_careless: Arc::default() }
    }

    /// The call with this number, counted from now, goes wrong.
    pub fn fail_at(&self, call: usize, fault: Fault) {
        *self.plan.lock() = Plan { fault: Some((call, fault)), ..Plan::default() };
    }

    /// Each so many calls one goes wrong.
    pub fn fail_every(&self, calls: usize, fault: Fault) {
        *self.plan.lock() = Plan { fault: Some((calls, fault)), every: Some(calls), ..Plan::default() };
    }

    /// From now on it replaces what was to be created only if absent.
    pub fn forget_conditions(&self) {
        self.is_careless.store(true, Ordering::Relaxed);
    }

    /// Nothing goes wrong from now on. Gives how many calls were made since the fault was planned.
    pub fn heal(&self) -> usize {
        std::mem::take(&mut *self.plan.lock()).calls
    }

    /// Whether no call comes through any more.
    pub fn is_cut_off(&self) -> bool {
        self.plan.lock().is_cut_off
    }

    /// The fault of the next call, if it has one.
    fn next(&self) -> Option<Fault> {
        let mut plan = self.plan.lock();
        let call = plan.calls;
        plan.calls += 1;
        if plan.is_cut_off {
            return Some(Fault::CutOff);
        }
        let (at, fault) = plan.fault?;
        let is_due = plan.every.map_or(call == at, |every| call % every == every - 1);
        plan.is_cut_off = is_due && matches!(fault, Fault::CutOff | Fault::CutOffAfter);
        is_due.then_some(fault)
    }

    /// Carries a request out, or not.
    async fn turn<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        turn(self.next(), request).await
    }
}

async fn turn<T>(fault: Option<Fault>, request: impl Future<Output = Result<T>>) -> Result<T> {
    match fault {
        None => request.await,
        Some(Fault::AnswerLost) => {
            let _ = request.await;
            Err(failure("the answer was lost"))
        }
        Some(Fault::CutOffAfter) => {
            let _ = request.await;
            Err(failure("cut off after the request"))
        }
        Some(Fault::Silent) => std::future::pending().await,
        Some(fault) => Err(failure(&format!("503 {fault:?}"))),
    }
}

fn failure(text: &str) -> Error {
    Error::Generic { store: "faulty", source: text.into() }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Faulty({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        if self.is_careless.load(Ordering::Relaxed) {
            options.mode = PutMode::Overwrite;
        }
        self.turn(self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.turn(self.inner.put_multipart_opts(path, options)).await?;
        Ok(Box::new(FaultyUpload { inner: upload, store: self.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.next();
        if fault != Some(Fault::Torn) || options.head {
            return turn(fault, self.inner.get_opts(path, options)).await;
        }
        let mut found = self.inner.get_opts(path, options).await?;
        let payload = std::mem::replace(&mut found.payload, GetResultPayload::Stream(futures::stream::empty().boxed()));
        let whole = GetResult { payload, ..found };
        let (meta, range, attributes) = (whole.meta.clone(), whole.range.clone(), whole.attributes.clone());
        let bytes = whole.bytes().await?;
        let torn = [Ok(bytes.slice(..bytes.len() / 2)), Err(failure("the connection broke"))];
        let payload = GetResultPayload::Stream(futures::stream::iter(torn).boxed());
        Ok(GetResult { payload, meta, range, attributes })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Path| {
            let store = store.clone();
            async move {
                let one = futures::stream::iter([Ok(path)]).boxed();
                let deleted = async { store.inner.delete_stream(one).try_collect::<Vec<Path>>().await };
                let mut deleted = store.turn(deleted).await?;
                deleted.pop().ok_or_else(|| failure("nothing was deleted"))
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.turn(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.turn(self.inner.copy_opts(from, to, options)).await
    }
}

/// An upload whose parts and end are calls too.
#[derive(Debug)]
struct FaultyUpload {
    inner: Box<dyn MultipartUpload>,
    store: FaultyStore,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        let fault = self.store.next();
        turn(fault, self.inner.put_part(payload)).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.next();
        turn(fault, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.turn(self.inner.abort()).await
    }
}

impl ObjectStores for FaultyStore {
    fn schemes(&self) -> &[&str] {
        &["memory"]
    }

    fn open(&self, _: &RemoteLocation, _: &Options) -> crate::error::Result<Arc<dyn ObjectStore>> {
        Ok(Arc::new(self.clone()))
    }
}
