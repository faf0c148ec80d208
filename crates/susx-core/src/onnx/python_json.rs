//! JSON as Python writes it: with `NaN` and `Infinity`, and sometimes with a byte order mark.

use serde_json::Value;

/// The numbers that Python writes and JSON does not have. The longer one of two that begin alike comes first.
const NOT_FINITE: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Parses a configuration file. A number that is not finite becomes null, as if the file left it out: `diffusers` writes
/// `-Infinity` for a limit that is none. The error is that of plain JSON.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    serde_json::from_str(text).or_else(|error| serde_json::from_str(&only_finite(text)).map_err(|_| error))
}

/// The text with null for every number that is not finite, strings left alone.
fn only_finite(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let (mut rest, mut in_string) = (text, false);
    while let Some(char) = rest.chars().next() {
        let number = NOT_FINITE.iter().find(|number| !in_string && rest.starts_with(**number));
        let (taken, written) = match (number, char) {
            (Some(number), _) => (number.len(), "null"),
            // An escaped quotation mark ends no string.
            (None, '\\') if in_string => {
                let escape = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                (escape, &rest[..escape])
            }
            (None, _) => (char.len_utf8(), &rest[..char.len_utf8()]),
        };
        in_string ^= char == '"';
        result.push_str(written);
        rest = &rest[taken..];
    }
    result
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_python_writes() {
        // The output of json.dumps({"min": -math.inf, "a\"NaN": "Infinity\\", "x": [math.nan, 1.5, math.inf]}).
        let text = r#"{"min": -Infinity, "a\"NaN": "Infinity\\", "x": [NaN, 1.5, Infinity]}"#;
        let expected = json!({"min": null, "a\"NaN": "Infinity\\", "x": [null, 1.5, null]});
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("\u{feff}{\"a\": 1}").unwrap(), json!({"a": 1}));
    }

    #[test]
    fn an_error_is_that_of_json() {
        for text in ["{\"a\": ", "{a: 1}", "{\"a\": NaN,}", "{\"a\": \"NaN", "{\"a\": \"\\", "[-Inf]"] {
            let expected = serde_json::from_str::<Value>(text).unwrap_err().to_string();
            assert_eq!(parse(text).unwrap_err().to_string(), expected);
        }
    }
}
