//! An S3 server in this process (`s3s-fs`) whose connections break on demand.
//!
//! ```text
//!   client ──HTTP──> fault? ──> s3s (signatures, protocol) ──> s3s-fs: a folder
//!                     │ Unavailable: 503 before, and instead
//!                     └ AnswerLost: carried out, then the connection is closed
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The bucket there is.
pub(crate) const BUCKET: &str = "bucket";
const ACCESS_KEY: &str = "AKIDHIGHWATER";
/// Long enough to be redacted, should it ever be printed.
pub(crate) const SECRET_KEY: &str = "a-secret-of-this-test";

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not carried out, and said so.
    Unavailable,
    /// It is carried out, and the connection closed without an answer.
    AnswerLost,
}

#[derive(Debug, Default)]
struct Traffic {
    requests: usize,
    faults: usize,
    /// Each so many requests one goes wrong.
    planned: Vec<(usize, Fault)>,
    by_method: BTreeMap<String, usize>,
}

impl Traffic {
    fn next(&mut self, method: &str) -> Option<Fault> {
        self.requests += 1;
        *self.by_method.entry(method.to_owned()).or_default() += 1;
        let fault =
            self.planned.iter().find(|(every, _)| self.requests.is_multiple_of(*every)).map(|(_, fault)| *fault);
        self.faults += usize::from(fault.is_some());
        fault
    }
}

/// A running server; stops when it is dropped.
pub(crate) struct S3Server {
    endpoint: String,
    root: tempfile::TempDir,
    traffic: Arc<Mutex<Traffic>>,
    _runtime: Runtime,
}

impl S3Server {
    /// A server with one empty bucket.
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        std::fs::write(root.path().join("secret"), SECRET_KEY).unwrap();
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let (service, traffic) = (builder.build(), Arc::new(Mutex::new(Traffic::default())));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(accept(listener, service, Arc::clone(&traffic)));
        Self { endpoint, root, traffic, _runtime: runtime }
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What a program needs to keep its checkpoints here.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("HIGHWATER_CHECKPOINTS", format!("s3://{BUCKET}/pipelines")),
        ]
    }

    /// The same as options of a location.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        vec![
            ("endpoint", self.endpoint.clone()),
            ("access_key_id", ACCESS_KEY.to_owned()),
            ("secret_access_key", format!("${{file:{}}}", self.root.path().join("secret").display())),
        ]
    }

    /// From now on each so many requests one goes wrong.
    pub(crate) fn fail_every(&self, requests: usize, fault: Fault) {
        self.traffic.lock().unwrap().planned.push((requests, fault));
    }

    /// How many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.traffic.lock().unwrap().requests
    }

    /// How many of them went wrong.
    pub(crate) fn faults(&self) -> usize {
        self.traffic.lock().unwrap().faults
    }

    /// How many requests of a method came.
    pub(crate) fn requests_of(&self, method: &str) -> usize {
        self.traffic.lock().unwrap().by_method.get(method).copied().unwrap_or(0)
    }

    /// The names of the objects under a prefix, sorted.
    pub(crate) fn objects(&self, prefix: &str) -> Vec<String> {
        let folder: PathBuf = self.root.path().join(BUCKET).join(prefix);
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

async fn accept(listener: TcpListener, service: S3Service, traffic: Arc<Mutex<Traffic>>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve(socket, service.clone(), Arc::clone(&traffic)));
    }
}

async fn serve(socket: TcpStream, service: S3Service, traffic: Arc<Mutex<Traffic>>) {
    let answer = service_fn(|request: Request<Incoming>| {
        let fault = traffic.lock().unwrap().next(request.method().as_str());
        let service = service.clone();
        async move {
            if fault == Some(Fault::Unavailable) {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                return Ok(response);
            }
            let response = service.call(request.map(Body::from)).await.map_err(|error| format!("{error:?}"))?;
            match fault {
                Some(Fault::AnswerLost) => Err("the answer is lost".to_owned()),
                _ => Ok::<_, String>(response),
            }
        }
    });
    // A connection that ends in an error is what the faults are for.
    let ended: Result<(), hyper::Error> = http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
    drop(ended);
}
