//! The errors of a sink.

use crate::Schema;

/// The error of a [`Sink`](crate::Sink) and of the conversions in this crate.
///
/// It does not cross the ABI: the container logs its text and returns 1 to the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// The configuration as a whole cannot be used.
    #[error("Invalid config")]
    InvalidConfig,
    /// One configuration value cannot be used; the text names it.
    #[error("Invalid config value: {0}")]
    InvalidConfigValue(String),
    /// A message does not have the form that the sink needs.
    #[error("Invalid record")]
    InvalidRecord,
    /// A part of a message does not have the form that the sink needs; the text names it.
    #[error("Invalid record value: {0}")]
    InvalidRecordValue(String),
    /// A transform cannot be used.
    #[error("Invalid transformer")]
    InvalidTransformer,
    /// A request failed in a transient way: the transport, a timeout, a busy server.
    #[error("HTTP request failed: {0}")]
    HttpRequestFailed(String),
    /// A request was refused for good; the same request again would be refused again.
    #[error("Permanent HTTP error: {0}")]
    PermanentHttpError(String),
    /// The sink could not start.
    #[error("Init error: {0}")]
    InitError(String),
    /// The payload is of a kind that the sink does not accept.
    #[error("Invalid payload type")]
    InvalidPayloadType,
    /// The payload is labelled JSON and is not, or a value cannot be written as JSON.
    #[error("Invalid JSON payload.")]
    InvalidJsonPayload,
    /// The payload is labelled text and is not UTF-8.
    #[error("Invalid text payload.")]
    InvalidTextPayload,
    /// Messages of this schema cannot be decoded.
    #[error("Cannot decode schema {0}")]
    CannotDecode(Schema),
    /// Storage that the sink uses failed.
    #[error("Storage error: {0}")]
    Storage(String),
    /// A value could not be written or read in its wire form.
    #[error("Serialization error: {0}")]
    Serialization(String),
    /// The payload is labelled protobuf and is not.
    #[error("Invalid protobuf payload.")]
    InvalidProtobufPayload,
    /// The state file cannot be opened.
    #[error("Cannot open state file")]
    CannotOpenStateFile,
    /// The state file cannot be read.
    #[error("Cannot read state file")]
    CannotReadStateFile,
    /// The state file cannot be written.
    #[error("Cannot write state file")]
    CannotWriteStateFile,
    /// The sink is not in a state in which it can do this.
    #[error("Invalid state")]
    InvalidState,
    /// The other end cannot be reached.
    #[error("Connection error: {0}")]
    Connection(String),
    /// The other end did not accept the data.
    #[error("Cannot store data: {0}")]
    CannotStoreData(String),
    /// The schema of the messages cannot be mapped to that of the destination.
    #[error("Schema mismatch: {0}")]
    SchemaMismatch(String),
    /// Writing failed; parts may have been written.
    #[error("Write failure: {0}")]
    WriteFailure(String),
    /// A transaction could not be prepared.
    #[error("Transaction apply error: {0}")]
    TransactionApplyError(String),
    /// A catalog did not confirm a commit; whether it happened is unknown.
    #[error("Catalog commit error: {0}")]
    CatalogCommitError(String),
}
