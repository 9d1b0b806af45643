//! Values of resources and attributes: scalars, ranges, sets and texts, and their text form.
//!
//! Ranges are kept coalesced and sorted, sets sorted, so that equal values look equal and every
//! operation is one pass. Follows `src/common/values.cpp`.

use crate::number::{parse_natural, parse_real};
use std::{fmt, sync::Arc};
use tepui_protocol::v1;
use thiserror::Error;

/// Numbers from `begin` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Range {
    /// First.
    pub begin: u64,
    /// Last.
    pub end: u64,
}

/// Sorted ranges with a gap between any two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Ranges(Arc<[Range]>);

impl Ranges {
    /// Sorts and joins; inverted ranges hold nothing and are dropped.
    pub fn new(mut ranges: Vec<Range>) -> Self {
        ranges.retain(|r| r.begin <= r.end);
        ranges.sort_unstable();
        let mut joined: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(last) if range.begin <= last.end.saturating_add(1) => {
                    last.end = last.end.max(range.end)
                }
                _ => joined.push(range),
            }
        }
        Self(joined.into())
    }
    /// The ranges, ascending.
    pub fn as_slice(&self) -> &[Range] {
        &self.0
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// How many numbers they hold (saturating).
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |n, r| {
            n.saturating_add((r.end - r.begin).saturating_add(1))
        })
    }
    /// Whether every number of `other` is in `self`.
    pub fn contains(&self, other: &Self) -> bool {
        let mut own = self.0.iter().peekable();
        other.0.iter().all(|wanted| {
            while own.next_if(|r| r.end < wanted.begin).is_some() {}
            own.peek()
                .is_some_and(|r| r.begin <= wanted.begin && wanted.end <= r.end)
        })
    }
    /// Both.
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.0.iter().chain(other.0.iter()).copied().collect())
    }
    /// The numbers of `self` that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len() + other.0.len());
        let mut cuts = other.0.iter().peekable();
        for range in self.0.iter() {
            let mut begin = range.begin;
            let mut open = true;
            while cuts.next_if(|cut| cut.end < begin).is_some() {}
            while let Some(cut) = cuts.peek().filter(|cut| cut.begin <= range.end) {
                if cut.begin > begin {
                    left.push(Range {
                        begin,
                        end: cut.begin - 1,
                    });
                }
                if cut.end >= range.end {
                    // It may reach into the next range too: leave it in place.
                    open = false;
                    break;
                }
                begin = cut.end + 1;
                cuts.next();
            }
            if open {
                left.push(Range {
                    begin,
                    end: range.end,
                });
            }
        }
        Self(left.into())
    }
    /// As they stand on the wire.
    pub fn to_proto(&self) -> v1::value::Ranges {
        let range = self
            .0
            .iter()
            .map(|r| v1::value::Range {
                begin: r.begin,
                end: r.end,
            })
            .collect();
        v1::value::Ranges { range }
    }
}

impl From<&v1::value::Ranges> for Ranges {
    fn from(ranges: &v1::value::Ranges) -> Self {
        Self::new(
            ranges
                .range
                .iter()
                .map(|r| Range {
                    begin: r.begin,
                    end: r.end,
                })
                .collect(),
        )
    }
}

/// `[4000-5000, 7000-8000]`
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}-{}", range.begin, range.end)?;
        }
        f.write_str("]")
    }
}

/// Distinct texts, sorted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Set(Arc<[Arc<str>]>);

impl Set {
    /// Sorts and drops duplicates.
    pub fn new(mut items: Vec<Arc<str>>) -> Self {
        items.sort_unstable();
        items.dedup();
        Self(items.into())
    }
    /// The items, ascending.
    pub fn as_slice(&self) -> &[Arc<str>] {
        &self.0
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether every item of `other` is in `self`.
    pub fn contains(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|item| self.0.binary_search(item).is_ok())
    }
    /// Both.
    pub fn union(&self, other: &Self) -> Self {
        Self::new(self.0.iter().chain(other.0.iter()).cloned().collect())
    }
    /// The items of `self` that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        Self(
            self.0
                .iter()
                .filter(|item| other.0.binary_search(item).is_err())
                .cloned()
                .collect(),
        )
    }
    /// As it stands on the wire.
    pub fn to_proto(&self) -> v1::value::Set {
        v1::value::Set {
            item: self.0.iter().map(|item| item.as_ref().to_owned()).collect(),
        }
    }
}

impl From<&v1::value::Set> for Set {
    fn from(set: &v1::value::Set) -> Self {
        Self::new(set.item.iter().map(|item| item.as_str().into()).collect())
    }
}

/// `{a, b}`
impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0.join(", "))
    }
}

/// What a text turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `2.5`
    Scalar(f64),
    /// `[1-4]`
    Ranges(Ranges),
    /// `{a,b}`; duplicates are kept for whoever validates.
    Set(Vec<String>),
    /// Anything else.
    Text(String),
}

impl Value {
    /// Name of the type on the wire.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "SCALAR",
            Self::Ranges(_) => "RANGES",
            Self::Set(_) => "SET",
            Self::Text(_) => "TEXT",
        }
    }
}

