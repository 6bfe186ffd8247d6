//! One connection to the server, as a member of the consumer group of one topic.

use std::{collections::HashMap, fmt, time::Duration};

use iggy::prelude::{
    Client, Consumer, ConsumerGroupClient, ConsumerOffsetClient, Identifier, IggyError, MessageClient,
    PollingStrategy, TcpClient, TopicClient,
};
use iggy_binary_protocol::{
    codec::{WireDecode, WireEncode},
    codes::SYNC_CONSUMER_GROUP_CODE,
    requests::consumer_groups::SyncConsumerGroupRequest,
    responses::consumer_groups::SyncConsumerGroupResponse,
};
use iggy_common::{BinaryTransport, PolledMessages, RESYNC_REQUIRED_PARTITION_SENTINEL};
use iggy_connector_sdk::shown;
use tokio::{net::TcpStream, time::timeout};

use super::server::Server;

/// The timeout for connecting and signing in.
const CONNECTING: Duration = Duration::from_secs(15);
/// The maximum length of a name, in bytes: a server allows no longer one.
pub(super) const LONGEST_NAME: usize = 255;
/// The timeout for leaving, which is a courtesy: the server notices a missing member.
const LEAVING: Duration = Duration::from_secs(2);

/// The names that a topic and a group have on the server.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) stream: String,
    pub(super) topic: String,
    pub(super) group: String,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A server accepts any characters in a name.
        let [stream, topic] = [&self.stream, &self.topic].map(|name| shown(name, LONGEST_NAME));
        write!(f, "stream {stream}, topic {topic}")
    }
}

/// Why something failed. None of it is permanent, but see [`Trouble::is_hopeless`].
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    #[error("there is no such stream or topic")]
    NoTopic,
    /// The system's error about the connection, such as that it was refused.
    #[error("{0}")]
    NoConnection(String),
    #[error("the server did not answer in time")]
    Late,
    #[error("the server does not know this member of the group any more")]
    NotAMember,
    #[error("the group was made anew")]
    MadeAnew,
    /// Another member reads the partition now.
    #[error("the partition belongs to another member of the group")]
    NotOurs,
    #[error("{0}")]
    Server(IggyError),
}

impl From<IggyError> for Trouble {
    fn from(error: IggyError) -> Self {
        match error {
            IggyError::StreamIdNotFound(..)
            | IggyError::StreamNameNotFound(..)
            | IggyError::TopicIdNotFound(..)
            | IggyError::TopicNameNotFound(..) => Self::NoTopic,
            IggyError::ConsumerGroupIdNotFound(..)
            | IggyError::ConsumerGroupNameNotFound(..)
            | IggyError::ConsumerGroupMemberNotFound(..) => Self::NotAMember,
            IggyError::ConsumerGroupPartitionNotOwned(..) => Self::NotOurs,
            other => Self::Server(other),
        }
    }
}

impl Trouble {
    /// Whether it is a mistake of the user, if it is the server's first answer.
    pub(super) fn is_hopeless(&self) -> bool {
        matches!(
            self,
            Self::Server(
                IggyError::InvalidCredentials
                    | IggyError::InvalidUsername
                    | IggyError::InvalidPassword
                    | IggyError::InvalidUserStatus
                    | IggyError::UserInactive
                    | IggyError::InvalidPersonalAccessToken
                    | IggyError::PersonalAccessTokenExpired(..)
                    | IggyError::Unauthenticated
                    | IggyError::Unauthorized
                    | IggyError::InvalidTlsDomain
                    | IggyError::InvalidTlsCertificatePath
                    | IggyError::InvalidTlsCertificate
                    | IggyError::InvalidIdentifier
                    | IggyError::InvalidFormat
            )
        )
    }
}

/// A member of the group, until the connection is lost.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: TcpClient,
    pub(super) stream: Identifier,
    pub(super) topic: Identifier,
    pub(super) group: Identifier,
    consumer: Consumer,
}

/// Connects and signs in.
///
/// # Errors
/// What did not work.
pub(super) async fn sign_in(server: &Server) -> Result<TcpClient, Trouble> {
    // The client hides why it cannot connect.
    let connected =
        timeout(CONNECTING, TcpStream::connect(&server.address)).await.map_err(|_| Trouble::Late)?;
    drop(connected.map_err(|why| Trouble::NoConnection(why.to_string()))?);
    let client = TcpClient::create(server.client_config())?;
    timeout(CONNECTING, Client::connect(&client)).await.map_err(|_| Trouble::Late)??;
    Ok(client)
}

