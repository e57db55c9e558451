//! The part of Python's literals that an NPY header is written in: a dictionary of strings, whole numbers, booleans, tuples
//! and lists.

/// A parsed literal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Str(String),
    Int(usize),
    Bool(bool),
    /// A tuple or a list.
    Seq(Vec<Literal>),
    Dict(Vec<(Literal, Literal)>),
}

/// Headers nest four levels deep; the bound keeps hostile ones off the stack.
const MAX_DEPTH: usize = 8;

impl Literal {
    /// Parses one literal that fills the text, blanks around it aside. On failure the byte at which it went wrong.
    pub fn parse(text: &str) -> Result<Self, usize> {
        let mut parser = Parser { text, at: 0 };
        let literal = parser.literal(0).ok_or(parser.at)?;
        parser.blanks();
        if parser.at == text.len() { Ok(literal) } else { Err(parser.at) }
    }

    /// The value of a key of a dictionary.
    pub fn get(&self, key: &str) -> Option<&Literal> {
        let Self::Dict(entries) = self else { return None };
        entries.iter().find(|(k, _)| matches!(k, Self::Str(s) if s == key)).map(|(_, value)| value)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn literal(&mut self, depth: usize) -> Option<Literal> {
        if depth >= MAX_DEPTH {
            return None;
        }
        self.blanks();
        match self.rest().chars().next()? {
            quote @ ('\'' | '"') => self.string(quote),
            '(' => self.sequence('(', ')', depth),
            '[' => self.sequence('[', ']', depth),
            '{' => self.dictionary(depth),
            '0'..='9' => self.number(),
            _ if self.eat("True") => Some(Literal::Bool(true)),
            _ if self.eat("False") => Some(Literal::Bool(false)),
            _ => None,
        }
    }

    fn string(&mut self, quote: char) -> Option<Literal> {
        self.at += 1;
        let end = self.rest().find(quote)?;
        let text = &self.rest()[..end];
        // Escapes appear only in exotic field names; misreading one would be worse than refusing it.
        if text.contains('\\') {
            return None;
        }
        let literal = Literal::Str(text.to_owned());
        self.at += end + 1;
        Some(literal)
    }

    fn number(&mut self) -> Option<Literal> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..end].parse().ok()?;
        self.at += end;
        // Python 2 marks its long integers.
        self.eat("L");
        Some(Literal::Int(number))
    }

    fn sequence(&mut self, open: char, close: char, depth: usize) -> Option<Literal> {
        let mut items = Vec::new();
        self.eat(open.encode_utf8(&mut [0; 4]));
        let close = close.to_string();
        loop {
            self.blanks();
            if self.eat(&close) {
                return Some(Literal::Seq(items));
            }
            items.push(self.literal(depth + 1)?);
            self.separator(&close)?;
        }
    }

    fn dictionary(&mut self, depth: usize) -> Option<Literal> {
        let mut entries = Vec::new();
        self.eat("{");
        loop {
            self.blanks();
            if self.eat("}") {
                return Some(Literal::Dict(entries));
            }
            let key = self.literal(depth + 1)?;
            self.blanks();
            if !self.eat(":") {
                return None;
            }
            entries.push((key, self.literal(depth + 1)?));
            self.separator("}")?;
        }
    }

    /// After an item: a comma, or the closing bracket, which is left where it is.
    fn separator(&mut self, close: &str) -> Option<()> {
        self.blanks();
        (self.eat(",") || self.rest().starts_with(close)).then_some(())
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Literal::*;

    #[test]
    fn a_header_as_numpy_writes_it() {
        let header =
            Literal::parse("{'descr': [('x', '<f4'), ('n', '<f4', (3,))], 'fortran_order': False, 'shape': (7L, 2), }   \n").unwrap();
        assert_eq!(header.get("fortran_order"), Some(&Bool(false)));
        assert_eq!(header.get("shape"), Some(&Seq(vec![Int(7), Int(2)])));
        let x = Seq(vec![Str("x".into()), Str("<f4".into())]);
        let n = Seq(vec![Str("n".into()), Str("<f4".into()), Seq(vec![Int(3)])]);
        assert_eq!(header.get("descr"), Some(&Seq(vec![x, n])));
    }

    #[test]
    fn anything_else_is_refused() {
        let deep = "[".repeat(100_000);
        for text in
            ["", "{", "{'a' 1}", "(1 2)", "'a", "1 1", "99999999999999999999999", "-1", "__import__('os')", r"'\x41'", deep.as_str()]
        {
            assert!(Literal::parse(text).is_err(), "{text:.20}");
        }
    }
}
