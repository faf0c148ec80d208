use susx_core::sus::{fill_templates, parse_cupl};

/// A file of prompts: an error that is a sentence, or sentences for every category, which can be written and read
/// again, and serve as templates where they have a place for the name.
pub fn prompt_json(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let prompts = match parse_cupl(text) {
        Ok(prompts) => prompts,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(!prompts.is_empty());
    for (category, sentences) in &prompts {
        assert!(!sentences.is_empty() && sentences.iter().all(|sentence| !sentence.trim().is_empty()));
        let templates: Vec<&str> = sentences.iter().map(String::as_str).collect();
        if let Ok(filled) = fill_templates(&templates, category) {
            assert_eq!(filled.len(), sentences.len());
        }
    }
    let json = serde_json::to_string(&prompts).expect("strings make JSON");
    assert_eq!(parse_cupl(&json), Ok(prompts));
}
