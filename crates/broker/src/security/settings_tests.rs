//! Which listeners, users and limits are refused, and in what words.

use super::*;
use crate::error::ErrorKind;

fn listener(protocol: ListenerProtocol, address: &str) -> ListenerSettings {
    ListenerSettings { protocol, ..ListenerSettings::plaintext("external", address.parse().expect("address")) }
}

fn tls(client_auth: ClientAuth) -> TlsSettings {
    let client_ca = (client_auth != ClientAuth::None).then(|| "ca.pem".into());
    TlsSettings { certificate: "cert.pem".into(), key: "key.pem".into(), client_ca, client_auth }
}

fn check(change: impl FnOnce(&mut BrokerSettings)) -> Result<(), String> {
    let mut settings = BrokerSettings::default();
    change(&mut settings);
    settings.check().map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::FixConfig);
        error.to_string()
    })
}

fn check_listener(listener: ListenerSettings) -> Result<(), String> {
    check(|settings| settings.listeners = vec![listener])
}

#[test]
fn an_open_address_needs_authentication() {
    use ListenerProtocol::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
    let with = |protocol, address, tls| check_listener(ListenerSettings { tls, ..listener(protocol, address) });
    let open = "192.0.2.1:9093";
    for (protocol, address, tls) in [
        (Plaintext, "127.0.0.1:9092", None),
        (Plaintext, "[::1]:9092", None),
        (Ssl, "127.0.0.1:9093", Some(tls(ClientAuth::None))),
        (Ssl, open, Some(tls(ClientAuth::Required))),
        (SaslSsl, open, Some(tls(ClientAuth::None))),
        (SaslPlaintext, open, None),
    ] {
        assert_eq!(with(protocol, address, tls), Ok(()), "{protocol} {address}");
    }
    for (protocol, tls) in
        [(Plaintext, None), (Ssl, Some(tls(ClientAuth::None))), (Ssl, Some(tls(ClientAuth::Requested)))]
    {
        let error = with(protocol, open, tls).expect_err("open");
        for part in ["192.0.2.1:9093", "`external`", "only loopback", "sasl_ssl", "client_auth: required"] {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }
    let simple = check(|settings| settings.listen = ([0, 0, 0, 0], 9092).into()).expect_err("open");
    assert!(simple.contains("0.0.0.0"), "{simple}");
}

#[test]
fn listeners_that_make_no_sense_are_refused_in_their_own_words() {
    use ListenerProtocol::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
    let local = "127.0.0.1:9093";
    let sasl = |protocol, mechanism| ListenerSettings { sasl: vec![mechanism], ..listener(protocol, local) };
    let with_tls = |protocol, tls| ListenerSettings { tls: Some(tls), ..listener(protocol, local) };
    let no_ca = TlsSettings { client_ca: None, ..tls(ClientAuth::Required) };
    let idle_ca = TlsSettings { client_auth: ClientAuth::None, ..tls(ClientAuth::Required) };
    for (listener, expected) in [
        (listener(Ssl, local), "listener `external` speaks ssl but has no certificate, expected `tls: "),
        (with_tls(Plaintext, tls(ClientAuth::None)), "has certificates but speaks plaintext"),
        (with_tls(Ssl, no_ca), "asks clients for certificates but trusts none"),
        (with_tls(Ssl, idle_ca), "has a `client_ca` but asks for no certificates"),
        (sasl(Plaintext, SaslMechanism::ScramSha256), "has SASL mechanisms but speaks plaintext"),
        (sasl(SaslPlaintext, SaslMechanism::Plain), "offers PLAIN over sasl_plaintext"),
        (listener(SaslPlaintext, "0.0.0.0:9093"), "`advertised: HOST:PORT`"),
        (ListenerSettings::plaintext("", local.parse().expect("address")), "has no name"),
    ] {
        let error = check_listener(listener).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
    let plain_over_tls = ListenerSettings { tls: Some(tls(ClientAuth::None)), ..sasl(SaslSsl, SaslMechanism::Plain) };
    assert_eq!(check_listener(plain_over_tls), Ok(()));
    let twice = vec![listener(Plaintext, local), listener(Plaintext, "127.0.0.1:9094")];
    let error = check(|settings| settings.listeners = twice).expect_err("twice");
    assert!(error.contains("`external` is there twice"), "{error}");
}

#[test]
fn users_and_limits_that_cannot_work_are_refused() {
    let user = |name: &str| UserSettings { name: name.to_owned(), password: SecretRef::Env("X".to_owned()) };
    type Change = fn(&mut SecuritySettings);
    let changes: [(Change, &str); 6] = [
        (|security| security.super_users = vec!["admin".to_owned()], "super_users"),
        (|security| security.scram_iterations = 4095, "between 4096 and 16384"),
        (|security| security.scram_iterations = 16_385, "scram_iterations"),
        (|security| security.max_unauthenticated_request_bytes = 511, "at least 512"),
        (|security| security.authentication_timeout_ms = 0, "authentication_timeout_ms"),
        (|security| security.max_logged_per_minute = 0, ""),
    ];
    for (change, expected) in changes {
        let result = check(|settings| change(&mut settings.security));
        match result {
            Ok(()) => assert!(expected.is_empty(), "{expected}: accepted"),
            Err(error) => assert!(!expected.is_empty() && error.contains(expected), "{error}"),
        }
    }
    for users in [vec![user("a"), user("a")], vec![user("")]] {
        let error = check(|settings| settings.security.users = users).expect_err("users");
        assert!(error.contains("users"), "{error}");
    }
}

#[test]
fn the_authorizer_is_there_as_soon_as_anybody_is_asked_who_they_are() {
    let has = |change: &dyn Fn(&mut BrokerSettings)| {
        let mut settings = BrokerSettings::default();
        change(&mut settings);
        has_authorizer(&settings)
    };
    assert!(!has(&|_| {}));
    assert!(!has(&|settings| {
        let ssl = listener(ListenerProtocol::Ssl, "127.0.0.1:1");
        settings.listeners = vec![ListenerSettings { tls: Some(tls(ClientAuth::None)), ..ssl }];
    }));
    assert!(has(&|settings| settings.listeners = vec![listener(ListenerProtocol::SaslPlaintext, "127.0.0.1:1")]));
    assert!(has(&|settings| settings.security.allow_everyone_if_no_acl_found = Some(true)));
    assert!(has(&|settings| settings.security.super_users = vec!["User:a".to_owned()]));
}

#[test]
fn advertised_addresses() {
    for (text, host, port) in [("kafka.example:9093", "kafka.example", 9093), ("[::1]:1", "::1", 1)] {
        let parsed: HostPort = text.parse().expect(text);
        assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
        assert_eq!(parsed.to_string(), text);
    }
    for wrong in ["", "kafka", "kafka:", ":9093", "kafka:0", "kafka:99999", "::1:9092", "a b:1", "x://y:1", "[::1:1"] {
        assert!(wrong.parse::<HostPort>().expect_err(wrong).contains("HOST:PORT"));
    }
}

#[test]
fn settings_read_from_a_file_and_print_no_secret() {
    let json = serde_json::json!({
        "data_dir": "data",
        "listeners": [
            {"name": "internal", "address": "127.0.0.1:9092"},
            {
                "name": "external", "address": "0.0.0.0:9093", "protocol": "sasl_ssl",
                "advertised": "kafka.example:9093",
                "tls": {"certificate": "cert.pem", "key": "key.pem", "client_ca": "ca.pem", "client_auth": "requested"},
                "sasl": ["scram-sha-512", "plain"],
            },
        ],
        "security": {
            "users": [{"name": "admin", "password": "${env:ADMIN_PASSWORD}"}],
            "super_users": ["User:admin"],
        },
    });
    let settings: BrokerSettings = serde_json::from_value(json).expect("read");
    settings.check().expect("works");
    assert_eq!(listeners(&settings)[1].mechanisms(), [SaslMechanism::ScramSha512, SaslMechanism::Plain]);
    let again = serde_json::to_value(&settings).expect("written");
    assert_eq!(serde_json::from_value::<BrokerSettings>(again).expect("read again"), settings);
    assert!(format!("{settings:?}").contains("Env(\"ADMIN_PASSWORD\")"));

    let written_out = serde_json::json!({"security": {"users": [{"name": "admin", "password": "hunter2"}]}});
    let error = serde_json::from_value::<BrokerSettings>(written_out).expect_err("a password").to_string();
    assert!(error.contains("${env:NAME}") && !error.contains("hunter2"), "{error}");
    let unknown = serde_json::json!({"listeners": [{"name": "a", "address": "127.0.0.1:1", "ssl": true}]});
    serde_json::from_value::<BrokerSettings>(unknown).expect_err("an unknown field");
}

#[test]
fn the_how_to_shows_settings_that_work() {
    let how_to = include_str!("../../../../docs/operations/broker-security.md");
    let yaml = how_to.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("settings");
    let settings: BrokerSettings = serde_saphyr::from_str(yaml).expect("read");
    settings.check().expect("works");
    assert_eq!(settings.listeners.len(), 3);
    assert!(has_authorizer(&settings));
    let defaults = serde_json::to_value(SecuritySettings::default()).expect("written");
    for row in how_to.split("## Other settings").nth(1).expect("a table").lines().filter(|line| line.starts_with("| `"))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for name in cells[1].split(", ").map(|name| name.trim_matches('`')) {
            assert_eq!(defaults[name].to_string(), cells[2], "{name}");
        }
    }
}
