use susx_server::log_lines::{Line, Splitter};

/// Output of the server, for PostgreSQL's log. However it is divided, it must give the same lines, none of which may be
/// too long or contain a control character.
pub fn server_log(data: &[u8]) {
    let whole = lines(data, data.len().max(1));
    for step in [1, 7] {
        assert_eq!(lines(data, step), whole, "{step} bytes at a time");
    }
    for line in whole {
        // The escape of a control character takes up to six bytes.
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
