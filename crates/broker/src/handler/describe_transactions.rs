//! DescribeTransactions: what is known under transactional ids.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{
    DescribeTransactionsResponse, TopicData, TransactionState,
};
use kafka_protocol::messages::{DescribeTransactionsRequest, ProducerId, TopicName};

use super::list_transactions::state_name;
use super::{Context, text};
use crate::txn::coordinator::{State, Transaction};

pub(super) fn handle(ctx: &Context, request: DescribeTransactionsRequest) -> DescribeTransactionsResponse {
    let states = request.transactional_ids.into_iter().map(|id| {
        let found = ctx.transactions.look(|coordinator| coordinator.get(&id).map(describe));
        let unknown = || TransactionState::default().with_error_code(ResponseError::TransactionalIdNotFound.code());
        found.unwrap_or_else(unknown).with_transactional_id(id)
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}

fn describe(transaction: &Transaction) -> TransactionState {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in &transaction.partitions {
        topics.entry(topic).or_default().push(*partition);
    }
    let topic = |(name, partitions)| TopicData::default().with_topic(TopicName(text(name))).with_partitions(partitions);
    let is_open = matches!(transaction.state, State::Ongoing | State::Ending(_));
    TransactionState::default()
        .with_transaction_state(text(state_name(transaction.state)))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(if is_open { transaction.started_ms } else { -1 })
        .with_producer_id(ProducerId(transaction.producer.id))
        .with_producer_epoch(transaction.producer.epoch)
        .with_topics(topics.into_iter().map(topic).collect())
}
