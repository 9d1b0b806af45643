//! Regular expressions in offer constraints.
//!
//! Frameworks write them for RE2. Ours is another engine of the same kind (no backtracking, time linear in the text), so
//! what differs is mended here: `\d`, `\s`, `\w` and `\b` mean ASCII, and the limits on a pattern's size are counted the
//! way RE2 counts, in instructions (`docs/scheduler-http-api.md`, flags `--offer_constraints_re2_max_mem` and
//! `--offer_constraints_re2_max_program_size`). What is not mended: within brackets, `&&`, `--` and `~~` are operators on
//! sets.

use regex_automata::{
    Anchored, Input,
    meta::Regex,
    nfa::thompson::{self, NFA, WhichCaptures},
    util::syntax,
};
use regex_syntax::ast::{self, Ast, Visitor};
use thiserror::Error;

/// Bytes of an RE2 program without its instructions.
const PROGRAM: u64 = 432;
/// Bytes of an instruction of RE2.
const INSTRUCTION: u64 = 8;

/// How costly a pattern may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConstraintLimits {
    /// `--offer_constraints_re2_max_mem`, in bytes.
    pub max_memory: u64,
    /// `--offer_constraints_re2_max_program_size`, in instructions.
    pub max_program_size: u64,
}

impl Default for ConstraintLimits {
    fn default() -> Self {
        Self {
            max_memory: 4096,
            max_program_size: 100,
        }
    }
}

impl ConstraintLimits {
    /// RE2 keeps two thirds of its memory for the program.
    fn max_instructions(&self) -> u64 {
        let program = self.max_memory / 3 * 2;
        program.saturating_sub(PROGRAM) / INSTRUCTION
    }
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It is none.
    #[error("Failed to construct regex from pattern '{pattern}': {error}")]
    Invalid {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        error: String,
    },
    /// Too many instructions.
    #[error(
        "Regex '{pattern}' is too complex: program size of {size} is larger than maximum of {limit} allowed"
    )]
    TooComplex {
        /// What was given.
        pattern: String,
        /// Instructions.
        size: u64,
        /// Instructions allowed.
        limit: u64,
    },
}

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

impl Pattern {
    pub(super) fn new(pattern: &str, limits: &ConstraintLimits) -> Result<Self, PatternError> {
        let invalid = |error: String| PatternError::Invalid {
            pattern: pattern.to_owned(),
            error,
        };
        let too_large = || invalid("pattern too large - compile failed".to_owned());
        let ascii = with_ascii_classes(pattern).map_err(invalid)?;
        // States of the automaton take more bytes than RE2's instructions do; this bound only keeps the compiler from running away.
        let bytes = usize::try_from(limits.max_memory.saturating_mul(64)).unwrap_or(usize::MAX);
        let size = thompson::Compiler::new()
            .configure(
                thompson::Config::new()
                    .nfa_size_limit(Some(bytes))
                    .which_captures(WhichCaptures::All),
            )
            .build(&ascii)
            .map(|nfa: NFA| nfa.states().len() as u64)
            .map_err(|_| too_large())?;
        if size > limits.max_instructions() {
            return Err(too_large());
        }
        if size > limits.max_program_size {
            return Err(PatternError::TooComplex {
                pattern: pattern.to_owned(),
                size,
                limit: limits.max_program_size,
            });
        }
        Regex::builder()
            // Tables that grow with use are not worth their memory here: texts are short.
            .configure(Regex::config().hybrid(false).dfa(false).onepass(false))
            .syntax(syntax::Config::new())
            .build(&format!(r"\A(?:{ascii})\z"))
            .map(Self)
            .map_err(|_| too_large())
    }

    pub(super) fn matches_all_of(&self, text: &str) -> bool {
        self.0.is_match(Input::new(text).anchored(Anchored::Yes))
    }
}

/// The pattern with `\d` and its like spelt out; on an error RE2's words for it, as far as they are known.
fn with_ascii_classes(pattern: &str) -> Result<String, String> {
    let parsed = ast::parse::Parser::new()
        .parse(pattern)
        .map_err(|error| describe(pattern, &error))?;
    let replaced = ast::visit(&parsed, Classes::default()).unwrap_or_default();
    let mut text = String::with_capacity(pattern.len() + 16);
    let mut rest = 0;
    for (start, end, class) in replaced {
        text.push_str(pattern.get(rest..start).unwrap_or_default());
        text.push_str(class);
        rest = end;
    }
    text.push_str(pattern.get(rest..).unwrap_or_default());
    Ok(text)
}

