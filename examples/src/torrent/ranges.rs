//! Which bytes somebody asks for over HTTP (RFC 9110, section 14).

use std::ops::Range;

/// What is asked for of something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it; or several parts, or in a unit that is not known, and then it is sent whole.
    All,
    /// This part, which is not empty.
    Part(Range<u64>),
    /// What it has not got.
    Beyond,
}

/// What a `Range:` asks for of something that is this long.
pub(crate) fn asked(field: Option<&str>, length: u64) -> Asked {
    let part = field.and_then(|field| field.trim().strip_prefix("bytes="));
    let Some((first, last)) = part.and_then(|part| part.trim().split_once('-')) else { return Asked::All };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(many)) if first.is_empty() => length.saturating_sub(many)..length,
        _ => return Asked::All,
    };
    match range.is_empty() {
        true => Asked::Beyond,
        false => Asked::Part(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_from_and_to_or_from_or_the_last() {
        for (field, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=10-19", 10..20),
            ("bytes=10-", 10..100),
            ("bytes=90-1000", 90..100),
            ("bytes=-30", 70..100),
            ("bytes=-300", 0..100),
            ("bytes=5-18446744073709551615", 5..100),
        ] {
            assert_eq!(asked(Some(field), 100), Asked::Part(range), "{field}");
        }
        for beyond in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(asked(Some(beyond), 100), Asked::Beyond, "{beyond}");
        }
        for whole in
            ["", "bytes", "bytes=", "bytes=-", "bytes=7-6", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b"]
        {
            assert_eq!(asked(Some(whole), 100), Asked::All, "{whole}");
        }
        assert_eq!(asked(None, 100), Asked::All);
        assert_eq!(asked(Some("bytes=0-"), 0), Asked::Beyond);
    }
}
