//! Who may do what: encrypted listeners, proven names, and rules about them.
//!
//! ```text
//!  socket ─> tls ─> sasl ─────────────> principal ─> authorizer ─> request goes on, whole or in part
//!            certificates  scram, plain                 │
//!                            │                          │
//!                          users.json                acls.json     (sealed, in the data directory)
//! ```
//!
//! A connection has a [`principal::Principal`] before its first request is looked at: the subject of
//! its certificate, the user it has proven to be, or `User:ANONYMOUS` on a listener that asks for
//! neither. What a request needs is `guard/`, one trait and one `impl` an API; whether it is allowed
//! is [`acl::authorize`], which is pure.
//!
//! It refuses to be open by mistake: an address that other machines reach needs authentication, a
//! password in the clear needs TLS, and a broker with authentication denies what no rule allows. A
//! password is never stored and never printed; settings hold references to secrets, not secrets.

pub(crate) mod settings;
pub(crate) mod secret;
pub(crate) mod principal;
pub(crate) mod tls;
pub(crate) mod scram;
pub(crate) mod users;
pub(crate) mod sasl;
pub(crate) mod session;
pub(crate) mod acl;
pub(crate) mod acls;
pub(crate) mod authorizer;
pub(crate) mod guard;
