use crate::collect::{Answer, Collector, Options};
use crate::render::Page;
use crate::subject::{Picture, Subject};

const HOSTILE: [&str; 2] = ["<script>alert(1)</script>", "\" onload=\"x ]]> \u{202e}"];

fn page(has_truth: bool) -> String {
    let categories = HOSTILE.map(str::to_owned);
    let mut collector = Collector::<()>::new(2, has_truth, Options { per_category: 6, total: 100 });
    for row in 0..20u64 {
        let key = format!("<b>{row}</b>'");
        let vector = (0..20).map(|i| if i == row { 1.0 } else { 0.0 }).collect();
        let subject = Subject::new(row, Some(&key), Picture::Thumbnail(vec![1, 2, 3]), vector);
        let best = row as usize % 2;
        let ranked = [(best, 0.75), (1 - best, 0.25)];
        let truth = has_truth.then_some(Some(usize::from(row > 5)));
        collector.classified(subject, Answer { ranked: &ranked, known: 0.5, is_rejected: row > 17, truth });
    }
    collector.unreadable(Some("</td>"), "<img src=x>", has_truth.then_some(Some(0)));
    let mut sheets = collector.finish();
    sheets.share();
    Page {
        title: "</title><script>",
        classifier: "<i>",
        model: Some("<u>"),
        likeness_model: None,
        method: "zero-shot",
        reject: 0.6,
        categories: &categories,
        support: &[1, 2],
        size: 160,
        sheets: &sheets,
    }
    .html()
}

#[test]
fn hostile_texts_are_escaped() {
    for has_truth in [false, true] {
        let html = page(has_truth);
        for forbidden in
            ["<script", "<b>", "<i>", "<u>", "<img src=x", "onload=\"", "\u{202e}", "&#x202e;", " style="]
        {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }
}

#[test]
fn the_same_images_give_the_same_page() {
    assert_eq!(page(true), page(true));
}

#[test]
fn the_policy_allows_the_style_and_nothing_else() {
    let html = page(false);
    let style = html.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next()).unwrap();
    use base64::Engine;
    use sha2::Digest;
    let hash = base64::prelude::BASE64_STANDARD.encode(sha2::Sha256::digest(style.as_bytes()));
    assert!(html.contains(&format!("default-src 'none'; img-src data:; style-src 'sha256-{hash}'")));
    assert!(!html.contains("http:") && !html.contains("https:"));
}

#[test]
fn every_link_has_a_target() {
    let html = page(true);
    let targets: Vec<_> = html.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(targets.len() > 8);
    for target in targets {
        assert!(html.contains(&format!("id=\"{target}\"")), "{target}");
    }
}