/// Why a text is no value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum ValueError {
    #[error("Expecting non-empty string")]
    Empty,
    #[error("Mismatched brackets")]
    Brackets,
    #[error("Expecting one or more \"ranges\"")]
    Ranges,
    #[error("Expecting non-negative integers in '{0}'")]
    Number(String),
    #[error("Subnormal values not supported")]
    Subnormal,
    #[error("Unexpected '{0}' found")]
    Unexpected(char),
}

/// Reads a value and infers its type from its shape. Spaces do not count.
pub fn parse(text: &str) -> Result<Value, ValueError> {
    let text: String = text.chars().filter(|c| *c != ' ').collect();
    if text.is_empty() {
        return Err(ValueError::Empty);
    }
    if !['{', '[', '(']
        .into_iter()
        .zip(['}', ']', ')'])
        .all(|(open, close)| brackets_match(&text, open, close))
    {
        return Err(ValueError::Brackets);
    }
    match (text.find('['), text.find('{')) {
        (Some(0), _) => parse_ranges(&text).map(Value::Ranges),
        (Some(_), _) => Err(ValueError::Unexpected('[')),
        (None, Some(0)) => Ok(Value::Set(
            tokens(&text, "{},\n").map(str::to_owned).collect(),
        )),
        (None, Some(_)) => Err(ValueError::Unexpected('{')),
        (None, None) => match parse_real(&text) {
            Some(number) if number.is_subnormal() => Err(ValueError::Subnormal),
            Some(number) if number.is_finite() && number >= 0.0 => Ok(Value::Scalar(number)),
            _ => Ok(Value::Text(text)),
        },
    }
}

fn parse_ranges(text: &str) -> Result<Ranges, ValueError> {
    let numbers: Vec<&str> = tokens(text, "[]-,\n").collect();
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ValueError::Ranges);
    }
    let range = |[begin, end]: &[&str; 2]| {
        let bad = || ValueError::Number((*begin).to_owned());
        Ok(Range {
            begin: parse_natural(begin).ok_or_else(bad)?,
            end: parse_natural(end).ok_or_else(bad)?,
        })
    };
    Ok(Ranges::new(
        pairs.iter().map(range).collect::<Result<_, ValueError>>()?,
    ))
}

/// Non-empty pieces between any of `separators`.
pub(crate) fn tokens<'a>(text: &'a str, separators: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(move |c| separators.contains(c))
        .filter(|token| !token.is_empty())
}

fn brackets_match(text: &str, open: char, close: char) -> bool {
    let mut depth = 0usize;
    for c in text.chars() {
        if c == open {
            depth += 1;
        } else if c == close {
            match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            }
        }
    }
    depth == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &str) -> Ranges {
        match parse(text).unwrap() {
            Value::Ranges(ranges) => ranges,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ranges_are_joined() {
        assert_eq!(ranges("[7-8, 1-3, 4-5, 2-2]").to_string(), "[1-5, 7-8]");
        assert_eq!(
            Ranges::new(vec![Range {
                begin: u64::MAX,
                end: u64::MAX
            }])
            .count(),
            1
        );
        assert_eq!(
            Ranges::new(vec![Range {
                begin: 0,
                end: u64::MAX
            }])
            .count(),
            u64::MAX
        );
        assert!(ranges("[5-1]").is_empty());
    }

    #[test]
    fn ranges_are_cut() {
        for (left, right, rest) in [
            ("[1-10]", "[3-4]", "[1-2, 5-10]"),
            ("[1-10]", "[1-10]", "[]"),
            ("[1-10, 20-30]", "[5-25]", "[1-4, 26-30]"),
            ("[1-10, 20-30]", "[0-40]", "[]"),
            ("[1-10]", "[11-12]", "[1-10]"),
            (
                "[1-10, 20-30, 40-50]",
                "[2-2, 4-4, 45-99]",
                "[1-1, 3-3, 5-10, 20-30, 40-44]",
            ),
        ] {
            assert_eq!(
                ranges(left).difference(&ranges(right)).to_string(),
                rest,
                "{left} - {right}"
            );
        }
        assert!(ranges("[1-10, 20-30]").contains(&ranges("[2-3, 5-6, 20-30]")));
        assert!(!ranges("[1-10, 20-30]").contains(&ranges("[9-21]")));
    }

    #[test]
    fn the_shape_of_a_text_gives_its_type() {
        assert_eq!(parse("2.5"), Ok(Value::Scalar(2.5)));
        assert_eq!(parse(" 0x10 "), Ok(Value::Scalar(16.0)));
        assert_eq!(parse("-1"), Ok(Value::Text("-1".into())));
        assert_eq!(parse("inf"), Ok(Value::Text("inf".into())));
        assert_eq!(parse("rack 1"), Ok(Value::Text("rack1".into())));
        assert_eq!(
            parse("{a, b}"),
            Ok(Value::Set(vec!["a".into(), "b".into()]))
        );
        for (text, error) in [
            (" ", "Expecting non-empty string"),
            ("[1-2", "Mismatched brackets"),
            ("[1-2,3]", "Expecting one or more \"ranges\""),
            ("[a-b]", "Expecting non-negative integers in 'a'"),
            ("x[1-2]", "Unexpected '[' found"),
            ("x{1}", "Unexpected '{' found"),
            ("1e-310", "Subnormal values not supported"),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), error);
        }
    }
}
