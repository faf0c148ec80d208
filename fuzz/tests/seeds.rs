//! Every target with its seeds, without libFuzzer.

use std::fs;
use std::path::Path;

use susx_fuzz::TARGETS;

#[test]
fn targets_survive_their_seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, target) in TARGETS {
        let mut folders = vec![root.join("seeds").join(name)];
        if name == "pixel_values" {
            let images = root.join("../crates/susx-core/tests/clip/images");
            folders.extend([images.join("modern"), images]);
        }
        let mut seeds = 0;
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
            for file in files.filter(|file| file.is_file()) {
                let seed = fs::read(file).unwrap();
                target(&seed);
                // Cut short, and with something in the middle changed.
                target(&seed[..seed.len() / 2]);
                let mut changed = seed;
                if let Some(byte) = changed.len().checked_sub(1).and_then(|last| changed.get_mut(last / 2)) {
                    *byte ^= 0x55;
                }
                target(&changed);
                seeds += 1;
            }
        }
        assert!(seeds >= 5, "{name} has {seeds} seeds");
    }
}
