//! A PostgreSQL server of a test's own: on loopback, with its data in a temporary folder, gone with the test.
//!
//! Debian's package `postgresql` has the programs; `HIGHWATER_POSTGRES_BIN` names their folder where they are elsewhere.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The user that may do everything, and its password.
pub(crate) const USER: &str = "app";
pub(crate) const PASSWORD: &str = "the-password-of-a-test";

/// A server that runs.
pub(crate) struct Server {
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Server {
    /// Starts a server; none where PostgreSQL is not installed, and then it says so.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// Starts one that encrypts, with a certificate and its key in PEM, and lets nobody in who does not.
    #[allow(dead_code, reason = "the tests of the binary take this file too, and leave TLS to those here")]
    pub(crate) fn start_with_tls(certificate: &str, key: &str) -> Option<Self> {
        Self::start_with(Some((certificate, key)))
    }

    fn start_with(tls: Option<(&str, &str)>) -> Option<Self> {
        let Some(programs) = programs() else {
            #[expect(clippy::print_stderr, reason = "a test that did not run says why")]
            {
                eprintln!(
                    "SKIPPED: there is no PostgreSQL here (make setup installs it, or set HIGHWATER_POSTGRES_BIN)"
                );
            }
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        give(folder.path());
        let password = folder.path().join("password");
        writeln!(std::fs::File::create(&password).expect("a file"), "{PASSWORD}").expect("written");
        give(&password);
        let mut init = as_somebody(&programs.join("initdb"), folder.path());
        init.args(["--encoding=UTF8", "--no-locale", "--no-sync", "--auth=scram-sha-256", "--username", USER]);
        init.arg("--pwfile").arg(&password).arg("--pgdata").arg(folder.path().join("data"));
        let made = init.output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        if let Some((certificate, key)) = tls {
            turn_tls_on(&folder.path().join("data"), certificate, key);
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let child = run(&programs, folder.path(), port);
        Some(Self { programs, folder, port, child })
    }

    /// The address of its database.
    pub(crate) fn url(&self) -> String {
        format!("postgresql://127.0.0.1:{}/postgres", self.port)
    }

    /// Stops it and starts it again, on the same port with the same data.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.child = run(&self.programs, self.folder.path(), self.port);
    }

    /// Stops it: its port refuses connections then.
    pub(crate) fn stop(&mut self) {
        // One that was waited for is gone, and its number may be another's.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // Fast: it ends the sessions there are and writes what it must.
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }

    /// Runs statements with a program of PostgreSQL's own.
    pub(crate) fn run(&self, statements: &str) {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.env("PGPASSWORD", PASSWORD).args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", USER]);
        psql.args(["-d", "postgres", "-q", "-v", "ON_ERROR_STOP=1", "-c", statements]);
        let ran = psql.output().expect("psql runs");
        assert!(ran.status.success(), "psql: {}", String::from_utf8_lossy(&ran.stderr));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Has the server encrypt, and demand it.
fn turn_tls_on(data: &Path, certificate: &str, key: &str) {
    for (name, text) in [("server.crt", certificate), ("server.key", key)] {
        std::fs::write(data.join(name), text).expect("written");
        give(&data.join(name));
    }
    let logins = std::fs::read_to_string(data.join("pg_hba.conf")).expect("its logins");
    std::fs::write(data.join("pg_hba.conf"), logins.replace("\nhost ", "\nhostssl ")).expect("written");
    let mut settings =
        std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).expect("its settings");
    writeln!(settings, "ssl = on").expect("written");
}

fn run(programs: &Path, folder: &Path, port: u16) -> Child {
    let mut server = as_somebody(&programs.join("postgres"), folder);
    server.arg("-D").arg(folder.join("data")).args(["-h", "127.0.0.1", "-k", "", "-F", "-p", &port.to_string()]);
    let mut child = server.stderr(Stdio::piped()).spawn().expect("postgres runs");
    let mut log = BufReader::new(child.stderr.take().expect("its log"));
    let mut said = String::new();
    while !said.contains("ready to accept connections") {
        assert!(log.read_line(&mut said).expect("its log") > 0, "postgres has ended: {said}");
    }
    // Nobody reads on, and a full pipe must not hold the server up.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    child
}

/// PostgreSQL's folder of programs, the newest if there are several.
fn programs() -> Option<PathBuf> {
    if let Ok(folder) = std::env::var("HIGHWATER_POSTGRES_BIN") {
        return Some(folder.into());
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|version| version.path().join("bin"));
    versions.filter(|programs| programs.join("initdb").exists()).max()
}

/// Whom PostgreSQL can run as: it refuses to run as root.
fn somebody() -> Option<(u32, u32)> {
    let id = |which: &str, user: &str| -> Option<u32> {
        let asked = Command::new("id").args([which, user]).output().ok()?;
        String::from_utf8(asked.stdout).ok()?.trim().parse().ok()
    };
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|asked| asked.stdout.starts_with(b"0\n"));
    let of = |user| Some((id("-u", user)?, id("-g", user)?));
    if is_root { of("postgres").or_else(|| of("nobody")) } else { None }
}

fn give(path: &Path) {
    if let Some((user, group)) = somebody() {
        chown(path, Some(user), Some(group)).expect("given");
    }
    let mode = if path.is_dir() { 0o700 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("private");
}

fn as_somebody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null());
    if let Some((user, group)) = somebody() {
        command.uid(user).gid(group);
    }
    command
}
