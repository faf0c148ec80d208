//! The fit of a classifier that the sessions of a server share.
//!
//! The session that fits a large classifier writes the fit to a file. Others that see the same row versions, and all
//! parallel workers, map this file instead of reading the rows and fitting them. So they have their first label sooner, and
//! the support images are in memory once.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use susx_core::classifier::{Classifier, ValidParams};
use susx_core::digest::Digest;
use susx_core::sus::SharedBytes;

use crate::pg::regclass::RegClass;
use crate::pg::row_versions::RowVersions;
use crate::pg::{guc, library_file, shared_file, wait};

/// Smallest size of the support images that are shared, in bytes. Smaller ones are fitted in milliseconds.
const LEAST: usize = 1 << 20;
/// With fewer rows a table has no such images, unless they have more than a thousand dimensions.
const LEAST_ROWS: u64 = 256;
/// How often a session looks whether another one has finished its fit, and how long it waits at the most: then it fits by
/// itself.
const INTERVAL: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Length of what precedes the classifier: the key, and padding that keeps the numbers aligned.
const HEADER: usize = 64;

/// The file for some row versions of a classifier.
#[derive(Debug)]
pub struct SharedFit {
    classifier: RegClass,
    /// Digest of all that decides what is fitted.
    key: [u8; 32],
}

impl SharedFit {
    /// `None` if nothing is to be shared.
    pub fn of(classifier: RegClass, versions: RowVersions) -> Option<Self> {
        let may_be_large = versions.rows() >= LEAST_ROWS;
        let may_share = guc::shared_fits() && shared_file::are_removed_after_a_crash();
        let build = library_file::build().filter(|_| may_be_large && may_share)?;
        let key = Digest::of("susx shared fit")
            .bytes(build.map(i64::to_le_bytes).concat())
            .bytes(shared_file::server_start().to_le_bytes())
            .bytes(versions.digest().to_le_bytes())
            .finish();
        Some(SharedFit { classifier, key })
    }

    /// The fit that another session has written; `None` if there is none of these versions.
    pub fn load(&self, params: ValidParams) -> Option<Classifier> {
        let file = SharedBytes::new(shared_file::map(&shared_file::path(self.classifier)).ok()?);
        if !file.starts_with(&self.key) {
            return None;
        }
        Classifier::restored(&file.slice(HEADER..file.len())?, params)
    }

    /// Like [`load`](Self::load), after waiting for a session that is fitting the classifier. The error has the lock that makes
    /// others wait for this session; `None` if it waited in vain, or there can be no lock.
    pub fn load_or_lock(&self, params: ValidParams) -> Result<Classifier, Option<File>> {
        let path = shared_file::path(self.classifier);
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            match shared_file::try_lock(&path) {
                // The session that had the lock may have shared its fit.
                Ok(Some(lock)) => return self.load(params).ok_or(Some(lock)),
                Ok(None) if Instant::now() < deadline => wait::for_time(INTERVAL),
                _ => return Err(None),
            }
            if let Some(found) = self.load(params) {
                return Ok(found);
            }
        }
    }

    /// Shares a fit, if it is large enough. Returns false if it is not, or could not be written.
    pub fn save(&self, classifier: &Classifier) -> bool {
        let support_set = classifier.support_set();
        if size_of_val(support_set.features().as_slice().unwrap_or_default()) < LEAST {
            return false;
        }
        let write = |out: &mut File| -> io::Result<()> {
            let mut header = [0; HEADER];
            header[..self.key.len()].copy_from_slice(&self.key);
            out.write_all(&header)?;
            classifier.save(out)
        };
        let path = shared_file::path(self.classifier);
        match shared_file::write(&path, write).and_then(|()| shared_file::remove_orphans()) {
            Ok(()) => true,
            Err(error) => {
                pgrx::log!(
                    "susx: cannot write \"{}\", so each session fits by itself: {error}",
                    path.display()
                );
                false
            }
        }
    }
}
