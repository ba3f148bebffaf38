//! Messages from a gateway: the acknowledgement of a deployment, or one that the hub ignores (contract section 1).

/// One text message from a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// `deployment.ack`.
    DeploymentAck(DeploymentAck),
    /// A JSON object with a `type` that the hub does not know.
    Unknown,
    /// Text that is not a JSON object with a `type`.
    Malformed,
}

/// The gateway's report about a deployment, for the log. Each text is truncated to
/// [`crate::limits::ACK_TEXT_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeploymentAck {
    /// The id of the deployment.
    pub deployment_id: Option<String>,
    /// The id of the artifact that was deployed.
    pub artifact_id: Option<String>,
    /// The kind of the artifact.
    pub resource_type: Option<String>,
    /// `deploy` or `undeploy`.
    pub action: Option<String>,
    /// `success` or `failed`.
    pub status: Option<String>,
    /// `performedAt` of the acknowledged event, by which the platform matches the two.
    pub performed_at: Option<String>,
    /// The gateway's code for a failure.
    pub error_code: Option<String>,
}
