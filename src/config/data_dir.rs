//! The directory for sessions, before there is anything to put there.

use std::fs;
use std::io;
use std::path::Path;

/// Makes the directory if it is missing, and checks that files can be made in it.
pub fn prepare_data_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    let probe = path.join(".ringmq-can-write");
    fs::write(&probe, b"")?;
    fs::remove_file(&probe)
}
