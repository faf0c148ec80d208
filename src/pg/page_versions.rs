//! Which row versions of a large table a snapshot shows, as far as that can be told from the table's pages.
//!
//! PostgreSQL logs every change of a page, and notes the position of the log record (LSN) in the page. If a page has the flag
//! `PD_ALL_VISIBLE`, which VACUUM sets and a change of a row removes, all of its rows are visible to every transaction. So the rows
//! of such a page need not be looked at: they are the same as long as it has the flag and the same LSN. In pages without the flag,
//! the rows that the snapshot shows are looked at one by one.
//!
//! What PostgreSQL does not log is left out: tables that are not permanent, and pages without an LSN, which `wal_level = minimal`
//! leaves in a table that was filled in the transaction that created it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};

use pgrx::{check_for_interrupts, pg_sys};

use super::open::OpenRelation;
use super::regclass::RegClass;
use super::shared_file;

/// Smaller tables are not worth it.
const LEAST_BLOCKS: u32 = 64;
/// If more than one page in so many has rows that must be looked at, all rows may as well be.
const MOST_UNFLAGGED: u32 = 8;
/// Extension of the name of a table's file.
const PURPOSE: &str = "pages";

/// The state of a table's pages. Where it is the same, snapshots show the same row versions.
#[derive(Debug)]
pub struct PageVersions {
    relation: RegClass,
    digest: u64,
}

/// A digest of the row versions of a table, and their number.
pub type Rows = (u64, u64);

impl PageVersions {
    /// The state of the pages as the snapshot shows them; `None` if the table is small, the state says nothing, or the running
    /// transaction has written a row.
    ///
    /// As long as the snapshot is in use, no page that has changed since it was taken gets the flag. So it shows all rows of the
    /// pages with the flag.
    ///
    /// # Safety
    ///
    /// The relation must be an open table with the heap access method, and the snapshot active or registered.
    pub unsafe fn of(table: &OpenRelation, snapshot: pg_sys::Snapshot) -> Option<Self> {
        let mut digest = DefaultHasher::new();
        shared_file::server_start().hash(&mut digest);
        // SAFETY: as above. The flag is no promise for a snapshot of a standby, which may be older than the flag.
        unsafe {
            let class = &*(*table.0).rd_rel;
            let is_logged = class.relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT;
            let blocks = pg_sys::RelationGetNumberOfBlocksInFork(table.0, pg_sys::ForkNumber::MAIN_FORKNUM);
            if !is_logged
                || (*snapshot).takenDuringRecovery
                || !shared_file::are_removed_after_a_crash()
                || blocks < LEAST_BLOCKS
            {
                return None;
            }
            (class.relfilenode.to_u32(), blocks).hash(&mut digest);
            let mut unflagged = 0;
            let strategy = pg_sys::GetAccessStrategy(pg_sys::BufferAccessStrategyType::BAS_BULKREAD);
            for block in 0..blocks {
                check_for_interrupts!();
                let page = Page::read(table, block, strategy);
                let header = page.header();
                let lsn = (header.pd_lsn.xlogid, header.pd_lsn.xrecoff);
                let is_flagged = u32::from(header.pd_flags) & pg_sys::PD_ALL_VISIBLE != 0;
                (block, is_flagged).hash(&mut digest);
                if is_flagged && lsn != (0, 0) {
                    lsn.hash(&mut digest);
                    continue;
                }
                unflagged += 1;
                if is_flagged || unflagged > blocks / MOST_UNFLAGGED {
                    return None;
                }
                for (place, transaction) in page.rows(snapshot) {
                    if pg_sys::TransactionIdIsCurrentTransactionId(transaction) {
                        return None;
                    }
                    (place, transaction.into_inner()).hash(&mut digest);
                }
            }
            pg_sys::FreeAccessStrategy(strategy);
        }
        Some(PageVersions { relation: table.relation(), digest: digest.finish() })
    }

