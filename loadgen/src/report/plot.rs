//! Curves as SVG.

use std::fmt::Write;

/// One curve.
pub(crate) struct Series {
    pub name: String,
    /// What it is drawn with: a class of the page.
    pub class: &'static str,
    /// Values at the plot's places; none leaves a gap.
    pub values: Vec<Option<f64>>,
}

/// A plot of some curves over the same places.
pub(crate) struct Plot<'a> {
    pub title: &'a str,
    pub places: Vec<f64>,
    /// Where labels are, and what they say.
    pub place_labels: Vec<(f64, String)>,
    pub series: Vec<Series>,
    pub is_logarithmic: bool,
    /// How a value reads.
    pub words: fn(f64) -> String,
    /// How a place reads.
    pub place_words: fn(f64) -> String,
    /// Places from one to another that are not what was measured.
    pub shades: Vec<(f64, f64)>,
    /// What the places are.
    pub place_name: &'a str,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

/// The ends of an axis, and its labels' values.
#[derive(Clone, Debug, PartialEq)]
struct Axis {
    least: f64,
    most: f64,
    labels: Vec<f64>,
    is_logarithmic: bool,
}

impl Axis {
    /// From 0 to a round number above the most.
    fn linear(most: f64) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let raw = most / 4.0;
        let size = 10_f64.powf(raw.log10().floor());
        let step =
            [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|it| it * size).find(|it| *it >= raw).unwrap_or(raw);
        let count = (most / step).ceil().max(1.0);
        let labels = (0..=count as u32).map(|at| f64::from(at) * step).collect();
        Self { least: 0.0, most: count * step, labels, is_logarithmic: false }
    }

    /// Between powers of ten, or halves of them where there are few.
    fn logarithmic(least: f64, most: f64) -> Self {
        let least = least.max(1.0);
        let most = most.max(least * 1.01);
        let steps: &[f64] = if most / least > 1000.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut labels = Vec::new();
        let mut decade = 10_f64.powf(least.log10().floor());
        while labels.last().is_none_or(|last| *last < most) {
            labels.extend(steps.iter().map(|step| step * decade));
            decade *= 10.0;
        }
        let first = labels.iter().rposition(|label| *label <= least).unwrap_or(0);
        let last = labels.iter().position(|label| *label >= most).unwrap_or(labels.len() - 1);
        let labels: Vec<f64> = labels[first..=last].to_vec();
        Self { least: labels[0], most: labels[labels.len() - 1], labels, is_logarithmic: true }
    }

    /// Where a value is, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        if self.is_logarithmic {
            let value = value.max(self.least);
            (value.ln() - self.least.ln()) / (self.most.ln() - self.least.ln())
        } else {
            (value - self.least) / (self.most - self.least)
        }
    }
}

