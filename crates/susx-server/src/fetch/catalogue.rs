//! Exports on the Hugging Face hub that have the files which susx reads.
//!
//! The layouts are those that the hub shows, and so are the sizes, or they follow from the number of weights.
//! Dimensions and languages are those of the original models' papers and model cards. susx's authors have not loaded
//! any of these exports: their tests use other models.

use std::fmt::Write;

/// An export.
pub struct Entry {
    /// Owner and name on the hub.
    pub repo: &'static str,
    /// The model that was exported.
    original: &'static str,
    /// Length of a vector.
    dimensions: u32,
    /// Megabytes in single precision and in half precision.
    megabytes: (u32, u32),
    licence: &'static str,
    /// Of texts; `None` for models of images alone.
    languages: Option<&'static str>,
}

/// The licences are those of the original weights. OpenAI published CLIP's with its code, which is under MIT.
const ENTRIES: [Entry; 7] = [
    Entry {
        repo: "Xenova/clip-vit-base-patch32",
        original: "openai/clip-vit-base-patch32",
        dimensions: 512,
        megabytes: (606, 303),
        licence: "MIT",
        languages: Some("English"),
    },
    Entry {
        repo: "Xenova/clip-vit-base-patch16",
        original: "openai/clip-vit-base-patch16",
        dimensions: 512,
        megabytes: (599, 300),
        licence: "MIT",
        languages: Some("English"),
    },
    Entry {
        repo: "Xenova/clip-vit-large-patch14",
        original: "openai/clip-vit-large-patch14",
        dimensions: 768,
        megabytes: (1711, 856),
        licence: "MIT",
        languages: Some("English"),
    },
    Entry {
        repo: "Xenova/siglip-base-patch16-224",
        original: "google/siglip-base-patch16-224",
        dimensions: 768,
        megabytes: (813, 407),
        licence: "Apache-2.0",
        languages: Some("English"),
    },
    Entry {
        repo: "onnx-community/siglip2-base-patch16-224-ONNX",
        original: "google/siglip2-base-patch16-224",
        dimensions: 768,
        megabytes: (1501, 751),
        licence: "Apache-2.0",
        languages: Some("many"),
    },
    Entry {
        repo: "Xenova/dinov2-small",
        original: "facebook/dinov2-small",
        dimensions: 384,
        megabytes: (89, 44),
        licence: "Apache-2.0",
        languages: None,
    },
    Entry {
        repo: "Xenova/dinov2-base",
        original: "facebook/dinov2-base",
        dimensions: 768,
        megabytes: (347, 173),
        licence: "Apache-2.0",
        languages: None,
    },
];

impl Entry {
    fn name(&self) -> &'static str {
        self.repo.rsplit('/').next().unwrap_or(self.repo)
    }
}

/// The export with a name of the table's first column.
pub fn by_name(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name() == name)
}

/// The export of a model.
pub fn exports_of(original: &str) -> Option<&'static str> {
    ENTRIES.iter().find(|entry| entry.original == original).map(|entry| entry.repo)
}

/// The exports as a table.
pub fn table() -> String {
    let megabytes = |count: u32| format!("{count} MB");
    let mut rows =
        vec![["name", "repository", "dimensions", "fp32", "fp16", "licence", "texts"].map(str::to_owned)];
    rows.extend(ENTRIES.iter().map(|entry| {
        [
            entry.name().to_owned(),
            entry.repo.to_owned(),
            entry.dimensions.to_string(),
            megabytes(entry.megabytes.0),
            megabytes(entry.megabytes.1),
            entry.licence.to_owned(),
            entry.languages.unwrap_or("none").to_owned(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut table = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        let _ = writeln!(table, "{}", cells.join("  ").trim_end());
    }
    table.push_str(
        "\nTheir files have layouts that susx reads, but we have not loaded these exports: run `susx-server check` on what\n\
         you fetch. Read the licence on the model's page before you use it.\n",
    );
    table
}