    /// The row versions of the table, if a session has found out which the pages show in this state.
    pub fn rows(&self) -> Option<Rows> {
        let file = std::fs::read(shared_file::path_for(self.relation, PURPOSE)).ok()?;
        let (&[digest, rows, count], []) = file.as_chunks() else { return None };
        let [digest, rows, count] = [digest, rows, count].map(u64::from_ne_bytes);
        (digest == self.digest).then_some((rows, count))
    }

    /// Tells other sessions which row versions the pages show. Where that fails, they look at the rows themselves.
    pub fn save(&self, (rows, count): Rows) -> io::Result<()> {
        let content = [self.digest, rows, count].map(u64::to_ne_bytes).concat();
        let path = shared_file::path_for(self.relation, PURPOSE);
        shared_file::write(&path, |file| file.write_all(&content))
    }
}

/// A page of a table, pinned and locked for reading until it is dropped.
struct Page<'a> {
    table: &'a OpenRelation,
    block: u32,
    buffer: pg_sys::Buffer,
}

impl<'a> Page<'a> {
    /// # Safety
    ///
    /// The relation must be an open table with so many blocks.
    unsafe fn read(table: &'a OpenRelation, block: u32, strategy: pg_sys::BufferAccessStrategy) -> Self {
        // SAFETY: as above.
        let buffer = unsafe {
            let fork = pg_sys::ForkNumber::MAIN_FORKNUM;
            let mode = pg_sys::ReadBufferMode::RBM_NORMAL;
            let buffer = pg_sys::ReadBufferExtended(table.0, fork, block, mode, strategy);
            pg_sys::LockBuffer(buffer, pg_sys::BUFFER_LOCK_SHARE as _);
            buffer
        };
        Page { table, block, buffer }
    }

    fn header(&self) -> &pg_sys::PageHeaderData {
        // SAFETY: the page is pinned and locked as long as this exists.
        unsafe { &*pg_sys::BufferGetPage(self.buffer).cast() }
    }

    /// The rows that a snapshot shows: the place of each in the page, and the transaction that wrote it.
    ///
    /// # Safety
    ///
    /// The table must have the heap access method, and the snapshot be active or registered.
    unsafe fn rows(&self, snapshot: pg_sys::Snapshot) -> Vec<(u16, pg_sys::TransactionId)> {
        let header = self.header();
        let start = std::mem::offset_of!(pg_sys::PageHeaderData, pd_linp);
        let items = usize::from(header.pd_lower).saturating_sub(start) / size_of::<pg_sys::ItemIdData>();
        // SAFETY: as above; see `header`. The items of a page precede `pd_lower`, and a normal one is a row at its offset.
        unsafe {
            let items = std::slice::from_raw_parts(header.pd_linp.as_ptr(), items);
            let page = pg_sys::BufferGetPage(self.buffer);
            let row = |(place, item): (u16, &pg_sys::ItemIdData)| {
                if item.lp_flags() != pg_sys::LP_NORMAL {
                    return None;
                }
                let mut row = pg_sys::HeapTupleData {
                    t_len: item.lp_len(),
                    t_tableOid: (*self.table.0).rd_id,
                    t_data: page.add(item.lp_off() as usize).cast(),
                    ..Default::default()
                };
                pgrx::itemptr::item_pointer_set_all(&mut row.t_self, self.block, place);
                let is_visible = pg_sys::HeapTupleSatisfiesVisibility(&mut row, snapshot, self.buffer);
                is_visible.then(|| (place, (*row.t_data).t_choice.t_heap.t_xmin))
            };
            (1..).zip(items).filter_map(row).collect()
        }
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        // After an ERROR, PostgreSQL releases it.
        if !std::thread::panicking() {
            // SAFETY: pinned and locked by `read`.
            unsafe { pg_sys::UnlockReleaseBuffer(self.buffer) };
        }
    }
}
