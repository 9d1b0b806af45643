//! Rust source with everything that is not code blanked out, so that a rule about code cannot trip over a comment or a string.

/// The source with comments and the insides of string and character literals replaced by spaces. Length and line
/// numbers stay the same.
pub(crate) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if !follows_a_word(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            b'\'' => match character_end(bytes, at) {
                Some(end) => end,
                None => {
                    at += 1;
                    continue;
                }
            },
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn follows_a_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |offset| at + offset)
}

/// Block comments nest in Rust.
fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"…"`, `r#"…"#`, `br#"…"#`, `b"…"`, `c"…"`: the end, or none when this is only a name that starts with such a letter.
fn raw_string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while at < bytes.len() && at - start < 2 && matches!(bytes[at], b'r' | b'b' | b'c') {
        at += 1;
    }
    let raw = bytes[start..at].contains(&b'r');
    let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + hashes) != Some(&b'"') || (!raw && hashes > 0) {
        return None;
    }
    if !raw {
        return Some(string_end(bytes, at));
    }
    let closing: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let body = at + hashes + 1;
    let offset = bytes[body..]
        .windows(closing.len())
        .position(|window| window == closing)?;
    Some(body + offset + closing.len())
}

/// The end of a character literal, or none when the quote begins a lifetime.
fn character_end(bytes: &[u8], start: usize) -> Option<usize> {
    if bytes.get(start + 1) == Some(&b'\\') {
        let offset = bytes[start + 3..].iter().position(|byte| *byte == b'\'')?;
        return Some(start + 3 + offset + 1);
    }
    let width = std::str::from_utf8(&bytes[start + 1..bytes.len().min(start + 5)])
        .or_else(|error| std::str::from_utf8(&bytes[start + 1..start + 1 + error.valid_up_to()]))
        .ok()
        .and_then(|text| text.chars().next())?
        .len_utf8();
    (bytes.get(start + 1 + width) == Some(&b'\'')).then_some(start + width + 2)
}

/// Words and single punctuation characters, with the line each is on.
pub(crate) fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else {
                first.len_utf8()
            };
            tokens.push((number + 1, &rest[..length]));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        let source = "let a = \"todo!() // \\\" x\"; // todo!()\n/* a /* b */ dbg!() */ let c = 'x'; let l: &'a str;\n";
        let code = code_only(source);
        assert_eq!(code.len(), source.len());
        assert_eq!(code.lines().count(), 2);
        assert!(!code.contains("todo") && !code.contains("dbg"), "{code}");
        assert!(
            code.contains("let c =") && code.contains("&'a str"),
            "{code}"
        );
    }

    #[test]
    fn raw_strings_end_where_their_hashes_say() {
        let code = code_only(
            "let a = r#\"x \" sleep() \"#; let b = br\"\\\"; call(b\"y\", c\"z\"); rest();",
        );
        assert!(!code.contains("sleep"), "{code}");
        assert!(code.contains("call(") && code.contains("rest();"), "{code}");
    }

    #[test]
    fn quotes_and_backslashes_as_characters_do_not_open_strings() {
        let code =
            code_only("match c { '\"' => a(), '\\'' => b(), '\\\\' => c(), 'é' => d(), _ => e() }");
        for call in ["a()", "b()", "c()", "d()", "e()"] {
            assert!(code.contains(call), "{call}: {code}");
        }
    }

    #[test]
    fn tokens_carry_their_lines() {
        assert_eq!(
            tokens("mod a;\n  x::y"),
            [
                (1, "mod"),
                (1, "a"),
                (1, ";"),
                (2, "x"),
                (2, ":"),
                (2, ":"),
                (2, "y")
            ]
        );
    }
}
