//! Connections to a database: made when they are needed, kept for the next query, and what their errors mean.

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use highwater_engine::error::{EngineError, Result};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

use super::PostgresOptions;
use super::columns::ServerColumn;
use super::tls::{self, MODES, TlsMode, TlsSettings};

/// After so long without a word a machine is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A machine that confirms nothing for so long is taken for gone.
const SILENCE: Duration = Duration::from_secs(60);

/// Connections that wait for the next query.
const IDLE: usize = 2;

/// One thread for what all connections send and receive.
static RUNTIME: LazyLock<std::io::Result<Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("postgres").enable_all().build()
});

/// The thread of the connections.
pub(super) fn runtime() -> Result<&'static Runtime> {
    RUNTIME.as_ref().map_err(|error| {
        EngineError::unavailable("a thread for PostgreSQL cannot be started")
            .caused_by(std::io::Error::from(error.kind()))
    })
}

/// Runs an asynchronous call to its end, also from within another runtime's task.
fn block_on<T: Send>(future: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let runtime = runtime()?;
    let ended = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join());
    ended.unwrap_or_else(|_| Err(EngineError::internal("the PostgreSQL client panicked")))
}

/// A relation in a database.
pub(super) struct Database {
    object: String,
    options: PostgresOptions,
    idle: Mutex<Vec<Client>>,
    columns: Mutex<Option<Arc<Vec<ServerColumn>>>>,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.options.relation)
    }
}

impl Database {
    /// The relation that options describe. Opens nothing.
    pub(super) fn new(object: &str, options: PostgresOptions) -> Result<Self> {
        let database = Self { object: object.to_owned(), options, idle: Mutex::default(), columns: Mutex::default() };
        // A reference that nobody has put in place says nothing yet.
        if !database.options.url.contains("${") {
            database.config()?;
        }
        Ok(database)
    }

    /// What stands behind `FROM`.
    pub(super) fn relation(&self) -> &str {
        &self.options.relation
    }

    /// The columns of the relation, as the server has them.
    pub(super) fn columns(self: &Arc<Self>) -> Result<Arc<Vec<ServerColumn>>> {
        let database = Arc::clone(self);
        block_on(async move {
            let client = database.client().await?;
            let columns = database.columns_by(&client).await?;
            database.give_back(client);
            Ok(columns)
        })
    }

    /// The same, over a connection that is there; asked for once.
    pub(super) async fn columns_by(&self, client: &Client) -> Result<Arc<Vec<ServerColumn>>> {
        if let Some(columns) = &*self.columns.lock() {
            return Ok(Arc::clone(columns));
        }
        let query = format!("SELECT * FROM {}", self.options.relation);
        let statement = client.prepare(&query).await.map_err(|error| self.failed(&error))?;
        let columns: Vec<ServerColumn> = statement.columns().iter().map(ServerColumn::of).collect();
        let columns = Arc::new(columns);
        *self.columns.lock() = Some(Arc::clone(&columns));
        Ok(columns)
    }

    /// Forgets the columns, because a query with them failed: they may be others now.
    pub(super) fn forget_columns(&self) {
        *self.columns.lock() = None;
    }

