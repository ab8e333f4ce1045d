//! Golden: `try_to_timestamp` and `date_format` of Spark 4.3.

use super::*;

fn compile(pattern: &str) -> DateTimePattern {
    DateTimePattern::compile(pattern).unwrap_or_else(|e| panic!("{e}"))
}

fn micros(text: &str) -> i64 {
    text.parse::<NaiveDateTime>().expect("a timestamp").and_utc().timestamp_micros()
}

#[test]
fn reading() {
    for (text, pattern, expected) in [
        ("2024-01-02 3:4", "yyyy-MM-dd H:m", Some("2024-01-02T03:04:00")),
        ("20240102030405", "yyyyMMddHHmmss", Some("2024-01-02T03:04:05")),
        ("02012024", "ddMMyyyy", Some("2024-01-02T00:00:00")),
        ("2024-01-02 03:04:05.12", "yyyy-MM-dd HH:mm:ss.SSS", Some("2024-01-02T03:04:05.12")),
        ("2024-01-02 03:04:05.1234", "yyyy-MM-dd HH:mm:ss.SSS", None),
        ("2024-01-02T03:04:05.123456789Z", "yyyy-MM-dd'T'HH:mm:ss.SSSSSSSSSX", Some("2024-01-02T03:04:05.123456")),
        ("2024-01-02 03 pm", "yyyy-MM-dd hh a", Some("2024-01-02T15:00:00")),
        ("2024-01-02 12 AM", "yyyy-MM-dd hh a", Some("2024-01-02T00:00:00")),
        ("2024-01-02 13 PM", "yyyy-MM-dd hh a", None),
        ("2024-01-02 13 AM", "yyyy-MM-dd HH a", None),
        ("2024-01-02 00 PM", "yyyy-MM-dd KK a", Some("2024-01-02T12:00:00")),
        ("2024-01-02 03", "yyyy-MM-dd hh", Some("2024-01-02T03:00:00")),
        ("2024-01-02 PM", "yyyy-MM-dd a", Some("2024-01-02T12:00:00")),
        ("2024-01-02 24", "yyyy-MM-dd kk", Some("2024-01-02T00:00:00")),
        ("02 JAN 2024", "dd MMM yyyy", Some("2024-01-02T00:00:00")),
        ("January 2 2024", "MMMM d yyyy", Some("2024-01-02T00:00:00")),
        ("Tue 02 Jan 2024", "E dd MMM yyyy", None),
        ("2024-01-02T03:04:05+01:00", "yyyy-MM-dd'T'HH:mm:ssXXX", Some("2024-01-02T02:04:05")),
        ("2024-01-02T03:04:05Z", "yyyy-MM-dd'T'HH:mm:ssXXX", Some("2024-01-02T03:04:05")),
        ("2024-01-02T03:04:05+0100", "yyyy-MM-dd'T'HH:mm:ssZ", Some("2024-01-02T02:04:05")),
        ("2024-01-02 03:04:05+01", "yyyy-MM-dd HH:mm:ssx", Some("2024-01-02T02:04:05")),
        ("2024-01-02 03:04:05GMT+1", "yyyy-MM-dd HH:mm:ssO", Some("2024-01-02T02:04:05")),
        ("2024-01-02 Europe/Berlin", "yyyy-MM-dd VV", Some("2024-01-01T23:00:00")),
        ("2024-01-02 UTC+01:00", "yyyy-MM-dd VV", Some("2024-01-01T23:00:00")),
        ("2024-01-02 PST", "yyyy-MM-dd z", Some("2024-01-02T08:00:00")),
        ("2024-01-02 utc", "yyyy-MM-dd z", Some("2024-01-02T00:00:00")),
        ("2024-01-02", "yyyy-MM-dd[ HH:mm]", Some("2024-01-02T00:00:00")),
        ("2024-01-02 03:04", "yyyy-MM-dd[ HH:mm]", Some("2024-01-02T03:04:00")),
        ("99-01-02", "yy-MM-dd", Some("2099-01-02T00:00:00")),
        ("03:04", "HH:mm", Some("1970-01-01T03:04:00")),
        ("2024 060", "yyyy DDD", Some("2024-02-29T00:00:00")),
        ("2024 1", "yyyy D", Some("2024-01-01T00:00:00")),
        ("2023 366", "yyyy DDD", None),
        ("2024-02-30", "yyyy-MM-dd", None),
        ("12024-01-02", "yyyy-MM-dd", None),
        ("+12024-01-02", "yyyy-MM-dd", Some("+12024-01-02T00:00:00")),
        ("-2024-01-02", "yyyy-MM-dd", Some("-2024-01-02T00:00:00")),
        ("0000-01-01", "yyyy-MM-dd", Some("0000-01-01T00:00:00")),
        ("2024-1-2", "y-M-d", Some("2024-01-02T00:00:00")),
        ("2024-01-02 AD", "yyyy-MM-dd G", Some("2024-01-02T00:00:00")),
        ("44-01-02 BC", "y-MM-dd G", Some("-0043-01-02T00:00:00")),
        ("it's 2024", "'it''s' yyyy", Some("2024-01-01T00:00:00")),
        (" 2024-01-02", "yyyy-MM-dd", None),
        ("2024-01-02 ", "yyyy-MM-dd", None),
        ("2024-01-02 03:04:60", "yyyy-MM-dd HH:mm:ss", None),
        ("2024-01-02é", "yyyy-MM-ddX", None),
    ] {
        assert_eq!(compile(pattern).parse(text, Tz::UTC), expected.map(micros), "{text} by {pattern}");
    }
    let pattern = compile("dd/MM/yyyy HH:mm");
    assert_eq!(pattern.parse("02/01/2024 03:04", Tz::Europe__Berlin), Some(micros("2024-01-02T02:04:00")));
    assert_eq!(pattern.parse_local("02/01/2024 03:04"), Some(micros("2024-01-02T03:04:00")));
    let session = super::zone::Zone::Fixed(3600);
    assert_eq!(pattern.parse_in("02/01/2024 03:04", session), Some(micros("2024-01-02T02:04:00")));
    let with_offset = compile("dd/MM/yyyy HH:mm Z");
    assert_eq!(with_offset.parse_in("02/01/2024 03:04 +0200", session), Some(micros("2024-01-02T01:04:00")));
    assert_eq!(compile("dd/MM/yyyy").parse_date("02/01/2024"), Some(19_724));
}

