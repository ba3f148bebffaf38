//! What a gateway sends: its acknowledgement of a deployment, or a message that the hub does not know (contract section 1).

/// One text message from a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// `deployment.ack`.
    DeploymentAck(DeploymentAck),
    /// A JSON object with a type that the hub does not know.
    Unknown,
    /// Not a JSON object with a type.
    Malformed,
}

/// How a deployment went, as its gateway says. Each text has at most [`crate::limits::ACK_TEXT_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeploymentAck {
    /// Which deployment.
    pub deployment_id: Option<String>,
    /// Of what.
    pub artifact_id: Option<String>,
    /// What kind of thing that is.
    pub resource_type: Option<String>,
    /// `deploy` or `undeploy`.
    pub action: Option<String>,
    /// `success` or `failed`.
    pub status: Option<String>,
    /// The equality token of the event that is acknowledged.
    pub performed_at: Option<String>,
    /// Why it failed.
    pub error_code: Option<String>,
}
