//! Which versions of its rows a snapshot shows of a table, without reading the rows.
//!
//! A row that is inserted or updated is a new version: at another place, by another transaction or, within
//! the running transaction, by another command. So where two snapshots show the same versions, and the table
//! itself is the same, they show the same rows.

use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::{PgTupleDesc, check_for_interrupts, pg_sys};

use super::error::{Error, Result};
use super::open::Open;
use super::regclass::RegClass;
use super::snapshot::{self, SnapshotId};

/// A digest of what a snapshot shows of a classifier's table and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions(u64);

/// What decides how long that which was read of a relation may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary table whose rows are the same for everybody who may read it.
    Table {
        /// Whether every change of it is announced: see [`super::relcache`].
        announces: bool,
    },
    /// Its rows depend on more than a snapshot (row-level security, a view) or on other tables.
    Other,
}

/// The trigger that announces changes.
const ANNOUNCER: &std::ffi::CStr = c"susx_classifier_changed";

/// What kind of relation it is to the caller. It is locked.
pub fn kind(relation: RegClass) -> Result<Kind> {
    let open = Open::locked(relation)?;
    // SAFETY: the relation is open.
    unsafe {
        let class = &*(*open.0).rd_rel;
        let is_plain = class.relkind as u8 == pg_sys::RELKIND_RELATION
            && class.relam == pg_sys::HEAP_TABLE_AM_OID
            && !class.relhassubclass
            && !relation.has_row_security();
        Ok(if is_plain { Kind::Table { announces: announces(open.0) } } else { Kind::Other })
    }
}

/// Whether the trigger is there, and fires whatever session_replication_role is.
///
/// # Safety
///
/// The relation is open.
unsafe fn announces(relation: pg_sys::Relation) -> bool {
    const ALWAYS: std::ffi::c_char = b'A' as _;
    // SAFETY: as above: a table without triggers has no descriptor of them.
    unsafe {
        let Some(triggers) = (*relation).trigdesc.as_ref() else { return false };
        (0..triggers.numtriggers as usize).map(|i| &*triggers.triggers.add(i)).any(|trigger| {
            trigger.tgenabled == ALWAYS && std::ffi::CStr::from_ptr(trigger.tgname) == ANNOUNCER
        })
    }
}

impl Versions {
    /// What the active snapshot shows. The table is locked, and a [`Kind::Table`].
    pub fn active(classifier: RegClass) -> Result<Self> {
        let mut digest = DefaultHasher::new();
        let table = Open::locked(classifier)?;
        let settings =
            Open::own(c"classifier").ok_or_else(|| Error::internal("susx.classifier does not exist"))?;
        // SAFETY: both are open, and the caller keeps its snapshot on the stack.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            hash_shape(&table, &mut digest);
            hash_rows(&table, snapshot, &mut [], &mut digest);
            hash_rows(&settings, snapshot, &mut [key(classifier)], &mut digest);
        }
        Ok(Versions(digest.finish()))
    }

    /// The present state, if it shows the same as the running statement's snapshot, which shows these. In a
    /// parallel query nobody can tell, so the answer is no.
    pub fn latest_that_shows(self, classifier: RegClass) -> Result<Option<SnapshotId>> {
        // SAFETY: reads a variable of this process.
        if unsafe { pg_sys::IsInParallelMode() } {
            return Ok(None);
        }
        let active = SnapshotId::active();
        snapshot::with_latest(|| {
            let latest = SnapshotId::active();
            // What shows as much need not be looked at.
            let is_same = latest == active || Versions::active(classifier)? == self;
            Ok(latest.filter(|_| is_same))
        })
    }
}

/// The settings' row of a classifier: its first column is the key.
fn key(classifier: RegClass) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: fills the key in; both sides are OIDs.
    unsafe {
        let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
        pg_sys::ScanKeyInit(&mut key, 1, equal, pg_sys::F_OIDEQ.into(), classifier.0.into());
    }
    key
}

/// What a column is called, and where a table's rows lie, may change without any row being another.
///
/// # Safety
///
/// The relation is open.
unsafe fn hash_shape(relation: &Open, digest: &mut impl Hasher) {
    // SAFETY: as above.
    unsafe {
        (*(*relation.0).rd_rel).relfilenode.to_u32().hash(digest);
        for column in PgTupleDesc::from_pg_unchecked((*relation.0).rd_att).iter() {
            (column.attisdropped, column.atttypid.to_u32(), column.atttypmod).hash(digest);
            std::ffi::CStr::from_ptr(column.attname.data.as_ptr()).hash(digest);
        }
    }
}

/// # Safety
///
/// The relation is an open table of PostgreSQL's own kind, and the snapshot an active or a registered one.
unsafe fn hash_rows(
    relation: &Open,
    snapshot: pg_sys::Snapshot,
    keys: &mut [pg_sys::ScanKeyData],
    digest: &mut impl Hasher,
) {
    let mut rows: u64 = 0;
    // Who wrote the last row, and whether that was this transaction.
    let mut writer = (pg_sys::InvalidTransactionId, false);
    // SAFETY: as above. Reads the rows in the order of their places, in which a scan of this kind always begins
    // at the first one. A row is pinned until the next one is asked for.
    unsafe {
        let (count, keys) = (keys.len() as i32, keys.as_mut_ptr());
        let scan = pg_sys::systable_beginscan(relation.0, pg_sys::Oid::INVALID, false, snapshot, count, keys);
        while let Some(row) = pg_sys::systable_getnext(scan).as_ref() {
            let (place, header) = (row.t_self, (*row.t_data).t_choice.t_heap);
            (place.ip_blkid.bi_hi, place.ip_blkid.bi_lo, place.ip_posid).hash(digest);
            header.t_xmin.into_inner().hash(digest);
            if header.t_xmin != writer.0 {
                writer = (header.t_xmin, pg_sys::TransactionIdIsCurrentTransactionId(header.t_xmin));
            }
            // Another transaction's command is nobody's business, and where it was kept, that of a transaction
            // may be that deletes the row.
            if writer.1 {
                header.t_field3.t_cid.hash(digest);
            }
            rows += 1;
            if rows.is_multiple_of(1024) {
                check_for_interrupts!();
            }
        }
        pg_sys::systable_endscan(scan);
    }
    rows.hash(digest);
}
