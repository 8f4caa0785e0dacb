//! Publishing from within the program.

use std::sync::Arc;
use std::time::Instant;

use ringmq_codec::DecodeError;
use ringmq_engine::{Command, LocalMessage};
use ringmq_turn::ShardId;
use thiserror::Error;

use super::Message;
use super::link::{Link, Unsent};
use super::ticket::Ticket;

/// Why a message was not taken.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Its topic is no topic name.
    #[error("{topic:?} is not a topic name: {fault}")]
    Topic {
        /// What was given.
        topic: String,
        /// What is wrong with it.
        fault: DecodeError,
    },
    /// A property is longer than 65,535 bytes, holds a null character, or is a response topic with a
    /// wildcard.
    #[error("a property of the message cannot be expressed in MQTT")]
    Properties,
    /// It is larger than `limits.packet_bytes_max`.
    #[error("the message is larger than the largest packet, limits.packet_bytes_max = {packet_bytes_max}")]
    TooLarge {
        /// The limit.
        packet_bytes_max: u32,
    },
    /// The shard has `runtime.commands_max` commands waiting.
    #[error("the shard has too many commands waiting")]
    Busy,
    /// The broker has stopped.
    #[error("the broker has stopped")]
    Stopped,
}

/// Publishes messages, in order: all of them pass through one shard. Clones share the shard; another
/// publisher of the same broker may have another one.
#[derive(Clone)]
pub struct Publisher {
    link: Arc<Link>,
    shard: ShardId,
    packet_bytes_max: u32,
}

/// Longest header of a PUBLISH: its first byte, Remaining Length, the topic's length, packet id and the
/// properties' length, and the properties that the broker may add.
const HEADER_BYTES_MAX: usize = 64;

impl Publisher {
    pub(super) fn new(link: Arc<Link>, packet_bytes_max: u32) -> Self {
        let shard = link.a_shard();
        Self { link, shard, packet_bytes_max }
    }

    /// Publishes a message. The ticket is answered when every session that must get it has it; it may be
    /// dropped. Waits while the shard has too many commands waiting.
    pub fn publish(&self, message: Message) -> Result<Ticket, PublishError> {
        let mut message = self.checked(message)?;
        let since = Instant::now();
        loop {
            match self.send(message)? {
                Ok(ticket) => return Ok(ticket),
                Err(_) if !self.link.wait_for_room(self.shard, since) => return Err(PublishError::Busy),
                Err(refused) => message = refused,
            }
        }
    }

    /// The same without ever waiting: fails with [`PublishError::Busy`] instead.
    pub fn try_publish(&self, message: Message) -> Result<Ticket, PublishError> {
        self.send(self.checked(message)?)?.map_err(|_| PublishError::Busy)
    }

    fn checked(&self, message: Message) -> Result<LocalMessage, PublishError> {
        let packet_bytes_max = self.packet_bytes_max;
        let local = message.into_local()?;
        let bytes = local.topic.len() + local.payload.len() + local.properties.len() + HEADER_BYTES_MAX;
        if bytes > packet_bytes_max as usize {
            return Err(PublishError::TooLarge { packet_bytes_max });
        }
        Ok(local)
    }

    /// Hands the message to the shard, or gives it back.
    fn send(&self, message: LocalMessage) -> Result<Result<Ticket, LocalMessage>, PublishError> {
        match self.link.try_request(self.shard, |request| Command::Publish { request, message }) {
            Ok(ticket) => Ok(Ok(ticket)),
            Err(Unsent::Busy(Command::Publish { message, .. })) => Ok(Err(message)),
            Err(Unsent::Busy(_)) => unreachable!("the command that comes back is the one that was sent"),
            Err(Unsent::Stopped) => Err(PublishError::Stopped),
        }
    }
}
