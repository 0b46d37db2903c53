//! How numbers and names are written for a person.
//!
//! One form everywhere: thousands with commas, binary units as in the options and in PostgreSQL's settings (1 MiB is
//! 1,048,576 bytes), durations in at most two units. Whatever comes from a database goes through [`escape`] before it reaches a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Where a text is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// How many columns it has.
    pub width: u16,
    /// Whether it shows colours; a terminal does, unless `NO_COLOR` is set.
    pub is_coloured: bool,
}

impl Page {
    pub(super) fn paint(self, text: &str, colour: Colour) -> String {
        let code = match colour {
            Colour::Bold => 1,
            Colour::Red => 31,
            Colour::Green => 32,
            Colour::Yellow => 33,
        };
        if self.is_coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Appends `text`, wrapped at spaces: `first` before the first line, as many spaces before the others.
    /// Line breaks in `text` are kept; a word longer than a line is not cut, so that it can be copied.
    pub(super) fn wrap(self, out: &mut String, first: &str, text: &str) {
        let indent = first.chars().count();
        let width = usize::from(self.width).max(indent + 20);
        let mut lead = first.to_owned();
        for paragraph in text.lines() {
            let paragraph = escape(paragraph);
            // A statement's own indentation means something to its reader.
            let body = paragraph.trim_start();
            let mut line = format!("{lead}{}", &paragraph[..paragraph.len() - body.len()]);
            let mut is_empty = true;
            for word in body.split(' ') {
                if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
                    let _ = writeln!(out, "{}", line.trim_end());
                    line = " ".repeat(indent);
                    is_empty = true;
                }
                if !is_empty {
                    line.push(' ');
                }
                line.push_str(word);
                is_empty = false;
            }
            let _ = writeln!(out, "{}", line.trim_end());
            lead = " ".repeat(indent);
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Colour {
    Bold,
    Red,
    Green,
    Yellow,
}

/// Makes control characters visible, and those that reorder or hide text: a table may be named `ESC ] 0 ;`
/// and must not talk to the terminal.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_unsafe = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_ascii_control() => {
                let _ = write!(escaped, "\\x{:02x}", u32::from(c));
            }
            c if is_unsafe(c) => {
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    Cow::Owned(escaped)
}

/// `1,204,331`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `1,204,331 rows`.
pub(super) fn count(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { many })
}

/// `312 MiB`, with three significant digits; four from 1000 to 1023.
pub fn bytes(value: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut scaled = value as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
        if scaled < 1023.5 {
            break;
        }
        scaled /= 1024.0;
        unit = larger;
    }
    let digits = match scaled {
        _ if unit == "B" => 0,
        small if small < 9.995 => 2,
        medium if medium < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.digits$} {unit}")
}

/// `76.0 MiB/s`; `None` where there is nothing to divide.
pub(super) fn rate(value: u64, seconds: f64) -> Option<String> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are positive, and four digits are shown"
    )]
    (value > 0 && seconds > 0.001).then(|| format!("{}/s", bytes((value as f64 / seconds) as u64)))
}

/// `12 ms`, `4.1 s`, `2 min 05 s`, `1 h 02 min`, `3 d 04 h`.
pub fn duration(seconds: f64) -> String {
    if seconds < 0.0995 {
        format!("{:.0} ms", seconds.max(0.0) * 1000.0)
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        clock(seconds)
    }
}

/// `4 s`, `2 min 05 s`, `1 h 02 min`: what is still changing.
pub(super) fn clock(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and is not negative"
    )]
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86400, whole % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_written_in_one_form() {
        assert_eq!([0, 999, 1000, 1_204_331].map(number), ["0", "999", "1,000", "1,204,331"]);
        assert_eq!(
            [0, 1023, 1 << 10, 10_229, 10_236, 312 << 20, 1023 << 20, (1 << 30) - 1, 1 << 30].map(bytes),
            [
                "0 B", "1023 B", "1.00 KiB", "9.99 KiB", "10.0 KiB", "312 MiB", "1023 MiB", "1.00 GiB",
                "1.00 GiB"
            ]
        );
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(
            [0.0, 0.012, 4.08, 41.7, 125.0, 3720.0, 273_600.0].map(duration),
            ["0 ms", "12 ms", "4.1 s", "41.7 s", "2 min 05 s", "1 h 02 min", "3 d 04 h"]
        );
        assert_eq!(clock(41.7), "42 s");
        assert_eq!(rate(76 << 20, 1.0).as_deref(), Some("76.0 MiB/s"));
        assert_eq!(rate(76, 0.0), None);
    }

    #[test]
    fn names_do_not_talk_to_the_terminal() {
        assert_eq!(escape("public.asset"), "public.asset");
        assert_eq!(escape("Löwe 写真"), "Löwe 写真");
        assert_eq!(escape("a\x1b]0;b\x07\nc\u{9b}d\u{202e}"), "a\\x1b]0;b\\x07\\nc\\u{9b}d\\u{202e}");
    }

    #[test]
    fn wrapping_keeps_words_and_lines() {
        let page = Page { width: 30, is_coloured: false };
        let mut out = String::new();
        page.wrap(&mut out, "  next: ", "grant the role what it needs\n  GRANT ALL\x1b");
        assert_eq!(out, "  next: grant the role what it\n        needs\n          GRANT ALL\\x1b\n");
    }

    proptest! {
        #[test]
        fn nothing_escaped_controls_a_terminal(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(char::is_control));
        }

        #[test]
        fn any_number_can_be_written(value in any::<u64>(), seconds in any::<f64>()) {
            prop_assert!(bytes(value).len() <= 8);
            duration(seconds);
            rate(value, seconds);
            prop_assert_eq!(number(value).replace(',', ""), value.to_string());
        }
    }
}
