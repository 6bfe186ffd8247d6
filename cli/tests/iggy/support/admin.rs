//! A user of the server: makes topics, sends messages, looks at offsets.

use std::{path::Path, sync::Arc, time::Duration};

use iggy::prelude::{
    AutoLogin, Client, Consumer, ConsumerGroupClient, ConsumerOffsetClient, Credentials, Identifier,
    IggyError, IggyMessage, MessageClient, Partitioning, PersonalAccessTokenClient,
    PersonalAccessTokenExpiry, StreamClient, TcpClient, TcpClientConfig, TopicClient, TopicCreateOptions,
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
    pub fn connect(address: &str, certificate: Option<&Path>) -> Self {
        Self::try_connect(address, certificate).expect("the server is there")
    }

    /// `None` where the server is not there. With a certificate it is asked over TLS.
    pub fn try_connect(address: &str, certificate: Option<&Path>) -> Option<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().ok()?;
        let credentials = Credentials::UsernamePassword("iggy".to_owned(), "iggy".to_owned().into());
        let mut config = TcpClientConfig {
            server_address: address.to_owned(),
            auto_login: AutoLogin::Enabled(credentials),
            tls_enabled: certificate.is_some(),
            tls_domain: "localhost".to_owned(),
            tls_ca_file: certificate.map(|path| path.display().to_string()),
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

    /// A token that signs in as the user of this connection.
    pub fn token(&self) -> String {
        let made = self.runtime.block_on(
            self.client.create_personal_access_token("test", PersonalAccessTokenExpiry::NeverExpire),
        );
        made.expect("a token").token
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
