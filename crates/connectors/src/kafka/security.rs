//! How a cluster wants to be spoken to: TLS, SASL, or neither, from options to both clients.
//!
//! ```text
//!   kafka.security.protocol, kafka.ssl.*, kafka.sasl.* ──> Security ──┬──> ConnectionSettings   our client, which reads
//!                                                                     └──> librdkafka's names   the one that writes
//! ```
//!
//! Java's names and librdkafka's are both understood, as far as both clients can do what they say. What would make a
//! connection less safe than it looks (no check of the host's name, no check of certificates) is refused, and so are Java's
//! key stores, whose content has to be made PEM once.

use highwater_engine::error::{EngineError, Result};

use super::client::connection::ConnectionSettings;
use super::client::sasl::{Credentials, Mechanism};
use super::client::tls::{Pem, TlsSettings};

/// Options whose value is a secret, with the prefix tables give them.
pub const SECRETS: [&str; 5] = [
    "kafka.sasl.password",
    "kafka.sasl.jaas.config",
    "kafka.ssl.keystore.key",
    "kafka.ssl.key.pem",
    "kafka.ssl.key.password",
];

/// Where Java's password of a user is one word among others.
const JAAS: &str = "sasl.jaas.config";

/// Whether librdkafka checks certificates. It always does: the words that switch it off are refused, and none is passed on.
const VERIFICATION: &str = "enable.ssl.certificate.verification";

/// Options that are read here and not passed on as they are.
const OURS: [&str; 21] = [
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.password",
    JAAS,
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.truststore.type",
    "ssl.truststore.location",
    "ssl.truststore.certificates",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.keystore.type",
    "ssl.keystore.location",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.endpoint.identification.algorithm",
    VERIFICATION,
];

/// What is spoken with a cluster.
#[derive(Debug, Clone, Default)]
pub struct Security {
    tls: Option<TlsSettings>,
    credentials: Option<Credentials>,
}

impl Security {
    /// Reads it from settings of a client; `prefix` is what their names have in front where the user wrote them.
    pub fn read(object: &str, prefix: &str, settings: &[(String, String)]) -> Result<Self> {
        let reader = Reader { object, prefix, settings };
        let (with_tls, with_sasl) = match reader.get("security.protocol").map(str::to_ascii_uppercase).as_deref() {
            None | Some("PLAINTEXT") => (false, false),
            Some("SSL") => (true, false),
            Some("SASL_PLAINTEXT") => (false, true),
            Some("SASL_SSL") => (true, true),
            Some(_) => {
                return Err(reader.wrong("security.protocol", "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"));
            }
        };
        let tls = if with_tls { Some(reader.tls()?) } else { None };
        let credentials = if with_sasl { Some(reader.credentials()?) } else { None };
        Ok(Self { tls, credentials })
    }

    /// Puts it into the settings of our client's connections.
    pub fn apply(&self, connection: &mut ConnectionSettings) {
        connection.tls.clone_from(&self.tls);
        connection.credentials.clone_from(&self.credentials);
    }

