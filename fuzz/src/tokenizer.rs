use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use susx_core::clip::{ClipTokenizer, PadRules, Padding};

const CONTEXT_LENGTH: usize = 16;

/// CLIP's byte-level BPE tokenizer from the test models, and the WordPiece tokenizer of the demo model.
static TOKENIZERS: LazyLock<Vec<ClipTokenizer>> = LazyLock::new(|| {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build");
    let files = ["test-models/split", "models/demo"].map(|model| build.join(model).join("tokenizer.json"));
    let exists = |path: &PathBuf| {
        let exists = path.is_file();
        if !exists {
            eprintln!("skipped: there is no {} (`make demo` makes it)", path.display());
        }
        exists
    };
    let read = |path: PathBuf| {
        ClipTokenizer::from_file(&path, CONTEXT_LENGTH, &PadRules::default(), Padding::Longest)
    };
    files.into_iter().filter(exists).map(|path| read(path).expect("a valid tokenizer")).collect()
});

/// A text to tokenize. Its tokens must fit into the context length, and must be the same in a batch as alone.
pub fn tokenizer(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for tokenizer in TOKENIZERS.iter() {
        let Ok(alone) = tokenizer.encode(&[&text]) else { continue };
        let length = alone.input_ids.ncols();
        assert!((1..=CONTEXT_LENGTH).contains(&length));
        assert!(alone.attention_mask.iter().all(|&mask| mask == 1));
        let beside = tokenizer.encode(&["a", &text]).expect("each of them has tokens");
        let columns = ndarray::s![1, ..length];
        assert_eq!(beside.input_ids.slice(columns), alone.input_ids.row(0));
        assert_eq!(beside.lengths()[1], length);
    }
}