impl Session {
    /// Connects, creates the group if there is none, and joins it.
    ///
    /// # Errors
    /// What failed; the connection is closed then.
    pub(super) async fn open(server: &Server, names: &Names) -> Result<Self, Trouble> {
        let client = sign_in(server).await?;
        // Digits are interpreted as an id, as in the runtime.
        let (stream, topic) = (Identifier::try_from(&*names.stream)?, Identifier::try_from(&*names.topic)?);
        let group = Identifier::named(&names.group)?;
        if client.get_topic(&stream, &topic).await?.is_none() {
            return Err(Trouble::NoTopic);
        }
        if client.get_consumer_group(&stream, &topic, &group).await?.is_none() {
            match client.create_consumer_group(&stream, &topic, &names.group).await {
                // Another host created it first.
                Ok(_) | Err(IggyError::ConsumerGroupNameAlreadyExists(..)) => {}
                Err(why) => return Err(why.into()),
            }
        }
        client.join_consumer_group(&stream, &topic, &group).await?;
        Ok(Self { consumer: Consumer::group(group.clone()), client, stream, topic, group })
    }

    /// Returns the partitions that this member should read now. The request also shows the server that the member is alive.
    pub(super) async fn partitions(&self) -> Result<Vec<u32>, Trouble> {
        let wire = |id: &Identifier| match id.get_u32_value() {
            Ok(number) => Ok(iggy_binary_protocol::WireIdentifier::numeric(number)),
            Err(_) => iggy_binary_protocol::WireIdentifier::named(id.get_string_value()?)
                .map_err(|_| IggyError::InvalidIdentifier),
        };
        let request = SyncConsumerGroupRequest {
            stream_id: wire(&self.stream)?,
            topic_id: wire(&self.topic)?,
            group_id: wire(&self.group)?,
        };
        let answer = self.client.send_raw_with_response(SYNC_CONSUMER_GROUP_CODE, request.to_bytes()).await?;
        if answer.is_empty() {
            return Err(Trouble::NotAMember);
        }
        let (assignment, _) =
            SyncConsumerGroupResponse::decode(&answer).map_err(|_| IggyError::InvalidCommand)?;
        Ok(assignment.partitions)
    }

    /// The offset of the last message in each partition that has messages.
    pub(super) async fn ends(&self) -> Result<HashMap<u32, u64>, Trouble> {
        let topic = self.client.get_topic(&self.stream, &self.topic).await?.ok_or(Trouble::NoTopic)?;
        let filled = topic.partitions.iter().filter(|partition| partition.messages_count > 0);
        Ok(filled.map(|partition| (partition.id, partition.current_offset)).collect())
    }

    /// Polls messages of one partition, without storing an offset.
    pub(super) async fn poll(
        &self,
        partition: u32,
        from: &PollingStrategy,
        count: u32,
    ) -> Result<PolledMessages, Trouble> {
        let polled = self
            .client
            .poll_messages(&self.stream, &self.topic, Some(partition), &self.consumer, from, count, false)
            .await?;
        if polled.messages.is_empty() && polled.partition_id == RESYNC_REQUIRED_PARTITION_SENTINEL {
            return Err(Trouble::NotOurs);
        }
        Ok(polled)
    }

    /// Stores that everything up to this offset is settled.
    pub(super) async fn store(&self, partition: u32, offset: u64) -> Result<(), Trouble> {
        let partition = Some(partition);
        self.client
            .store_consumer_offset(&self.consumer, &self.stream, &self.topic, partition, offset)
            .await
            .map_err(Trouble::from)
    }

    /// The offset up to which everything of this partition is settled.
    pub(super) async fn stored(&self, partition: u32) -> Result<Option<u64>, Trouble> {
        let found = self
            .client
            .get_consumer_offset(&self.consumer, &self.stream, &self.topic, Some(partition))
            .await?;
        Ok(found.map(|found| found.stored_offset))
    }

    /// Leaves the group, so that others take over at once; with `forget`, the group too, if nobody is
    /// left in it.
    pub(super) async fn leave(&self, forget: bool) {
        let leave = async {
            self.client.leave_consumer_group(&self.stream, &self.topic, &self.group).await?;
            if forget
                && let Some(group) =
                    self.client.get_consumer_group(&self.stream, &self.topic, &self.group).await?
                && group.members_count == 0
            {
                self.client.delete_consumer_group(&self.stream, &self.topic, &self.group).await?;
            }
            Client::shutdown(&self.client).await
        };
        // If this fails, closing the connection has the same effect.
        let _ = timeout(LEAVING, leave).await;
    }
}
