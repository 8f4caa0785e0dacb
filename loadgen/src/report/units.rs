//! Figures as people read them.

/// A time.
pub fn time(ns: u64) -> String {
    let ns = ns as f64;
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns:.0} ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", three(value))
}

/// Three significant digits, of a number from 1 up.
fn three(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A count, with its thousands apart.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// How many a second.
pub fn rate(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.2}/s") } else { format!("{}/s", count(rate.round() as u64)) }
}

/// A count with a unit of thousands.
pub fn short(value: f64) -> String {
    match value {
        value if value >= 999_500_000.0 => format!("{}G", three(value / 1e9)),
        value if value >= 999_500.0 => format!("{}M", three(value / 1e6)),
        value if value >= 9_995.0 => format!("{}k", three(value / 1e3)),
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}

/// Bytes.
pub fn bytes(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    match bytes as f64 {
        value if value < KIB => format!("{bytes} B"),
        value if value < KIB * KIB => format!("{} KiB", three(value / KIB)),
        value if value < KIB * KIB * KIB => format!("{} MiB", three(value / KIB / KIB)),
        value => format!("{} GiB", three(value / KIB / KIB / KIB)),
    }
}

/// A share.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let times = [
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (12_345, "12.3 us"),
            (999_400, "999 us"),
            (2_500_000_000, "2.50 s"),
        ];
        for (ns, expected) in times {
            assert_eq!(time(ns), expected);
        }
        assert_eq!(
            [count(0), count(999), count(1_000), count(12_345_678)],
            ["0", "999", "1,000", "12,345,678"]
        );
        assert_eq!([rate(0.5), rate(1_234_567.8)], ["0.50/s", "1,234,568/s"]);
        assert_eq!(
            [short(950.0), short(12_300.0), short(1_250_000.0), short(0.25)],
            ["950", "12.3k", "1.25M", "0.25"]
        );
        assert_eq!([bytes(1023), bytes(1536), bytes(3 << 20)], ["1023 B", "1.50 KiB", "3.00 MiB"]);
        assert_eq!(percent(0.1234), "12.3 %");
    }
}
