//! The pieces of a script: what stands between statements, and the statements.
//!
//! A statement ends at a semicolon outside quotes, comments and parentheses, and outside the
//! `BEGIN ATOMIC ... END` body of a routine (psql's rule, `psqlscan.l`). Parentheses are what keeps the several
//! actions of a rule together.

use super::lexer::{LexError, Token, TokenKind, line_of, tokens};

/// A part of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A comment between statements.
    Comment(&'a str),
    /// A line of psql's own, as `\restrict`.
    Meta(&'a str),
    /// A statement without its semicolon, blanks around it trimmed; comments inside are part of it.
    Statement(&'a str),
}

/// What is known of the statement being read.
#[derive(Default)]
struct Statement {
    /// Where it begins and where its last token ends.
    span: Option<(usize, usize)>,
    parentheses: usize,
    /// How many of its first words were seen, and whether they say that it makes a routine.
    words: usize,
    is_create: bool,
    is_routine: bool,
    /// The word before was BEGIN.
    is_after_begin: bool,
    /// Open ATOMIC and CASE.
    body_depth: usize,
}

impl Statement {
    /// Takes in a token that is neither blank nor comment.
    fn push(&mut self, token: &Token<'_>) {
        let start = self.span.map_or(token.offset, |(start, _)| start);
        self.span = Some((start, token.end()));
        let is_after_begin = std::mem::take(&mut self.is_after_begin);
        match token.kind {
            TokenKind::Symbol if token.text == "(" => self.parentheses += 1,
            TokenKind::Symbol if token.text == ")" => self.parentheses = self.parentheses.saturating_sub(1),
            TokenKind::Word if self.body_depth > 0 => {
                if token.is_word("CASE") {
                    self.body_depth += 1;
                } else if token.is_word("END") {
                    self.body_depth -= 1;
                }
            }
            TokenKind::Word => {
                match self.words {
                    0 => self.is_create = token.is_word("CREATE"),
                    1..=3 if self.is_create && (token.is_word("FUNCTION") || token.is_word("PROCEDURE")) => {
                        self.is_routine = true;
                    }
                    _ => {}
                }
                self.words += 1;
                if self.is_routine && self.parentheses == 0 {
                    self.is_after_begin = token.is_word("BEGIN");
                    if is_after_begin && token.is_word("ATOMIC") {
                        self.body_depth = 1;
                    }
                }
            }
            _ => {}
        }
    }

    fn is_ended_by(&self, token: &Token<'_>) -> bool {
        token.is_symbol(";") && self.parentheses == 0 && self.body_depth == 0
    }
}

/// Cuts a script. Empty statements are left out. The last statement must end in a semicolon too.
pub fn pieces(script: &str) -> Result<Vec<Piece<'_>>, LexError> {
    let mut found = Vec::new();
    let mut statement = Statement::default();
    for token in tokens(script)? {
        match token.kind {
            TokenKind::Comment if statement.span.is_none() => found.push(Piece::Comment(token.text)),
            TokenKind::Space | TokenKind::Comment => {}
            TokenKind::Meta if statement.span.is_none() => found.push(Piece::Meta(token.text)),
            _ if statement.is_ended_by(&token) => {
                if let Some((start, end)) = std::mem::take(&mut statement).span {
                    found.push(Piece::Statement(&script[start..end]));
                }
            }
            _ => statement.push(&token),
        }
    }
    match statement.span {
        Some((start, _)) => Err(LexError { what: "statement", line: line_of(script, start) }),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statements(script: &str) -> Vec<&str> {
        pieces(script)
            .expect("the script is whole")
            .into_iter()
            .filter_map(|piece| if let Piece::Statement(text) = piece { Some(text) } else { None })
            .collect()
    }

    /// Statements that are hard to cut, each one statement.
    const HARD: [&str; 14] = [
        "SELECT 'a;''b', E'\\';', U&'\\0041;', B'1', $$;$$, $tag$ $$ ; $tag$",
        "SELECT \"a;\"\"b\", U&\"x;\" /* ; /* nested; */ ; */ -- ; to the line's end\n, 1",
        "CREATE RULE r AS ON INSERT TO v DO INSTEAD ( INSERT INTO a VALUES (1); DELETE FROM b; NOTIFY c;\n)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a THEN CASE b WHEN 1 THEN 2 END END; SELECT 2; END",
        "CREATE OR REPLACE PROCEDURE p(begin atomic) LANGUAGE sql\n BEGIN ATOMIC\n END",
        "CREATE FUNCTION f(begin integer) RETURNS int RETURN CASE WHEN begin > 0 THEN 1 END",
        "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'SELECT 1;'",
        "BEGIN",
        "END",
        "COMMENT ON TABLE a IS '\n--\n-- Name: x; Type: TABLE; Schema: public; Owner: me\n--\n\\restrict x\n'",
        "SELECT a<-1, b$c$d, $1, 1e-5, 0x1F, 1.5, '\n' AS \"\\connect\"",
        "CREATE TABLE \"x\n--\n\\connect; y\" (a int)",
        "SELECT 'a'\n   'b;'",
        "SELECT E'a\\''\n   'b\\';'",
    ];

    #[test]
    fn hard_statements_stay_whole() {
        for text in HARD {
            assert_eq!(statements(&format!("{text};\n")), [text]);
        }
    }

    #[test]
    fn comments_and_lines_of_psql_are_pieces_of_their_own() {
        let script = "--\n-- one\n\\restrict abc\n\nSELECT 1;\n/* two */;\\unrestrict abc\n";
        let expected = LexError { what: "statement", line: 6 };
        assert_eq!(pieces(script), Err(expected), "a backslash within a line is no command of psql");
        let script = "--\n-- one\n\\restrict abc\n\nSELECT 1;\n/* two */;\n\\unrestrict abc\n";
        assert_eq!(
            pieces(script),
            Ok(vec![
                Piece::Comment("--"),
                Piece::Comment("-- one"),
                Piece::Meta("\\restrict abc"),
                Piece::Statement("SELECT 1"),
                Piece::Comment("/* two */"),
                Piece::Meta("\\unrestrict abc"),
            ])
        );
    }

    #[test]
    fn what_does_not_end_is_named_with_its_line() {
        for (script, what, line) in [
            ("SELECT 1;\nSELECT 'x", "string", 2),
            ("SELECT $a$ x $b$;", "dollar-quoted string", 1),
            ("\n\n/* a /* b */", "comment", 3),
            ("SELECT \"x;", "quoted identifier", 1),
            ("SELECT 1;\nSELECT (1;", "statement", 2),
            ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1;", "statement", 1),
        ] {
            assert_eq!(pieces(script), Err(LexError { what, line }), "{script}");
        }
    }

    proptest! {
        #[test]
        fn joined_statements_are_split_again(order in prop::collection::vec(0..HARD.len(), 0..12)) {
            let chosen: Vec<&str> = order.iter().map(|index| HARD[*index]).collect();
            let script: String = chosen.iter().flat_map(|text| [text, ";\n\n"]).collect();
            prop_assert_eq!(statements(&script), chosen);
        }

        #[test]
        fn tokens_joined_are_the_text(text in "[-a-zE'\"$;()/*\\\\\n .0-9+ß&U:]{0,60}|\\PC{0,40}") {
            if let Ok(found) = tokens(&text) {
                let joined: String = found.iter().map(|token| token.text).collect();
                prop_assert_eq!(joined, text.clone());
            }
            let _ = pieces(&text);
        }
    }
}
