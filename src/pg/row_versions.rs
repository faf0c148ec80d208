//! Which row versions of a table a snapshot shows, without reading the rows' values.
//!
//! An INSERT or UPDATE creates a row version that differs from all others in its tuple id (its place in the table), its
//! transaction or, within the running transaction, its command. So if two snapshots show the same versions, and the
//! table itself is unchanged, they show the same rows.

use std::hash::{DefaultHasher, Hash, Hasher};

use pgrx::{PgTupleDesc, check_for_interrupts, pg_sys};

use super::error::{Error, Result};
use super::guc;
use super::open::OpenRelation;
use super::page_versions::PageVersions;
use super::regclass::RegClass;
use super::snapshot::{self, SnapshotId};

/// Row versions of a table; those of a classifier are of its table and its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowVersions {
    digest: u64,
    /// Their number; of a classifier, without its settings.
    rows: u64,
    /// Whether the running transaction wrote some of them.
    has_own: bool,
}

/// Determines how long a fit of a relation's rows may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table whose rows are the same for all users who may read it.
    PlainTable {
        /// Whether all changes are announced: see [`super::relcache`].
        announces: bool,
    },
    /// A relation whose rows depend on more than the snapshot, as with row-level security or a view, or on other
    /// tables.
    Other,
}

/// The trigger that announces changes. On a shard, Citus adds the number of the shard to the name.
const ANNOUNCING_TRIGGER: &[u8] = b"susx_classifier_changed";

/// The kind of a locked relation, for the current user.
pub fn kind(relation: RegClass) -> Result<RelationKind> {
    let open = OpenRelation::locked(relation)?;
    // SAFETY: the relation is open.
    unsafe {
        let class = &*(*open.0).rd_rel;
        let is_plain = class.relkind as u8 == pg_sys::RELKIND_RELATION
            && class.relam == pg_sys::HEAP_TABLE_AM_OID
            && !class.relhassubclass
            && !relation.has_row_security();
        Ok(if is_plain {
            RelationKind::PlainTable { announces: announces(open.0) }
        } else {
            RelationKind::Other
        })
    }
}

/// Whether the trigger exists, and fires regardless of session_replication_role.
///
/// # Safety
///
/// The relation must be open.
unsafe fn announces(relation: pg_sys::Relation) -> bool {
    const ALWAYS: std::ffi::c_char = b'A' as _;
    // SAFETY: as above. The descriptor of triggers is NULL if there are none.
    unsafe {
        let Some(triggers) = (*relation).trigdesc.as_ref() else { return false };
        (0..triggers.numtriggers as usize).map(|i| &*triggers.triggers.add(i)).any(|trigger| {
            trigger.tgenabled == ALWAYS
                && std::ffi::CStr::from_ptr(trigger.tgname).to_bytes().starts_with(ANNOUNCING_TRIGGER)
        })
    }
}

impl RowVersions {
    /// The versions that the active snapshot shows. `rows` is the table with the classifier's rows, which must be locked,
    /// and a [`RelationKind::PlainTable`].
    pub fn active(classifier: RegClass, rows: RegClass) -> Result<Self> {
        let mut digest = DefaultHasher::new();
        let table = OpenRelation::locked(rows)?;
        let settings = OpenRelation::own(c"classifier")
            .ok_or_else(|| Error::internal("susx.classifier does not exist"))?;
        // SAFETY: both relations are open, and the snapshot stays on the stack during the call.
        unsafe {
            let snapshot = pg_sys::GetActiveSnapshot();
            hash_structure(&table, &mut digest);
            let of_table = of_table(&table, snapshot);
            let of_settings = scan(&settings, snapshot, &mut [key(classifier)]);
            (of_table.digest, of_settings.digest).hash(&mut digest);
            let has_own = of_table.has_own || of_settings.has_own;
            Ok(RowVersions { digest: digest.finish(), rows: of_table.rows, has_own })
        }
    }

    /// The digest, which is the same in all sessions that see these versions.
    pub fn digest(self) -> u64 {
        self.digest
    }

    /// The number of the table's rows.
    pub fn rows(self) -> u64 {
        self.rows
    }

    /// Whether other transactions may see all of them: none is of the running one.
    pub fn are_of_others(self) -> bool {
        !self.has_own
    }