    /// A connection: one that is kept and still open, or a new one.
    pub(super) async fn client(&self) -> Result<Client> {
        while let Some(client) = self.take_idle() {
            // A server that was restarted has closed them, and that is seen only when something is sent.
            if !client.is_closed() && client.check_connection().await.is_ok() {
                return Ok(client);
            }
        }
        let (config, tls) = self.config()?;
        let tls = tls.connector(&self.object)?;
        let (client, connection) = config.connect(tls).await.map_err(|error| self.failed(&error))?;
        let object = self.object.clone();
        // It ends with its client; an error of it reaches whoever waits for an answer, and nobody else needs it.
        runtime()?.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, object, "a connection to PostgreSQL has ended");
            }
        });
        Ok(client)
    }

    fn take_idle(&self) -> Option<Client> {
        self.idle.lock().pop()
    }

    /// Keeps a connection whose query is done.
    pub(super) fn give_back(&self, client: Client) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(client);
        }
    }

    fn config(&self) -> Result<(Config, TlsSettings)> {
        let options = &self.options;
        let url = options.url.strip_prefix("jdbc:").unwrap_or(&options.url);
        let (url, in_url) = without_tls(url);
        let expected = "expected postgresql://host:5432/database";
        let wrong = |what: &str| EngineError::config(format!("{}: option 'url' {what}, {expected}", self.object));
        if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
            return Err(wrong("does not begin with postgresql://"));
        }
        // The text is not repeated: it may hold a password.
        let mut config = Config::from_str(&url).map_err(|error| wrong("cannot be read").caused_by(error))?;
        if config.get_password().is_some() || config.get_user().is_some() {
            return Err(wrong("holds a user or a password").help(
                "use the options 'user' and 'password': OPTIONS ('user' = 'app', 'password' = '${env:PG_PASSWORD}')",
            ));
        }
        let tls = self.tls(&config, in_url)?;
        if tls.mode != TlsMode::Disable && config.get_hosts().is_empty() && !config.get_hostaddrs().is_empty() {
            return Err(wrong("has a hostaddr and no host, and TLS needs the name of the host").help(
                "write both: postgresql://db.example.com/shop?hostaddr=10.0.0.5; or say 'sslmode' = 'disable' where the \
                 network is safe",
            ));
        }
        config.ssl_mode(match tls.mode {
            TlsMode::Disable => SslMode::Disable,
            mode if mode.is_required() => SslMode::Require,
            _ => SslMode::Prefer,
        });
        config.application_name("highwater").connect_timeout(options.connect_timeout);
        config.keepalives_idle(KEEPALIVE).tcp_user_timeout(SILENCE);
        let timeout_ms = options.query_timeout.map_or(0, |timeout| timeout.as_millis());
        config.options(format!("-c default_transaction_read_only=on -c statement_timeout={timeout_ms}"));
        if let Some(user) = &options.user {
            config.user(user);
        }
        if let Some(password) = &options.password {
            config.password(password);
        }
        Ok((config, tls))
    }

    /// What options and url say of TLS; what neither says is no TLS to this machine, and all of it to another.
    fn tls(&self, config: &Config, in_url: TlsWords) -> Result<TlsSettings> {
        let object = &self.object;
        let of_options = TlsWords { mode: self.options.ssl_mode.clone(), root: self.options.ssl_root_cert.clone() };
        let either = |key: &str, option: Option<String>, in_url: Option<String>| match (option, in_url) {
            (Some(option), Some(in_url)) if option != in_url => {
                Err(EngineError::config(format!("{object}: option '{key}' is '{option}', and the url says '{in_url}'"))
                    .help("say it in one of them"))
            }
            (option, in_url) => Ok(option.or(in_url)),
        };
        let root_cert = either("sslrootcert", of_options.root, in_url.root)?;
        let mode = match either("sslmode", of_options.mode, in_url.mode)? {
            Some(word) => {
                let known = MODES.iter().find(|(name, _)| *name == word).map(|(_, mode)| *mode);
                known.ok_or_else(|| {
                    let names: Vec<&str> = MODES.iter().map(|(name, _)| *name).collect();
                    EngineError::config(format!("{object}: option 'sslmode' is '{word}'"))
                        .help(format!("expected one of {}", names.join(", ")))
                })?
            }
            None if root_cert.is_none() && is_here(config) => TlsMode::Disable,
            None => TlsMode::VerifyFull,
        };
        Ok(TlsSettings { mode, root_cert })
    }

    fn place(&self) -> String {
        let config = self.config().ok().map(|(config, _)| config);
        let host = config.as_ref().and_then(|config| match config.get_hosts().first() {
            Some(Host::Tcp(name)) => Some(name.clone()),
            Some(Host::Unix(path)) => Some(path.display().to_string()),
            None => Some(config.get_hostaddrs().first()?.to_string()),
        });
        let port = config.as_ref().and_then(|config| config.get_ports().first().copied()).unwrap_or(5432);
        format!("{}:{port}", host.unwrap_or_else(|| "localhost".to_owned()))
    }

    /// An error of the client or the server, sorted by what to do about it.
    pub(super) fn failed(&self, error: &tokio_postgres::Error) -> EngineError {
        let (object, place) = (&self.object, self.place());
        let user = self.options.user.as_deref().unwrap_or("nobody in particular");
        let Some(server) = error.as_db_error() else {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            let cause = cause.unwrap_or_else(|| error.to_string());
            if cause.contains("password missing") {
                let message = format!("{object}: PostgreSQL at {place} asks user '{user}' for a password");
                return EngineError::config(message).help("add 'password' = '${env:NAME}' to the table's options");
            }
            if let Some((what, help)) = tls::refusal(error) {
                return EngineError::config(format!("{object}: PostgreSQL at {place} {what}")).help(help);
            }
            let message = format!("{object}: PostgreSQL at {place} does not answer: {cause}");
            return EngineError::unavailable(message)
                .help("check the host and the port in 'url', and that the server runs");
        };
        let said = server.message().to_owned();
        let code = server.code();
        if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
            EngineError::config(format!("{object}: PostgreSQL at {place} does not let '{user}' in: {said}"))
                .help("check 'user', and what the reference in 'password' points to")
        } else if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME {
            EngineError::config(format!("{object}: the database has no {}: {said}", self.options.relation))
                .help("check 'dbtable' (schema.table), and the database in 'url'")
        } else if *code == SqlState::INVALID_CATALOG_NAME {
            EngineError::config(format!("{object}: PostgreSQL at {place}: {said}")).help("check the database in 'url'")
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            EngineError::config(format!("{object}: user '{user}' may not read {}: {said}", self.options.relation))
                .help("let the user read it: GRANT SELECT ON ... TO ...")
        } else if matches!(&code.code()[..2], "42" | "25") {
            EngineError::config(format!("{object}: PostgreSQL refuses the query: {said}"))
                .help("check 'dbtable' or 'query', and the columns that the table declares")
        } else if matches!(&code.code()[..2], "53" | "57" | "08" | "58" | "40") {
            EngineError::unavailable(format!("{object}: PostgreSQL at {place}: {said}"))
        } else {
            EngineError::data(format!("{object}: PostgreSQL cannot give the rows of {}: {said}", self.options.relation))
        }
    }
}

