//! JSON text to values, with the errors of the parser that the reference uses: they quote the rest
//! of the line from where it gave up, and clients see them (`JSON::parse` in
//! `3rdparty/stout/include/stout/json.hpp`).

use serde_json::{Map, Number, Value};

/// How deep arrays and objects may nest.
const MAX_DEPTH: usize = 200;

const WHITESPACE: &[u8] = b" \t\n\r";

/// Parses a whole document.
pub(super) fn document(text: &[u8]) -> Result<Value, String> {
    let mut parser = Parser {
        text,
        at: 0,
        consumed: 0,
    };
    let value = match parser.value(MAX_DEPTH) {
        Ok(value) => value,
        Err(Stop::Syntax) => return Err(parser.syntax_error()),
        Err(Stop::OutOfRange) => return Err("Value out of range".to_owned()),
    };
    let visible = text
        .iter()
        .rposition(|byte| !WHITESPACE.contains(byte))
        .map_or(0, |at| at + 1);
    if parser.at < visible {
        let trailing = String::from_utf8_lossy(&text[parser.at..visible]);
        return Err(format!(
            "Parsed JSON included non-whitespace trailing characters: {trailing}"
        ));
    }
    Ok(value)
}

enum Stop {
    Syntax,
    OutOfRange,
}

struct Parser<'a> {
    text: &'a [u8],
    /// Next byte to read.
    at: usize,
    /// How far it ever read, which is what its line numbers count.
    consumed: usize,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        self.skip_whitespace();
        match self.take() {
            Some(b'n') => self.word(b"ull", Value::Null),
            Some(b'f') => self.word(b"alse", Value::Bool(false)),
            Some(b't') => self.word(b"rue", Value::Bool(true)),
            Some(b'"') => self.string().map(Value::String),
            Some(b'[') => self.array(depth),
            Some(b'{') => self.object(depth),
            Some(b'0'..=b'9' | b'-') => {
                self.at -= 1;
                self.number()
            }
            Some(_) => {
                self.at -= 1;
                Err(Stop::Syntax)
            }
            None => Err(Stop::Syntax),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, Stop> {
        let depth = depth.checked_sub(1).ok_or(Stop::Syntax)?;
        let mut items = Vec::new();
        if self.accept(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth)?);
            if !self.accept(b',') {
                break;
            }
        }
        self.expect(b']')?;
        Ok(Value::Array(items))
    }

    fn object(&mut self, depth: usize) -> Result<Value, Stop> {
        let depth = depth.checked_sub(1).ok_or(Stop::Syntax)?;
        let mut fields = Map::new();
        if self.accept(b'}') {
            return Ok(Value::Object(fields));
        }
        loop {
            self.expect(b'"')?;
            let key = self.string()?;
            self.expect(b':')?;
            let value = self.value(depth)?;
            fields.insert(key, value);
            if !self.accept(b',') {
                break;
            }
        }
        self.expect(b'}')?;
        Ok(Value::Object(fields))
    }

    fn word(&mut self, rest: &[u8], value: Value) -> Result<Value, Stop> {
        for expected in rest {
            if self.take_if(|byte| byte == *expected).is_none() {
                return Err(Stop::Syntax);
            }
        }
        Ok(value)
    }

    /// Integers stay exact where 64 bits hold them; everything else is a double. Signs, points and
    /// leading zeros are taken as C does.
    fn number(&mut self) -> Result<Value, Stop> {
        let start = self.at;
        while self
            .take_if(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'e' | b'E' | b'.'))
            .is_some()
        {}
        let text = std::str::from_utf8(&self.text[start..self.at]).map_err(|_| Stop::Syntax)?;
        if let Ok(value) = text.parse::<i64>() {
            return Ok(Value::Number(value.into()));
        }
        if let Ok(value) = text.parse::<u64>() {
            return Ok(Value::Number(value.into()));
        }
        let value: f64 = text.parse().map_err(|_| Stop::Syntax)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or(Stop::OutOfRange)
    }

    /// The rest of a string after its opening quote.
    fn string(&mut self) -> Result<String, Stop> {
        let mut bytes = Vec::new();
        loop {
            let run = self.text[self.at..]
                .iter()
                .position(|byte| matches!(byte, 0..b' ' | b'"' | b'\\'))
                .unwrap_or(self.text.len() - self.at);
            bytes.extend_from_slice(&self.text[self.at..self.at + run]);
            self.at += run;
            self.consumed = self.consumed.max(self.at);
            match self.take_if(|byte| byte >= b' ') {
                Some(b'"') => break,
                Some(_) => self.escape(&mut bytes)?,
                None => return Err(Stop::Syntax),
            }
        }
        // Our strings are UTF-8; bytes that are not are refused where the string ends.
        String::from_utf8(bytes).map_err(|_| Stop::Syntax)
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Stop> {
        bytes.push(match self.take().ok_or(Stop::Syntax)? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.code_point()?;
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(Stop::Syntax),
        });
        Ok(())
    }

    fn code_point(&mut self) -> Result<char, Stop> {
        let first = self.four_hex()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            for expected in *b"\\u" {
                self.take_if(|byte| byte == expected).ok_or(Stop::Syntax)?;
            }
            let second = self.four_hex()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(Stop::Syntax);
            }
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or(Stop::Syntax)
    }

    fn four_hex(&mut self) -> Result<u32, Stop> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self
                .take_if(|byte| byte.is_ascii_hexdigit())
                .ok_or(Stop::Syntax)?;
            value = value * 16 + char::from(digit).to_digit(16).unwrap_or(0);
        }
        Ok(value)
    }

    fn skip_whitespace(&mut self) {
        while self.take_if(|byte| WHITESPACE.contains(&byte)).is_some() {}
    }

    fn accept(&mut self, expected: u8) -> bool {
        self.skip_whitespace();
        self.take_if(|byte| byte == expected).is_some()
    }

    fn expect(&mut self, expected: u8) -> Result<(), Stop> {
        if self.accept(expected) {
            Ok(())
        } else {
            Err(Stop::Syntax)
        }
    }

    fn take(&mut self) -> Option<u8> {
        self.take_if(|_| true)
    }

    fn take_if(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.consumed = self.consumed.max(self.at + 1);
        wanted(byte).then(|| {
            self.at += 1;
            byte
        })
    }

    fn syntax_error(&self) -> String {
        let read = &self.text[..self.consumed.saturating_sub(1)];
        let line = 1 + memchr::memchr_iter(b'\n', read).count();
        let rest = &self.text[self.at..];
        let rest = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
        let near: Vec<u8> = rest.iter().copied().filter(|byte| *byte >= b' ').collect();
        format!(
            "syntax error at line {line} near: {}",
            String::from_utf8_lossy(&near)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_read_as_the_reference_reads_them() {
        for (text, expected) in [
            (
                " {\"a\" : [1, -2, 0.5, true, false, null] }\n",
                json!({"a": [1, -2, 0.5, true, false, null]}),
            ),
            ("[]", json!([])),
            ("{}", json!({})),
            ("007", json!(7)),
            ("1.", json!(1.0)),
            ("-.5e1", json!(-5.0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
            (r#""\u0041\n\/\ud83d\ude00\u0000""#, json!("A\n/😀\0")),
            (r#"{"a": {"b": 1}, "a": 2}"#, json!({"a": 2})),
        ] {
            assert_eq!(document(text.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn errors_quote_the_rest_of_the_line() {
        for (text, expected) in [
            ("", "syntax error at line 1 near: "),
            ("{", "syntax error at line 1 near: "),
            ("{\"a\": x, 1}\nmore", "syntax error at line 1 near: x, 1}"),
            (
                "{\n\"a\": 1\n \"b\": 2}",
                "syntax error at line 3 near: \"b\": 2}",
            ),
            ("nul", "syntax error at line 1 near: "),
            ("nuxl", "syntax error at line 1 near: xl"),
            ("[1, 2", "syntax error at line 1 near: "),
            ("\"\\ud800x\"", "syntax error at line 1 near: x\""),
            ("\"\\udc00x\"", "syntax error at line 1 near: x\""),
            ("1e999", "Value out of range"),
            (
                "{} x ",
                "Parsed JSON included non-whitespace trailing characters:  x",
            ),
        ] {
            assert_eq!(
                document(text.as_bytes()),
                Err(expected.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(document(&nested(MAX_DEPTH)).is_ok());
        assert!(document(&nested(MAX_DEPTH + 1)).is_err());
        assert!(document(&vec![b'['; 1_000_000]).is_err());
    }
}