    /// The latest snapshot, if it shows these versions, which are those of the active snapshot. `None` in a parallel
    /// query, where the latest snapshot is not available.
    pub fn latest_that_shows(self, classifier: RegClass, rows: RegClass) -> Result<Option<SnapshotId>> {
        // SAFETY: reads a variable of this process.
        if unsafe { pg_sys::IsInParallelMode() } {
            return Ok(None);
        }
        let active = SnapshotId::active();
        snapshot::with_latest(|| {
            let latest = SnapshotId::active();
            // Equal snapshots show the same versions, so the rows need not be read again.
            let is_same = latest == active || RowVersions::active(classifier, rows)? == self;
            Ok(latest.filter(|_| is_same))
        })
    }
}

/// Scan key for a classifier's row of settings, by its first column.
fn key(classifier: RegClass) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: initializes the key. Both operands are OIDs.
    unsafe {
        let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
        pg_sys::ScanKeyInit(&mut key, 1, equal, pg_sys::F_OIDEQ.into(), classifier.0.into());
    }
    key
}

/// Hashes the table's columns and its file, which may change without a new row version.
///
/// # Safety
///
/// The relation must be open.
unsafe fn hash_structure(relation: &OpenRelation, digest: &mut impl Hasher) {
    // SAFETY: as above.
    unsafe {
        (*(*relation.0).rd_rel).relfilenode.to_u32().hash(digest);
        for column in PgTupleDesc::from_pg_unchecked((*relation.0).rd_att).iter() {
            (column.attisdropped, column.atttypid.to_u32(), column.atttypmod).hash(digest);
            std::ffi::CStr::from_ptr(column.attname.data.as_ptr()).hash(digest);
        }
    }
}

/// The row versions of a table that the snapshot shows: from the state of its pages, where a session has found out which rows they
/// have in this state, else from the rows.
///
/// # Safety
///
/// As for [`scan`].
unsafe fn of_table(table: &OpenRelation, snapshot: pg_sys::Snapshot) -> RowVersions {
    // SAFETY: as above.
    let pages = guc::shared_fits().then(|| unsafe { PageVersions::of(table, snapshot) }).flatten();
    if let Some((digest, rows)) = pages.as_ref().and_then(PageVersions::rows) {
        return RowVersions { digest, rows, has_own: false };
    }
    // SAFETY: as above.
    let scanned = unsafe { scan(table, snapshot, &mut []) };
    if let Some(pages) = pages.filter(|_| !scanned.has_own)
        && let Err(error) = pages.save((scanned.digest, scanned.rows))
    {
        pgrx::debug1!("cannot save which rows the pages of a classifier show: {error}");
    }
    scanned
}

/// The row versions of a table that the snapshot shows, by looking at each.
///
/// # Safety
///
/// The relation must be an open table with the heap access method, and the snapshot active or registered.
unsafe fn scan(
    relation: &OpenRelation,
    snapshot: pg_sys::Snapshot,
    keys: &mut [pg_sys::ScanKeyData],
) -> RowVersions {
    let mut digest = DefaultHasher::new();
    let mut rows: u64 = 0;
    let mut has_own = false;
    // The transaction that wrote the last row, and whether it is the current one.
    let mut writer = (pg_sys::InvalidTransactionId, false);
    // SAFETY: as above. This scan reads the rows in the order of their tuple ids, from the first one on. A row is
    // pinned until the next one is read.
    unsafe {
        let (count, keys) = (keys.len() as i32, keys.as_mut_ptr());
        let scan = pg_sys::systable_beginscan(relation.0, pg_sys::Oid::INVALID, false, snapshot, count, keys);
        while let Some(row) = pg_sys::systable_getnext(scan).as_ref() {
            let (tid, header) = (row.t_self, (*row.t_data).t_choice.t_heap);
            (tid.ip_blkid.bi_hi, tid.ip_blkid.bi_lo, tid.ip_posid).hash(&mut digest);
            header.t_xmin.into_inner().hash(&mut digest);
            if header.t_xmin != writer.0 {
                writer = (header.t_xmin, pg_sys::TransactionIdIsCurrentTransactionId(header.t_xmin));
            }
            // The command id matters only within the current transaction. In rows of others, the field may have the
            // command id of a transaction that deletes the row.
            has_own |= writer.1;
            if writer.1 {
                header.t_field3.t_cid.hash(&mut digest);
            }
            rows += 1;
            if rows.is_multiple_of(1024) {
                check_for_interrupts!();
            }
        }
        pg_sys::systable_endscan(scan);
    }
    rows.hash(&mut digest);
    RowVersions { digest: digest.finish(), rows, has_own }
}