    /// The same for librdkafka.
    pub fn librdkafka(&self) -> Vec<(String, String)> {
        let mut all: Vec<(&str, String)> = Vec::new();
        let protocol = match (&self.tls, &self.credentials) {
            (None, None) => return Vec::new(),
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        all.push(("security.protocol", protocol.to_owned()));
        if let Some(tls) = &self.tls {
            let mut put = |file: &'static str, text: &'static str, pem: &Pem| match pem {
                Pem::File(path) => all.push((file, path.display().to_string())),
                Pem::Text(pem) => all.push((text, pem.clone())),
            };
            match &tls.authorities {
                Some(pem) => put("ssl.ca.location", "ssl.ca.pem", pem),
                // Where this machine keeps those it trusts is looked for.
                None => put("ssl.ca.location", "ssl.ca.pem", &Pem::File("probe".into())),
            }
            if let Some((chain, key)) = &tls.identity {
                put("ssl.certificate.location", "ssl.certificate.pem", chain);
                put("ssl.key.location", "ssl.key.pem", key);
            }
        }
        if let Some(Credentials { mechanism, user, password }) = &self.credentials {
            all.push(("sasl.mechanisms", mechanism.name().to_owned()));
            all.push(("sasl.username", user.clone()));
            all.push(("sasl.password", password.clone()));
        }
        all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// Settings for librdkafka: what of `settings` is not about security, and what is in its words.
    pub fn translate(&self, settings: Vec<(String, String)>) -> Vec<(String, String)> {
        let ours = |key: &str| OURS.iter().any(|name| name.eq_ignore_ascii_case(key));
        settings.into_iter().filter(|(key, _)| !ours(key)).chain(self.librdkafka()).collect()
    }
}

/// Looks settings up and says what is wrong with them.
struct Reader<'a> {
    object: &'a str,
    prefix: &'a str,
    settings: &'a [(String, String)],
}

impl<'a> Reader<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        let found = self.settings.iter().rfind(|(known, _)| known.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    }

    fn option(&self, key: &str) -> String {
        format!("{}: option '{}{key}'", self.object, self.prefix)
    }

    fn wrong(&self, key: &str, expected: &str) -> EngineError {
        let found = self.get(key).unwrap_or_default();
        EngineError::config(format!("{} is '{found}', expected {expected}", self.option(key)))
    }

    fn missing(&self, key: &str, why: &str) -> EngineError {
        EngineError::config(format!("{} is missing: {why}", self.option(key)))
    }

