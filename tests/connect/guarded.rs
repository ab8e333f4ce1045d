//! A server that asks for a token, and one that speaks TLS.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{HEAD, printed, printed_with, server_with};
use crate::program::run;

const TOKEN: &str = "a-token-that-nobody-guesses";

fn program(folder: &Path) -> std::path::PathBuf {
    let program = folder.join("program.py");
    fs::write(&program, format!("{HEAD}print(spark.range(3).count())\n")).unwrap();
    program
}

#[test]
#[ignore = "needs PySpark's client from PyPI: make connect-test"]
fn only_who_has_the_token_is_served() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let (_running, address) = server_with(folder.path(), &["--token-file", "token"]);
    let port = address.rsplit(':').next().unwrap();
    let program = program(folder.path());
    let ask = |token: &str| printed(&program, &format!("sc://localhost:{port}/{token}"));
    assert_eq!(ask(&format!(";token={TOKEN}")).unwrap(), "3\n");
    let wrong = ask(";token=a-token-of-somebody-else").unwrap_err();
    assert!(wrong.contains("the token is not that of this server"), "{wrong}");
    let none = ask("").unwrap_err();
    assert!(none.contains("this server asks for a token"), "{none}");
}

#[test]
#[ignore = "needs PySpark's client from PyPI: make connect-test"]
fn a_token_goes_through_tls() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), TOKEN).unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", "tls.key", "-out", "tls.crt"])
        .current_dir(folder.path())
        .output();
    assert!(made.is_ok_and(|made| made.status.success()), "openssl makes a certificate");
    let tls = ["--token-file", "token", "--tls-certificate", "tls.crt", "--tls-key", "tls.key"];
    let (_running, address) = server_with(folder.path(), &tls);
    let program = program(folder.path());
    let certificate = folder.path().join("tls.crt").display().to_string();
    let trusted = [("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", certificate.as_str())];
    let found = printed_with(&program, &format!("{address}/;use_ssl=true;token={TOKEN}"), &trusted);
    assert_eq!(found.unwrap(), "3\n");
}

#[test]
fn an_address_that_others_reach_needs_a_token_and_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), TOKEN).unwrap();
    let check = |arguments: &[&str], expected: &str| {
        let refused = run(folder.path(), &[&["connect", "--listen", "0.0.0.0:0"], arguments].concat());
        assert_eq!(refused.code, 2, "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    };
    check(&[], "other machines reach 0.0.0.0:0, and there is neither a token nor a certificate");
    check(&["--token-file", "token"], "other machines reach 0.0.0.0:0, and there is no certificate");
    check(&["--token-file", "missing"], "the token of highwater connect is ${file:missing}, but");
    let nothing = ["--token-file", "token", "--tls-certificate", "missing.crt", "--tls-key", "missing.key"];
    check(&nothing, "missing.crt cannot be used: it cannot be read");
}
