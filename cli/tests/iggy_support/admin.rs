//! A user of the server: makes topics, sends messages, looks at offsets.

use std::{sync::Arc, time::Duration};

use iggy::prelude::{
    AutoLogin, Client, Consumer, ConsumerGroupClient, ConsumerOffsetClient, Credentials, Identifier,
    IggyError, IggyMessage, MessageClient, Partitioning, StreamClient, TcpClient, TcpClientConfig,
    TopicClient, TopicCreateOptions,
};
use tokio::runtime::Runtime;

/// Messages that are sent in one request.
const CHUNK: usize = 1000;

#[derive(Debug)]
pub struct Admin {
    runtime: Runtime,
    client: TcpClient,
}

fn id(name: &str) -> Identifier {
    Identifier::named(name).expect("a name")
}

impl Admin {
    /// # Panics
    /// The server is not there.
    pub fn connect(address: &str) -> Self {
        Self::try_connect(address).expect("the server is there")
    }

    /// `None` where the server is not there.
    pub fn try_connect(address: &str) -> Option<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().ok()?;
        let credentials = Credentials::UsernamePassword("iggy".to_owned(), "iggy".to_owned().into());
        let mut config = TcpClientConfig {
            server_address: address.to_owned(),
            auto_login: AutoLogin::Enabled(credentials),
            nodelay: true,
            ..TcpClientConfig::default()
        };
        config.reconnection.enabled = false;
        let client = TcpClient::create(Arc::new(config)).ok()?;
        let connect = async { tokio::time::timeout(Duration::from_secs(5), Client::connect(&client)).await };
        runtime.block_on(connect).ok()?.ok()?;
        Some(Self { runtime, client })
    }

    /// Makes the topic, and its stream where that is missing.
    pub fn create(&self, stream: &str, topic: &str, partitions: u32) {
        self.runtime.block_on(async {
            match self.client.create_stream(stream).await {
                Ok(_) | Err(IggyError::StreamNameAlreadyExists(_)) => {}
                Err(why) => panic!("{why}"),
            }
            let options = TopicCreateOptions { partitions_count: Some(partitions), ..Default::default() };
            self.client.create_topic(&id(stream), topic, &options).await.expect("a topic");
        });
    }

    /// Sends messages with ids from 1 on.
    pub fn send<P: Into<Vec<u8>>>(
        &self,
        stream: &str,
        topic: &str,
        partition: u32,
        payloads: impl IntoIterator<Item = P>,
    ) {
        let mut messages: Vec<IggyMessage> = (1..)
            .zip(payloads)
            .map(|(id, payload)| {
                IggyMessage::builder().id(id).payload(payload.into().into()).build().expect("a message")
            })
            .collect();
        self.runtime.block_on(async {
            for chunk in messages.chunks_mut(CHUNK) {
                self.client
                    .send_messages(&id(stream), &id(topic), &Partitioning::partition_id(partition), chunk)
                    .await
                    .expect("the server takes messages");
            }
        });
    }

    /// The offset that the group has stored.
    pub fn stored(&self, stream: &str, topic: &str, group: &str, partition: u32) -> Option<u64> {
        let consumer = Consumer::group(id(group));
        let found = self.runtime.block_on(self.client.get_consumer_offset(
            &consumer,
            &id(stream),
            &id(topic),
            Some(partition),
        ));
        found.expect("the server answers").map(|found| found.stored_offset)
    }

    /// How many members the group has; `None` where there is no such group.
    pub fn members(&self, stream: &str, topic: &str, group: &str) -> Option<u32> {
        let found =
            self.runtime.block_on(self.client.get_consumer_group(&id(stream), &id(topic), &id(group)));
        found.expect("the server answers").map(|group| group.members_count)
    }
}
