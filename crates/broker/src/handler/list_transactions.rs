//! ListTransactions: every transactional id, by state, producer or age of its transaction.

use std::collections::HashSet;

use kafka_protocol::messages::list_transactions_response::{ListTransactionsResponse, TransactionState};
use kafka_protocol::messages::{ListTransactionsRequest, ProducerId, TransactionalId};

use super::{Context, text};
use crate::log::control::Outcome;
use crate::txn::coordinator::{State, Transaction};

/// Every name a state has; the last ones are of other brokers' and never answered.
const STATE_NAMES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// What Kafka calls a state.
pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::Empty => "Empty",
        State::Ongoing => "Ongoing",
        State::Ending(Outcome::Commit) => "PrepareCommit",
        State::Ending(Outcome::Abort) => "PrepareAbort",
        State::Ended(Outcome::Commit) => "CompleteCommit",
        State::Ended(Outcome::Abort) => "CompleteAbort",
    }
}

pub(super) fn handle(ctx: &Context, request: &ListTransactionsRequest) -> ListTransactionsResponse {
    let states: HashSet<&str> = request.state_filters.iter().map(|state| &**state).collect();
    let producers: HashSet<i64> = request.producer_id_filters.iter().map(|id| id.0).collect();
    let now_ms = ctx.clock.wall_ms();
    let is_asked = |transaction: &Transaction| {
        let is_open = matches!(transaction.state, State::Ongoing | State::Ending(_));
        let age_ms = now_ms.saturating_sub(transaction.started_ms);
        (states.is_empty() || states.contains(state_name(transaction.state)))
            && (producers.is_empty() || producers.contains(&transaction.producer.id))
            && (request.duration_filter < 0 || is_open && age_ms > request.duration_filter)
    };
    let describe = |(id, transaction): (&String, &Transaction)| {
        TransactionState::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_producer_id(ProducerId(transaction.producer.id))
            .with_transaction_state(text(state_name(transaction.state)))
    };
    let found = ctx
        .transactions
        .look(|coordinator| coordinator.all().filter(|(_, transaction)| is_asked(transaction)).map(describe).collect());
    let unknown = request.state_filters.iter().filter(|state| !STATE_NAMES.contains(&&***state));
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown.cloned().collect())
        .with_transaction_states(found)
}