/// The words about TLS in a place.
#[derive(Debug, Default, PartialEq, Eq)]
struct TlsWords {
    mode: Option<String>,
    root: Option<String>,
}

/// The url without what it says of TLS, half of which the client does not know.
fn without_tls(url: &str) -> (String, TlsWords) {
    let Some((place, query)) = url.split_once('?') else { return (url.to_owned(), TlsWords::default()) };
    let mut words = TlsWords::default();
    let mut others = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", mode)) => words.mode = Some(mode.to_owned()),
            Some(("sslrootcert", path)) => words.root = Some(crate::file::listing::unescape(path)),
            _ => others.push(pair),
        }
    }
    let separator = if others.is_empty() { "" } else { "?" };
    (format!("{place}{separator}{}", others.join("&")), words)
}

/// Whether what is connected to is this machine: by the addresses in `hostaddr`, where the url has some, and by the hosts.
fn is_here(config: &Config) -> bool {
    let is_here = |host: &Host| match host {
        Host::Tcp(name) => {
            name.eq_ignore_ascii_case("localhost")
                || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    };
    config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback) && config.get_hosts().iter().all(is_here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_other_machines_are_encrypted() {
        let check = |url: &str, expected: Result<TlsMode, &str>| {
            let options = PostgresOptions {
                url: url.to_owned(),
                user: None,
                password: None,
                relation: "t".to_owned(),
                ssl_mode: None,
                ssl_root_cert: None,
                connect_timeout: Duration::from_secs(1),
                query_timeout: None,
            };
            let found = Database::new("t", options).and_then(|database| database.config()).map(|(_, tls)| tls.mode);
            let expected =
                expected.map_err(|what| format!("t: option 'url' {what}, expected postgresql://host:5432/database"));
            assert_eq!(found.map_err(|error| error.to_string()), expected, "{url}");
        };
        check("postgresql://localhost/shop", Ok(TlsMode::Disable));
        check("postgresql://[::1]/shop", Ok(TlsMode::Disable));
        check("postgresql://db.example.com/shop", Ok(TlsMode::VerifyFull));
        check("postgresql://localhost,db.example.com/shop", Ok(TlsMode::VerifyFull));
        // The address is what is connected to, whatever the host is called.
        check("postgresql://localhost/shop?hostaddr=10.0.0.5", Ok(TlsMode::VerifyFull));
        check("postgresql://localhost/shop?hostaddr=127.0.0.1", Ok(TlsMode::Disable));
        check("postgresql:///shop?hostaddr=127.0.0.1", Ok(TlsMode::Disable));
        let nameless = "has a hostaddr and no host, and TLS needs the name of the host";
        check("postgresql:///shop?hostaddr=10.0.0.5", Err(nameless));
        check("postgresql:///shop?hostaddr=10.0.0.5&sslmode=disable", Ok(TlsMode::Disable));
    }
}