#[test]
fn writing() {
    let march = (micros("2024-03-09T03:04:05.123456"), Tz::UTC);
    let july = (micros("2024-07-06T06:59:59.000001"), Tz::America__Los_Angeles);
    for (pattern, utc, pacific) in [
        ("y yy yyyy yyyyyy", "2024 24 2024 002024", "2024 24 2024 002024"),
        ("M MM MMM MMMM LLL", "3 03 Mar March Mar", "7 07 Jul July Jul"),
        ("d dd D DD DDD", "9 09 69 69 069", "5 05 187 187 187"),
        ("H HH h hh K k kk", "3 03 3 03 3 3 03", "23 23 11 11 11 23 23"),
        ("m s S SS SSS SSSSSS", "4 5 1 12 123 123456", "59 59 0 00 000 000001"),
        ("SSSSSSSSS", "123456000", "000001000"),
        ("a E EEEE Q QQ QQQ QQQQ", "AM Sat Saturday 1 01 Q1 1st quarter", "PM Fri Friday 3 03 Q3 3rd quarter"),
        ("G GGGG F", "AD Anno Domini 2", "AD Anno Domini 1"),
        ("X XX XXX XXXX XXXXX", "Z Z Z Z Z", "-07 -0700 -07:00 -0700 -07:00"),
        ("x xx xxx Z ZZZ", "+00 +0000 +00:00 +0000 +0000", "-07 -0700 -07:00 -0700 -0700"),
        ("ZZZZ ZZZZZ O OOOO", "GMT Z GMT GMT", "GMT-07:00 -07:00 GMT-7 GMT-07:00"),
        ("VV z", "UTC UTC", "America/Los_Angeles PDT"),
        ("'' 'x' [yyyy] yyyy年", "' x 2024 2024年", "' x 2024 2024年"),
        ("[yyyy", "2024", "2024"),
    ] {
        for ((micros, tz), expected) in [(march, utc), (july, pacific)] {
            let mut out = String::new();
            compile(pattern).format(micros, tz, &mut out);
            assert_eq!(out, expected, "{pattern}");
        }
    }
    let mut out = String::new();
    compile("yyyy-MM-dd").format(micros("+12024-01-02T03:04:05"), Tz::UTC, &mut out);
    assert_eq!(out, "+12024-01-02");
}

#[test]
fn refused_patterns_name_what_is_wrong() {
    for pattern in
        ["yyyyyyy", "MMMMM", "ddd", "HHH", "aa", "EEEEE", "u", "n", "Y", "w", "e", "V", "VVVV", "XXXXXX", "T"]
    {
        assert!(matches!(DateTimePattern::compile(pattern), Err(PatternError::Letter { .. })), "{pattern}");
    }
    for pattern in ["'x", "yyyy]", "{", "#"] {
        assert!(matches!(DateTimePattern::compile(pattern), Err(PatternError::Unbalanced { .. })), "{pattern}");
    }
    let message = DateTimePattern::compile("YYYY-MM").expect_err("week years").to_string();
    assert!(
        message.starts_with("the datetime pattern `YYYY-MM` has `YYYY`, which is not supported; letters are y(1-6)")
    );
}
