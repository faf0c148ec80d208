//! How log lines travel from the inference process to PostgreSQL's log.
//!
//! The process writes them to its standard error, one message a line and its level in front. Whatever
//! else arrives there, from a native library or an abort, is a line without a level. The reading side
//! is here too, so that both agree.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The start of a line of ours; then comes the level.
const MARK: &str = "susx-server ";

const LEVELS: [(Level, &str); 5] = [
    (Level::Error, "ERROR: "),
    (Level::Warn, "WARN: "),
    (Level::Info, "INFO: "),
    (Level::Debug, "DEBUG: "),
    (Level::Trace, "TRACE: "),
];

/// Longer lines are cut.
const LONGEST_BYTES: usize = 8 << 10;
const CUT: &str = " [cut]";

/// A text that can be shown: a log stays a list of lines that say what happened, and a terminal does what its user
/// wants. Control characters, and others that change how the text around them is shown, are written as `\u{1b}`, line
/// breaks and tabs as `\n`, `\r` and `\t`.
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

/// Whether a character separates lines, turns the direction of writing, or takes no room.
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

/// The line of a message, with its end: one message is one line.
pub fn format(level: Level, message: &str) -> String {
    let name = LEVELS.iter().find(|(known, _)| *known == level).map_or("", |(_, name)| name);
    let mut line = format!("{MARK}{name}");
    line.push_str(&escape(message.trim_end()));
    line.push('\n');
    line
}

/// A line that has arrived: its level, if it is one of ours, and its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Option<Level>,
    pub text: String,
}

impl Line {
    /// Whatever the bytes are, the text can be shown: wrong UTF-8 is replaced, control characters are
    /// spaces, and what changes how others are shown is escaped.
    fn new(bytes: &[u8], cut: bool) -> Line {
        let text = String::from_utf8_lossy(bytes);
        let (level, text) = LEVELS
            .iter()
            .find_map(|(level, name)| Some((Some(*level), text.strip_prefix(MARK)?.strip_prefix(name)?)))
            .unwrap_or((None, &text));
        // Our own lines have none any more; in those of a native library they are colours and the like.
        let text: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut text = escape(&text);
        if cut {
            text.push_str(CUT);
        }
        Line { level, text }
    }
}

/// Makes lines of what arrives in pieces.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The line that has no end yet, up to [`LONGEST_BYTES`].
    partial: Vec<u8>,
    /// It was longer.
    cut: bool,
}

impl Splitter {
    /// The lines that these bytes complete. Empty ones are left out.
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

    /// What there is of a line that will not get its end.
    pub fn finish(&mut self) -> Option<Line> {
        let line = Line::new(&self.partial, self.cut);
        self.partial.clear();
        self.cut = false;
        (!line.text.trim().is_empty()).then_some(line)
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = LONGEST_BYTES - self.partial.len();
        self.cut |= bytes.len() > room;
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
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
    fn what_would_change_how_a_line_is_shown_is_escaped() {
        for (text, shown) in [
            ("a cat", "a cat"),
            ("naïve 東京 👩\u{200d}🚀", "naïve 東京 👩\u{200d}🚀"),
            ("\u{1b}[2J", r"\u{1b}[2J"),
            ("a\nERROR: b\r\t", r"a\nERROR: b\r\t"),
            ("\u{7f}\u{9b}31m", r"\u{7f}\u{9b}31m"),
            ("\u{202e}gnp.tac\u{2028}x\u{feff}", r"\u{202e}gnp.tac\u{2028}x\u{feff}"),
            (r"C:\new", r"C:\new"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }

    #[test]
    fn pieces_make_lines() {
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
    fn what_is_no_text_is_shown_as_well_as_can_be() {
        assert_eq!(
            split(&[b"\xff\xfe b\x00\x1b[31mad\r\n"]),
            [(None, "\u{fffd}\u{fffd} b  [31mad".to_owned())]
        );
        // A name that is none of ours is text.
        assert_eq!(split(&[b"susx-server FATAL: x\n"]), [(None, "susx-server FATAL: x".to_owned())]);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        let long = vec![b'x'; 3 * LONGEST_BYTES];
        let lines = split(&[&long, &long, b"\nnext\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].1.len(), LONGEST_BYTES + CUT.len());
        assert_eq!(lines[1], (None, "next".to_owned()));
        let just_fits = [vec![b'x'; LONGEST_BYTES], b"\n".to_vec()].concat();
        assert!(!split(&[&just_fits])[0].1.ends_with(CUT));
    }
}