    fn tls(&self) -> Result<TlsSettings> {
        let host_is_checked = |value: &str| value.eq_ignore_ascii_case("https");
        let is_given = |key: &str| self.settings.iter().any(|(known, _)| known.eq_ignore_ascii_case(key));
        let identification = "ssl.endpoint.identification.algorithm";
        if is_given(identification) && !self.get(identification).is_some_and(host_is_checked) {
            return Err(self.wrong(identification, "https").help(
                "without it whoever has a certificate could be the broker; put the host's name into the broker's",
            ));
        }
        let is_on = |value: &str| ["true", "t", "1"].iter().any(|word| value.eq_ignore_ascii_case(word));
        if is_given(VERIFICATION) && !self.get(VERIFICATION).is_some_and(is_on) {
            return Err(self.wrong(VERIFICATION, "true").help(format!(
                "name the authority the broker's certificate comes from: {}ssl.ca.location",
                self.prefix
            )));
        }
        if self.get("ssl.key.password").is_some() {
            return Err(EngineError::config(format!("{} cannot be used", self.option("ssl.key.password"))).help(
                "keys are read without a password: openssl pkey -in FILE -out OTHER, readable to this user alone",
            ));
        }
        for store in ["truststore", "keystore"] {
            self.refuse_java_store(store)?;
        }
        let authorities =
            self.pem(&["ssl.ca.location", "ssl.truststore.location"], &["ssl.ca.pem", "ssl.truststore.certificates"]);
        let chain = self.pem(
            &["ssl.certificate.location", "ssl.keystore.location"],
            &["ssl.certificate.pem", "ssl.keystore.certificate.chain"],
        );
        // Java keeps the key in the file of its certificate.
        let key = self.pem(&["ssl.key.location", "ssl.keystore.location"], &["ssl.key.pem", "ssl.keystore.key"]);
        let identity = match (chain, key) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some((chain, key)),
            (Some(_), None) => {
                return Err(self.missing("ssl.key.location", "a certificate is of no use without its key"));
            }
            (None, Some(_)) => {
                return Err(self.missing("ssl.certificate.location", "a key is of no use without its certificate"));
            }
        };
        Ok(TlsSettings::new(authorities, identity))
    }

    fn refuse_java_store(&self, store: &str) -> Result<()> {
        let (kind, location) = (format!("ssl.{store}.type"), format!("ssl.{store}.location"));
        // Without a type Java means JKS.
        let is_pem = self.get(&kind).is_some_and(|kind| kind.eq_ignore_ascii_case("PEM"));
        if is_pem || (self.get(&location).is_none() && self.get(&kind).is_none()) {
            return Ok(());
        }
        let found = self.get(&kind).unwrap_or("JKS");
        let export = match store {
            "truststore" => "keytool -exportcert -rfc -keystore STORE -alias NAME > ca.pem".to_owned(),
            _ => "keytool -importkeystore -srckeystore STORE -destkeystore p12 -deststoretype PKCS12, then openssl pkcs12 -in \
                  p12 -nodes > client.pem"
                .to_owned(),
        };
        Err(EngineError::config(format!("{} is {found}, expected PEM", self.option(&kind)))
            .help(format!("make it PEM ({export}) and set '{0}ssl.{store}.type' = 'PEM'", self.prefix)))
    }

    fn pem(&self, files: &[&str], texts: &[&str]) -> Option<Pem> {
        let file = files.iter().find_map(|key| self.get(key)).map(|path| Pem::File(path.into()));
        file.or_else(|| texts.iter().find_map(|key| self.get(key)).map(|text| Pem::Text(text.to_owned())))
    }

    fn credentials(&self) -> Result<Credentials> {
        let names = Mechanism::ALL.map(Mechanism::name).join(", ");
        let Some(named) = self.get("sasl.mechanism").or_else(|| self.get("sasl.mechanisms")) else {
            return Err(
                self.missing("sasl.mechanism", &format!("'security.protocol' asks for SASL; it is one of {names}"))
            );
        };
        let known = Mechanism::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(named));
        let Some(mechanism) = known else {
            let key = if self.get("sasl.mechanism").is_some() { "sasl.mechanism" } else { "sasl.mechanisms" };
            return Err(self.wrong(key, &format!("one of {names}")));
        };
        let user = self.get("sasl.username").map(str::to_owned).or_else(|| self.jaas("username"));
        let password = self.get("sasl.password").map(str::to_owned).or_else(|| self.jaas("password"));
        match (user, password) {
            (Some(user), Some(password)) => Ok(Credentials { mechanism, user, password }),
            (None, _) => Err(self.missing("sasl.username", "SASL asks who this client is")),
            (_, None) => Err(self.missing("sasl.password", "SASL asks for a proof of who this client is")),
        }
    }

    /// A value of `module required username="..." password="...";`.
    fn jaas(&self, name: &str) -> Option<String> {
        let text = self.get(JAAS)?;
        let start = text.match_indices(name).find_map(|(at, _)| {
            let is_word = text[..at].ends_with(char::is_whitespace);
            let rest = text[at + name.len()..].trim_start().strip_prefix('=')?;
            is_word.then_some(rest.trim_start())
        })?;
        match start.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => start.split([' ', ';', '\n', '\t']).next().map(str::to_owned),
        }
    }
}

