//! Reads rows, and computes their checksums. SQLite does not detect changed bytes in a row; the checksums do.

use crate::model::{Change, DeliveryMode, GatewayId, GatewayRecord, KeyHash, Life, Timestamp, TokenId, TokenRecord};
use rusqlite::{Error, Result, Row, types::Type};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The checksum of a row: 16 bytes of a SHA-256. It detects faulty disks, not attackers, who could compute it too.
pub(super) type Sum = [u8; 16];

/// The checksum of a row of `gateways`.
pub(super) fn gateway_sum(record: &GatewayRecord, incarnation: u64) -> Sum {
    sum_of_fields(record, Some(incarnation), 7)
}

/// The checksum of a row of `gateways` before schema 4, which has no delivery. Rows of schema 1 have no incarnation either.
pub(super) fn gateway_sum_before_4(record: &GatewayRecord, incarnation: Option<u64>) -> Sum {
    sum_of_fields(record, incarnation, if incarnation.is_some() { 6 } else { 5 })
}

/// The checksum of the first `count` fields, in the order in which the schemas added them.
fn sum_of_fields(record: &GatewayRecord, incarnation: Option<u64>, count: usize) -> Sum {
    let created_at = record.created_at.0.to_le_bytes();
    let incarnation = incarnation.map(u64::to_le_bytes);
    let fields: [Option<&[u8]>; 7] = [
        Some(record.id.0.as_bytes()),
        Some(record.name.as_bytes()),
        record.display_name.as_deref().map(str::as_bytes),
        record.organization_id.as_deref().map(str::as_bytes),
        Some(&created_at),
        incarnation.as_ref().map(<[u8; 8]>::as_slice),
        record.delivery.map(|delivery| delivery.as_str().as_bytes()),
    ];
    // An absent field is part of the checksum as well, so the fields that an older schema does not have are cut off.
    sum("gateway", &fields[..count])
}

/// The checksum of a row of `tokens`.
pub(super) fn token_sum(gateway: GatewayId, token: TokenId, hash: &KeyHash, created_at: Timestamp) -> Sum {
    let fields: [&[u8]; 4] = [gateway.0.as_bytes(), token.0.as_bytes(), &hash.0, &created_at.0.to_le_bytes()];
    sum("token", &fields.map(Some))
}

/// The checksum of a row of `manifests`.
pub(super) fn manifest_sum(gateway: GatewayId, manifest: &str, received_at: Timestamp) -> Sum {
    let fields: [&[u8]; 3] = [gateway.0.as_bytes(), manifest.as_bytes(), &received_at.0.to_le_bytes()];
    sum("manifest", &fields.map(Some))
}

/// The checksum of the row of `history`.
pub(super) fn history_sum(generation: u64) -> Sum {
    sum("history", &[Some(&generation.to_le_bytes())])
}

/// The kind is the prefix, so that a row does not pass as one of another table.
fn sum(kind: &str, fields: &[Option<&[u8]>]) -> Sum {
    let mut digest = Sha256::new_with_prefix(kind);
    // Each field is preceded by its length, or bytes could move from one field to the next without a trace.
    for field in fields {
        let Some(bytes) = field else {
            digest.update([0]);
            continue;
        };
        digest.update([1]);
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    }
    let mut sum = Sum::default();
    sum.copy_from_slice(&digest.finalize()[..16]);
    sum
}

/// Reads the columns `id, name, display_name, organization_id, created_at, delivery`.
pub(super) fn gateway(row: &Row<'_>) -> Result<GatewayRecord> {
    Ok(GatewayRecord {
        id: gateway_id(row, 0)?,
        name: row.get(1)?,
        display_name: row.get(2)?,
        organization_id: row.get(3)?,
        created_at: Timestamp(row.get(4)?),
        delivery: delivery(row, 5)?,
    })
}

/// Reads the columns `id, incarnation, delivery`.
pub(super) fn gateway_created(row: &Row<'_>) -> Result<Change> {
    Ok(Change::GatewayCreated {
        life: Life { gateway: gateway_id(row, 0)?, incarnation: incarnation(row, 1)? },
        delivery: delivery(row, 2)?,
    })
}

/// The delivery in column `index`: its word, or NULL for the hub's default.
fn delivery(row: &Row<'_>, index: usize) -> Result<Option<DeliveryMode>> {
    let Some(word) = row.get::<_, Option<String>>(index)? else { return Ok(None) };
    // The table has a constraint for the words, so another one is damage.
    let unknown = || Error::InvalidColumnType(index, "delivery".to_owned(), Type::Text);
    DeliveryMode::parse(&word).map(Some).ok_or_else(unknown)
}

/// The incarnation in column `index`, which SQLite stores as a signed integer.
pub(super) fn incarnation(row: &Row<'_>, index: usize) -> Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

/// Reads the columns `id, created_at`.
pub(super) fn token(row: &Row<'_>) -> Result<TokenRecord> {
    Ok(TokenRecord { id: TokenId(Uuid::from_bytes(row.get(0)?)), created_at: Timestamp(row.get(1)?) })
}

/// Reads the columns `gateway, id, hash`.
pub(super) fn token_created(row: &Row<'_>) -> Result<Change> {
    Ok(Change::TokenCreated {
        gateway: gateway_id(row, 0)?,
        token: TokenId(Uuid::from_bytes(row.get(1)?)),
        hash: KeyHash(row.get(2)?),
    })
}

/// The gateway id in column `index`.
pub(super) fn gateway_id(row: &Row<'_>, index: usize) -> Result<GatewayId> {
    Ok(GatewayId(Uuid::from_bytes(row.get(index)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_depend_on_where_fields_begin_and_end() {
        let check = |a: &[Option<&[u8]>], b: &[Option<&[u8]>]| assert_ne!(sum("k", a), sum("k", b));
        check(&[Some(b"ab"), Some(b"c")], &[Some(b"a"), Some(b"bc")]);
        check(&[Some(b""), None], &[None, Some(b"")]);
        check(&[Some(b"a")], &[Some(b"a"), Some(b"")]);
        assert_ne!(sum("k", &[]), sum("l", &[]));
    }
}
