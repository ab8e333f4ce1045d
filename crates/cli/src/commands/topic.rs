//! `highwater topic ...`: wiring to [`crate::topic`].

use crate::args::TopicCommand;
use crate::error::{Failure, Result};
use crate::signals::Interrupt;
use crate::topic::admin::{self, NewTopicSettings};
use crate::topic::{consume, produce};

/// Carries one of the verbs out.
pub(crate) fn run(command: TopicCommand) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match command {
        TopicCommand::Create(arguments) => {
            let settings = NewTopicSettings {
                partitions: arguments.partitions,
                replication: arguments.replication,
                configs: arguments.configs,
            };
            let topic = &arguments.topic;
            if admin::create(&arguments.cluster, topic, &settings)? {
                tracing::info!(topic, partitions = settings.partitions, "created the topic");
                return Ok(());
            }
            if arguments.if_not_exists {
                return Ok(());
            }
            Err(Failure::runtime(format!("topic '{topic}' already exists on {}", arguments.cluster.bootstrap))
                .help("choose another name, delete it, or add --if-not-exists"))
        }
        TopicCommand::List(arguments) => {
            admin::list(&arguments.cluster, arguments.internal, arguments.output, &mut stdout)
        }
        TopicCommand::Describe(arguments) => {
            admin::describe(&arguments.cluster, &arguments.topic, arguments.output, &mut stdout)
        }
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
