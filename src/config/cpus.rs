//! Lists of CPUs: `0-3,6`.

/// The highest CPU number that is taken for one; Linux runs at most 8,192.
const CPU_MAX: usize = 8191;

/// Reads a list of numbers and ranges, in its order; `None` when it is not one, or names a CPU twice.
pub fn parse(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > CPU_MAX {
            return None;
        }
        for cpu in first..=last {
            if cpus.contains(&cpu) {
                return None;
            }
            cpus.push(cpu);
        }
    }
    Some(cpus)
}

/// Writes a list so that [`parse`] reads it back.
pub fn show(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            Some(_) | None => parts.push((cpu, cpu)),
        }
    }
    let show = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    parts.into_iter().map(show).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_written() {
        let table: &[(&str, Option<&[usize]>)] = &[
            ("0", Some(&[0])),
            ("0-3,6", Some(&[0, 1, 2, 3, 6])),
            ("4,2", Some(&[4, 2])),
            ("", None),
            ("3-1", None),
            ("1,1", None),
            ("a", None),
            ("0-99999", None),
        ];
        for (text, expect) in table {
            let cpus = parse(text);
            assert_eq!(cpus.as_deref(), *expect, "{text}");
            if let Some(cpus) = cpus {
                assert_eq!(show(&cpus), *text);
            }
        }
    }
}
