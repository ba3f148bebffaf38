//! What `gatecast log verify` prints.

use crate::{
    cli::{Failure, output},
    model::GatewayId,
    store::log::Verified,
};
use std::path::Path;

/// Prints what a check has found.
///
/// # Errors
/// If something is damaged: what to do about it.
pub fn report(path: &Path, verified: &Verified) -> Result<(), Failure> {
    let Verified { events, gateways, damages, damages_total } = verified;
    for damage in damages {
        output::line(&match damage.event {
            Some((gateway, position)) => format!("gateway {gateway}, event {position}: {}", damage.what),
            None if damage.heals => damage.what.clone(),
            None => format!("file: {}", damage.what),
        })?;
    }
    if *damages_total > damages.len() as u64 {
        output::line(&format!("and {} more", damages_total - damages.len() as u64))?;
    }
    output::line(&format!(
        "Read {} of {}: {}.",
        output::count(*events, "undamaged event"),
        output::count(*gateways, "gateway"),
        if *damages_total == 0 { "no damage found" } else { "damage found" }
    ))?;
    if *damages_total == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!("{} is damaged ({damages_total} found); {}", path.display(), advice(path, verified))))
}

/// What to do about what was found.
fn advice(path: &Path, Verified { damages, damages_total, .. }: &Verified) -> String {
    let path = path.display();
    if *damages_total == damages.len() as u64 && damages.iter().all(|damage| damage.heals) {
        return "the next start of the hub makes it good: it delivers to these gateways again what is kept of their events".to_owned();
    }
    if damages.iter().any(|damage| damage.event.is_none() && !damage.heals) || *damages_total > damages.len() as u64 {
        return format!(
            "the file itself is damaged: move {path} and the files of that name with -wal and -shm away, and start the hub. It \
             begins an empty log with a new epoch, and every gateway that asks to resume has to sync"
        );
    }
    // The last damage of each gateway: what is behind it can be kept.
    let mut trims: Vec<(GatewayId, u64)> = Vec::new();
    for damage in damages {
        let Some((gateway, _)) = damage.event else { continue };
        match trims.iter_mut().find(|(known, _)| *known == gateway) {
            Some((_, keep)) => *keep = (*keep).min(damage.behind),
            None => trims.push((gateway, damage.behind)),
        }
    }
    let trims = trims.iter().map(|(gateway, keep)| format!("\n  gatecast log trim --gateway {gateway} --keep {keep}"));
    format!(
        "these events cannot be delivered, and nothing behind them to a gateway that resumes in front of them. Remove them with \
         what is before them; a gateway that asks for it has to sync:{}",
        trims.collect::<String>()
    )
}
