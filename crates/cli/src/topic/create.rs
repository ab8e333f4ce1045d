//! `topic create`: a name that is kept to, a plan that is told, and then the topic.

use std::io::Write;

use super::admin::{self, NewTopicSettings, strings};
use super::naming::{self, Strictness};
use super::plan::{Plan, Wishes};
use crate::args::TopicCreate;
use crate::error::{Failure, Result};
use crate::output::columns::write_columns;

/// Creates the topic, or prints the plan of `--dry-run`.
pub(crate) fn run(arguments: &TopicCreate, out: &mut impl Write) -> Result<()> {
    let topic = &arguments.topic;
    naming::check(topic).map_err(Failure::usage)?;
    let warnings = complaints(topic, &arguments.wishes)?;
    let plan = Plan::of(&arguments.wishes)?;
    let settings = NewTopicSettings {
        partitions: plan.partitions,
        replication: arguments.replication,
        configs: plan.configs.iter().map(|(key, choice)| (key.clone(), choice.value.clone())).collect(),
    };
    let is_new = admin::create(&arguments.cluster, topic, &settings, arguments.dry_run)?;
    if !is_new && !arguments.if_not_exists {
        return Err(Failure::runtime(format!("topic '{topic}' already exists on {}", arguments.cluster.bootstrap))
            .help("choose another name, delete it, or add --if-not-exists"));
    }
    if arguments.dry_run {
        print(&plan, arguments, out)?;
        warnings.iter().for_each(|warning| tracing::warn!(topic, "{warning}"));
        let outcome = if is_new { "would be created" } else { "is there already" };
        tracing::info!(topic, "dry run: the topic {outcome}, and nothing was changed");
        return Ok(());
    }
    if is_new {
        tell(topic, &plan);
        warnings.iter().for_each(|warning| tracing::warn!(topic, "{warning}"));
    }
    Ok(())
}

/// What is unconventional; a failure if that is what `--lint` says.
fn complaints(topic: &str, wishes: &Wishes) -> Result<Vec<String>> {
    let by_purpose = wishes.purpose.and_then(|purpose| purpose.naming(topic));
    if wishes.lint == Strictness::Off {
        return Ok(Vec::new());
    }
    let by_name = naming::lint(topic);
    if wishes.lint == Strictness::Error {
        if let Some(complaint) = by_name {
            return Err(Failure::usage(format!(
                "topic name '{topic}' does not follow domain.entity.action: found {}",
                complaint.found
            ))
            .help(format!("name it {}, or add --lint off; a topic cannot be renamed later", complaint.better)));
        }
        if let Some(complaint) = by_purpose {
            return Err(Failure::usage(format!("topic '{topic}': {complaint}"))
                .help("name it so, or add --lint off; a topic cannot be renamed later"));
        }
        return Ok(Vec::new());
    }
    let by_name = by_name.map(|complaint| {
        format!(
            "the name does not follow domain.entity.action: found {}; better: {}; it cannot be renamed later, and --lint \
             off ends this warning",
            complaint.found, complaint.better
        )
    });
    Ok(by_name.into_iter().chain(by_purpose).collect())
}

fn tell(topic: &str, plan: &Plan) {
    tracing::info!(topic, partitions = plan.partitions, "created the topic");
    if plan.partitions_reason != "--partitions" && plan.partitions_reason != "default" {
        tracing::info!("  partitions = {} ({})", plan.partitions, plan.partitions_reason);
    }
    for (key, choice) in plan.configs.iter().filter(|(_, choice)| !choice.reason.starts_with("--")) {
        tracing::info!("  {key} = {} ({})", choice.value, choice.reason);
    }
}

fn print(plan: &Plan, arguments: &TopicCreate, out: &mut impl Write) -> Result<()> {
    let partitions = plan.partitions.to_string();
    let configs =
        plan.configs.iter().map(|(key, choice)| (key.as_str(), choice.value.as_str(), choice.reason.as_str()));
    let rows: Vec<(&str, &str, &str)> =
        [("partitions", partitions.as_str(), plan.partitions_reason.as_str())].into_iter().chain(configs).collect();
    let columns = [
        ("setting", strings(rows.iter().map(|row| row.0).collect())),
        ("value", strings(rows.iter().map(|row| row.1).collect())),
        ("reason", strings(rows.iter().map(|row| row.2).collect())),
    ];
    write_columns(arguments.output, columns, out)
}
