//! `highwater topic ...`: wiring to [`crate::topic`].

use crate::args::{TopicAlter, TopicCommand};
use crate::error::{Failure, Result};
use crate::signals::Interrupt;
use crate::topic::admin::{self, Changes};
use crate::topic::{consume, create, describe, produce};

/// Carries one of the verbs out.
pub(crate) fn run(command: TopicCommand) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match command {
        TopicCommand::Create(arguments) => create::run(&arguments, &mut stdout),
        TopicCommand::List(arguments) => {
            admin::list(&arguments.cluster, arguments.internal, arguments.output, &mut stdout)
        }
        TopicCommand::Describe(arguments) => {
            let (cluster, format) = (&arguments.cluster, arguments.output);
            describe::describe(cluster, &arguments.topic, format, arguments.section, &mut stdout)
        }
        TopicCommand::Alter(arguments) => alter(&arguments),
        TopicCommand::Delete(arguments) => {
            admin::delete(&arguments.cluster, &arguments.topic)?;
            tracing::info!(topic = arguments.topic, "deleted the topic");
            Ok(())
        }
        TopicCommand::Produce(arguments) => produce::run(&arguments, &Interrupt::listen()?),
        TopicCommand::Consume(arguments) => {
            drop(stdout);
            consume::run(&arguments, &Interrupt::listen()?)
        }
    }
}

fn alter(arguments: &TopicAlter) -> Result<()> {
    let topic = &arguments.topic;
    let settings = arguments.keeping.settings()?;
    if let Some(both) = arguments.reset.iter().find(|key| settings.contains_key(*key)) {
        return Err(Failure::usage(format!("'{both}' is both set and reset")).help("keep one of the two"));
    }
    let changes = Changes {
        partitions: arguments.partitions,
        set: settings.into_iter().map(|(key, choice)| (key, choice.value)).collect(),
        reset: arguments.reset.clone(),
    };
    if changes.partitions.is_none() && changes.set.is_empty() && changes.reset.is_empty() {
        return Err(Failure::usage(format!("nothing to alter of topic '{topic}'"))
            .help("say what: --partitions, --retention, --config KEY=VALUE, --reset KEY; see --help"));
    }
    admin::alter(&arguments.cluster, topic, &changes, arguments.dry_run)?;
    if arguments.dry_run {
        tracing::info!(topic, "dry run: the cluster would take the change, and nothing was changed");
        return Ok(());
    }
    let partitions = changes.partitions.map(|partitions| format!(" partitions={partitions}")).unwrap_or_default();
    let set: String = changes.set.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    let reset: String = changes.reset.iter().map(|key| format!(" {key}=default")).collect();
    tracing::info!(topic, "altered the topic:{partitions}{set}{reset}");
    Ok(())
}
