//! The scenarios. Each has a question, a fleet and a function that runs it on the fleet.

mod background;
mod connect;
mod fanout;
mod storm;
mod stream;

use crate::{
    args::{Command, Common},
    peer::Reading,
    run::Run,
};

/// One scenario.
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The question that it answers.
    pub question: String,
    /// The arguments of every scenario.
    pub common: Common,
    /// Connections of each gateway.
    pub layout: Vec<usize>,
    /// Further connections, which read slowly or not at all: the gateway and how it reads.
    pub slow: Vec<(usize, Reading)>,
    /// Events in one request.
    pub batch: usize,
    /// Whether a place resumes the TLS session of its last connection.
    pub resumes: bool,
    /// The arguments that only this scenario has.
    pub parameters: Vec<(&'static str, String)>,
    /// Runs it on its fleet.
    pub act: Act,
}

/// The function that runs a scenario on its fleet.
pub type Act = Box<dyn FnOnce(&mut Run) -> Result<(), String>>;

impl Scenario {
    /// The scenario of a command; `None` for `compare`.
    pub fn of(command: Command) -> Option<Self> {
        Some(match command {
            Command::Connect(args) => connect::connect(args),
            Command::Idle(args) => connect::idle(args),
            Command::Fanout(args) => fanout::fanout(args),
            Command::Throughput(args) => stream::throughput(args),
            Command::Storm(args) => storm::storm(args),
            Command::Slow(args) => background::slow(args),
            Command::Churn(args) => background::churn(args),
            Command::Mixed(args) => background::mixed(args),
            Command::Compare { .. } => return None,
        })
    }

    fn new(name: &'static str, question: String, common: Common, act: Act) -> Self {
        let layout = vec![common.fleet.per_gateway; common.fleet.gateways];
        let (slow, parameters) = (Vec::new(), Vec::new());
        Self { name, question, common, layout, slow, batch: 1, resumes: false, parameters, act }
    }

    fn with(mut self, parameters: &[(&'static str, &dyn ToString)]) -> Self {
        self.parameters.extend(parameters.iter().map(|(name, value)| (*name, value.to_string())));
        self
    }
}

/// Slow connections, spread over the gateways in turn: `never` that never read and `trickle` that read a trickle.
fn slow_connections(gateways: usize, never: usize, trickle: usize) -> Vec<(usize, Reading)> {
    let readings = std::iter::repeat_n(Reading::Never, never).chain(std::iter::repeat_n(Reading::Trickle, trickle));
    readings.enumerate().map(|(index, reading)| (index % gateways, reading)).collect()
}