/// Spans to replace, ascending.
#[derive(Default)]
struct Classes(Vec<(usize, usize, &'static str)>);

impl Classes {
    fn class(&mut self, class: &ast::ClassPerl) {
        use ast::ClassPerlKind::{Digit, Space, Word};
        let text = match (&class.kind, class.negated) {
            (Digit, false) => "[0-9]",
            (Digit, true) => "[^0-9]",
            (Space, false) => r"[\t\n\f\r ]",
            (Space, true) => r"[^\t\n\f\r ]",
            (Word, false) => "[0-9A-Za-z_]",
            (Word, true) => "[^0-9A-Za-z_]",
        };
        self.add(&class.span, text);
    }
    fn add(&mut self, span: &ast::Span, text: &'static str) {
        self.0.push((span.start.offset, span.end.offset, text));
    }
}

impl Visitor for Classes {
    type Output = Vec<(usize, usize, &'static str)>;
    type Err = std::convert::Infallible;

    fn finish(mut self) -> Result<Self::Output, Self::Err> {
        self.0.sort_unstable();
        Ok(self.0)
    }
    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::ClassPerl(class) => self.class(class),
            Ast::Assertion(assertion) => match assertion.kind {
                ast::AssertionKind::WordBoundary => self.add(&assertion.span, r"(?-u:\b)"),
                // The complement of an ASCII boundary may lie within a character: told apart in the syntax only.
                ast::AssertionKind::NotWordBoundary => self.add(&assertion.span, r"\B"),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), Self::Err> {
        if let ast::ClassSetItem::Perl(class) = item {
            self.class(class);
        }
        Ok(())
    }
}

fn describe(pattern: &str, error: &ast::Error) -> String {
    use ast::ErrorKind::*;
    let from = pattern.get(error.span().start.offset..).unwrap_or_default();
    let part = pattern
        .get(error.span().start.offset..error.span().end.offset)
        .unwrap_or_default();
    match error.kind() {
        GroupUnclosed => format!("missing ): {pattern}"),
        GroupUnopened => format!("unexpected ): {pattern}"),
        ClassUnclosed => format!("missing ]: {from}"),
        ClassRangeInvalid | ClassRangeLiteral => format!("invalid character class range: {part}"),
        RepetitionMissing => {
            let operator: String = from.chars().take(1).collect();
            format!("no argument for repetition operator: {operator}")
        }
        RepetitionCountInvalid => format!("invalid repetition size: {part}"),
        EscapeUnexpectedEof => "trailing \\ at end of regexp".to_owned(),
        EscapeUnrecognized | UnsupportedBackreference => format!("invalid escape sequence: {part}"),
        FlagUnrecognized | FlagUnexpectedEof | UnsupportedLookAround => {
            format!("invalid perl operator: {part}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern, &ConstraintLimits::default())
            .expect("a pattern")
            .matches_all_of(text)
    }

    fn error(pattern: &str) -> String {
        Pattern::new(pattern, &ConstraintLimits::default())
            .expect_err("no pattern")
            .to_string()
    }

    #[test]
    fn the_whole_text_has_to_match() {
        assert!(matches("a|ab", "ab"));
        assert!(!matches("a", "ab"));
        assert!(!matches("b", "ab"));
        assert!(matches("", ""));
        assert!(matches(r"node-\d+\.(eu|us)", "node-17.eu"));
    }

    #[test]
    fn classes_are_of_ascii_as_in_re2() {
        assert!(!matches(r"\w", "é"));
        assert!(matches(r"\W", "é"));
        assert!(matches(r"[\w-]+", "a-1_"));
        assert!(!matches(r"[\d]", "\u{0663}"));
        assert!(matches(".", "é"));
    }

    #[test]
    fn what_is_no_pattern_is_told_in_the_words_of_re2() {
        assert_eq!(
            error("(a"),
            "Failed to construct regex from pattern '(a': missing ): (a"
        );
        assert_eq!(
            error("[a"),
            "Failed to construct regex from pattern '[a': missing ]: [a"
        );
        assert_eq!(
            error("*"),
            "Failed to construct regex from pattern '*': no argument for repetition operator: *"
        );
    }

    #[test]
    fn costly_patterns_are_refused() {
        assert!(matches("(a+){10}", "aaaaaaaaaaaa"));
        assert!(error("(a+){50}").contains("too complex"));
        assert!(error("(a+){500}").ends_with("pattern too large - compile failed"));
        assert!(error("((a{1000}){1000}){1000}").ends_with("pattern too large - compile failed"));
        // 54 instructions in RE2.
        assert!(matches(
            "192.168.(1[0-9]|3[4-7]|[1-9]|4[2-9]|[1-4][0-9]|5[3-8]|20[4-7]|53[0-5]).1",
            "192.168.204.1"
        ));
    }
}
