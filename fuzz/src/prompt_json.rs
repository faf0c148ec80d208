use susx_core::sus::{fill_templates, parse_cupl};

/// Prompts in JSON. Reading them must result in an error with a message, or in at least one prompt per category. The
/// prompts must survive writing and reading, and must be usable as templates if they have a placeholder.
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
