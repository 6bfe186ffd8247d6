//! Removes members of a group that have no connection.
//!
//! A server of this version keeps the members that a group had when it shut down, but not their connections: after a restart
//! they hold partitions that nobody reads, forever, and no request removes them. So the group is recreated. Its offsets are
//! kept under the name of a plain consumer, from which each worker takes that of its partition.

use iggy::prelude::{
    ClusterClient, Consumer, ConsumerGroupClient, ConsumerOffsetClient, Identifier, IggyError, StreamClient,
    SystemClient, TopicClient,
};

use super::session::{Session, Trouble};

impl Session {
    /// Returns how many members of the group have no connection. Zero if that is unknown: without permission to see clients,
    /// or with several servers, of which each only sees its own.
    pub(super) async fn ghosts(&self) -> Result<u32, Trouble> {
        match self.count_ghosts().await {
            Err(Trouble::Server(IggyError::Unauthorized | IggyError::FeatureUnavailable)) => Ok(0),
            other => other,
        }
    }

    async fn count_ghosts(&self) -> Result<u32, Trouble> {
        let find_group = self.client.get_consumer_group(&self.stream, &self.topic, &self.group);
        let group = find_group.await?.ok_or(Trouble::NotAMember)?;
        if group.members_count <= 1 || self.client.get_cluster_metadata().await?.nodes.len() > 1 {
            return Ok(0);
        }
        let topic = self.client.get_topic(&self.stream, &self.topic).await?.ok_or(Trouble::NoTopic)?;
        let stream = self.client.get_stream(&self.stream).await?.ok_or(Trouble::NoTopic)?;
        let mut connected = 0;
        for client in self.client.get_clients().await? {
            if client.consumer_groups_count == 0 {
                continue;
            }
            // It has left in the meantime.
            let Some(client) = self.client.get_client(client.client_id).await? else { continue };
            let here = client.consumer_groups.iter().any(|member| {
                (member.stream_id, member.topic_id, member.group_id) == (stream.id, topic.id, group.id)
            });
            connected += u32::from(here);
        }
        Ok(group.members_count.saturating_sub(connected))
    }

    /// Deletes the group with all members, after saving its offsets; live members join a new one.
    pub(super) async fn drive_out(&self) -> Result<(), Trouble> {
        let keeper = self.keeper()?;
        let topic = self.client.get_topic(&self.stream, &self.topic).await?.ok_or(Trouble::NoTopic)?;
        for partition in topic.partitions {
            if let Some(offset) = self.stored(partition.id).await? {
                let id = Some(partition.id);
                self.client.store_consumer_offset(&keeper, &self.stream, &self.topic, id, offset).await?;
            }
        }
        // Another host may have done it by now.
        if self.ghosts().await? > 0 {
            self.client.delete_consumer_group(&self.stream, &self.topic, &self.group).await?;
        }
        Ok(())
    }

    /// Makes a recreated group continue at the offset that was saved for it.
    pub(super) async fn restore(&self, partition: u32) -> Result<Option<u64>, Trouble> {
        if let Some(stored) = self.stored(partition).await? {
            return Ok(Some(stored));
        }
        let keeper = self.keeper()?;
        let kept =
            self.client.get_consumer_offset(&keeper, &self.stream, &self.topic, Some(partition)).await?;
        let Some(kept) = kept else { return Ok(None) };
        self.store(partition, kept.stored_offset).await?;
        Ok(Some(kept.stored_offset))
    }

    /// Forgets the saved offset: somebody who deletes the group later wants to begin at the start.
    pub(super) async fn forget_kept(&self, partition: u32) {
        if let Ok(keeper) = self.keeper() {
            // Mostly there is nothing.
            let id = Some(partition);
            let _ = self.client.delete_consumer_offset(&keeper, &self.stream, &self.topic, id).await;
        }
    }

    /// The consumer under whose name offsets are kept.
    fn keeper(&self) -> Result<Consumer, IggyError> {
        // With room for the longest name of a group.
        let mut name = self.group.get_string_value()?;
        let most = (0..=240).rev().find(|end| name.is_char_boundary(*end)).unwrap_or_default();
        name.truncate(most);
        Ok(Consumer::new(Identifier::named(&format!("{name}-kept"))?))
    }
}
