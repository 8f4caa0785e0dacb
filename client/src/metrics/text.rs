//! Prometheus's text format, version 0.0.4.

use std::collections::HashMap;
use std::fmt::Write;

/// What kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

/// Something that has numbers to export: a forwarder, say.
pub(crate) trait Exporter: Send + Sync {
    fn export(&self, out: &mut Exposition);
}

#[derive(Debug)]
struct Family {
    head: String,
    samples: String,
}

/// Numbers, collected by family, as the format wants them.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    families: Vec<Family>,
    places: HashMap<(&'static str, &'static str), usize>,
}

impl Exposition {
    /// Adds a number. The family's prefix, name, help and kind; its name is both.
    pub fn sample(
        &mut self,
        (prefix, name, help, kind): (&'static str, &'static str, &'static str, Kind),
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let families = &mut self.families;
        let place = *self.places.entry((prefix, name)).or_insert_with(|| {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let head = format!("# HELP {prefix}{name} {help}.\n# TYPE {prefix}{name} {kind}\n");
            families.push(Family { head, samples: String::new() });
            families.len() - 1
        });
        let out = &mut families[place].samples;
        out.push_str(prefix);
        out.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            out.push_str(label);
            out.push_str("=\"");
            escape(value, out);
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        // A whole number comes without a point.
        writeln!(out, " {value}").expect("a string takes all");
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.families.into_iter().map(|family| family.head + &family.samples).collect()
    }
}

fn escape(value: &str, out: &mut String) {
    for letter in value.chars() {
        match letter {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stay_together_and_labels_are_escaped() {
        let mut out = Exposition::default();
        for name in ["a\"b", "c\\d\ne"] {
            let labels = [("session", name), ("x", "y")];
            out.sample(("mqtt_", "sent_total", "Messages sent", Kind::Counter), &labels, 1e15);
            out.sample(("mqtt_", "rate", "Messages a second", Kind::Gauge), &[], 0.5);
        }
        let expect = "# HELP mqtt_sent_total Messages sent.\n\
            # TYPE mqtt_sent_total counter\n\
            mqtt_sent_total{session=\"a\\\"b\",x=\"y\"} 1000000000000000\n\
            mqtt_sent_total{session=\"c\\\\d\\ne\",x=\"y\"} 1000000000000000\n\
            # HELP mqtt_rate Messages a second.\n\
            # TYPE mqtt_rate gauge\n\
            mqtt_rate 0.5\n\
            mqtt_rate 0.5\n";
        assert_eq!(out.finish(), expect);
    }
}
