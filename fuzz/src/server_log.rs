use susx_server::log_lines::{Line, Splitter};

/// What the server prints, for PostgreSQL's log: the same lines in whatever pieces it arrives, none of them longer than
/// one may be or with a control character.
pub fn server_log(data: &[u8]) {
    let whole = lines(data, data.len().max(1));
    for step in [1, 7] {
        assert_eq!(lines(data, step), whole, "{step} bytes at a time");
    }
    for line in whole {
        // A control character is escaped by six.
        assert!(line.text.len() <= 6 * (8 << 10) + 16);
        assert!(!line.text.chars().any(char::is_control));
    }
}

fn lines(data: &[u8], step: usize) -> Vec<Line> {
    let mut splitter = Splitter::default();
    let mut lines: Vec<Line> = data.chunks(step).flat_map(|piece| splitter.push(piece)).collect();
    lines.extend(splitter.finish());
    lines
}
