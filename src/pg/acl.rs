//! Privileges as PostgreSQL prints them: `reader=r*w/owner` (documentation, "Privileges", table of
//! abbreviations).

use super::quote_identifier;

/// One `aclitem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclItem {
    /// The role that may; `None` is PUBLIC.
    pub grantee: Option<String>,
    /// The letters of its privileges, and whether each may be granted on.
    pub privileges: Vec<(char, bool)>,
}

impl AclItem {
    /// Reads an `aclitem`'s text; `None` if it is none.
    pub fn parse(text: &str) -> Option<AclItem> {
        let (grantee, rest) = if let Some(quoted) = text.strip_prefix('"') {
            // A quote within a quoted name is doubled.
            let end = quoted.match_indices('"').map(|(at, _)| at).find(|&at| {
                let run = quoted[at..].bytes().take_while(|byte| *byte == b'"').count();
                run % 2 == 1 && !quoted[..at].ends_with('"') && quoted[at + run..].starts_with('=')
            })?;
            let run = quoted[end..].bytes().take_while(|byte| *byte == b'"').count();
            (quoted[..end + run - 1].replace("\"\"", "\""), &quoted[end + run..])
        } else {
            let at = text.find('=')?;
            (text[..at].to_owned(), &text[at..])
        };
        let (letters, _grantor) = rest.strip_prefix('=')?.split_once('/')?;
        let mut privileges: Vec<(char, bool)> = Vec::new();
        for letter in letters.chars() {
            match letter {
                '*' => privileges.last_mut()?.1 = true,
                letter if letter.is_ascii_alphabetic() => privileges.push((letter, false)),
                _ => return None,
            }
        }
        Some(AclItem { grantee: (!grantee.is_empty()).then_some(grantee), privileges })
    }

    /// The GRANT statements that give these privileges on `object` (`LARGE OBJECT 7`), as far as `names` knows
    /// the letters.
    pub fn grants(&self, object: &str, names: &[(char, &str)]) -> Vec<String> {
        let grantee = self.grantee.as_deref().map_or_else(|| "PUBLIC".to_owned(), quote_identifier);
        self.privileges
            .iter()
            .filter_map(|(letter, is_grantable)| {
                let name = names.iter().find(|(known, _)| known == letter)?.1;
                let option = if *is_grantable { " WITH GRANT OPTION" } else { "" };
                Some(format!("GRANT {name} ON {object} TO {grantee}{option}"))
            })
            .collect()
    }
}

/// Privileges on large objects.
pub const LARGE_OBJECT: &[(char, &str)] = &[('r', "SELECT"), ('w', "UPDATE")];

/// Privileges on databases.
pub const DATABASE: &[(char, &str)] = &[('C', "CREATE"), ('T', "TEMPORARY"), ('c', "CONNECT")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_read() {
        let item = |text| AclItem::parse(text).map(|item| (item.grantee, item.privileges));
        assert_eq!(item("reader=r*w/owner"), Some((Some("reader".into()), vec![('r', true), ('w', false)])));
        assert_eq!(item("=Tc/owner"), Some((None, vec![('T', false), ('c', false)])));
        assert_eq!(
            item(r#""my ""odd""=role"=r/owner"#),
            Some((Some(r#"my "odd"=role"#.into()), vec![('r', false)]))
        );
        assert_eq!(item("nonsense"), None);
        assert_eq!(item("a=*/b"), None);
    }

    #[test]
    fn grants_name_privilege_object_and_role() {
        let item = AclItem::parse("reader=r*w/owner").expect("an item");
        assert_eq!(
            item.grants("LARGE OBJECT 7", LARGE_OBJECT),
            [
                "GRANT SELECT ON LARGE OBJECT 7 TO \"reader\" WITH GRANT OPTION",
                "GRANT UPDATE ON LARGE OBJECT 7 TO \"reader\""
            ]
        );
    }
}
