//! Rights over the broker: its settings, its folders, its users and its rules.

use kafka_protocol::messages::alter_client_quotas_response::{EntityData, EntryData};
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as AlteredConfigs;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementallyAltered;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, AlterConfigsRequest, AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse, CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse, DescribeClientQuotasRequest, DescribeClientQuotasResponse,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, IncrementalAlterConfigsRequest,
};

use super::{Access, CLUSTER_DENIED, GROUP_DENIED, Guard, TOPIC_DENIED, Verdict, admitted, untouched};
use crate::security::acl::{CLUSTER, Operation, ResourceType};

/// What configs are of, in the protocol's numbers; anything else belongs to the broker.
const TOPIC_CONFIGS: i8 = 2;
const GROUP_CONFIGS: i8 = 32;

/// The error of configs the client has no right to, `None` if it has.
fn config_error(access: Access<'_>, operation: Operation, kind: i8, name: &str) -> Option<i16> {
    let (resource_type, name, error) = match kind {
        TOPIC_CONFIGS => (ResourceType::Topic, name, TOPIC_DENIED),
        GROUP_CONFIGS => (ResourceType::Group, name, GROUP_DENIED),
        _ => (ResourceType::Cluster, CLUSTER, CLUSTER_DENIED),
    };
    (!access.can(operation, resource_type, name)).then_some(error)
}

/// Requests that name configs of several resources, each answered by itself.
macro_rules! of_configs {
    ($($request:ident, $operation:ident, $list:ident, $result:ident;)*) => {$(
        impl Guard for $request {
            fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
                let mut denied = Vec::new();
                self.resources.retain(|resource| {
                    let (kind, name) = (resource.resource_type, &resource.resource_name);
                    let error = config_error(access, Operation::$operation, kind, name);
                    denied.extend(error.map(|error| {
                        $result::default()
                            .with_resource_type(kind)
                            .with_resource_name(name.clone())
                            .with_error_code(error)
                            .with_error_message(None)
                    }));
                    error.is_none()
                });
                admitted(|_, response: &mut Self::Response| response.$list.extend(denied))
            }
        }
    )*};
}

of_configs!(
    DescribeConfigsRequest, DescribeConfigs, results, DescribeConfigsResult;
    AlterConfigsRequest, AlterConfigs, responses, AlteredConfigs;
    IncrementalAlterConfigsRequest, AlterConfigs, responses, IncrementallyAltered;
);

/// What clients are told besides the code.
const DENIED: &str = "Cluster authorization failed.";

/// Requests about the whole broker, allowed or denied as one.
macro_rules! of_cluster {
    ($($request:ident, $operation:ident, $denied:expr;)*) => {$(
        impl Guard for $request {
            fn guard(&mut self, access: Access<'_>, _: i16) -> Verdict<Self::Response> {
                if access.can_cluster(Operation::$operation) {
                    return untouched();
                }
                let denied: fn(&mut Self) -> Self::Response = $denied;
                Verdict::Refused(denied(self))
            }
        }
    )*};
}

of_cluster!(
    DescribeLogDirsRequest, Describe, |_| DescribeLogDirsResponse::default().with_error_code(CLUSTER_DENIED);
    DescribeAclsRequest, Describe,
        |_| DescribeAclsResponse::default().with_error_code(CLUSTER_DENIED).with_error_message(Some(DENIED.into()));
    DescribeClientQuotasRequest, DescribeConfigs, |_| DescribeClientQuotasResponse::default()
        .with_error_code(CLUSTER_DENIED).with_error_message(Some(DENIED.into())).with_entries(None);
    AlterClientQuotasRequest, AlterConfigs, quotas_denied;
    DescribeUserScramCredentialsRequest, Describe,
        |_| DescribeUserScramCredentialsResponse::default().with_error_code(CLUSTER_DENIED).with_error_message(Some(DENIED.into()));
    CreateAclsRequest, Alter, |request| {
        let denied = AclCreationResult::default().with_error_code(CLUSTER_DENIED).with_error_message(Some(DENIED.into()));
        CreateAclsResponse::default().with_results(vec![denied; request.creations.len()])
    };
    DeleteAclsRequest, Alter, |request| {
        let denied = DeleteAclsFilterResult::default().with_error_code(CLUSTER_DENIED).with_error_message(Some(DENIED.into()));
        DeleteAclsResponse::default().with_filter_results(vec![denied; request.filters.len()])
    };
    AlterUserScramCredentialsRequest, Alter, users_denied;
);

fn quotas_denied(request: &mut AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let denied = std::mem::take(&mut request.entries).into_iter().map(|entry| {
        let parts = entry
            .entity
            .into_iter()
            .map(|part| EntityData::default().with_entity_type(part.entity_type).with_entity_name(part.entity_name));
        EntryData::default()
            .with_entity(parts.collect())
            .with_error_code(CLUSTER_DENIED)
            .with_error_message(Some(DENIED.into()))
    });
    AlterClientQuotasResponse::default().with_entries(denied.collect())
}

fn users_denied(request: &mut AlterUserScramCredentialsRequest) -> AlterUserScramCredentialsResponse {
    let changed = request.upsertions.iter().map(|change| change.name.clone());
    let mut names: Vec<_> = changed.chain(request.deletions.iter().map(|change| change.name.clone())).collect();
    names.sort_unstable();
    names.dedup();
    let denied = names.into_iter().map(|name| {
        AlterUserScramCredentialsResult::default()
            .with_user(name)
            .with_error_code(CLUSTER_DENIED)
            .with_error_message(Some(DENIED.into()))
    });
    AlterUserScramCredentialsResponse::default().with_results(denied.collect())
}

impl Guard for DescribeClusterRequest {
    fn guard(&mut self, _: Access<'_>, _: i16) -> Verdict<Self::Response> {
        let tell = self.include_cluster_authorized_operations;
        admitted(move |access, response: &mut Self::Response| {
            if tell {
                response.cluster_authorized_operations = access.cluster_operations();
            }
        })
    }
}
