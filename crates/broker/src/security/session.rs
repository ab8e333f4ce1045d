//! What is known about a connection: where it came in, and who is on its other end.
//!
//! A SASL session can be limited (KIP-368): its client authenticates again on the same connection,
//! as the same user and by the same mechanism, before its time is up; used for anything else after
//! that, the connection is closed.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use kafka_protocol::protocol::StrBytes;
use parking_lot::{Mutex, RwLock};

use super::principal::Principal;
use super::sasl::{Exchange, Outcome, Refusal};
use super::settings::{HostPort, SaslMechanism};
use crate::handler::{Context, blocking};
use crate::protocol::frame::FrameError;

/// A listener as requests need to know it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) name: String,
    /// Where clients that came in here are sent.
    pub(crate) advertised: HostPort,
    /// Empty where there is no SASL.
    pub(crate) mechanisms: Vec<SaslMechanism>,
}

/// The authentication of one connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) endpoint: Arc<Endpoint>,
    address: IpAddr,
    exchange: Mutex<Exchange>,
    settled: RwLock<Option<Settled>>,
    /// When the session ends, by the monotonic clock.
    expires_ms: AtomicI64,
    /// The handshake was of version 0, after which messages come without a header.
    bare: AtomicBool,
    /// The last answer is the connection's last.
    failed: AtomicBool,
}

#[derive(Debug, Clone)]
struct Settled {
    principal: Arc<Principal>,
    mechanism: Option<SaslMechanism>,
}

const NEVER: i64 = i64::MAX;

/// What a SASL message is answered.
pub(crate) struct Answered {
    pub(crate) error: Option<(ResponseError, String)>,
    pub(crate) message: Bytes,
}

impl Session {
    /// A session; `principal` is who came in where there is no SASL.
    pub(crate) fn new(endpoint: Arc<Endpoint>, address: IpAddr, principal: Principal) -> Self {
        let settled = Settled { principal: Arc::new(principal), mechanism: None };
        Self {
            settled: RwLock::new(endpoint.mechanisms.is_empty().then_some(settled)),
            endpoint,
            address,
            exchange: Mutex::new(Exchange::Start),
            expires_ms: AtomicI64::new(NEVER),
            bare: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// Who it is; `None` while that is not settled.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        self.settled.read().as_ref().map(|settled| Arc::clone(&settled.principal))
    }

    /// Refuses requests after the end of the session, but for those that renew it.
    pub(crate) fn check_not_expired(&self, now_ms: i64, key: ApiKey) -> Result<(), FrameError> {
        let renews = matches!(key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        if !renews && now_ms > self.expires_ms.load(Ordering::Acquire) {
            return Err(FrameError::SessionExpired(key));
        }
        Ok(())
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether the next messages come without a header.
    pub(crate) fn is_bare(&self) -> bool {
        self.bare.load(Ordering::Acquire) && self.principal().is_none()
    }

    /// Whether SASL requests have a meaning now.
    fn may_authenticate(&self, ctx: &Context) -> bool {
        let again = ctx.settings.security.max_reauthentication_ms > 0;
        !self.endpoint.mechanisms.is_empty() && (again || self.principal().is_none())
    }

    /// SaslHandshake: the client names its mechanism.
    pub(crate) fn handshake(
        &self,
        ctx: &Context,
        request: &SaslHandshakeRequest,
        version: i16,
    ) -> SaslHandshakeResponse {
        let names = self.endpoint.mechanisms.iter().map(|mechanism| StrBytes::from_static_str(mechanism.name()));
        let response = SaslHandshakeResponse::default().with_mechanisms(names.collect());
        if !self.may_authenticate(ctx) {
            return response.with_error_code(ResponseError::IllegalSaslState.code());
        }
        let mut exchange = self.exchange.lock();
        match exchange.choose(&request.mechanism, &self.endpoint.mechanisms) {
            Ok(chosen) => {
                *exchange = chosen;
                self.bare.store(version == 0, Ordering::Release);
                response
            }
            Err(error) => {
                self.failed.store(true, Ordering::Release);
                response.with_error_code(error.code())
            }
        }
    }

    /// SaslAuthenticate: a message of the mechanism.
    pub(crate) async fn authenticate(
        &self,
        ctx: &Arc<Context>,
        request: SaslAuthenticateRequest,
    ) -> SaslAuthenticateResponse {
        let Answered { error, message } = self.proceed(ctx, request.auth_bytes).await;
        let response = SaslAuthenticateResponse::default().with_auth_bytes(message);
        match error {
            Some((error, message)) => {
                response.with_error_code(error.code()).with_error_message(Some(StrBytes::from_string(message)))
            }
            None => {
                let lifetime_ms = self.expires_ms.load(Ordering::Acquire) != NEVER;
                let limit_ms = i64::try_from(ctx.settings.security.max_reauthentication_ms).unwrap_or(i64::MAX);
                response.with_error_message(None).with_session_lifetime_ms(if lifetime_ms { limit_ms } else { 0 })
            }
        }
    }

    /// Takes a message of the mechanism, with or without a header.
    pub(crate) async fn proceed(&self, ctx: &Arc<Context>, message: Bytes) -> Answered {
        if !self.may_authenticate(ctx) {
            let reason = "SaslAuthenticate request received after successful authentication".to_owned();
            return Answered { error: Some((ResponseError::IllegalSaslState, reason)), message: Bytes::new() };
        }
        let exchange = std::mem::take(&mut *self.exchange.lock());
        let users = Arc::clone(ctx);
        let outcome = blocking(move || exchange.proceed(&users.users, &message)).await;
        let outcome = match outcome {
            Outcome::Authenticated { user, mechanism, message } => match self.settle(ctx, user, mechanism) {
                Ok(()) => return Answered { error: None, message: message.into() },
                Err(refusal) => Outcome::Refused(refusal),
            },
            outcome => outcome,
        };
        match outcome {
            Outcome::Continue(next, message) => {
                *self.exchange.lock() = next;
                Answered { error: None, message: message.into() }
            }
            Outcome::Authenticated { message, .. } => Answered { error: None, message: message.into() },
            Outcome::Refused(refusal) => {
                self.failed.store(true, Ordering::Release);
                ctx.log_limits.failed_authentications.log(ctx.clock.monotonic_ms(), |more| {
                    let (host, listener, reason) = (self.address, &self.endpoint.name, &refusal.reason);
                    tracing::warn!(%host, listener, reason, more, "authentication failed");
                });
                Answered { error: Some((refusal.error, refusal.message)), message: Bytes::new() }
            }
        }
    }

    fn settle(&self, ctx: &Context, user: String, mechanism: SaslMechanism) -> Result<(), Refusal> {
        let principal = Arc::new(Principal::user(user));
        let mut settled = self.settled.write();
        if let Some(before) = settled.as_ref()
            && (before.principal != principal || before.mechanism != Some(mechanism))
        {
            return Err(Refusal {
                error: ResponseError::SaslAuthenticationFailed,
                message: "Cannot change principals or mechanisms during re-authentication".to_owned(),
                reason: format!("{} authenticated again as {principal}", before.principal),
            });
        }
        let limit_ms = i64::try_from(ctx.settings.security.max_reauthentication_ms).unwrap_or(i64::MAX);
        if limit_ms > 0 {
            self.expires_ms.store(ctx.clock.monotonic_ms().saturating_add(limit_ms), Ordering::Release);
        }
        *settled = Some(Settled { principal, mechanism: Some(mechanism) });
        Ok(())
    }
}
