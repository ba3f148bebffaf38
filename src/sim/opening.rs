//! The first bytes of a gateway: its upgrade request, and frames if it sends any before the 101.

use super::{
    behaviour::{Misbehaviour, Profile},
    client,
    rng::Rng,
    scenario::Scenario,
    store::life_of,
};
use crate::model::Position;

/// A gateway's first bytes.
pub(super) fn opening(profile: &Profile, scenario: &Scenario, rng: &mut Rng) -> Vec<u8> {
    let roster = &scenario.roster;
    if profile.platform {
        return Vec::new();
    }
    let key = profile.key.map(|key| roster.keys[key].secret.as_str());
    let gateway = profile.key.map(|key| roster.gateways[roster.keys[key].gateway].id);
    let position = gateway
        .zip(profile.resumes)
        .map(|(gateway, offset)| Position { epoch: life_of(gateway).epoch_in(scenario.seed), offset });
    let mut bytes = match profile.misbehaviour {
        Misbehaviour::WrongKey => client::upgrade(Some("unknown"), None, false).into_bytes(),
        _ => client::upgrade(key, position, profile.written_only).into_bytes(),
    };
    if profile.misbehaviour == Misbehaviour::HalfHead {
        bytes.truncate(60);
    } else if profile.early {
        bytes.extend(client::frame(0x81, br#"{"type":"hello"}"#, rng));
        bytes.extend(client::frame(0x89, b"", rng));
    }
    bytes
}
