//! Names of those who connect: `User:alice`, or the subject of a certificate.
//!
//! A certificate's subject is written as Java writes it (RFC 2253, `X500Principal.getName()`), since
//! that is what access rules made for Kafka name: most specific part first, the nine well-known
//! keywords, everything else as a number and hexadecimal.

use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{BmpString, Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef};
use x509_cert::der::{Decode, Encode, Tag, Tagged};

/// The only type of principal there is.
pub(crate) const USER: &str = "User";
/// In a rule: every user.
pub(crate) const WILDCARD: &str = "*";
/// Who has proven nothing.
const ANONYMOUS: &str = "ANONYMOUS";

/// Who is on the other end of a connection, or whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Principal {
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Principal {
    pub(crate) fn user(name: impl Into<String>) -> Self {
        Self { kind: USER.to_owned(), name: name.into() }
    }

    pub(crate) fn anonymous() -> Self {
        Self::user(ANONYMOUS)
    }

    /// The subject of a certificate in DER.
    pub(crate) fn of_certificate(der: &[u8]) -> Result<Self, String> {
        let certificate = Certificate::from_der(der).map_err(|error| format!("it cannot be read: {error}"))?;
        let subject = certificate.tbs_certificate().subject();
        let mut parts = Vec::new();
        for part in subject.as_ref().iter() {
            let values: Result<Vec<String>, String> = part.iter().map(attribute).collect();
            parts.push(values?.join("+"));
        }
        if parts.is_empty() {
            return Err("it has no subject, which would be the name of the client".to_owned());
        }
        parts.reverse();
        Ok(Self::user(parts.join(",")))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl FromStr for Principal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
                Ok(Self { kind: kind.to_owned(), name: name.to_owned() })
            }
            _ => Err(format!("a principal is {text:?}, expected `User:` and a name")),
        }
    }
}

impl TryFrom<String> for Principal {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.to_string()
    }
}

/// The keywords of RFC 2253.
const KEYWORDS: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

fn attribute(attribute: &AttributeTypeAndValue) -> Result<String, String> {
    let oid = attribute.oid.to_string();
    let keyword = KEYWORDS.iter().find(|(number, _)| *number == oid).map(|(_, keyword)| *keyword);
    if let (Some(keyword), Some(value)) = (keyword, string(attribute)) {
        return Ok(format!("{keyword}={}", escaped(&value)));
    }
    let der = attribute.value.to_der().map_err(|error| format!("its subject cannot be read: {error}"))?;
    let mut hex = format!("{oid}=#");
    for byte in der {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}

fn string(attribute: &AttributeTypeAndValue) -> Option<String> {
    let value = &attribute.value;
    match value.tag() {
        Tag::PrintableString => PrintableStringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::Utf8String => Utf8StringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::Ia5String => Ia5StringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::TeletexString => TeletexStringRef::try_from(value).ok().map(|text| text.as_str().to_owned()),
        Tag::BmpString => value.decode_as::<BmpString>().ok().map(|text| text.to_string()),
        _ => None,
    }
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let inner = value.trim_matches(' ');
    let leading = value.len() - value.trim_start_matches(' ').len();
    let trailing = if inner.is_empty() { 0 } else { value.len() - value.trim_end_matches(' ').len() };
    out.push_str(&"\\ ".repeat(leading));
    for letter in inner.chars() {
        match letter {
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            '\0' => out.push_str("\\00"),
            _ => out.push(letter),
        }
    }
    out.push_str(&"\\ ".repeat(trailing));
    out
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

    use super::*;

    fn subject(parts: &[(DnType, DnValue)]) -> Result<String, String> {
        let mut name = DistinguishedName::new();
        for (kind, value) in parts {
            name.push(kind.clone(), value.clone());
        }
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.distinguished_name = name;
        let key = KeyPair::generate().expect("key");
        let certificate = params.self_signed(&key).expect("certificate");
        Principal::of_certificate(certificate.der()).map(|principal| principal.to_string())
    }

    #[test]
    fn a_subject_is_written_as_java_writes_it() {
        let text = |value: &str| DnValue::Utf8String(value.to_owned());
        let email = DnType::from_oid(&[1, 2, 840, 113_549, 1, 9, 1]);
        let check = |parts: &[(DnType, DnValue)], expected: &str| {
            assert_eq!(subject(parts).as_deref(), Ok(expected));
        };
        check(&[(DnType::CommonName, text("alice"))], "User:CN=alice");
        check(
            &[
                (DnType::CountryName, DnValue::PrintableString("NL".try_into().expect("printable"))),
                (DnType::OrganizationName, text("Data, Inc.")),
                (DnType::OrganizationalUnitName, text("a=b+c")),
                (DnType::CommonName, text(" alice ")),
            ],
            "User:CN=\\ alice\\ ,OU=a\\=b\\+c,O=Data\\, Inc.,C=NL",
        );
        check(
            &[(DnType::CommonName, text("bob")), (email, text("b@x"))],
            "User:1.2.840.113549.1.9.1=#0c03624078,CN=bob",
        );
        subject(&[]).expect_err("no subject, no name");
        Principal::of_certificate(b"\x30\x03abc").expect_err("no certificate");
    }

    #[test]
    fn a_principal_reads_what_it_prints() {
        for text in ["User:alice", "User:CN=a,O=b:c", "Group:x", "User:*"] {
            assert_eq!(text.parse::<Principal>().expect(text).to_string(), text);
        }
        for wrong in ["", "alice", ":alice", "User:"] {
            assert!(wrong.parse::<Principal>().expect_err(wrong).contains("User:"));
        }
    }
}
