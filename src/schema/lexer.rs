//! PostgreSQL's lexical rules, as far as they are needed to find tokens and the ends of statements.
//!
//! Takes a script as text with `standard_conforming_strings` on; gives tokens that together are the text, and
//! pieces of it: comments between statements, psql's own commands, statements. Never panics; what does not end
//! (a quote, a comment, a statement) is an error with its line.
//!
//! Sources: PostgreSQL's documentation, "Lexical Structure"; the statement ends are psql's rules (parentheses,
//! and `BEGIN ATOMIC ... END` of SQL-standard routine bodies).

use std::borrow::Cow;

use crate::error::{Class, Fault};

/// A text that cannot be cut into tokens or statements.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what} does not end")]
pub struct LexError {
    /// What was begun.
    pub what: &'static str,
    /// Where, counted from 1.
    pub line: usize,
}

impl Fault for LexError {
    fn class(&self) -> Class {
        Class::Internal
    }
}

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Blanks and line breaks.
    Space,
    /// `-- ...` without its line break, or `/* ... */`.
    Comment,
    /// A key word or an unquoted identifier.
    Word,
    /// `"..."` or `U&"..."`.
    QuotedIdentifier,
    /// A string constant of any form.
    String,
    /// A number.
    Number,
    /// `$1`.
    Parameter,
    /// An operator, or one character of punctuation.
    Symbol,
    /// A line of psql's own: a backslash at the start of a line.
    Meta,
}

/// A token and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: TokenKind,
    /// Its text.
    pub text: &'a str,
    /// Byte offset in the text it was read from.
    pub offset: usize,
}

impl<'a> Token<'a> {
    /// Whether it is this key word, in any case; `keyword` in capitals.
    pub fn is_word(&self, keyword: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(keyword)
    }

    /// Whether it is this operator or punctuation.
    pub fn is_symbol(&self, symbol: &str) -> bool {
        self.kind == TokenKind::Symbol && self.text == symbol
    }

    /// The name that it stands for, if it can be a name. `U&"..."` is given as written: `pg_dump` writes none.
    pub fn identifier(&self) -> Option<Cow<'a, str>> {
        match self.kind {
            TokenKind::Word if self.text.bytes().any(|b| b.is_ascii_uppercase()) => {
                Some(Cow::Owned(self.text.to_ascii_lowercase()))
            }
            TokenKind::Word => Some(Cow::Borrowed(self.text)),
            TokenKind::QuotedIdentifier => {
                let inner = self.text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))?;
                Some(if inner.contains('"') {
                    Cow::Owned(inner.replace("\"\"", "\""))
                } else {
                    Cow::Borrowed(inner)
                })
            }
            _ => None,
        }
    }

    /// The byte offset after it.
    pub fn end(&self) -> usize {
        self.offset + self.text.len()
    }
}

/// All tokens of a text, blanks and comments too: their texts joined are the text.
pub fn tokens(text: &str) -> Result<Vec<Token<'_>>, LexError> {
    let mut found = Vec::new();
    let mut offset = 0;
    while offset < text.len() {
        let (kind, length) = Scanner { text, bytes: text.as_bytes() }.scan(offset)?;
        found.push(Token { kind, text: &text[offset..offset + length], offset });
        offset += length;
    }
    Ok(found)
}

/// The tokens that mean something: no blanks, no comments.
pub fn significant_tokens(text: &str) -> Result<Vec<Token<'_>>, LexError> {
    let mut found = tokens(text)?;
    found.retain(|token| !matches!(token.kind, TokenKind::Space | TokenKind::Comment));
    Ok(found)
}

/// What stands in the place of a string constant.
pub const MASK: &str = "'***'";

/// The text with all string constants masked; nothing of a text that is not whole.
pub fn mask_strings(text: &str) -> String {
    let found = tokens(text).unwrap_or_default();
    found.iter().map(|token| if token.kind == TokenKind::String { MASK } else { token.text }).collect()
}

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
}

