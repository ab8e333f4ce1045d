//! `s3://`: Amazon S3, or a server that speaks its protocol and creates an object only if it is absent when asked to.
//!
//! Credentials, region and endpoint come from the options of the location, else from AWS's usual environment
//! variables, else from the machine's role (web identity, container, instance metadata), as in every AWS program. Plain
//! HTTP is taken only towards this machine unless `allow_http` says otherwise: credentials would be safe, state would
//! not.

use std::sync::Arc;
use std::time::Duration;

use highwater_engine::checkpoint::{ObjectStores, RemoteLocation};
use highwater_engine::error::{EngineError, Result};
use highwater_engine::plan::catalog::{OptionReader, Options};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

/// S3.
#[derive(Debug)]
pub(super) struct S3;

/// What the options of a location say.
#[derive(Debug, Default, PartialEq, Eq)]
struct S3Options {
    region: Option<String>,
    endpoint: Option<String>,
    path_style: Option<bool>,
    allow_http: bool,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
}

impl ObjectStores for S3 {
    fn schemes(&self) -> &[&str] {
        &["s3", "s3a"]
    }

    fn secret_options(&self) -> &[&str] {
        &["secret_access_key", "session_token"]
    }

    fn open(&self, location: &RemoteLocation, options: &Options) -> Result<Arc<dyn ObjectStore>> {
        let object = format!("checkpoint location '{location}'");
        let environment = AmazonS3Builder::from_env();
        let set = |key: AmazonS3ConfigKey| environment.get_config_value(&key).filter(|value| !value.is_empty());
        let mut given = S3Options::read(options.reader(object.clone()))?;
        let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        given.endpoint = given.endpoint.or_else(|| endpoint.into_iter().find_map(set));
        let is_plain = given.check(&object)?;
        let mut builder = environment.clone().with_bucket_name(&location.authority);
        let region = given.region.take().or_else(|| set(AmazonS3ConfigKey::Region));
        let region = region.or_else(|| set(AmazonS3ConfigKey::DefaultRegion));
        // Servers of one's own have no regions, and take the name of Amazon's first.
        let region = region.or_else(|| given.endpoint.is_some().then(|| "us-east-1".to_owned())).ok_or_else(|| {
            EngineError::config(format!("{object} is in no region"))
                .help("name the bucket's region: option region, or the environment variable AWS_REGION")
        })?;
        builder = builder.with_region(region);
        if let Some(endpoint) = &given.endpoint {
            // Under both names: the environment may have set the one that goes before the other.
            let endpoint = endpoint.trim_end_matches('/');
            builder = builder.with_endpoint(endpoint).with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        // A server named by its address seldom has a name for each bucket.
        let path_style = given.path_style.unwrap_or(given.endpoint.is_some());
        builder = builder.with_virtual_hosted_style_request(!path_style);
        if let (Some(id), Some(secret)) = (given.access_key_id, given.secret_access_key) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            if let Some(token) = given.session_token {
                builder = builder.with_token(token);
            }
        }
        let client = ClientOptions::new()
            .with_allow_http(is_plain)
            .with_connect_timeout(Duration::from_secs(5))
            // The engine limits each request; a body may take as long as it keeps coming.
            .with_timeout_disabled();
        let store = builder
            .with_client_options(client)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(RETRY)
            .build();
        let store = store.map_err(|error| {
            EngineError::config(format!("{object} cannot be opened"))
                .caused_by(error)
                .help("correct its options or the AWS_ environment variables")
        })?;
        Ok(Arc::new(store))
    }
}

/// The engine tries a failed call again with longer waits; here only a part of an upload is, which it cannot repeat.
const RETRY: RetryConfig = RetryConfig {
    backoff: BackoffConfig { init_backoff: Duration::from_millis(50), max_backoff: Duration::from_secs(1), base: 2.0 },
    max_retries: 2,
    retry_timeout: Duration::from_secs(20),
};