/// The text up to the closing quote; a backslash keeps the next letter as it is.
fn unquoted(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut letters = text.chars();
    loop {
        match letters.next()? {
            '"' => return Some(out),
            '\\' => out.push(letters.next()?),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Security> {
        Security::read("table t", "kafka.", &settings(pairs))
    }

    #[test]
    fn javas_words_and_librdkafkas_mean_the_same() {
        let check = |pairs: &[(&str, &str)], expected: &[(&str, &str)]| {
            let security = read(pairs).unwrap();
            let mut all = settings(pairs);
            all.push(("linger.ms".to_owned(), "5".to_owned()));
            let expected: Vec<(&str, &str)> = [("linger.ms", "5")].iter().chain(expected).copied().collect();
            assert_eq!(security.translate(all), settings(&expected), "{pairs:?}");
            let mut connection = ConnectionSettings::default();
            security.apply(&mut connection);
            let names = |name: &str| expected.iter().any(|(key, _)| *key == name);
            assert_eq!(connection.credentials.is_some(), names("sasl.username"), "{pairs:?}");
            assert_eq!(connection.tls.is_some(), names("ssl.ca.location") || names("ssl.ca.pem"), "{pairs:?}");
        };
        check(&[], &[]);
        check(&[("security.protocol", "plaintext"), ("sasl.username", "unused")], &[]);
        let user = [("sasl.mechanisms", "SCRAM-SHA-512"), ("sasl.username", "alice"), ("sasl.password", "x\"y z")];
        let expected = [&[("security.protocol", "sasl_ssl"), ("ssl.ca.location", "/ca.pem")], &user[..]].concat();
        check(&[&[("security.protocol", "SASL_SSL"), ("ssl.ca.location", "/ca.pem")], &user[..]].concat(), &expected);
        let jaas =
            r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="alice" password="x\"y z";"#;
        let java = [
            ("security.protocol", "SASL_SSL"),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", "/ca.pem"),
            ("ssl.endpoint.identification.algorithm", "https"),
            ("sasl.mechanism", "scram-sha-512"),
            ("sasl.jaas.config", jaas),
        ];
        check(&java, &expected);
        check(
            &[
                ("security.protocol", "SSL"),
                ("ssl.keystore.type", "PEM"),
                ("ssl.keystore.location", "/me.pem"),
                (VERIFICATION, "1"),
            ],
            &[
                ("security.protocol", "ssl"),
                ("ssl.ca.location", "probe"),
                ("ssl.certificate.location", "/me.pem"),
                ("ssl.key.location", "/me.pem"),
            ],
        );
        check(
            &[
                ("security.protocol", "sasl_plaintext"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.jaas.config", "m required password=b username=a;"),
            ],
            &[
                ("security.protocol", "sasl_plaintext"),
                ("sasl.mechanisms", "PLAIN"),
                ("sasl.username", "a"),
                ("sasl.password", "b"),
            ],
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_the_way_out() {
        let check = |pairs: &[(&str, &str)], expected: &str| {
            let error = read(pairs).err().unwrap_or_else(|| panic!("{pairs:?} is taken"));
            assert_eq!(error.to_string(), format!("table t: option 'kafka.{expected}"));
        };
        let (ssl, sasl) = (("security.protocol", "SSL"), ("security.protocol", "SASL_SSL"));
        check(
            &[("security.protocol", "TLS")],
            "security.protocol' is 'TLS', expected PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
        );
        check(&[ssl, ("ssl.truststore.location", "x.jks")], "ssl.truststore.type' is JKS, expected PEM");
        check(&[ssl, ("ssl.keystore.type", "PKCS12")], "ssl.keystore.type' is PKCS12, expected PEM");
        check(
            &[ssl, ("ssl.endpoint.identification.algorithm", "")],
            "ssl.endpoint.identification.algorithm' is '', expected https",
        );
        // librdkafka takes several words for no.
        for word in ["false", "F", "0", "no", ""] {
            check(&[ssl, (VERIFICATION, word)], &format!("{VERIFICATION}' is '{word}', expected true"));
        }
        check(&[ssl, ("ssl.key.password", "x")], "ssl.key.password' cannot be used");
        check(
            &[ssl, ("ssl.certificate.location", "c.pem")],
            "ssl.key.location' is missing: a certificate is of no use without its key",
        );
        check(
            &[sasl],
            "sasl.mechanism' is missing: 'security.protocol' asks for SASL; it is one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
        );
        check(
            &[sasl, ("sasl.mechanism", "GSSAPI")],
            "sasl.mechanism' is 'GSSAPI', expected one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
        );
        check(&[sasl, ("sasl.mechanism", "PLAIN")], "sasl.username' is missing: SASL asks who this client is");
        check(
            &[sasl, ("sasl.mechanism", "PLAIN"), ("sasl.username", "a")],
            "sasl.password' is missing: SASL asks for a proof of who this client is",
        );
    }
}
