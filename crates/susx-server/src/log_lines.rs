//! Format of the log lines that the inference process sends to PostgreSQL's log.
//!
//! The process writes one line per message to its standard error, preceded by the level. Other output there, from
//! native libraries or an abort, has no level. Writer and reader are both here so that they agree.

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Start of susx-server's own lines, followed by the level.
const PREFIX: &str = "susx-server ";

const LEVELS: [(Level, &str); 5] = [
    (Level::Error, "ERROR: "),
    (Level::Warn, "WARN: "),
    (Level::Info, "INFO: "),
    (Level::Debug, "DEBUG: "),
    (Level::Trace, "TRACE: "),
];

/// Longest line, in bytes; longer ones are cut.
const MAX_LINE_BYTES: usize = 8 << 10;
const CUT: &str = " [cut]";

/// Escapes characters that could forge log lines or control a terminal. Control characters and others that change how
/// the surrounding text is displayed become escapes like `\u{1b}`; line breaks and tabs become `\n`, `\r` and `\t`.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => escaped.extend(c.escape_default()),
            c if c.is_control() || is_invisible(c) => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Whether a character separates lines, changes the writing direction or has no width.
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{61c}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// Formats a message as one line, including the line break.
pub fn format(level: Level, message: &str) -> String {
    let name = LEVELS.iter().find(|(known, _)| *known == level).map_or("", |(_, name)| name);
    let mut line = format!("{PREFIX}{name}");
    line.push_str(&escape(message.trim_end()));
    line.push('\n');
    line
}

/// A received line: its text, and its level if susx-server wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Option<Level>,
    pub text: String,
}

impl Line {
    /// Makes any bytes safe to display: invalid UTF-8 is replaced, control characters become spaces, and other
    /// characters that change the display are escaped.
    fn new(bytes: &[u8], cut: bool) -> Line {
        let text = String::from_utf8_lossy(bytes);
        let (level, text) = LEVELS
            .iter()
            .find_map(|(level, name)| Some((Some(*level), text.strip_prefix(PREFIX)?.strip_prefix(name)?)))
            .unwrap_or((None, &text));
        // Our own lines are escaped already; in those of native libraries, control characters are mostly colours.
        let text: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut text = escape(&text);
        if cut {
            text.push_str(CUT);
        }
        Line { level, text }
    }
}

/// Splits a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Start of the incomplete line, up to [`MAX_LINE_BYTES`].
    partial: Vec<u8>,
    /// Whether the incomplete line was longer than that.
    cut: bool,
}

impl Splitter {
    /// Adds bytes and returns the lines that they complete, without empty ones.
    pub fn push(&mut self, mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.append(&bytes[..end]);
            lines.extend(self.finish());
            bytes = &bytes[end + 1..];
        }
        self.append(bytes);
        lines
    }

    /// Ends the incomplete line and returns it, unless it is empty.
    pub fn finish(&mut self) -> Option<Line> {
        let line = Line::new(&self.partial, self.cut);
        self.partial.clear();
        self.cut = false;
        (!line.text.trim().is_empty()).then_some(line)
    }

    fn append(&mut self, bytes: &[u8]) {
        let available = MAX_LINE_BYTES - self.partial.len();
        self.cut |= bytes.len() > available;
        self.partial.extend_from_slice(&bytes[..bytes.len().min(available)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<(Option<Level>, String)> {
        let mut splitter = Splitter::default();
        let mut lines: Vec<Line> = pieces.iter().flat_map(|piece| splitter.push(piece)).collect();
        lines.extend(splitter.finish());
        lines.into_iter().map(|line| (line.level, line.text)).collect()
    }

    #[test]
    fn a_message_arrives_with_its_level() {
        for (level, _) in LEVELS {
            let line = format(level, "two\nlines\tand a tab\n");
            assert_eq!(line.matches('\n').count(), 1);
            assert_eq!(split(&[line.as_bytes()]), [(Some(level), r"two\nlines\tand a tab".to_owned())]);
        }
    }

    #[test]
    fn characters_that_change_the_display_are_escaped() {
        for (text, escaped) in [
            ("a cat", "a cat"),
            ("naïve 東京 👩\u{200d}🚀", "naïve 東京 👩\u{200d}🚀"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\nERROR: b\r\t", r"a\nERROR: b\r\t"),
            ("\u{7f}\u{9b}31m", r"\u{7f}\u{9b}31m"),
            ("\u{202e}gnp.tac\u{2028}x\u{feff}", r"\u{202e}gnp.tac\u{2028}x\u{feff}"),
            (r"C:\new", r"C:\new"),
        ] {
            assert_eq!(escape(text), escaped);
        }
    }

    #[test]
    fn lines_may_arrive_in_pieces() {
        let text = format!("{}foreign\n\n{}rest", format(Level::Warn, "a"), format(Level::Info, "b"));
        let whole = split(&[text.as_bytes()]);
        let expected = [
            (Some(Level::Warn), "a".to_owned()),
            (None, "foreign".to_owned()),
            (Some(Level::Info), "b".to_owned()),
            (None, "rest".to_owned()),
        ];
        assert_eq!(whole, expected);
        let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(split(&bytes), expected);
    }

    #[test]
    fn invalid_text_is_made_displayable() {
        assert_eq!(
            split(&[b"\xff\xfe b\x00\x1b[31mad\r\n"]),
            [(None, "\u{fffd}\u{fffd} b  [31mad".to_owned())]
        );
        // An unknown level is part of the text.
        assert_eq!(split(&[b"susx-server FATAL: x\n"]), [(None, "susx-server FATAL: x".to_owned())]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        let long = vec![b'x'; 3 * MAX_LINE_BYTES];
        let lines = split(&[&long, &long, b"\nnext\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].1.len(), MAX_LINE_BYTES + CUT.len());
        assert_eq!(lines[1], (None, "next".to_owned()));
        let just_fits = [vec![b'x'; MAX_LINE_BYTES], b"\n".to_vec()].concat();
        assert!(!split(&[&just_fits])[0].1.ends_with(CUT));
    }
}