impl S3Options {
    fn read(mut reader: OptionReader<'_>) -> Result<Self> {
        let text = |reader: &mut OptionReader<'_>, key| reader.text(key).map(str::to_owned);
        let options = Self {
            region: text(&mut reader, "region"),
            endpoint: text(&mut reader, "endpoint"),
            path_style: match reader.text("path_style") {
                Some(_) => Some(reader.flag("path_style", true)?),
                None => None,
            },
            allow_http: reader.flag("allow_http", false)?,
            access_key_id: text(&mut reader, "access_key_id"),
            secret_access_key: text(&mut reader, "secret_access_key"),
            session_token: text(&mut reader, "session_token"),
        };
        reader.finish()?;
        Ok(options)
    }

    /// Refuses what cannot be meant. Gives whether the server is spoken to without TLS.
    fn check(&self, object: &str) -> Result<bool> {
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err(EngineError::config(format!("{object} has only one of access_key_id and secret_access_key"))
                .help("give both, or neither to use the environment's"));
        }
        let Some(endpoint) = &self.endpoint else { return Ok(false) };
        match endpoint.split_once("://") {
            Some(("https", host)) if !host.is_empty() => Ok(false),
            Some(("http", host)) if self.allow_http || is_this_machine(host) => Ok(true),
            Some(("http", _)) => Err(EngineError::config(format!(
                "{object} has the endpoint '{endpoint}', which is not encrypted and not on this machine"
            ))
            .help("use https://, or allow it: allow_http: true")),
            _ => Err(EngineError::config(format!(
                "{object} has the endpoint '{endpoint}', expected https://HOST[:PORT]"
            ))),
        }
    }
}

/// Whether `host[:port]` can only be this machine.
fn is_this_machine(host: &str) -> bool {
    let host = host.split('/').next().unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use highwater_engine::checkpoint::Location;

    use super::*;

    fn open(options: &[(&str, &str)]) -> Result<Arc<dyn ObjectStore>> {
        let Location::Remote(location) = Location::parse("s3://b/p")? else { panic!("remote") };
        S3.open(&location, &options.iter().copied().collect())
    }

    fn check(options: &[(&str, &str)], expected: &str) {
        let found = match open(options) {
            Ok(store) => format!("{store}"),
            Err(error) => format!("{error}; {}", error.next_step().unwrap_or("")),
        };
        assert!(found.starts_with(expected), "{options:?}: {found}");
    }

    #[test]
    fn options_are_checked() {
        check(&[("region", "eu-central-1")], "AmazonS3(b)");
        check(&[("endpoint", "http://127.0.0.1:9000")], "AmazonS3(b)");
        check(&[("endpoint", "http://[::1]:9000/")], "AmazonS3(b)");
        check(&[("endpoint", "https://minio.example"), ("path_style", "false")], "AmazonS3(b)");
        check(&[("endpoint", "http://minio.example:9000"), ("allow_http", "true")], "AmazonS3(b)");
        check(
            &[("endpoint", "http://minio.example:9000")],
            "checkpoint location 's3://b/p' has the endpoint 'http://minio.example:9000', which is not encrypted and not \
             on this machine; use https://, or allow it: allow_http: true",
        );
        check(
            &[("endpoint", "minio.example")],
            "checkpoint location 's3://b/p' has the endpoint 'minio.example', expected https://HOST[:PORT]",
        );
        check(
            &[("endpoint", "http://127.0.0.1.example:9000")],
            "checkpoint location 's3://b/p' has the endpoint 'http://127.0.0.1.example:9000', which is not encrypted",
        );
        check(
            &[("region", "x"), ("access_key_id", "a")],
            "checkpoint location 's3://b/p' has only one of access_key_id and secret_access_key",
        );
        check(
            &[("regoin", "x")],
            "checkpoint location 's3://b/p' has no option of the name 'regoin'; did you mean 'region'?",
        );
    }
}
