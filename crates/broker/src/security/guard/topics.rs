//! Rights over topics: what is there, and what is made, changed and deleted.

use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_response::{CreatableTopicResult, CreateTopicsResponse};
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest, MetadataResponse, TopicName,
};
use uuid::Uuid;

use super::{Access, Guard, TOPIC_DENIED, Verdict, admitted, take_out};
use crate::security::acl::{CLUSTER, Operation, ResourceType};

impl Guard for MetadataRequest {
    fn guard(&mut self, access: Access<'_>, version: i16) -> Verdict<Self::Response> {
        // Version 0 has no null: there an empty list asks for every topic.
        let is_empty = |topics: &Vec<MetadataRequestTopic>| topics.is_empty();
        let asks_all = self.topics.as_ref().is_none_or(|topics| version == 0 && is_empty(topics));
        let tell_topics = version >= 8 && self.include_topic_authorized_operations;
        let tell_cluster = (8..=10).contains(&version) && self.include_cluster_authorized_operations;
        let denied = denied_topics(self, access, version);
        let became_all = !asks_all && version == 0 && self.topics.as_ref().is_none_or(is_empty);
        admitted(move |access, response: &mut MetadataResponse| {
            if became_all {
                response.topics.clear();
            }
            if asks_all {
                response.topics.retain(|topic| {
                    let name = topic.name.as_deref().map_or("", |name| name);
                    access.can_quietly(Operation::Describe, ResourceType::Topic, name)
                });
            }
            for topic in response.topics.iter_mut().filter(|topic| tell_topics && topic.error_code == 0) {
                let name = topic.name.as_deref().map_or("", |name| name);
                topic.topic_authorized_operations = access.operations(ResourceType::Topic, name);
            }
            if tell_cluster {
                response.cluster_authorized_operations = access.cluster_operations();
            }
            response.topics.extend(denied.into_iter().map(|topic| metadata_denied(topic, version)));
        })
    }
}

/// Takes out topics the client may not see, or that its request would create without the right to.
fn denied_topics(request: &mut MetadataRequest, access: Access<'_>, version: i16) -> Vec<MetadataRequestTopic> {
    let creates = access.ctx.settings.auto_create_topics && (version < 4 || request.allow_auto_topic_creation);
    let Some(topics) = &mut request.topics else { return Vec::new() };
    take_out(topics, |topic| {
        let asked = topic.name.clone().unwrap_or_default();
        // An id nobody has is for the handler to say so.
        let Some(name) = access.topic_name(&asked, topic.topic_id) else { return false };
        if !access.can(Operation::Describe, ResourceType::Topic, &name) {
            return true;
        }
        let is_new = creates && topic.topic_id.is_nil() && access.ctx.topics.get(&name).is_none();
        is_new
            && !access.can_quietly(Operation::Create, ResourceType::Cluster, CLUSTER)
            && !access.can(Operation::Create, ResourceType::Topic, &name)
    })
}

/// Asked for by name, the id is not told; asked for by id, the name is not.
fn metadata_denied(topic: MetadataRequestTopic, version: i16) -> MetadataResponseTopic {
    let name = if topic.topic_id.is_nil() { topic.name } else { (version < 12).then(TopicName::default) };
    MetadataResponseTopic::default().with_error_code(TOPIC_DENIED).with_name(name).with_topic_id(topic.topic_id)
}

impl Guard for CreateTopicsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let may_create_all = access.can_quietly(Operation::Create, ResourceType::Cluster, CLUSTER);
        let denied = take_out(&mut self.topics, |topic| {
            !may_create_all && !access.can(Operation::Create, ResourceType::Topic, &topic.name)
        });
        admitted(|access, response: &mut CreateTopicsResponse| {
            for topic in response.topics.iter_mut().filter(|topic| topic.error_code == 0) {
                if !access.can_quietly(Operation::DescribeConfigs, ResourceType::Topic, &topic.name) {
                    topic.topic_config_error_code = TOPIC_DENIED;
                    topic.num_partitions = -1;
                    topic.replication_factor = -1;
                    topic.configs = Some(Vec::new());
                }
            }
            response.topics.extend(denied.into_iter().map(|topic| {
                CreatableTopicResult::default()
                    .with_name(topic.name)
                    .with_error_code(TOPIC_DENIED)
                    .with_error_message(Some("Authorization failed.".into()))
                    .with_num_partitions(-1)
                    .with_replication_factor(-1)
                    .with_configs(Some(Vec::new()))
            }));
        })
    }
}

impl Guard for DeleteTopicsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let mut denied = Vec::new();
        let refused = |name: Option<TopicName>, id: Uuid| {
            DeletableTopicResult::default()
                .with_name(name)
                .with_topic_id(id)
                .with_error_code(TOPIC_DENIED)
                .with_error_message(None)
        };
        self.topic_names.retain(|name| {
            let allowed = access.can(Operation::Delete, ResourceType::Topic, name);
            if !allowed {
                denied.push(refused(Some(name.clone()), Uuid::nil()));
            }
            allowed
        });
        self.topics.retain(|topic| {
            let asked = topic.name.clone().unwrap_or_default();
            let Some(name) = access.topic_name(&asked, topic.topic_id) else { return true };
            let allowed = access.can(Operation::Delete, ResourceType::Topic, &name);
            if !allowed {
                // What was asked for by id keeps its name to those who may see it.
                let seen =
                    topic.topic_id.is_nil() || access.can_quietly(Operation::Describe, ResourceType::Topic, &name);
                denied.push(refused(seen.then_some(name), topic.topic_id));
            }
            allowed
        });
        admitted(|_, response: &mut Self::Response| response.responses.extend(denied))
    }
}

impl Guard for CreatePartitionsRequest {
    fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let denied =
            take_out(&mut self.topics, |topic| !access.can(Operation::Alter, ResourceType::Topic, &topic.name));
        admitted(|_, response: &mut Self::Response| {
            response.results.extend(denied.into_iter().map(|topic| {
                CreatePartitionsTopicResult::default().with_name(topic.name).with_error_code(TOPIC_DENIED)
            }));
        })
    }
}