impl Plot<'_> {
    fn x(&self, place: f64) -> f64 {
        let (first, last) = self.ends();
        LEFT + (place - first) / (last - first).max(1e-9) * (WIDTH - LEFT - RIGHT)
    }

    fn ends(&self) -> (f64, f64) {
        let labels = self.place_labels.iter().map(|(place, _)| *place);
        let all = self.places.iter().copied().chain(labels);
        all.fold((f64::MAX, f64::MIN), |(least, most), place| (least.min(place), most.max(place)))
    }

    fn axis(&self) -> Axis {
        let values = self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let (least, most) =
            values.fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(it), most.max(it)));
        if self.is_logarithmic { Axis::logarithmic(least, most) } else { Axis::linear(most) }
    }

    /// The plot with its legend.
    pub fn figure(&self) -> String {
        let mut out = String::new();
        put(&mut out, format_args!("<figure><figcaption>{}<span class=\"legend\">", escape(self.title)));
        for series in &self.series {
            put(&mut out, format_args!("<i class=\"{}\"></i>{} ", series.class, escape(&series.name)));
        }
        put(&mut out, format_args!("</span></figcaption>{}</figure>\n", self.svg()));
        out
    }

    fn svg(&self) -> String {
        let axis = self.axis();
        let y = |value: f64| HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM);
        let mut out = String::new();
        put(
            &mut out,
            format_args!(
                "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" data-hover=\"{}\">",
                escape(self.title),
                escape(&self.hover())
            ),
        );
        let floor = HEIGHT - BOTTOM;
        for (from, to) in &self.shades {
            let (from, to) = (self.x(*from).max(LEFT), self.x(*to).min(WIDTH - RIGHT));
            let (width, height) = ((to - from).max(0.0), floor - TOP);
            put(
                &mut out,
                format_args!(
                    "<rect class=\"shade\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
                ),
            );
        }
        for label in &axis.labels {
            let (y, right) = (y(*label), WIDTH - RIGHT);
            put(
                &mut out,
                format_args!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                ),
            );
            put(
                &mut out,
                format_args!(
                    "<text x=\"{}\" y=\"{:.1}\" class=\"end\">{}</text>",
                    LEFT - 8.0,
                    y + 4.0,
                    escape(&(self.words)(*label))
                ),
            );
        }
        for (place, words) in &self.place_labels {
            let x = self.x(*place);
            put(
                &mut out,
                format_args!(
                    "<text x=\"{x:.1}\" y=\"{}\" class=\"mid\">{}</text>",
                    floor + 19.0,
                    escape(words)
                ),
            );
        }
        let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
        put(
            &mut out,
            format_args!(
                "<text x=\"{middle}\" y=\"{}\" class=\"mid name\">{}</text>",
                floor + 38.0,
                escape(self.place_name)
            ),
        );
        for series in &self.series {
            let mut path = String::new();
            let mut is_down = false;
            for (place, value) in self.places.iter().zip(&series.values) {
                let Some(value) = value else {
                    is_down = false;
                    continue;
                };
                let word = if is_down { 'L' } else { 'M' };
                is_down = true;
                put(&mut path, format_args!("{word}{:.1} {:.1}", self.x(*place), y(*value)));
            }
            put(&mut out, format_args!("<path class=\"curve {}\" d=\"{path}\"/>", series.class));
            // A curve of one point would not be seen.
            let points = series.values.iter().flatten().count();
            if points <= 2 {
                for (place, value) in self.places.iter().zip(&series.values) {
                    if let Some(value) = value {
                        put(
                            &mut out,
                            format_args!(
                                "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>",
                                series.class,
                                self.x(*place),
                                y(*value)
                            ),
                        );
                    }
                }
            }
        }
        put(
            &mut out,
            format_args!(
                "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{floor}\" y2=\"{floor}\"/></svg>",
                WIDTH - RIGHT
            ),
        );
        out
    }

    /// What is shown where the pointer is: for each place its position and its words.
    fn hover(&self) -> String {
        let rows: Vec<(f64, String)> = self
            .places
            .iter()
            .enumerate()
            .map(|(at, place)| {
                let mut words = (self.place_words)(*place);
                for series in &self.series {
                    if let Some(Some(value)) = series.values.get(at) {
                        put(&mut words, format_args!("\n{}: {}", series.name, (self.words)(*value)));
                    }
                }
                ((self.x(*place) * 10.0).round() / 10.0, words)
            })
            .collect();
        serde_json::to_string(&rows).expect("numbers and words are JSON")
    }
}

/// Appends to a string, which does not fail.
pub(crate) fn put(out: &mut String, words: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(words);
}

/// Text that is safe in HTML, in attributes too.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_labels() {
        assert_eq!(Axis::linear(97.0).labels, [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(Axis::linear(1_234_567.0).labels, [0.0, 500_000.0, 1_000_000.0, 1_500_000.0]);
        assert_eq!(Axis::linear(0.0).labels.first(), Some(&0.0));
        assert_eq!(
            Axis::logarithmic(30_000.0, 400_000.0).labels,
            [20_000.0, 50_000.0, 100_000.0, 200_000.0, 500_000.0]
        );
        assert_eq!(Axis::logarithmic(900.0, 5_000_000.0).labels, [100.0, 1e3, 1e4, 1e5, 1e6, 1e7]);
        assert_eq!(Axis::logarithmic(1000.0, 1000.0).labels, [1000.0, 2000.0]);
    }

    #[test]
    fn values_are_placed_between_the_ends() {
        let axis = Axis::logarithmic(100.0, 10_000.0);
        let places: Vec<f64> = [100.0, 1000.0, 10_000.0].iter().map(|it| axis.share(*it)).collect();
        assert!((places[0]).abs() < 1e-9 && (places[1] - 0.5).abs() < 1e-9 && (places[2] - 1.0).abs() < 1e-9);
    }
}