impl Scanner<'_> {
    /// The byte at `at`, 0 after the end.
    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn unended(&self, what: &'static str, at: usize) -> LexError {
        LexError { what, line: line_of(self.text, at) }
    }

    fn run(&self, from: usize, accept: impl Fn(u8) -> bool) -> usize {
        self.bytes[from..].iter().take_while(|byte| accept(**byte)).count()
    }

    /// The kind and the length of the token at `at`, which lies before the end of the text.
    fn scan(&self, at: usize) -> Result<(TokenKind, usize), LexError> {
        let first = self.bytes[at];
        let second = self.byte(at + 1);
        match first {
            b if is_space(b) => Ok((TokenKind::Space, self.run(at, is_space))),
            b'-' if second == b'-' => Ok((TokenKind::Comment, self.run(at, |b| b != b'\n'))),
            b'/' if second == b'*' => Ok((TokenKind::Comment, self.block_comment(at)?)),
            b'\'' => Ok((TokenKind::String, self.string(at, at, false)?)),
            b'"' => Ok((TokenKind::QuotedIdentifier, self.quoted_identifier(at, at)?)),
            b'$' => self.dollar(at),
            b'0'..=b'9' => Ok((TokenKind::Number, self.number(at))),
            b'.' if second.is_ascii_digit() => Ok((TokenKind::Number, self.number(at))),
            b'\\' if at == 0 || self.bytes[at - 1] == b'\n' => {
                Ok((TokenKind::Meta, self.run(at, |b| b != b'\n')))
            }
            b if is_word_start(b) => self.word(at),
            b if is_operator(b) => Ok((TokenKind::Symbol, self.operator(at))),
            // One character of punctuation; all of ASCII, since other bytes begin a word.
            _ => Ok((TokenKind::Symbol, 1)),
        }
    }

    fn block_comment(&self, start: usize) -> Result<usize, LexError> {
        let mut depth = 0_usize;
        let mut at = start;
        while at < self.bytes.len() {
            match (self.bytes[at], self.byte(at + 1)) {
                (b'/', b'*') => {
                    depth += 1;
                    at += 2;
                }
                (b'*', b'/') => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return Ok(at - start);
                    }
                }
                _ => at += 1,
            }
        }
        Err(self.unended("comment", start))
    }

    /// A string whose opening quote is at `quote` and whose prefix begins at `start`. Parts that are only
    /// parted by blanks with a line break are one constant, by the same rules of escaping.
    fn string(&self, start: usize, quote: usize, has_escapes: bool) -> Result<usize, LexError> {
        let mut at = quote + 1;
        while at < self.bytes.len() {
            match self.bytes[at] {
                b'\\' if has_escapes => at += 2,
                b'\'' if self.byte(at + 1) == b'\'' => at += 2,
                b'\'' => {
                    at += 1;
                    let blanks = self.run(at, is_space);
                    let has_break = self.bytes[at..at + blanks].contains(&b'\n');
                    if has_break && self.byte(at + blanks) == b'\'' {
                        at += blanks + 1;
                    } else {
                        return Ok(at - start);
                    }
                }
                _ => at += 1,
            }
        }
        Err(self.unended("string", start))
    }

    fn quoted_identifier(&self, start: usize, quote: usize) -> Result<usize, LexError> {
        let mut at = quote + 1;
        while at < self.bytes.len() {
            match (self.bytes[at], self.byte(at + 1)) {
                (b'"', b'"') => at += 2,
                (b'"', _) => return Ok(at + 1 - start),
                _ => at += 1,
            }
        }
        Err(self.unended("quoted identifier", start))
    }

    /// A dollar quote, a parameter, or a lone dollar.
    fn dollar(&self, start: usize) -> Result<(TokenKind, usize), LexError> {
        let digits = self.run(start + 1, |b| b.is_ascii_digit());
        if digits > 0 {
            return Ok((TokenKind::Parameter, 1 + digits));
        }
        let tag = self.run(start + 1, |b| is_word_start(b) || b.is_ascii_digit());
        if self.byte(start + 1 + tag) != b'$' {
            return Ok((TokenKind::Symbol, 1));
        }
        let delimiter = &self.text[start..start + tag + 2];
        let body = start + delimiter.len();
        match self.text[body..].find(delimiter) {
            Some(length) => Ok((TokenKind::String, body + length + delimiter.len() - start)),
            None => Err(self.unended("dollar-quoted string", start)),
        }
    }

    fn number(&self, start: usize) -> usize {
        let mut at = start;
        loop {
            match self.byte(at) {
                b'+' | b'-' if matches!(self.byte(at.wrapping_sub(1)), b'e' | b'E') && at > start => {
                    // A sign only belongs to the number as that of a decimal exponent.
                    if self.byte(start + 1).eq_ignore_ascii_case(&b'x') || !self.byte(at + 1).is_ascii_digit()
                    {
                        return at - start;
                    }
                    at += 1;
                }
                b'.' if self.byte(at + 1) != b'.' => at += 1,
                byte if byte.is_ascii_alphanumeric() || byte == b'_' => at += 1,
                _ => return at - start,
            }
        }
    }

    /// A word, or the string or identifier that a one-letter word or `U&` introduces.
    fn word(&self, start: usize) -> Result<(TokenKind, usize), LexError> {
        let length = self.run(start, |b| is_word_start(b) || b.is_ascii_digit() || b == b'$');
        let after = start + length;
        if length == 1 {
            match (self.bytes[start].to_ascii_lowercase(), self.byte(after), self.byte(after + 1)) {
                (b'e', b'\'', _) => return Ok((TokenKind::String, self.string(start, after, true)?)),
                (b'b' | b'x' | b'n', b'\'', _) => {
                    return Ok((TokenKind::String, self.string(start, after, false)?));
                }
                (b'u', b'&', b'\'') => return Ok((TokenKind::String, self.string(start, after + 1, false)?)),
                (b'u', b'&', b'"') => {
                    return Ok((TokenKind::QuotedIdentifier, self.quoted_identifier(start, after + 1)?));
                }
                _ => {}
            }
        }
        Ok((TokenKind::Word, length))
    }

    /// An operator: up to a comment, and without trailing signs unless it has one of `~!@#%^&|?` or a
    /// backquote (so `=-1` is `=` and `-1`).
    fn operator(&self, start: usize) -> usize {
        let mut length = self.run(start, is_operator);
        let text = &self.text[start..start + length];
        if let Some(comment) = [text.find("--"), text.find("/*")].into_iter().flatten().min() {
            length = comment;
        }
        let is_free = self.bytes[start..start + length].iter().any(|b| b"~!@#%^&|`?".contains(b));
        while !is_free && length > 1 && matches!(self.bytes[start + length - 1], b'+' | b'-') {
            length -= 1;
        }
        length
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Bytes above ASCII are letters, as in PostgreSQL's lexer; so no character is ever cut.
fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_operator(byte: u8) -> bool {
    b"~!@#%^&|`?+-*/<>=".contains(&byte)
}

pub(super) fn line_of(text: &str, offset: usize) -> usize {
    1 + text[..offset].matches('\n').count()
}
